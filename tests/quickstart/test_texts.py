import pytest

from tryage.errors import TryageError
from tryage.quickstart import texts
from tryage.quickstart.texts import Source


def paragraphs(sources):
    for source in sources:
        for paragraph in source.text.split("\n\n"):
            key = " ".join(paragraph.split()).strip(" #*/").lower()
            if len(key) >= 60:
                yield key


def test_no_file_and_no_long_paragraph_is_in_two_parts(tiny_corpora):
    for corpus in tiny_corpora.values():
        parts = (corpus.train, corpus.label, corpus.test)
        names = [source.name for part in parts for source in part]
        assert len(names) == len(set(names))
        keys = [key for part in parts for key in paragraphs(part)]
        assert len(keys) == len(set(keys))


def test_each_part_holds_the_text_asked_for(tiny_corpora, tiny_plan):
    for corpus in tiny_corpora.values():
        for part in (corpus.label, corpus.test):
            assert sum(len(source.text) for source in part) >= tiny_plan.held_out_chars
        assert sum(len(source.text) for source in corpus.train) >= tiny_plan.train_chars


def test_the_split_does_not_depend_on_which_domains_are_asked_for(tiny_corpora, tiny_plan):
    alone = texts.gather(
        train_chars=tiny_plan.train_chars,
        held_out_chars=tiny_plan.held_out_chars,
        domains=["headers"],
    )
    assert list(alone) == ["headers"]
    assert alone["headers"].digest == tiny_corpora["headers"].digest


def test_all_domains_are_there():
    corpora = texts.gather(train_chars=30_000, held_out_chars=20_000)
    assert tuple(corpora) == texts.DOMAINS
    assert len({corpus.digest for corpus in corpora.values()}) == len(corpora)


def test_too_little_text_is_named_with_the_way_out(monkeypatch):
    monkeypatch.setitem(texts._READERS, "legal", lambda: iter([("LICENSE", "All yours. " * 9)]))
    with pytest.raises(TryageError, match=r"99 characters of legal text.*133,333.*pip install"):
        texts.gather()


def test_excerpts_are_pieces_of_their_files_in_turn():
    long = Source("python", "long.py", "value = compute(first, second)\n" * 100)
    short = Source("python", "short.py", "other = collect(third, fourth)\n" * 10)
    excerpts = texts.excerpts([long, short], count=4, length=100)
    assert [one.id.split(":")[0] for one in excerpts] == ["python/long.py"] * 2 + [
        "python/short.py"
    ] * 2
    for one, source in zip(excerpts, [long, long, short, short], strict=True):
        start = int(one.id.rpartition(":")[2])
        assert source.text[start:].startswith(one.text)
        assert start == 0 or source.text[start - 1] == "\n"
        assert 50 < len(one.text) <= 100
        assert one.domain == "python"


def test_there_are_no_more_excerpts_than_the_files_hold():
    short = Source("python", "short.py", "other = collect(third, fourth)\n" * 10)
    assert 1 < len(texts.excerpts([short], count=50, length=100)) <= 3


def test_pieces_without_words_are_left_out():
    table = Source("python", "table.py", "0x0, 0x1, 0x2,\n" + "-" * 300)
    assert texts.excerpts([table], count=5, length=200) == []
