"""What public calls take: several prompts, never the letters of one; tables and their files."""

import numpy as np
import pytest

from tryage import Expert, Library, Router, ScoreTable
from tryage.encoders import StaticEncoder
from tryage.errors import CheckError, GoalError, PromptError, ScoreTableError
from tryage.predictors import BestSinglePredictor, RandomPredictor

TASK = "text-generation"
TEXT = "Write a story."


def calls(router, table):
    """Name → a call that takes prompts."""
    best = BestSinglePredictor().fit(table.prompts, table)
    rand = RandomPredictor().fit(table.prompts, table)
    return {
        "route_batch": lambda prompts: [d.expert for d in router.route_batch(prompts)],
        "predict": lambda prompts: router.predict(prompts, task=TASK).tolist(),
        "forecast": lambda prompts: router.forecast(prompts, task=TASK).losses.tolist(),
        "calibrate": lambda prompts: router.calibrate(prompts, "loss <= 300% of best").to_dict(),
        "encode": lambda prompts: StaticEncoder.bundled().encode(prompts).tolist(),
        "best-single": lambda prompts: best.predict(prompts).mean["loss"].tolist(),
        "random": lambda prompts: rand.predict(prompts).mean["loss"].tolist(),
    }


NAMES = ["route_batch", "predict", "forecast", "calibrate", "encode", "best-single", "random"]


@pytest.mark.parametrize("name", NAMES)
def test_one_text_is_not_many_prompts(router, table, name):
    call = calls(router, table)[name]
    for odd in (TEXT, TEXT.encode(), {"prompt": TEXT}, 7):
        with pytest.raises(PromptError, match="expected a sequence of prompts"):
            call(odd)


@pytest.mark.parametrize("name", NAMES)
def test_a_generator_gives_the_same_as_a_list(router, table, name):
    call = calls(router, table)[name]
    prompts = [*table.prompts[:5], TEXT]
    assert call(prompt for prompt in prompts) == call(prompts)


def test_lengths_of_what_is_sent_are_one_for_each_prompt(router):
    lengths = (n for n in (10, 20))
    assert len(router.route_batch([TEXT, TEXT], sent_tokens=lengths)) == 2
    with pytest.raises(PromptError, match="1 sent_tokens for 2 prompts"):
        router.route_batch([TEXT, TEXT], sent_tokens=[10])


def test_a_table_may_be_its_file(router, table, held_out_table, tmp_path):
    path = tmp_path / "t.jsonl"
    held_out_table.write(path)
    table.write(tmp_path / "train.csv")
    read = router.evaluate(str(path), train=tmp_path / "train.csv")
    assert read.to_dict() == router.evaluate(held_out_table, train=table).to_dict()
    assert router.pareto(path, "size").to_dict() == router.pareto(held_out_table, "size").to_dict()
    assert table.join(path).hash == table.join(held_out_table).hash
    again = router.refit(table, path, predictor="best-single")
    assert again.provenance["prompts"] == len(table) + len(held_out_table)
    rows = [{"prompt": p, "losses": {"new": 0.5}} for p in table.prompts]
    ScoreTable.from_rows(rows).write(tmp_path / "new.jsonl")
    grown = router.add_expert(Expert(name="new", model="m/new"), tmp_path / "new.jsonl")
    assert "new" in grown.library


@pytest.mark.parametrize("odd", ["scores.jsonl", {"prompt": "p", "scores": {"a": 1}}, 7])
def test_rows_are_a_list_of_rows(odd):
    with pytest.raises(ScoreTableError, match="from_rows takes a list of rows"):
        ScoreTable.from_rows(odd)


def test_names_of_experts_are_a_list(table):
    with pytest.raises(ScoreTableError, match="give a list of names"):
        table.reorder("abc")
    with pytest.raises(Exception, match="list"):
        Library.from_models("org/name")


@pytest.fixture
def unmeasured():
    library = Library(
        [Expert(name=name, model=name, parameters=n) for n, name in ((1, "a"), (2, "b"))]
    )
    return Router.from_library(library)


def test_a_router_with_nothing_measured_states_no_losses(unmeasured):
    assert np.isnan(unmeasured.predict([TEXT], task=TASK)).all()
    explained = unmeasured.route(TEXT).explain()
    assert "0.0000" not in explained
    assert "Nothing is measured yet" in explained
    with pytest.raises(GoalError, match="nothing is measured yet"):
        unmeasured.calibrate([TEXT], "score >= 95% of best")
    with pytest.raises(CheckError, match="nothing is measured yet"):
        unmeasured.route(TEXT, check=lambda prompt, answer: True)
    assert unmeasured.calibrate([TEXT], "mean size <= 1").met
    table = ScoreTable.from_rows([{"prompt": TEXT, "scores": {"a": 1, "b": 0}}])
    assert unmeasured.evaluate(table).to_dict()["prediction"] is None
