"""The folder: every field of a cell comes back, old folders stay readable, kinds do not mix."""

import json
import math

import numpy as np
import pytest

from tryage import Expert, Library, ScoreTable
from tryage.errors import OutputFolderError
from tryage.labeling.cells import Cell, Measurement
from tryage.labeling.rows import Row
from tryage.labeling.store import LabelStore

parquet = pytest.importorskip("pyarrow.parquet")

LIBRARY = Library([Expert(name="small", model="a"), Expert(name="large", model="b")])
SETTINGS = {"mask_share": 0.15, "max_window": 2048}
FULL = Measurement(
    loss=0.7,
    response_chars=120.0,
    readability=8.5,
    latency=0.25,
    cost=0.002,
    cut_off=True,
    answer="text",
)


def row(name: str) -> Row:
    return Row(name, f"prompt {name}", "text-generation", "group", "reference")


def filled(folder, kind) -> LabelStore:
    store = LabelStore(folder, kind)
    store.open(LIBRARY, SETTINGS)
    unread = Measurement(math.nan, "the metric could not read the answer", parse_failure=True)
    store.append([Cell(row("1"), "small", FULL), Cell(row("1"), "large", unread)])
    store.append([Cell(row("2"), "large", Measurement(0.0, empty=True, truncated=True))])
    return store


@pytest.mark.parametrize("kind", ["losses", "scores"])
def test_every_number_comes_back_as_a_target(tmp_path, kind) -> None:
    filled(tmp_path, kind)
    table = ScoreTable.read(tmp_path)
    assert table.kind == kind
    assert table.experts == ("small", "large")
    np.testing.assert_allclose(table.losses, [[0.7, np.nan], [np.nan, 0.0]])
    targets = {name: values[0, 0] for name, values in table.targets.items()}
    assert targets == {"response_chars": 120, "readability": 8.5, "latency": 0.25, "cost": 0.002}
    assert all(np.isnan(values[1]).all() for values in table.targets.values())


def test_conditions_and_answers_stand_in_the_shards(tmp_path) -> None:
    store = filled(tmp_path, "scores")
    cells = [cell for shard in store.shards() for cell in parquet.read_table(shard).to_pylist()]
    names = ("truncated", "cut_off", "empty", "parse_failure")
    assert [[name for name in names if cell[name]] for cell in cells] == [
        ["cut_off"],
        ["parse_failure"],
        ["truncated", "empty"],
    ]
    assert [cell["answer"] for cell in cells] == ["text", None, None]
    assert [cell["score"] for cell in cells] == [0.3, None, 1.0]
    assert store.measured([row("1"), row("2")]) == {
        ("text-generation", "1", "small"),
        ("text-generation", "2", "large"),
    }


def test_texts_of_models_with_half_a_character_are_written(tmp_path) -> None:
    store = LabelStore(tmp_path)
    store.open(LIBRARY, SETTINGS)
    failure = Measurement(math.nan, "odd \ud83d", answer="half \ud83d")
    store.append([Cell(row("1"), "small", failure)])
    [shard] = store.shards()
    [cell] = parquet.read_table(shard).to_pylist()
    assert (cell["error"], cell["answer"]) == ("odd ?", "half ?")


def test_opening_a_folder_again_leaves_its_label_file_alone(tmp_path) -> None:
    store = filled(tmp_path, "losses")
    before = (tmp_path / "label.json").stat()
    store.open(LIBRARY, SETTINGS)
    after = (tmp_path / "label.json").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_scores_and_losses_do_not_mix(tmp_path) -> None:
    filled(tmp_path, "scores")
    with pytest.raises(OutputFolderError, match="holds scores, now losses are measured"):
        LabelStore(tmp_path).open(LIBRARY, SETTINGS)


def test_a_folder_of_format_1_is_read_and_gone_on_with(tmp_path) -> None:
    """As it was written before cells carried answers."""
    import pyarrow

    experts = {
        one.name: {"model": one.model, "revision": None, "task": one.task} for one in LIBRARY
    }
    label = {"format": 1, "library": None, "experts": experts, "settings": SETTINGS}
    (tmp_path / "label.json").write_text(json.dumps(label))
    cell = {
        "prompt_id": "1",
        "prompt": "prompt 1",
        "group": "group",
        "task": "text-generation",
        "reference": "reference",
        "expert": "small",
        "loss": 1.5,
        "token_loss": 2.0,
        "token_accuracy": 0.5,
        "truncated": False,
        "error": None,
    }
    parquet.write_table(pyarrow.Table.from_pylist([cell]), tmp_path / "cells-000001-aa.parquet")
    assert ScoreTable.read(tmp_path).losses.tolist() == [[1.5]]
    store = LabelStore(tmp_path)
    store.open(LIBRARY, SETTINGS)
    assert store.measured([row("1")]) == {("text-generation", "1", "small")}
    store.append([Cell(row("1"), "large", FULL)])
    table = ScoreTable.read(tmp_path)
    assert table.losses.tolist() == [[1.5, 0.7]]
    assert np.array_equal(table.targets["cost"], [[np.nan, 0.002]], equal_nan=True)
