"""The page on goals holds what was measured."""

import json
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_page_holds_the_tables_of_the_results(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import goals

    results = json.loads(goals.RESULTS.read_text(encoding="utf-8"))
    text = goals.PAGE.read_text(encoding="utf-8")
    begin, end = goals.MARKS
    assert f"{begin}\n{goals.page(results)}\n{end}" in text
    assert goals.FIGURE.read_bytes().startswith(b"\x89PNG")


def test_the_router_beats_mixtures_and_not_the_oracle(monkeypatch):
    results = json.loads((ROOT / "benchmarks" / "results" / "goals.json").read_text("utf-8"))
    found = results["cost"]["clusters"]
    rest = found["references"]
    assert rest["zero_router"]["aiq"] < found["aiq"] < rest["oracle"]["aiq"]
