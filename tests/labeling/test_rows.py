import json
from collections import Counter

import pytest

from tryage.errors import OptionError, PromptError
from tryage.labeling.masking import mask_words
from tryage.labeling.rows import Sample, read_rows

BOTH = ("text-generation", "fill-mask")
TEXT = "The old river follows the garden."


def rows_of(entry, tasks=BOTH, share=0.3):
    return read_rows([entry], tasks, mask_share=share)


def test_a_plain_prompt_is_measured_by_both_kinds() -> None:
    generation, masked = rows_of({"prompt": TEXT, "id": "a", "group": "prose"})
    assert (generation.id, generation.task, generation.prompt) == ("a", "text-generation", TEXT)
    assert generation.reference is None
    assert (masked.id, masked.task, masked.group) == ("a", "fill-mask", "prose")
    assert masked.prompt == mask_words(TEXT, share=0.3).prompt
    assert masked.reference == TEXT


def test_only_tasks_of_the_library_give_rows() -> None:
    assert [row.task for row in rows_of(TEXT, ("fill-mask",))] == ["fill-mask"]
    assert [row.task for row in rows_of(TEXT, ("text-generation",))] == ["text-generation"]


def test_a_named_task_gives_one_row() -> None:
    (row,) = rows_of({"prompt": "2+2=", "reference": "4", "task": "text-generation"})
    assert row.reference == "4"
    (row,) = rows_of({"prompt": TEXT, "task": "fill-mask"})
    assert "[MASK]" in row.prompt


def test_a_prompt_with_marks_is_a_fill_mask_prompt() -> None:
    (row,) = rows_of({"prompt": "The [MASK] river", "reference": "The old river"})
    assert row.task == "fill-mask"
    assert row.masked.spans == ((4, 7),)


def test_marks_made_here_are_found_again_exactly() -> None:
    text = "a b a b a b a b a b"
    masked = mask_words(text, share=0.5)
    (row,) = rows_of({"prompt": masked.prompt, "reference": text}, share=0.5)
    assert row.masked == masked


def test_prompts_without_id_are_named_as_in_score_tables() -> None:
    from tryage import ScoreTable

    rows = read_rows([TEXT, TEXT], ("text-generation",), mask_share=0.3)
    table = ScoreTable.from_rows([{"prompt": TEXT, "losses": {"x": 1.0}}] * 2)
    assert tuple(row.id for row in rows) == table.ids


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"prompt": ""}', "line 2: prompt: is missing or empty"),
        ('{"id": "x"}', "line 2: prompt: is missing or empty"),
        ('{"prompt": 3}', "line 2: prompt: expected text, found 3"),
        ('{"prompt": "x", "group": []}', r"line 2: group: expected text, found \[\]"),
        ('{"prompt": "x", "id": 1.5}', "line 2: id: expected text or a whole number, found 1.5"),
        ('{"prompt": "x", "id": "first"}', "line 2: id: 'first' was used by .*line 1"),
        ('{"prompt": "x", "task": "summarization"}', "line 2: task: no expert .* 'summarization'"),
        ('{"prompt": "a [MASK]"}', "line 2: reference: missing"),
        ('{"prompt": "a [MASK]", "reference": "b c"}', "line 2: reference: .*not the prompt"),
        ('{"prompt": "\\ud800"}', "line 2: prompt: holds half a character"),
        ('["prompt"]', "line 2: expected an object"),
        ('{"prompt": ', "line 2: not JSON"),
        (
            '{"prompt": "x", "id": ' + "1" * 5000 + "}",
            "line 2: not JSON that can be read: .*digits",
        ),
        ("[" * 100_000, "line 2: not JSON that can be read"),
        ('{"prompt": "x", "prompt": "y"}', "line 2: prompt: stands twice; keep one"),
        (b'{"prompt": "\xff"}', r"line 2: not UTF-8 \(byte 13\)"),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, message) -> None:
    path = tmp_path / "prompts.jsonl"
    data = line if isinstance(line, bytes) else line.encode()
    path.write_bytes(b'{"prompt": "fine", "id": "first"}\n' + data + b"\n")
    with pytest.raises(PromptError, match=message) as caught:
        read_rows(path, BOTH, mask_share=0.15)
    assert str(path) in str(caught.value)


def test_a_value_too_large_to_show_is_named_all_the_same() -> None:
    nested: list[object] = []
    for _ in range(100_000):
        nested = [nested]
    for value, kind in ((10**5000, "int"), (nested, "list")):
        with pytest.raises(
            PromptError, match=f"prompt 1: prompt: expected text, found a {kind} too"
        ):
            rows_of({"prompt": value})


def test_files_and_mappings_read_alike(tmp_path) -> None:
    entries = [{"prompt": TEXT, "group": ""}, {"prompt": TEXT, "id": 7, "reference": None}]
    path = tmp_path / "prompts.jsonl"
    path.write_text("\ufeff" + "\n\n".join(map(json.dumps, entries)), encoding="utf-8")
    assert read_rows(str(path), BOTH, mask_share=0.2) == read_rows(entries, BOTH, mask_share=0.2)


def test_no_prompts(tmp_path) -> None:
    with pytest.raises(PromptError, match="no prompts"):
        read_rows([], BOTH, mask_share=0.2)
    with pytest.raises(PromptError, match="does not exist"):
        read_rows(tmp_path / "none.jsonl", BOTH, mask_share=0.2)
    with pytest.raises(PromptError, match="directory"):
        read_rows(tmp_path, BOTH, mask_share=0.2)


PROMPTS = [
    {"prompt": f"prompt {i}", "id": f"p{i}", "group": "large" if i % 10 else "small"}
    for i in range(100)
]


def sampled(*sample, prompts=PROMPTS):
    rows = read_rows(prompts, ("text-generation",), mask_share=0.15, sample=Sample.of(*sample))
    return [row.id for row in rows]


def test_a_sample_is_the_same_in_any_order_and_grows() -> None:
    some = sampled(20, None, 0)
    assert len(some) == 20
    assert set(some) == set(sampled(20, None, 0, prompts=PROMPTS[::-1]))
    assert set(some) < set(sampled(30, None, 0))
    assert some == [row for row in (p["id"] for p in PROMPTS) if row in set(some)]
    assert set(some) != set(sampled(20, None, 1))
    assert len(sampled(1000, None, 0)) == 100


def test_strata_get_as_much_each_as_they_have() -> None:
    groups = {p["id"]: p["group"] for p in PROMPTS}
    assert Counter(groups[i] for i in sampled(12, "group", 0)) == {"large": 6, "small": 6}
    assert Counter(groups[i] for i in sampled(40, "group", 0)) == {"large": 30, "small": 10}
    assert set(sampled(12, "group", 0)) < set(sampled(40, "group", 0))


@pytest.mark.parametrize(
    ("sample", "reason"),
    [
        ((0, None, 0), "sample is 0; it is at least 1"),
        ((5, "colour", 0), "stratify is 'colour'; it is 'group' or 'task'"),
        ((None, "group", 0), "no sample is taken; give its size"),
    ],
)
def test_a_wrong_sample_is_told(sample, reason) -> None:
    with pytest.raises(OptionError, match=reason):
        sampled(*sample)
