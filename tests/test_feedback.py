"""Feedback: off by default, whole lines whatever happens, and a router fitted anew on it."""

import json
import math
import os
import pickle
import subprocess
import sys
import threading

import numpy as np
import pytest

from tryage import Decision, Policy, Router, ScoreTable, TryageWarning
from tryage.errors import FeedbackError, ScoreTableError
from tryage.scores.feedback import FeedbackFile

CODE = "def buffer_item(index, item=3):\n    if index > item:\n        return index - item\n"


def lines(router):
    text = router.feedback_file.path.read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def test_it_is_off_until_prompts_may_be_kept(scored_router, router, tmp_path):
    decision = scored_router.route(CODE)
    with pytest.raises(FeedbackError, match="feedback is off; router"):
        scored_router.feedback(decision, 1.0)
    with pytest.raises(FeedbackError, match="store_prompts=True"):
        scored_router.with_feedback(tmp_path / "feedback.jsonl")
    with pytest.raises(FeedbackError, match="fitted on a table of losses"):
        router.with_feedback(tmp_path / "feedback.jsonl", store_prompts=True)
    for wrong in (tmp_path / "feedback.csv", tmp_path):
        with pytest.raises(FeedbackError, match="feedback goes to a"):
            scored_router.with_feedback(wrong, store_prompts=True)
    assert list(tmp_path.iterdir()) == []


def test_a_score_is_a_line_that_the_reader_takes(feedback_router):
    decision = feedback_router.route(f"{CODE} [Flag: smallest model]")
    feedback_router.feedback(decision, 0.25)
    feedback_router.feedback(feedback_router.route(CODE, flags=False), True)
    first, second = lines(feedback_router)
    assert first == {
        "prompt": decision.prompt,
        "task": "text-generation",
        "scores": {decision.expert: 0.25},
    }
    assert "Flag" not in first["prompt"]
    table = ScoreTable.read(feedback_router.feedback_file.path)
    assert len(table) == 2
    assert second["scores"] == {"coder": 1.0}


def test_metadata_of_an_answer_and_its_prompt_do_as_well(feedback_router):
    metadata = feedback_router.route(CODE).to_dict(top=5) | {"answered_by": "giant"}
    feedback_router.feedback(metadata, 0.5, prompt="héllo \ud800")
    assert lines(feedback_router)[0]["scores"] == {"giant": 0.5}
    assert ScoreTable.read(feedback_router.feedback_file.path).prompts == ("héllo \ud800",)
    with pytest.raises(FeedbackError, match="metadata hold no prompt; say with prompt="):
        feedback_router.feedback(metadata, 0.5)


@pytest.mark.parametrize("score", [np.float32(1), np.int64(1), np.bool_(True), True, 1])
def test_scores_may_be_numbers_of_numpy(feedback_router, score):
    feedback_router.feedback(feedback_router.route(CODE), score)
    assert lines(feedback_router)[0]["scores"] == {"coder": 1.0}


@pytest.mark.parametrize("score", [-0.1, 1.1, math.nan, math.inf, "good", None])
def test_what_is_no_score_is_refused_and_nothing_written(feedback_router, score):
    with pytest.raises(FeedbackError, match=r"a score is a number in \[0, 1\]"):
        feedback_router.feedback(feedback_router.route(CODE), score)
    with pytest.raises(FeedbackError, match="has no expert 'nobody'"):
        feedback_router.feedback({"expert": "nobody"}, 1.0, prompt="hello")
    with pytest.raises(FeedbackError, match="the prompt is empty"):
        feedback_router.feedback({"expert": "coder"}, 1.0, prompt=" \n")
    assert not feedback_router.feedback_file.path.exists()


def test_routers_made_of_it_keep_it_and_it_can_be_pickled(feedback_router):
    for other in (
        feedback_router.with_policy(Policy(weights={"size": 0.1})),
        feedback_router.excluding({"giant": "busy"}),
        feedback_router.without("giant"),
        pickle.loads(pickle.dumps(feedback_router)),
    ):
        other.feedback(other.route(CODE), 1.0)
    assert len(lines(feedback_router)) == 4


def test_threads_and_processes_append_whole_lines(feedback_router):
    path = feedback_router.feedback_file.path
    code = f"""
from tryage.scores.feedback import FeedbackFile
for i in range(200):
    FeedbackFile({str(path)!r}).append(f"process {{i}} " + "x" * 5000, "text-generation", "a", 0.5)
"""
    processes = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(2)]

    def work(name):
        for i in range(100):
            feedback_router.feedback({"expert": "coder"}, 0.5, prompt=f"{name} {i} " + "y" * 5000)

    threads = [threading.Thread(target=work, args=(f"thread {n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [process.wait(60) for process in processes] == [0, 0]
    assert len(lines(feedback_router)) == 800
    assert len(ScoreTable.read(path)) == 800


def test_a_line_that_does_not_fit_on_the_disk_leaves_nothing(feedback_router, monkeypatch):
    feedback_router.feedback(feedback_router.route(CODE), 1.0)
    before = feedback_router.feedback_file.path.read_bytes()
    write = os.write
    monkeypatch.setattr(os, "write", lambda handle, data: write(handle, data[:9]))
    with pytest.raises(OSError, match="No space left"):
        feedback_router.feedback(feedback_router.route(CODE), 0.0)
    assert feedback_router.feedback_file.path.read_bytes() == before


def test_a_last_line_without_an_end_stays_a_line(tmp_path):
    path = tmp_path / "deep" / "feedback.jsonl"
    path.parent.mkdir()
    path.write_text('{"prompt": "by hand", "scores": {"a": 1}}')
    FeedbackFile(path).append("hello", "text-generation", "a", 0.5)
    assert ScoreTable.read(path).prompts == ("by hand", "hello")


def test_two_tables_become_one():
    old = ScoreTable.from_rows(
        [
            {"prompt": "one", "id": "1", "group": "g", "scores": {"a": 0.1, "b": 0.2}, "note": 7},
            {"prompt": "two", "id": "2", "scores": {"a": 0.3}, "costs": {"a": 5}},
        ]
    )
    new = ScoreTable.from_rows(
        [
            {"prompt": "three", "id": "3", "scores": {"c": 0.4}},
            {
                "prompt": "one",
                "id": "1",
                "task": "text-generation",
                "scores": {"b": 0.9},
                "latency": {"b": 2},
            },
        ]
    )
    both = old.join(new)
    assert (both.prompts, both.ids) == (("one", "two", "three"), ("1", "2", "3"))
    assert (both.groups, both.experts) == (("g", None, None), ("a", "b", "c"))
    nan = math.nan
    expected = [[0.1, 0.9, nan], [0.3, nan, nan], [nan, nan, 0.4]]
    np.testing.assert_allclose(1 - both.losses, expected)
    np.testing.assert_array_equal(both.targets["cost"], [[nan] * 3, [5, nan, nan], [nan] * 3])
    np.testing.assert_array_equal(both.targets["latency"], [[nan, 2, nan], [nan] * 3, [nan] * 3])
    assert both.extras == ({"note": 7}, {}, {})
    assert old.losses[0, 1] == 0.8
    assert old.join(old).hash == old.hash


def test_what_the_newer_table_did_not_measure_stays_as_it_was():
    old = ScoreTable.from_rows(
        [{"prompt": "one", "id": "1", "scores": {"a": 0.1, "b": 0.2}, "costs": {"a": 5, "b": 6}}]
    )
    new = ScoreTable.from_rows(
        [
            {"prompt": "one", "id": "1", "scores": {"b": 0.9}, "costs": {"b": 7}},
            {"prompt": "two", "id": "2", "scores": {"a": 0.3}, "costs": {"a": 8}},
        ]
    )
    both = old.join(new)
    np.testing.assert_allclose(1 - both.losses, [[0.1, 0.9], [0.3, math.nan]])
    np.testing.assert_array_equal(both.targets["cost"], [[5, 7], [8, math.nan]])


def test_unknown_keys_that_only_the_newer_table_has_are_kept():
    old = ScoreTable.from_rows([{"prompt": "one", "id": "1", "scores": {"a": 1}}])
    new = ScoreTable.from_rows([{"prompt": "two", "id": "2", "scores": {"a": 1}, "note": 7}])
    assert old.join(new).extras == ({}, {"note": 7})


def test_a_reference_that_one_table_leaves_out_is_that_of_the_other():
    with_reference, without = (
        ScoreTable.from_rows([{"prompt": "one", "id": "1", "scores": {name: 1}} | more])
        for name, more in (("a", {"reference": "r"}), ("b", {}))
    )
    for both in (with_reference.join(without), without.join(with_reference)):
        assert (len(both), both.references) == (1, ("r",))


@pytest.mark.parametrize(
    ("newer", "message"),
    [
        (
            {"prompt": "other", "id": "1", "scores": {"a": 1}},
            "id .1. .* has different texts",
        ),
        (
            {"prompt": "one", "id": "1", "reference": "other", "scores": {"a": 1}},
            "id .1. .* has different texts",
        ),
        ({"prompt": "one", "id": "1", "losses": {"a": 1}}, "^one table holds scores, the other"),
    ],
)
def test_tables_that_contradict_each_other_are_refused(newer, message):
    row = {"prompt": "one", "id": "1", "reference": "r", "scores": {"a": 0.1}}
    old = ScoreTable.from_rows([row])
    with pytest.raises(ScoreTableError, match=message):
        old.join(ScoreTable.from_rows([newer]))


def test_a_router_learns_from_feedback(feedback_router, scored_table):
    """The coder gets bad marks on code: then the giant is chosen."""
    assert feedback_router.route(CODE).expert == "coder"
    for prompt, group in zip(scored_table.prompts, scored_table.groups, strict=True):
        if group == "code":
            feedback_router.feedback({"expert": "coder"}, 0.0, prompt=prompt)
    feedback = ScoreTable.read(feedback_router.feedback_file.path)
    again = feedback_router.refit(scored_table, feedback)
    assert again.route(CODE).expert == "giant"
    assert feedback_router.route(CODE).expert == "coder"
    provenance = again.provenance
    assert (provenance["predictor"], provenance["seed"]) == (
        "clusters",
        feedback_router.provenance["seed"],
    )
    assert (provenance["prompts"], provenance["cells"]) == (120, 360)
    assert provenance["data_sha256"] != feedback_router.provenance["data_sha256"]
    assert again.predictors["text-generation"].encoder is (
        feedback_router.predictors["text-generation"].encoder
    )
    assert again.feedback_file is feedback_router.feedback_file
    with pytest.raises(ScoreTableError, match="there is no table to fit on"):
        feedback_router.refit()


@pytest.mark.filterwarnings("ignore:.*have one measured expert")
def test_a_router_of_which_nothing_is_measured_starts_from_feedback(table_library, tmp_path):
    path = tmp_path / "feedback.jsonl"
    cold = Router.from_library(table_library).with_feedback(path, store_prompts=True)
    decision = cold.route(CODE)
    assert isinstance(decision, Decision)
    for number, name in enumerate(table_library.names * 4):
        cold.feedback({"expert": name}, float(name == "giant"), prompt=f"{number}. {CODE} {number}")
    warm = cold.refit(ScoreTable.read(path), predictor="best-single")
    assert warm.route(CODE).expert == "giant"


@pytest.mark.parametrize("share", [0.02, 0.3, 0.5, 0.9, 0.999])
def test_a_line_that_a_crash_tore_is_cut_off_before_the_next(share, tmp_path):
    path = tmp_path / "feedback.jsonl"
    file = FeedbackFile(path)
    for prompt in ("one", "日本 " * 30_000):
        file.append(prompt, "text-generation", "a", 0.5)
    first, second, _ = path.read_bytes().split(b"\n")
    path.write_bytes(first + b"\n" + second[: max(1, int(len(second) * share))])
    with pytest.warns(TryageWarning, match=r"a line is left out: line 2: not (UTF-8|JSON)"):
        assert ScoreTable.read(path).prompts == ("one",)
    file.append("three", "text-generation", "a", 0.25)
    assert ScoreTable.read(path).prompts == ("one", "three")
    assert path.read_bytes().startswith(first + b"\n{")


def test_what_somebody_else_wrote_last_is_kept(tmp_path):
    path = tmp_path / "feedback.jsonl"
    file = FeedbackFile(path)
    file.append("one", "text-generation", "a", 0.5)
    with path.open("a") as other:
        other.write("# a note")
    file.append("two", "text-generation", "a", 0.5)
    assert "\n# a note\n" in path.read_text()
    with pytest.warns(TryageWarning, match="line 2: not JSON"):
        assert ScoreTable.read(path).prompts == ("one", "two")


@pytest.mark.parametrize(
    "bad",
    [
        b"\xff\xfe",
        b"\x00" * 40,
        b"[1]",
        b'{"prompt": "p", "task": "text-generation", "scores": {"a": 7}}',
        b'{"prompt": "p", "task": "text-generation", "scores": {"a": NaN}}',
        b'{"prompt": "p", "prompt": "q", "scores": {"a": 1}}',
        b'{"prompt": "p", "task": "text-generation", "losses": {"a": 1}}',
        b'{"prompt": 5, "task": "text-generation", "scores": {"a": 1}}',
    ],
)
def test_one_bad_line_costs_itself_alone(bad, tmp_path):
    path = tmp_path / "feedback.jsonl"
    file = FeedbackFile(path)
    for number in range(3):
        file.append(f"p{number}", "text-generation", "a", 0.5)
    whole = path.read_bytes().splitlines()
    for place in range(4):
        lines = [*whole[:place], bad, *whole[place:]]
        path.write_bytes(b"\n".join(lines) + b"\n")
        with pytest.warns(TryageWarning, match=rf"a line is left out: .*line {place + 1}\b"):
            assert ScoreTable.read(path).prompts == ("p0", "p1", "p2")


def test_a_table_that_is_no_feedback_is_refused_for_a_bad_line(tmp_path):
    path = tmp_path / "table.jsonl"
    for row in (
        {"prompt": "p", "id": "1", "scores": {"a": 1}},
        {"prompt": "p", "task": "text-generation", "scores": {"a": 1, "b": 0}},
        {"prompt": "p", "scores": {"a": 1}},
        {"prompt": "p", "task": "text-generation", "losses": {"a": 1}},
    ):
        path.write_text(json.dumps(row) + "\n" + '{"prompt": "half a li')
        with pytest.raises(ScoreTableError, match="line 2"):
            ScoreTable.read(path)
