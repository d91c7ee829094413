"""A disk that is full: one error that names the path, nothing half-written, the old file stands."""

import json
import random

import pytest
from kit import cases

from tryage import Router, ScoreTable
from tryage.labeling import LabelStore

SEED = 24


def left_hidden(folder):
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


@pytest.fixture
def target(routers, tmp_path):
    folder = tmp_path / "r"
    Router.from_pretrained(routers[0][0]).save_pretrained(folder)
    return folder


def test_saving_on_a_disk_that_fills_up_at_any_event(victims, routers, target):
    (_, old), (second, new) = routers
    whole = victims.run("save", second, target)["events"]
    victims.run("save", routers[0][0], target)
    refused = 0
    for number in range(1, whole + 1):
        end = victims.run("save", second, target, full=number)
        provenance = Router.from_pretrained(target).provenance
        if end["status"] == 0:
            assert provenance == new
            continue
        refused += 1
        assert "No space left on device" in end["error"]
        assert str(target) in end["error"]
        # Where the very last step fails, the new router stands already, whole.
        assert provenance in (old, new)
        victims.run("save", routers[0][0], target)
        assert left_hidden(target.parent) == []
    assert refused > 10


def test_saving_where_a_file_cannot_grow(victims, routers, target):
    largest = max(path.stat().st_size for path in routers[1][0].iterdir())
    for size in (0, 1, *random.Random(SEED).sample(range(largest), cases(6, counted=False))):
        end = victims.run("save", routers[1][0], target, size=size)
        assert end["error"].startswith("OSError: "), end
        assert str(target) in end["error"]
        assert "/." not in end["error"]  # no temporary file, which nobody knows
        assert Router.from_pretrained(target).provenance == routers[0][1]
        assert left_hidden(target.parent) == []


@pytest.mark.parametrize("event", [{"full": 1}, {"size": 100}])
@pytest.mark.parametrize("job", ["fit", "route"])
def test_a_command_names_what_it_could_not_write(
    event, job, victims, table, table_library, target, tmp_path
):
    table.write(tmp_path / "train.jsonl")
    table_library.write(tmp_path / "library.yaml")
    (tmp_path / "p.jsonl").write_text('{"prompt": "a"}\n')
    out = target if job == "fit" else tmp_path / f"{job}.out"
    words = {
        "fit": ("fit", tmp_path / "train.jsonl", "--library", tmp_path / "library.yaml", "--out"),
        "route": ("route", "--input", tmp_path / "p.jsonl", "--router", target, "--output"),
    }[job]
    end = victims.run("command", *words, out, **event)
    assert end["status"] != 0
    assert str(out) in end["error"].replace("\n", "")
    assert "Traceback" not in end["error"]
    assert "/." not in end["error"]
    assert left_hidden(tmp_path) == []
    assert Router.from_pretrained(target).library.names == table_library.names


def test_labelling_on_a_full_disk_keeps_what_was_measured(victims, tmp_path):
    pytest.importorskip("pyarrow")
    out = tmp_path / "out"
    assert victims.run("label", out, 10)["status"] == 0
    shards = {path: path.read_bytes() for path in LabelStore(out).shards()}
    whole = victims.run("label", tmp_path / "other", 30)["events"]
    for event in (
        {"full": n} for n in range(1, whole + 1, max(1, whole // cases(6, counted=False)))
    ):
        end = victims.run("label", out, 30, **event)
        if end["status"] == 0:
            continue
        assert str(out) in end["error"]
        assert all(path.read_bytes() == data for path, data in shards.items())
        assert left_hidden(out) == []
    assert victims.run("label", out, 30)["status"] == 0
    assert len(ScoreTable.read(out)) == 30


def test_feedback_on_a_full_disk_leaves_no_half_line(victims, tmp_path):
    path = tmp_path / "feedback.jsonl"
    prompts = [f"{n} {'x' * 100}" for n in range(4)]
    whole = victims.run("feedback", path, *prompts)["events"]
    for number in range(1, whole + 1):
        path.unlink(missing_ok=True)
        end = victims.run("feedback", path, *prompts, full=number)
        if end["error"]:
            assert "No space left on device" in end["error"]
        lines = path.read_text().splitlines() if path.exists() else []
        assert [json.loads(line)["prompt"] for line in lines][: len(end["done"])] == end["done"]
    for size in (0, 10, 150, 250, 400):
        path.unlink(missing_ok=True)
        end = victims.run("feedback", path, *prompts, size=size)
        lines = path.read_text().splitlines() if path.exists() else []
        assert [json.loads(line)["prompt"] for line in lines] == end["done"]
        assert "feedback.jsonl" in end["error"]
