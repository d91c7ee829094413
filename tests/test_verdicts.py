"""The verdict that a fit ends with, and warnings of figures that mislead."""

import json
import warnings
from dataclasses import replace

import numpy as np
import pytest

from tryage import Expert, Library, Router, ScoreTable
from tryage.checks import Check
from tryage.errors import PredictorError, ScoreTableError, TryageWarning
from tryage.evaluation.verdict import FEWEST, Verdict, judge

NAMES = ("atlas", "birch", "cedar")
LIBRARY = Library([Expert(name=name, model=f"org/{name}") for name in NAMES])
KINDS = {
    "sum": "A shop sells {} apples and {} pears. How many pieces of fruit is that?",
    "code": "def f_{}(x):\n    return x + {}\n",
    "prose": "The quiet teacher remembers garden {} and winter {}.",
}


def rows(n=90, *, signal=True, kind="scores", noise=0.1, seed=0):
    """Rows of three groups; with a signal each expert is good at one, else all are alike."""
    rng = np.random.default_rng(seed)
    for number in range(n):
        group = list(KINDS)[number % 3]
        values = {}
        for place, name in enumerate(NAMES):
            good = signal and number % 3 == place
            value = (0.9 if good else 0.3 if signal else 0.5) + rng.uniform(-noise, noise)
            value = float(np.clip(value, 0.0, 1.0))
            values[name] = value if kind == "scores" else 3.0 * (1.0 - value)
        text = KINDS[group].format(*rng.integers(2, 9999, 2))
        costs = {name: 0.001 * (place + 1) for place, name in enumerate(NAMES)}
        yield {"prompt": text, "id": str(number), "group": group, kind: values, "costs": costs}


def fit(data, **arguments):
    arguments = {"predictor": "clusters"} | arguments
    return Router.fit(ScoreTable.from_rows(data), library=LIBRARY, **arguments)


@pytest.mark.parametrize("kind", ["scores", "losses"])
@pytest.mark.parametrize("holdout", [None, 0.3])
def test_a_router_that_is_better_than_each_single_model_is_worth_it(kind, holdout):
    verdict = fit(rows(kind=kind), holdout=holdout).verdict
    assert verdict.worth_it is True
    assert verdict.held_out == ("cross-validated" if holdout is None else "holdout")
    assert verdict.prompts == (90 if holdout is None else 27)
    assert verdict.left_out == 0
    sign = 1 if kind == "scores" else -1
    assert verdict.difference == pytest.approx(sign * (verdict.router - verdict.single))
    assert verdict.ci95[0] < verdict.difference < verdict.ci95[1]
    assert sign * verdict.oracle >= sign * verdict.router
    expected = (0.9, 0.5) if kind == "scores" else (0.3, 1.5)
    assert (verdict.router, verdict.single) == pytest.approx(expected, abs=0.1)
    sentence = verdict.sentence()
    assert f"({verdict.best_single})" in sentence
    assert "worth it: +" in sentence
    assert "not worth it" not in sentence
    assert ("lower is better" in sentence) == (kind == "losses")


def test_experts_that_are_alike_make_no_router_worth_it():
    """Of twenty tables without a signal a one-sided 2.5 % error would pass one or none."""
    verdicts = [fit(rows(60, signal=False, noise=0.4, seed=seed)).verdict for seed in range(20)]
    assert sum(verdict.worth_it for verdict in verdicts) <= 1
    refused = next(verdict for verdict in verdicts if not verdict.worth_it)
    assert f"not worth it: no better than always asking {refused.best_single}" in str(refused)


@pytest.mark.parametrize("predictor", ["auto", "nearest", "best-single"])
@pytest.mark.parametrize("holdout", [None, 0.4])
def test_a_predictor_that_remembers_gains_nothing_from_it(predictor, holdout):
    """Scores are noise, but `nearest` would be perfect on prompts that it has seen."""
    data = list(rows(75, signal=False, noise=0.5, seed=3))
    router = fit(data, predictor=predictor, holdout=holdout)
    assert router.verdict.worth_it is False
    assert router.verdict.difference < 0.1
    assert router.verdict.oracle > 0.65


def test_the_judged_predictor_has_not_seen_the_holdout():
    """Results of the held-out prompts change the verdict and nothing of the router."""
    data = list(rows(150))
    before = fit(data, holdout=0.2)
    unseen = before.verdict.prompts
    table = ScoreTable.from_rows(data)
    fitted_on = (
        fit(data, holdout=0.2, keep_prompts=True).training_prompts["text-generation"].prompts
    )
    assert len(fitted_on) == len(table) - unseen == before.provenance["prompts"]
    for row in data:
        if row["prompt"] not in fitted_on:
            row["scores"] = {name: 1.0 - score for name, score in row["scores"].items()}
    after = fit(data, holdout=0.2)
    prompts = table.prompts
    np.testing.assert_array_equal(
        before.predict(prompts, task="text-generation"),
        after.predict(prompts, task="text-generation"),
    )
    assert after.verdict.worth_it is False
    assert after.verdict.difference < 0 < before.verdict.difference
    assert after.objective.to_dict() == before.objective.to_dict()


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, 1.5, 0.001, float("nan")])
def test_a_holdout_that_leaves_nothing_is_refused(share):
    with pytest.raises(ScoreTableError, match="holdout"):
        fit(rows(30), holdout=share)


def test_a_holdout_that_takes_all_results_of_an_expert_is_refused():
    data = list(rows(40))
    for row in data[:-1]:
        del row["scores"]["cedar"]
    with pytest.raises(ScoreTableError, match="cedar"):
        fit(data, holdout=0.97)


def test_a_missing_result_of_the_choice_or_of_the_best_single_expert_is_estimated():
    table = ScoreTable.from_rows(rows(60))
    losses = np.array(table.losses)
    losses[:5, 1:] = np.nan  # one measured expert
    losses[5:9, 0] = np.nan  # the single expert is missing
    losses[9:12, 2] = np.nan  # the choice is missing
    table = replace(table, losses=losses)
    choices = np.full(60, 2)
    choices[12:15] = -1  # nothing was held out there
    whole = replace(table, losses=np.where([[True, False, False]], 0.0, losses))
    verdict = judge(table, choices, held_out="holdout", whole=whole)
    assert verdict.best_single == "atlas"
    assert verdict.prompts == 60 - 8
    assert (verdict.left_out, verdict.measured, verdict.estimated) == (5, 45, 7)
    # On average over the prompts of a group an estimate is the mean of what was measured, but for
    # how hard the prompts were.
    counted = np.r_[5:12, 15:60]
    for place, value in ((2, verdict.router), (0, verdict.single)):
        means = [
            np.nanmean(1.0 - losses[counted[counted % 3 == group], place]) for group in range(3)
        ]
        assert value == pytest.approx(np.mean(means), abs=0.05)
    assert verdict.difference == pytest.approx(verdict.router - verdict.single)
    assert "5 held-out prompts left out; 7 held-out prompts estimated, 45" in verdict.table()
    assert "52 held-out prompts (holdout, 7 with an estimated result)" in verdict.sentence()
    assert Verdict.from_dict(verdict.to_dict()) == verdict
    older = {
        name: value
        for name, value in verdict.to_dict().items()
        if name not in ("measured", "estimated")
    }
    assert Verdict.from_dict(older).measured is None


def test_deleted_results_do_not_shift_a_verdict():
    rng = np.random.default_rng(0)
    table = ScoreTable.from_rows(rows(240))
    choices = np.where(rng.random(240) < 0.7, table.losses.argmin(axis=1), 0)
    exact = judge(table, choices, held_out="holdout", whole=table, resamples=0)
    errors = []
    for _ in range(60):
        holes = rng.random(table.losses.shape) < [0.05, 0.3, 0.5]
        part = replace(table, losses=np.where(holes, np.nan, table.losses))
        verdict = judge(part, choices, held_out="holdout", whole=table, resamples=0)
        errors.append(verdict.difference - exact.difference)
    assert abs(np.mean(errors)) < 3.5 * np.std(errors) / np.sqrt(len(errors))
    assert exact.estimated == 0
    assert "estimated" not in exact.sentence() + exact.table()


def test_where_nothing_can_be_compared_the_verdict_says_so():
    data = [
        {**row, "scores": {name: row["scores"][name]}}
        for number, row in enumerate(rows(60))
        for name in [NAMES[number % 3]]
    ]
    with pytest.warns(TryageWarning, match="60 of 60 prompts have one measured expert"):
        verdict = fit(data).verdict
    assert verdict.worth_it is verdict.router is verdict.ci95 is None
    assert str(verdict).startswith("Cannot tell")
    assert verdict.table()


def test_few_prompts_are_too_few_to_tell():
    verdict = fit(rows(FEWEST - 2)).verdict
    assert verdict.worth_it is None
    assert "too few to tell" in str(verdict)
    assert fit(rows(FEWEST + 1)).verdict.worth_it is not None


def test_repeated_texts_count_once():
    """The same prompts twenty times over make no narrower interval."""
    data = list(rows(30, noise=0.3, seed=1))
    often = [{**row, "id": f"{row['id']}-{time}"} for time in range(20) for row in data]
    once = fit(data, predictor="best-single").verdict
    with pytest.warns(TryageWarning, match="600 rows hold 30 different prompts"):
        repeated = fit(often, predictor="best-single").verdict
    assert repeated.prompts == once.prompts == 30
    width = repeated.ci95[1] - repeated.ci95[0]
    assert width == pytest.approx(once.ci95[1] - once.ci95[0], rel=0.4)


def test_groups_of_single_prompts_leave_the_interval_wide():
    data = [{**row, "group": str(number)} for number, row in enumerate(rows(60, noise=0.3))]
    low, high = fit(data).verdict.ci95
    assert high - low > 0.05


def test_the_table_holds_every_group_and_marks_its_best_expert():
    verdict = fit(rows()).verdict
    assert set(verdict.groups) == set(KINDS)
    for place, group in enumerate(KINDS):
        results = verdict.groups[group]
        assert results.prompts == 30
        assert max(results.experts, key=results.experts.get) == NAMES[place]
        (line,) = [line for line in verdict.table().splitlines() if line.startswith(group)]
        assert line.count("*") == 1
    one = fit({**row, "group": None} for row in rows()).verdict
    assert list(one.groups) == ["all"]


def test_verdicts_are_saved_and_several_tasks_have_one_each(tmp_path):
    masked = [Expert(name=f"m{n}", model="org/m", task="fill-mask") for n in range(2)]
    library = Library([*LIBRARY.experts, *masked])
    data = [
        *rows(),
        *(
            {
                "prompt": f"{number} [MASK] {number % 7}",
                "task": "fill-mask",
                "scores": {"m0": 1, "m1": 0},
            }
            for number in range(30)
        ),
    ]
    router = Router.fit(ScoreTable.from_rows(data), library=library, predictor="clusters")
    assert router.verdicts["text-generation"].worth_it is True
    assert router.verdicts["fill-mask"].worth_it is False
    with pytest.raises(PredictorError, match=r"text-generation, fill-mask"):
        _ = router.verdict
    router.save_pretrained(tmp_path / "r")
    assert Router.from_pretrained(tmp_path / "r").verdicts == router.verdicts
    json.dumps(router.verdicts["fill-mask"].to_dict())
    with pytest.raises(PredictorError, match="no verdict"):
        _ = Router.from_library(LIBRARY).verdict


def test_evaluating_on_the_training_prompts_warns():
    data = list(rows())
    table = ScoreTable.from_rows(data)
    router = fit(data)
    check = Check(lambda prompt, answer: True, accepts_right=0.9, accepts_wrong=0.1)
    for judge_by in (
        lambda: router.evaluate(table),
        lambda: router.evaluate(ScoreTable.from_rows(reversed(data))),
        lambda: router.evaluate_plans(table, check),
        lambda: router.plan_front(table, check),
        lambda: router.pareto(table, "cost"),
    ):
        with pytest.warns(TryageWarning, match="fitted on these very prompts"):
            judge_by()
    fresh = list(rows(60, seed=9))
    with pytest.warns(TryageWarning, match="fitted on 40% of these prompts"):
        router.evaluate(
            ScoreTable.from_rows([*data[:40], *({**r, "id": f"n{r['id']}"} for r in fresh)])
        )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        router.evaluate(ScoreTable.from_rows(fresh))


def test_a_router_of_an_earlier_version_knows_its_table_by_the_hash():
    data = list(rows())
    router = fit(data)
    old = router.replace(
        provenance={k: v for k, v in router.provenance.items() if k != "fingerprints"}
    )
    with pytest.warns(TryageWarning, match="fitted on these very prompts"):
        old.evaluate(ScoreTable.from_rows(data))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        old.evaluate(ScoreTable.from_rows(data[1:]))


def test_more_prompts_than_fingerprints_are_sampled():
    from tryage.fingerprints import MOST, fingerprints, seen_share

    prompts = [f"prompt {number}" for number in range(3 * MOST)]
    stored = fingerprints(prompts)
    assert len(stored) < 6 * MOST
    share, exact = seen_share(stored, [*prompts[:1000], *(f"new {n}" for n in range(1000))])
    assert not exact
    assert share == pytest.approx(0.5, abs=0.07)
    assert seen_share(stored, [f"new {n}" for n in range(1000)])[0] == 0.0
    assert seen_share("not base64!", prompts) == (0.0, False)


def test_prompts_with_one_measured_expert_count_for_no_regret():
    train, test = list(rows()), list(rows(60, seed=5))
    for row in test[:20]:
        row["scores"] = {"birch": 0.1}
    router = fit(train)
    report = router.evaluate(ScoreTable.from_rows(test))
    full = router.evaluate(ScoreTable.from_rows(test[20:]))
    assert report.one_expert == 20
    assert report.to_dict()["one_expert"] == 20
    assert "20 of the prompts have one measured expert" in report.table()
    for name in ("regret", "selection_accuracy"):
        assert report.router[name] == pytest.approx(full.router[name])
        assert report.references["random"][name] == pytest.approx(full.references["random"][name])
    assert report.choices.among_best == pytest.approx(full.choices.among_best)
    for row in test[:20]:
        row["scores"] = {NAMES[int(row["id"]) % 3]: 0.1}
    only = ScoreTable.from_rows(test[:20])
    with pytest.warns(TryageWarning, match="20 of 20 prompts have one measured expert"):
        empty = router.evaluate(only)
    assert empty.router["regret"] is None
    assert empty.references["oracle"]["regret"] is None
