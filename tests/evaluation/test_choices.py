"""The collapse monitor: who is chosen how often, and when that is a warning."""

import numpy as np
import pytest

from tryage import Expert, Library, Router, ScoreTable
from tryage.evaluation import evaluate
from tryage.evaluation.choices import Choices, among_best_of


def table(losses, names=("a", "b", "c")):
    rows = [
        {
            "prompt": f"prompt {i}",
            "losses": {n: v for n, v in zip(names, row, strict=False) if v == v},
        }
        for i, row in enumerate(losses)
    ]
    return ScoreTable.from_rows(rows)


def camps(n=40):
    """Expert a is best on every other prompt, b on the rest, c never."""
    return table([[0.0, 1.0, 2.0] if i % 2 else [1.0, 0.0, 2.0] for i in range(n)])


def test_shares_and_entropy_are_those_of_the_choices():
    choices = Choices.of(["a", "b", "c", "d"], np.array([0, 0, 1, 1]), {})
    assert choices.chosen == {"a": 0.5, "b": 0.5, "c": 0.0, "d": 0.0}
    assert choices.entropy == pytest.approx(0.5)
    assert Choices.of(["a", "b"], np.array([1, 1]), {}).entropy == 0.0
    assert Choices.of(["a", "b"], np.array([1, 0]), {}).entropy == pytest.approx(1.0)
    assert Choices.of(["a"], np.array([0]), {}).entropy == 0.0


def test_choices_of_nobody_count_for_no_one():
    assert Choices.of(["a", "b"], np.array([0, -1]), {}).chosen == {"a": 0.5, "b": 0.0}


def test_among_the_best_counts_ties_for_all_and_only_what_was_measured():
    shares = among_best_of(table([[0.0, 0.0, 1.0], [0.0, 1.0, np.nan], [1.0, 0.5, 0.0]]))
    assert shares == {"a": pytest.approx(2 / 3), "b": pytest.approx(1 / 3), "c": 0.5}


def test_one_expert_for_all_is_a_collapse_where_others_are_better_on_half():
    evaluation = evaluate(camps(), [0] * 40, resamples=0)
    assert evaluation.choices.collapsed == "a"
    data = evaluation.to_dict()["choices"]
    assert data["chosen"] == {"a": 1.0, "b": 0.0, "c": 0.0}
    assert data["among_best"] == {"a": 0.5, "b": 0.5, "c": 0.0}
    assert (data["entropy"], data["collapsed"]) == (0.0, "a")
    text = evaluation.table().replace("\n", " ")
    assert "warning: a takes 100.0% of the prompts, but is among the best on 50.0%" in text


def test_telling_prompts_apart_is_none_nor_is_an_expert_that_is_always_best():
    apart = evaluate(camps(), [(i + 1) % 2 for i in range(40)], resamples=0)
    assert apart.choices.collapsed is None
    assert apart.choices.entropy == pytest.approx(np.log(2) / np.log(3))
    assert "warning" not in apart.table()
    assert "chosen: a 50.0% (among the best on 50.0%), b 50.0%" in apart.table().replace("\n", " ")
    best = table([[0.0, 1.0, 1.0]] * 20)
    assert evaluate(best, [0] * 20, resamples=0).choices.collapsed is None
    assert evaluate(table([[1.0]], names=("a",)), [0], resamples=0).choices.collapsed is None


@pytest.mark.parametrize(("best_on", "collapsed"), [(74, "a"), (75, None), (90, None)])
def test_an_expert_that_is_best_on_three_quarters_of_its_prompts_may_take_all(best_on, collapsed):
    losses = [[0.0, 1.0, 2.0]] * best_on + [[1.0, 0.0, 2.0]] * (100 - best_on)
    assert evaluate(table(losses), [0] * 100, resamples=0).choices.collapsed == collapsed


@pytest.mark.parametrize(("prompts", "collapsed"), [(17, None), (18, "a"), (20, "a")])
def test_only_an_expert_that_takes_nine_tenths_of_the_prompts_is_a_collapse(prompts, collapsed):
    evaluation = evaluate(camps(20), [0] * prompts + [1] * (20 - prompts), resamples=0)
    assert evaluation.choices.collapsed == collapsed


def test_a_large_library_is_told_by_its_most_chosen_experts():
    names = [f"e{i:03}" for i in range(300)]
    line = Choices.of(names, np.array([7, 7, 3]), {}).lines()[0]
    assert line.startswith("chosen: e007 66.7%, e003 33.3%, e000 0.0%")
    assert "290 more" in line


@pytest.mark.filterwarnings("ignore:the router was fitted on these very prompts")
def test_a_router_that_does_not_look_at_prompts_is_caught_by_evaluate():
    library = Library([Expert(name=name, model=name) for name in "abc"])
    router = Router.fit(camps(), library=library, predictor="best-single")
    assert router.provenance["among_best"] == {"text-generation": {"a": 0.5, "b": 0.5, "c": 0.0}}
    assert router.evaluate(camps()).choices.collapsed == "a"
