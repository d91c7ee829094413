"""The page on goals holds what was measured."""

import importlib
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", ["goals", "size"])
def test_the_page_holds_the_tables_of_the_results(monkeypatch, name):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    measured = importlib.import_module(name)

    results = json.loads(measured.RESULTS.read_text(encoding="utf-8"))
    text = measured.PAGE.read_text(encoding="utf-8")
    begin, end = measured.MARKS
    assert f"{begin}\n{measured.page(results)}\n{end}" in text
    assert f"]({measured.FIGURE.name})" in text
    assert measured.FIGURE.read_bytes().startswith(b"\x89PNG")
