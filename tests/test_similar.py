"""Kinds of prompts, and the similar training prompts that a router keeps where it may."""

import json

import numpy as np
import pytest

from tryage import Expert, Library, Router, ScoreTable
from tryage.errors import DamagedFileError, PromptError

LIBRARY = Library([Expert(name=name, model=f"org/{name}") for name in ("coder", "poet")])


def rows(n=60):
    """Two kinds of prompt with words of their own, and one secret word in a single prompt."""
    for number in range(n):
        code = number % 2 == 0
        text = (
            f"write a python function that sorts list number {number}"
            if code
            else f"compose a gentle poem about winter garden number {number}"
        )
        if number == 4:
            text += " hunter2secret zanzibar"
        yield {
            "prompt": text,
            "group": "code" if code else "verse",
            "scores": {"coder": 0.9 if code else 0.2, "poet": 0.1 if code else 0.8},
        }


TABLE = ScoreTable.from_rows(rows())


@pytest.fixture(scope="module")
def keeper():
    return Router.fit(
        TABLE, library=LIBRARY, predictor="clusters", keep_prompts=True, keep_words=True
    )


def test_by_default_a_router_keeps_no_text_of_prompts(tmp_path):
    router = Router.fit(TABLE, library=LIBRARY, predictor="clusters")
    router.save_pretrained(tmp_path / "r")
    # The encoder's vocabulary holds these words in any case.
    files = [f for f in (tmp_path / "r").iterdir() if f.name != "tokenizer.json"]
    written = b"".join(file.read_bytes() for file in files)
    for word in (b"winter", b"sorts", b"hunter2secret"):
        assert word not in written
    assert not (tmp_path / "r" / "prompts.json").exists()
    assert {kind.words for kind in router.kinds["text-generation"]} == {()}
    with pytest.raises(PromptError, match="keep_prompts=True"):
        router.similar(router.route("a poem"))


def test_kinds_say_who_wins_on_which_groups_and_words(keeper):
    kinds = keeper.kinds["text-generation"]
    assert sum(kind.prompts for kind in kinds) == len(TABLE)
    assert sum(kind.share for kind in kinds) == pytest.approx(1.0)
    by_best = {kind.best: kind for kind in kinds}
    assert set(by_best) == {"coder", "poet"}
    assert list(by_best["coder"].groups) == ["code"]
    assert by_best["coder"].losses["coder"] == pytest.approx(0.1)
    assert by_best["poet"].losses["coder"] == pytest.approx(0.8)
    assert "python" in by_best["coder"].words
    assert "poem" in by_best["poet"].words


def test_words_of_fewer_than_five_prompts_are_never_stored(keeper):
    texts = [
        {**row, "prompt": row["prompt"] + (" confidential" if number < 8 else "")}
        for number, row in enumerate(rows())
    ]
    for kind in keeper.kinds["text-generation"]:
        assert not {"zanzibar", "hunter", "secret"} & set(kind.words)
    # Four prompts of each kind hold the word: together eight, but no kind has five.
    few = Router.fit(
        ScoreTable.from_rows(texts), library=LIBRARY, predictor="clusters", keep_words=True
    )
    assert all("confidential" not in kind.words for kind in few.kinds["text-generation"])


def test_similar_prompts_are_the_nearest_with_their_results(keeper):
    decision = keeper.route("write a python function that sorts numbers")
    similar = keeper.similar(decision, 4)
    assert len(similar) == 4
    assert [one.similarity for one in similar] == sorted(
        (one.similarity for one in similar), reverse=True
    )
    for one in similar:
        assert one.group == "code"
        assert one.prompt in TABLE.prompts
        assert one.losses == pytest.approx({"coder": 0.1, "poet": 0.9})
        assert one.best == ("coder",)
        assert one.speaks_for_choice
        assert one.prompt not in repr(one)
    text = keeper.explain(decision, similar=4)
    assert text.startswith(decision.explain())
    assert "coder was among the best on 4 of 4" in text
    assert similar[0].prompt in text
    assert "coder 0.90, poet 0.10" in text


def test_a_prompt_that_speaks_against_the_choice_says_so(keeper):
    forced = keeper.excluding({"coder": "closed"})
    (one,) = forced.similar(forced.route("write a python function"), 1)
    assert one.expert == "poet"
    assert not one.speaks_for_choice
    assert "poet was among the best on 0 of 1" in forced.explain(
        forced.route("write a python function"), similar=1
    )


def test_kept_prompts_are_saved_as_json_and_survive_changes(keeper, tmp_path):
    keeper.save_pretrained(tmp_path / "r")
    stored = json.loads((tmp_path / "r" / "prompts.json").read_text())
    assert stored["tasks"]["text-generation"]["prompts"] == list(TABLE.prompts)
    again = Router.from_pretrained(tmp_path / "r")
    decision = again.route("a poem about winter")
    assert again.similar(decision) == keeper.similar(keeper.route("a poem about winter"))
    assert again.kinds == keeper.kinds
    fewer = again.without("coder")
    assert set(fewer.similar(fewer.route("a poem"))[0].losses) == {"poet"}
    assert all(kind.best == "poet" for kind in fewer.kinds["text-generation"])
    again.save_pretrained(tmp_path / "r")  # its own file is replaced with the folder
    written = (tmp_path / "r" / "prompts.json").read_bytes()
    (tmp_path / "r" / "prompts.json").write_bytes(written.replace(b"winter", b"summer"))
    with pytest.raises(DamagedFileError, match=r"prompts\.json"):
        Router.from_pretrained(tmp_path / "r")


def test_a_refit_keeps_what_the_router_was_allowed_to_keep(keeper):
    refitted = keeper.refit(TABLE)
    assert refitted.training_prompts["text-generation"].prompts == TABLE.prompts
    assert refitted.kinds == keeper.kinds


def test_missing_results_stay_missing(tmp_path):
    data = [dict(row) for row in rows()]
    for row in data[::4]:
        row["scores"] = {"coder": row["scores"]["coder"]}
    router = Router.fit(
        ScoreTable.from_rows(data), library=LIBRARY, predictor="clusters", keep_prompts=True
    )
    router.save_pretrained(tmp_path / "r")
    again = Router.from_pretrained(tmp_path / "r")
    (one,) = again.similar(again.route(data[0]["prompt"]), 1)
    assert one.prompt == data[0]["prompt"]
    assert set(one.losses) == {"coder"}
    assert np.isnan(again.training_prompts["text-generation"].losses).sum() == 15
