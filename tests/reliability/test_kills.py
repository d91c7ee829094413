"""Processes that are killed before any event on a file, or within a write: nothing is lost."""

import json
import os
import random
import signal
import warnings

import pytest
from kit import cases

from tryage import Router, ScoreTable
from tryage.errors import RouterNotFoundError
from tryage.labeling import LabelStore
from tryage.scores.feedback import FeedbackFile

SEED = 23


def was_killed(end):
    return os.WIFSIGNALED(end["status"]) and os.WTERMSIG(end["status"]) in (
        signal.SIGKILL,
        signal.SIGXFSZ,
    )


def moments(count, usual):
    """Numbers of events, the first and the last ones among them; all where they are few."""
    some = random.Random(SEED).sample(range(1, count + 1), min(count, cases(usual, counted=False)))
    return sorted({1, 2, count - 1, count, *some} & set(range(1, count + 1)))


def left_hidden(folder):
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


def loaded(folder):
    """Return the provenance of the router that stands in a folder, None without one."""
    try:
        return Router.from_pretrained(folder).provenance
    except RouterNotFoundError:
        return None


@pytest.mark.parametrize("before", ["nothing", "a router"])
def test_saving_is_killed_at_any_event(before, victims, routers, tmp_path):
    (first, old), (second, new) = routers
    target = tmp_path / "r"

    def prepare():
        if before == "a router":
            Router.from_pretrained(first).save_pretrained(target)
        elif target.exists():
            for path in target.iterdir():
                path.unlink()
            target.rmdir()

    prepare()
    whole = victims.run("save", second, target)
    assert (whole["status"], loaded(target)) == (0, new)
    assert whole["events"] > 15
    ends = set()
    for number in moments(whole["events"], 40):
        prepare()
        assert was_killed(victims.run("save", second, target, kill=number))
        state = loaded(target)
        assert state in ((old, new) if before == "a router" else (None, new))
        ends.add(state == new)
        assert victims.run("save", second, target)["status"] == 0
        assert (loaded(target), left_hidden(tmp_path)) == (new, [])
    assert ends == {True, False}


def test_saving_is_killed_within_a_write(victims, routers, tmp_path):
    (first, old), (second, _) = routers
    target = tmp_path / "r"
    Router.from_pretrained(first).save_pretrained(target)
    largest = max(path.stat().st_size for path in second.iterdir())
    draw = random.Random(SEED)
    for size in (
        0,
        1,
        largest - 1,
        *(draw.randrange(largest) for _ in range(cases(6, counted=False))),
    ):
        assert was_killed(victims.run("save", second, target, size=size, torn=True))
        assert loaded(target) == old
    Router.from_pretrained(first).save_pretrained(target)
    assert left_hidden(tmp_path) == []


def test_fitting_is_killed_at_any_event(victims, table, table_library, tmp_path):
    table.write(tmp_path / "train.jsonl")
    table_library.write(tmp_path / "library.yaml")
    words = ("fit", tmp_path / "train.jsonl", "--library", tmp_path / "library.yaml")
    words = (*words, "--predictor", "clusters", "--out")
    Router.from_library(table_library).save_pretrained(tmp_path / "r")
    old = loaded(tmp_path / "r")
    whole = victims.run("command", *words, tmp_path / "whole")
    assert whole["status"] == 0, whole
    new = loaded(tmp_path / "whole")
    for number in moments(whole["events"], 10):
        end = victims.run("command", *words, tmp_path / "r", kill=number)
        assert was_killed(end)
        state = loaded(tmp_path / "r")
        assert state in (old, new) or state | {"seconds": 0} == new | {"seconds": 0}
    assert victims.run("command", *words, tmp_path / "r")["status"] == 0
    assert left_hidden(tmp_path) == []


def test_feedback_is_killed_at_any_event(victims, tmp_path):
    path = tmp_path / "feedback.jsonl"
    prompts = ["one", "two \u65e5" * 500, "three"]
    whole = victims.run("feedback", path, *prompts)
    assert (whole["status"], whole["done"]) == (0, prompts)
    assert whole["events"] >= 6
    for number in range(1, whole["events"] + 1):
        path.unlink(missing_ok=True)
        end = victims.run("feedback", path, *prompts, kill=number)
        assert was_killed(end)
        FeedbackFile(path).append("after", "text-generation", "a", 0.25)
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # the torn line is gone
            stored = ScoreTable.read(path).prompts
        acknowledged = tuple(end["done"])
        assert stored[-1] == "after"
        assert stored[: len(acknowledged)] == acknowledged
        # A line that was written whole may not have been acknowledged yet.
        assert len(stored) <= len(acknowledged) + 2


def test_labelling_is_killed_at_any_event(victims, tmp_path):
    pytest.importorskip("pyarrow")
    count = 20
    whole = victims.run("label", tmp_path / "whole", count)
    assert whole["status"] == 0, whole
    [summary] = whole["done"]
    cells = summary["cells"]
    assert cells == 2 * count
    for number in moments(whole["events"], 12):
        out = tmp_path / f"out-{number}"
        assert was_killed(victims.run("label", out, count, kill=number))
        shards = {path: path.read_bytes() for path in LabelStore(out).shards()}
        end = victims.run("label", out, count)
        assert end["status"] == 0, end
        [summary] = end["done"]
        assert (summary["failed"], summary["reused"] + summary["measured"]) == (0, cells)
        assert all(path.read_bytes() == data for path, data in shards.items())
        assert left_hidden(out) == []
        table = ScoreTable.read(out)
        assert (len(table), table.experts) == (count, ("a", "b"))


def test_labelling_is_killed_within_a_write(victims, tmp_path):
    pytest.importorskip("pyarrow")
    for size in (0, 1, 100, 500, *random.Random(SEED).sample(range(2000), cases(4, counted=False))):
        out = tmp_path / f"out-{size}"
        victims.run("label", out, 20, size=size, torn=True)
        for path in out.glob("*.json"):
            json.loads(path.read_text())
        end = victims.run("label", out, 20)
        assert end["status"] == 0, end
        assert left_hidden(out) == []
        assert len(ScoreTable.read(out)) == 20
