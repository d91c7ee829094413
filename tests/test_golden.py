"""What earlier versions wrote stays readable: routers, label folders, score tables, a library.

`tests/golden/make.py` made the files; they are never remade.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tryage import Library, Policy, Router, ScoreTable
from tryage.labeling import label_answers

GOLDEN = Path(__file__).parent / "golden"
EXPECTED = json.loads((GOLDEN / "expected.json").read_text())
SCORES = ("jsonl", "jsonl.gz", "csv", "parquet")


@pytest.mark.parametrize("name", sorted(EXPECTED["routers"]))
def test_a_saved_router_decides_as_it_did(name):
    router = Router.from_pretrained(GOLDEN / "routers" / name)
    expected = EXPECTED["routers"][name]
    decisions = router.route_batch(EXPECTED["prompts"][:4])
    assert [d.expert for d in decisions] == expected["experts"]
    assert [d.out_of_distribution for d in decisions] == expected["out_of_distribution"]
    for key in ("losses", "std"):
        numbers = [getattr(decision, key) for decision in decisions]
        np.testing.assert_allclose(numbers, np.array(expected[key], dtype=float), atol=1e-5)


def test_every_golden_router_is_looked_at():
    assert {path.name for path in (GOLDEN / "routers").iterdir()} == set(EXPECTED["routers"])


def test_a_saved_policy_comes_back():
    assert Router.from_pretrained(GOLDEN / "routers" / "policy").policy == Policy(
        limits={"parameters": "<=3B"},
        weights={"recency": 0.2},
        max_weights={"size": 0.5},
        flags=["size", "parameters"],
        unknown_flags="warn",
    )


def test_a_router_of_two_tasks_keeps_both():
    router = Router.from_pretrained(GOLDEN / "routers" / "two-tasks")
    assert router.tasks == ("text-generation", "fill-mask")
    assert router.route("Fruit [MASK].").expert.startswith("m-")


@pytest.mark.parametrize("suffix", SCORES)
def test_a_score_table_reads_as_it_was_written(suffix):
    if suffix == "parquet":
        pytest.importorskip("pyarrow")
    table = ScoreTable.read(GOLDEN / "tables" / f"scores.{suffix}")
    assert (len(table), table.experts) == (12, ("alpha", "beta", "gamma"))
    assert table.ids[:2] == ("text-0", "text-1")
    assert table.groups[:3] == ("sum", "code", "prose")
    missing = [[number, 1] for number in range(12) if number % 7 == 3]
    assert np.argwhere(np.isnan(table.losses)).tolist() == missing
    best = np.nanargmin(table.losses, axis=1)
    assert best.tolist()[:3] == [0, 1, 2]
    assert table.targets["cost"][0].tolist() == pytest.approx([0.001, 0.002, 0.003])
    assert table.targets["response_chars"][5].tolist() == [45.0] * 3
    assert table.targets["latency"][0].tolist() == [0.5] * 3


def test_a_table_of_losses_reads_as_it_was_written():
    table = ScoreTable.read(GOLDEN / "tables" / "losses.jsonl")
    assert table.losses.tolist() == [[1.5, 0.25], [2.5, 0.25], [3.5, 0.25], [4.5, 0.25]]


def test_a_feedback_file_is_a_table():
    table = ScoreTable.read(GOLDEN / "tables" / "feedback.jsonl")
    assert table.prompts == tuple(EXPECTED["prompts"][:2])
    assert np.nanmin(table.losses, axis=1).tolist() == [0.5, 0.0]


def test_a_library_reads_as_it_was_written():
    library = Library.read(GOLDEN / "library.yaml")
    assert library.names == ("alpha", "beta", "gamma")
    assert library["beta"].parameters == 1_300_000_000
    assert str(library["gamma"].released) == "2025-02-01"


def test_folders_that_label_wrote_are_tables():
    pytest.importorskip("pyarrow")
    table = ScoreTable.read(GOLDEN / "labels" / "answers")
    assert table.losses.tolist() == [[0.0, 1.0]] * 6
    likelihood = ScoreTable.read(GOLDEN / "labels" / "likelihood")
    assert likelihood.experts == ("code-gpt", "prose-gpt", "code-bert", "prose-bert")
    assert likelihood.kind == "losses"
    # Eight prompts for each of two tasks; an expert is measured on those of its own.
    assert (~np.isnan(likelihood.losses)).sum(axis=0).tolist() == [8] * 4
    code = [group == "code" for group in likelihood.groups]
    means = np.nanmean(likelihood.losses[code], axis=0)
    assert means[0] < means[1]
    assert means[2] < means[3]


def answers(calls, prompts=6):
    def expert(name):
        def call(prompt):
            calls.append((name, prompt))
            return f"{name} says 42" if name == "alpha" else f"{name} does not know"

        return call

    experts = {name: expert(name) for name in ("alpha", "beta")}
    rows = [
        {"prompt": f"Question {n}?", "id": f"q{n}", "reference": "42", "group": "g"}
        for n in range(prompts)
    ]
    return experts, rows


@pytest.mark.parametrize(("name", "missing"), [("answers", 0), ("answers-half", 6)])
def test_a_label_folder_can_be_resumed(name, missing, tmp_path):
    pytest.importorskip("pyarrow")
    folder = tmp_path / name
    shutil.copytree(GOLDEN / "labels" / name, folder)
    calls = []
    experts, rows = answers(calls)
    summary = label_answers(experts, rows, "contains", folder, keep_answers=True)
    assert (summary.measured, len(calls)) == (missing, missing)
    table = ScoreTable.read(folder).reorder(["alpha", "beta"])
    assert table.losses.tolist() == [[0.0, 1.0]] * 6
