"""docs/routing-results.md holds what the results of the benchmarks say, and nothing else."""

import importlib
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "routing-results.md"
TABLES = {
    "elsewhere": ("page", "MARKS"),
    "embedding_bag": ("page", "MARKS"),
    "fit_time": ("page", "MARKS"),
    "kinds": ("page", "MARKS"),
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
@pytest.mark.parametrize(
    ("page", "made", "marks"),
    [
        ("README.md", "short_table", "SHORT"),
        ("docs/routing-results.md", "table", None),
        ("tryage/pretrained/open7/README.md", "table", None),
    ],
)
def test_the_tables_of_the_bundled_router_are_those_of_its_results(measuring, page, made, marks):
    results = json.loads(measuring.RESULTS.read_text(encoding="utf-8"))
    begin, end = getattr(measuring, marks) if marks else (measuring.BEGIN, measuring.END)
    text = getattr(measuring, made)(results)
    assert f"{begin}\n{text}\n{end}" in (ROOT / page).read_text(encoding="utf-8")
