"""The page's figures are those of the results that the benchmark wrote."""

import importlib
import json
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_figures_of_the_page_are_those_of_its_results(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    table = importlib.import_module("adapters_table").table
    results = json.loads((ROOT / "benchmarks/results/adapters.json").read_text(encoding="utf-8"))
    assert table(results) in (ROOT / "docs/langchain.md").read_text(encoding="utf-8")
