"""docs/keys.md names every key that files and JSON hold."""

import re
from pathlib import Path

import pytest

from tryage import Expert, Library, Router, ScoreTable
from tryage.scores.fields import FIELDS, PROMPT_KEYS

PAGE = (Path(__file__).parents[1] / "docs" / "keys.md").read_text(encoding="utf-8")
NAMES = {word for code in re.findall(r"`([^`]+)`", PAGE) for word in re.findall(r"\w+", code)}


@pytest.fixture(scope="module")
def fitted():
    library = Library([Expert(name=name, model=name) for name in "ab"])
    rows = [{"prompt": f"{n}", "scores": {"a": n % 2, "b": 0.5}} for n in range(8)]
    return Router.fit(rows, library=library, predictor="best-single"), ScoreTable.from_rows(rows)


def test_every_key_of_tables_is_named():
    names = {field.name for field in FIELDS.values()} | {field.key for field in FIELDS.values()}
    assert names | set(PROMPT_KEYS) | {"prompt_id", "expert"} <= NAMES


@pytest.mark.filterwarnings("ignore:the router was fitted on these very prompts")
def test_every_key_of_decisions_evaluations_and_verdicts_is_named(fitted):
    router, table = fitted
    decision = router.route("1").to_dict()
    assert decision.keys() | decision["ranking"][0].keys() <= NAMES | {"ranking"}
    assert router.verdict.to_dict().keys() <= NAMES
    evaluation = router.evaluate(table).to_dict()
    assert evaluation.keys() - {"groups", "prediction"} <= NAMES
    assert {key.removesuffix("_ci95") for key in evaluation["router"]} <= NAMES
