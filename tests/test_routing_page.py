"""docs/routing-results.md holds what the results of the benchmarks say, and nothing else."""

import importlib
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "routing-results.md"
TABLES = {
    "elsewhere": ("page", "MARKS"),
    "fit_time": ("page", "MARKS"),
    "new_expert": ("page", "MARKS"),
    "routerbench": ("page", "MARKS"),
    "routing": ("reliability_table", "RELIABILITY"),
    "tries": ("page", "MARKS"),
}


@pytest.fixture
def measuring(request, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module(request.param)


@pytest.mark.parametrize("measuring", TABLES, indirect=True)
def test_a_table_between_marks_is_the_one_of_its_results(measuring):
    made, named = TABLES[measuring.__name__]
    results = json.loads(measuring.RESULTS.read_text(encoding="utf-8"))
    begin, end = getattr(measuring, named)
    text = getattr(measuring, made)(results)
    assert f"{begin}\n{text}\n{end}" in PAGE.read_text(encoding="utf-8")
    assert results["command"].startswith(f"python benchmarks/{measuring.__name__}.py")


@pytest.mark.parametrize("measuring", ["routing"], indirect=True)
def test_the_bundled_router_meets_what_was_aimed_for(measuring):
    """Level with the best expert of each group without being told the group, and reliable."""
    results = json.loads(measuring.RESULTS.read_text(encoding="utf-8"))
    for part, least in (("open7_test", -0.0075), ("without_humaneval", -0.01)):
        assert results["test"][part]["paired"]["group_best_of_train"]["ci95"][0] > least
    found = results["test"]["open7_test"]["reliability"]
    assert found["router"]["brier"] <= found["group_means"]["brier"] + 0.002
    assert found["router"]["calibration_error_pooled"] <= 0.03
    assert found["router"]["calibration_error_by_group"] <= 0.05
    assert 0.85 <= results["interval_coverage"]["exchangeable"] <= 0.95


@pytest.mark.parametrize("measuring", ["routerbench"], indirect=True)
def test_no_task_of_routerbench11_is_below_the_zero_router(measuring):
    results = json.loads(measuring.RESULTS.read_text(encoding="utf-8"))
    for rows in results["aiq"].values():
        mean = measuring.averaged(rows)
        assert mean["router"] > mean["zero_router"]
