"""Plans on measured results: against enumeration by hand, and through the command line."""

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from tryage import Expert, Goals, Library, Router, ScoreTable
from tryage.check_rates import Rate, ScoredAnswer
from tryage.checks import Check, agrees_with
from tryage.cli import app
from tryage.errors import (
    CheckError,
    GoalError,
    NoEligibleExpertError,
    ScoreTableError,
    TryageWarning,
)
from tryage.evaluation.measured_plans import MeasuredPlans, best_fixed_plans
from tryage.plans import realised

NAMES = ("cheap", "middle", "dear")
CHANCES = {"easy": (0.9, 0.95, 1.0), "hard": (0.2, 0.5, 0.95)}
PRICES = (0.001, 0.004, 0.02)


def rows(n, seed):
    rng = np.random.default_rng(seed)
    for number in range(n):
        kind = ("easy", "hard")[number % 2]
        a, b = rng.integers(2, 99, 2)
        text = {
            "easy": f"What is the capital of country {a} with {b} towns?",
            "hard": f"Prove that the sum of {a} squares is not below {b} cubes.",
        }[kind]
        yield {
            "prompt": text,
            "id": f"{seed}-{number}",
            "group": kind,
            "scores": {
                n: float(rng.random() < p) for n, p in zip(NAMES, CHANCES[kind], strict=True)
            },
            "costs": dict(zip(NAMES, PRICES, strict=True)),
        }


@pytest.fixture(scope="module")
def tables():
    return ScoreTable.from_rows(rows(300, 1)), ScoreTable.from_rows(rows(200, 2))


@pytest.fixture(scope="module")
def planner(tables):
    library = Library([Expert(name=n, model=n) for n in NAMES])
    return Router.fit(tables[0], library=library, predictor="clusters")


def never(prompt, answer):
    raise AssertionError("only the rates matter here")


def rated(right=0.95, wrong=0.05):
    return Check(never, accepts_right=right, accepts_wrong=wrong)


def test_the_front_of_plans_beats_single_experts_and_plans_that_never_change(planner, tables):
    train, test = tables
    front = planner.plan_front(test, rated(1.0, 0.0), train=train)
    record = front.to_dict()
    references = record["references"]
    assert record["aiq"] > references["zero_router"]["aiq"] + 0.02
    assert record["aiq"] > references["fixed_plans"]["aiq"] - 0.01
    assert references["oracle"]["aiq"] >= record["aiq"] - 1e-9
    values = [point["value"] for point in record["points"]]
    weights = [point["weight"] for point in record["points"]]
    assert values == sorted(values, reverse=True)
    assert weights == sorted(weights)
    assert record["points"][0]["attempts"] >= 1.0
    assert {row["expert"] for row in references["singles"]} == set(NAMES)


def test_a_prompt_that_nobody_may_answer_is_named(planner, tables):
    train, _ = tables
    experts = [Expert(name=n, model=n, context_length=100) for n in NAMES]
    short = planner.replace(
        library=Library(experts),
        objective=replace(planner.objective, library=Library(experts)),
    )
    prompts = [*train.prompts[:2], "x" * 400, *train.prompts[2:4]]
    with pytest.raises(NoEligibleExpertError, match="no expert may answer prompt 3") as caught:
        short.calibrate(prompts, "mean cost <= 1", check=rated())
    assert set(caught.value.reasons) == set(NAMES)
    assert short.calibrate(train.prompts[:4], "mean cost <= 1", check=rated()).met


def test_a_worthless_check_gives_the_router_without_one(planner, tables):
    front = planner.plan_front(tables[1], rated(0.4, 0.4))
    assert set(front.attempts) == {1.0}


def test_fixed_plans_are_the_best_by_enumeration():
    rng = np.random.default_rng(0)
    scores = (rng.random((40, 4)) < [0.3, 0.5, 0.6, 0.9]).astype(float)
    values = np.broadcast_to([1.0, 2.0, 3.0, 9.0], scores.shape)
    right, wrong = np.full(4, 0.9), np.full(4, 0.2)
    measured = MeasuredPlans(scores, values, np.full(40, 1 / 40), right, wrong)
    losses = np.broadcast_to((1 - scores).mean(axis=0), scores.shape)
    means = {}
    for length in (1, 2, 3):
        for plan in itertools.permutations(range(4), length):
            score, value = realised([plan] * 40, scores, values, losses, right, wrong)
            means[plan] = (1 - score.mean(), value.mean())
    for plan in best_fixed_plans(measured, 3):
        loss, value = means[plan.columns]
        assert (plan.loss, plan.value) == pytest.approx((loss, value))
        assert not any(
            other[0] < loss - 1e-9 and other[1] < value - 1e-9 for other in means.values()
        )


def test_rows_tell_score_cost_and_paired_differences(planner, tables):
    train, test = tables
    report = planner.evaluate_plans(test, rated(), train=train)
    router, references = report["router"], report["references"]
    assert set(references) == {"best_single", "without_check", "oracle", "best_fixed_plan"}
    assert references["oracle"]["score"] >= router["score"] - 1e-9
    assert references["best_single"]["experts"] == "dear"
    low, high = router["score_ci95"]
    assert low < router["score"] < high
    difference = report["paired"]["best_single"]["difference"]
    assert difference == pytest.approx(router["score"] - references["best_single"]["score"])


def test_losses_have_no_plans(tables, planner):
    losses = ScoreTable.from_rows(
        [{"prompt": f"p {n}", "losses": dict.fromkeys(NAMES, 1.5)} for n in range(4)]
    )
    with pytest.raises(CheckError, match="holds losses"):
        planner.plan_front(losses, rated())


def test_goals_that_do_not_add_up_have_no_front_of_plans(planner, tables):
    with pytest.raises(CheckError, match="'size' does not add up"):
        planner.plan_front(tables[1], rated(), goal="size")


def with_holes(table, holes):
    return replace(table, losses=np.where(holes, np.nan, table.losses))


def test_plans_on_a_table_with_holes_attain_what_they_do_on_the_whole(planner, tables):
    """Over deletions; complete prompts alone, as it used to be, are several times further off."""
    train, test = tables
    check = rated()
    whole = planner.evaluate_plans(test, check, train=train)
    rng = np.random.default_rng(0)
    errors, costs, left_out = [], [], []
    for _ in range(12):
        holes = rng.random(test.losses.shape) < [0.1, 0.5, 0.3]
        report = planner.evaluate_plans(with_holes(test, holes), check, train=train)
        assert report["prompts"] == (~holes.all(axis=1)).sum()
        assert report["router"]["measured_prompts"] < report["prompts"]
        rows = np.flatnonzero(~holes.any(axis=1))
        part = planner.evaluate_plans(test.select(rows), check)
        errors.append(report["router"]["score"] - whole["router"]["score"])
        costs.append(report["router"]["mean_cost"] - whole["router"]["mean_cost"])
        left_out.append(part["router"]["score"] - whole["router"]["score"])
    assert abs(np.mean(errors)) < 3 * np.std(errors) / np.sqrt(len(errors)) + 1e-3
    assert abs(np.mean(costs)) < 0.1 * whole["router"]["mean_cost"]
    assert np.std(errors) < np.std(left_out)


def test_a_front_of_plans_says_what_each_point_rests_on(planner, tables):
    train, test = tables
    holes = np.random.default_rng(1).random(test.losses.shape) < 0.2
    holes[holes.all(axis=1), 0] = False
    gaps = np.random.default_rng(2).random(train.losses.shape) < 0.2
    front = planner.plan_front(with_holes(test, holes), rated(), train=with_holes(train, gaps))
    record = front.to_dict()
    assert record["cells"] == {"measured": int((~holes).sum()), "possible": 600}
    measured = [point["measured_prompts"] for point in record["points"]]
    assert all(0 < number < front.prompts for number in measured)
    singles = {row["expert"]: row["measured_prompts"] for row in record["references"]["singles"]}
    assert singles == dict(zip(NAMES, (~holes).sum(axis=0).tolist(), strict=True))
    assert "of 600 cells measured" in front.table()
    assert f"measured {measured[0]}" in front.table()


def test_plans_of_experts_that_were_never_measured_together_are_doubted(planner, tables):
    part = tables[1]
    holes = np.zeros(part.losses.shape, dtype=bool)
    holes[np.arange(len(part)), np.arange(len(part)) % 3] = True
    with pytest.warns(TryageWarning, match="takes their failures as independent"):
        report = planner.evaluate_plans(with_holes(part, holes), rated())
    assert 0.5 < report["router"]["score"] < 1.1


def test_plans_need_results_of_every_expert(planner, tables):
    holes = np.zeros(tables[1].losses.shape, dtype=bool)
    holes[1:, 2] = True
    costs = np.where(np.arange(200)[:, None] == 0, np.nan, tables[1].targets["cost"])
    part = replace(with_holes(tables[1], holes), targets={"cost": costs})
    with pytest.raises(ScoreTableError, match="no prompt has the loss and cost of dear measured"):
        planner.plan_front(part, rated())


def test_fixed_plans_of_a_table_with_holes_are_those_of_the_whole():
    """The mean over deletions of what each plan attains is what it attains."""
    rng = np.random.default_rng(2)
    hard = rng.random((120, 1)) < 0.4
    scores = (rng.random((120, 3)) < np.where(hard, [0.1, 0.3, 0.6], [0.7, 0.8, 0.95])) * 1.0
    values = np.array([1.0, 2.0, 9.0]) * rng.uniform(0.5, 1.5, (120, 1))
    shares, groups = np.full(120, 1 / 120), np.zeros(120, dtype=int)
    rates = np.full(3, 0.9), np.full(3, 0.2)
    whole = MeasuredPlans(scores, values, shares, *rates, groups)
    losses = np.broadcast_to(whole.singles.losses, scores.shape)
    plans = [(0,), (0, 2), (1, 0, 2)]
    errors = {plan: [] for plan in plans}
    for _ in range(150):
        holes = rng.random(scores.shape) < [0.1, 0.4, 0.3]
        part = MeasuredPlans(
            np.where(holes, np.nan, scores), np.where(holes, np.nan, values), shares, *rates, groups
        )
        chosen = best_fixed_plans(part, 3)
        for plan in plans:
            score, value = part.of([plan] * 120, losses)
            exact, cost = whole.of([plan] * 120, losses)
            assert part.count([plan] * 120) == (~holes[:, plan]).all(axis=1).sum()
            errors[plan].append((score.mean() - exact.mean(), value.mean() - cost.mean()))
        fixed = chosen[-1]
        own = part.of([fixed.columns] * 120, np.broadcast_to(part.singles.losses, scores.shape))
        assert (1 - own[0].mean(), own[1].mean()) == pytest.approx((fixed.loss, fixed.value))
    for rows in errors.values():
        mean, error = np.mean(rows, axis=0), np.std(rows, axis=0) / np.sqrt(len(rows))
        assert (np.abs(mean) < 3.5 * error).all()


def test_plans_that_hardly_a_prompt_tells_of_are_not_the_best_fixed_ones():
    rng = np.random.default_rng(3)
    scores = (rng.random((60, 3)) < 0.5).astype(float)
    scores[9:, 2] = np.nan
    scores[:9, 2] = 1.0 - scores[:9, 0]  # by luck it is right where the first is wrong
    values = np.broadcast_to([1.0, 1.1, 1.2], scores.shape)
    shares, right, wrong = np.full(60, 1 / 60), np.ones(3), np.zeros(3)
    plans = best_fixed_plans(MeasuredPlans(scores, values, shares, right, wrong), 3)
    assert any(len(plan.columns) > 1 for plan in plans)
    assert all(2 not in plan.columns for plan in plans if len(plan.columns) > 1)
    scores[9, :] = [0.0, 0.0, 1.0]  # the tenth
    plans = best_fixed_plans(MeasuredPlans(scores, values, shares, right, wrong), 3)
    assert any(2 in plan.columns for plan in plans if len(plan.columns) > 1)


def answers(n=200):
    rng = np.random.default_rng(3)
    for number in range(n):
        right = rng.random() < 0.6
        says = "good" if rng.random() < (0.9 if right else 0.2) else "bad"
        yield ScoredAnswer(f"p{number}", NAMES[number % 2], says, float(right))


def good(prompt, answer):
    return answer == "good"


def test_rates_are_measured_and_kept_with_the_router(planner, tmp_path):
    measured, report = planner.measure_check(good, answers())
    right, wrong = report.pooled
    assert right.value == pytest.approx(0.9, abs=0.06)
    assert wrong.value == pytest.approx(0.2, abs=0.1)
    assert right.ci95[0] < right.value < right.ci95[1]
    assert set(report.experts) == {"cheap", "middle"}
    measured.save_pretrained(tmp_path / "r")
    again = Router.from_pretrained(tmp_path / "r")
    assert again.check_rates == measured.check_rates
    plan = again.route("Prove that 3 squares are more.", check=good).plan
    assert plan.accepts_right == report.rates.get(plan.experts[0], report.rates[""])[0]
    assert not plan.assumed
    assert again.joint["text-generation"].shared.tolist() == pytest.approx(
        planner.joint["text-generation"].shared.tolist()
    )


def test_few_answers_of_an_expert_leave_it_the_pooled_rates(planner):
    few = [a for a in answers(400) if a.expert == "cheap"]
    few += [ScoredAnswer("p", "middle", "good", 1.0), ScoredAnswer("q", "middle", "bad", 0.0)]
    _, report = planner.measure_check(good, few)
    assert set(report.experts) == {"cheap"}


def test_a_check_that_raises_counts_as_it_says(planner):
    def fragile(prompt, answer):
        if answer == "bad":
            raise KeyError("bug")
        return True

    _, report = planner.measure_check(fragile, answers())
    assert report.failed > 10
    assert report.pooled[0].value == pytest.approx(0.9, abs=0.06)


def test_answers_of_one_kind_tell_no_rate(planner):
    right = [replace(a, score=1.0) for a in answers(10)]
    with pytest.raises(CheckError, match="none of the answers is wrong"):
        planner.measure_check(good, right)
    with pytest.raises(CheckError, match="asks dear"):
        planner.measure_check(agrees_with("dear"), right)


def test_the_interval_is_wilson_s():
    # Wilson (1927): 8 of 10 at 95 % is 0.490 to 0.943.
    rate = Rate.of(8, 10)
    assert rate.ci95 == pytest.approx((0.490, 0.943), abs=0.001)
    assert Rate.of(0, 0).value is None


@pytest.fixture
def files(planner, tables, tmp_path):
    planner.save_pretrained(tmp_path / "router")
    tables[0].write(tmp_path / "train.jsonl")
    tables[1].write(tmp_path / "test.jsonl")
    return tmp_path


def invoke(*args):
    result = CliRunner().invoke(app, [str(arg) for arg in args])
    return result.exit_code, result.stdout, result.stderr


def test_the_command_line_judges_plans(files):
    rates = "accepts-right=0.95,accepts-wrong=0.05"
    common = (files / "router", files / "test.jsonl", "--check", rates)
    code, out, _ = invoke("evaluate", *common, "--train", files / "train.jsonl", "--json")
    assert code == 0
    assert json.loads(out)["check"]["accepts_wrong"] == pytest.approx(0.05)
    code, out, _ = invoke("evaluate", *common, "--max-attempts", "1")
    assert code == 0
    assert "1.00 attempts a prompt" in out
    code, out, _ = invoke("pareto", *common, "--json")
    assert code == 0
    assert json.loads(out)["references"]["best_fixed_plan"] is None
    code, out, _ = invoke("pareto", *common, "--train", files / "train.jsonl")
    assert code == 0
    assert "best fixed plans" in out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--check", "accepts-right=1,accepts-wrong=0", "--png", "front.png"), "has no --plot"),
        (
            ("--check", "accepts-right=1,accepts-wrong=0", "--goal", "cost", "--goal", "latency"),
            "over one --goal",
        ),
        (("--train", "train.jsonl"), "need --check"),
    ],
)
def test_options_that_would_do_nothing_are_refused(files, monkeypatch, options, words):
    monkeypatch.chdir(files)
    code, _, err = invoke("pareto", "router", "test.jsonl", *options)
    assert code == 2
    assert words in " ".join(err.split())


def test_the_command_line_counts_every_attempt_in_a_budget(files, planner, tables):
    prompts, budget = tables[1].prompts, "mean cost <= 2 USD per 1000 prompts"
    lines = "".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts)
    (files / "prompts.jsonl").write_text(lines, encoding="utf-8")
    rates = "accepts-right=0.95,accepts-wrong=0.05"
    args = ("calibrate", files / "router", files / "prompts.jsonl", budget, "--check", rates)
    code, out, _ = invoke(*args, "--json")
    assert code == 0
    attained = json.loads(out)["attained"][budget]
    goals = planner.calibrate(prompts, budget, check=rated())
    cost, _ = expected_cost(planner, prompts, goals, rated())
    assert attained["value"] == pytest.approx(cost)
    code, out, _ = invoke(*args)
    assert (code, out.count("mean cost")) == (0, 1)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("accepts-right=0.9", "accepts-wrong missing"),
        ("accepts-right=0.9,accept-wrong=0.1", "'accept-wrong' is unknown"),
        ("accepts-right=x,accepts-wrong=0.1", "'x' is not a number"),
        ("accepts-right=2,accepts-wrong=0.1", "accepts_right is 2.0"),
        ("tests", "knows no rates of a check 'tests'. Measured: none."),
    ],
)
def test_wrong_rates_are_told_in_one_line(files, text, words):
    code, _, err = invoke("evaluate", files / "router", files / "test.jsonl", "--check", text)
    assert code == 2
    assert words in " ".join(err.split())


def test_the_command_line_measures_a_check(files, monkeypatch):
    pytest.importorskip("pyarrow")
    from tryage.labeling import label_answers

    prompts = [{"prompt": f"Question {n}?", "reference": str(n % 2)} for n in range(8)]
    experts = {"cheap": lambda prompt: "0", "middle": lambda prompt: "1 for sure"}
    label_answers(experts, prompts, "contains", files / "answers", keep_answers=True)
    (files / "my_checks.py").write_text(
        "def is_sure(prompt, answer):\n    return 'sure' in answer\n"
    )
    monkeypatch.chdir(files)
    command = ("check", "router", "answers", "--check", "my_checks:is_sure")
    code, out, _ = invoke(*command, "--json", "--out", "measured")
    assert code == 0, out
    report = json.loads(out)
    assert report["accepts_right"]["value"] == 0.5
    assert Router.from_pretrained(files / "measured").check_rates["is_sure"][""] == (0.5, 0.5)
    code, out, _ = invoke(*command)
    assert "is_sure: accepts 50.0% (95 %:" in out
    code, _, err = invoke("check", "router", "answers", "--check", "my_checks.is_sure")
    assert (code, "write it as MODULE:NAME" in err) == (2, True)
    code, _, err = invoke("check", "router", files, "--check", "my_checks:is_sure")
    assert (code, "holds no scored answers" in " ".join(err.split())) == (2, True)


@pytest.mark.parametrize(
    ("rows", "answer", "reason"),
    [
        (5_000_000, "x", "say they hold 5000000 rows"),
        (1, ["x"], "column 'answer' holds list<"),
        (0, None, "not a whole Parquet file"),
    ],
    ids=["rows", "lists", "no Parquet"],
)
def test_kept_answers_that_cannot_be_read_are_named(planner, tmp_path, rows, answer, reason):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "cells.parquet"
    path.write_bytes(b"PAR1 but no more")
    if rows:
        cell = {"prompt": "p", "expert": "cheap", "answer": answer, "score": 1.0}
        cells = {name: pyarrow.repeat(pyarrow.scalar(cell[name]), rows) for name in cell}
        parquet.write_table(pyarrow.table(cells), path)
        assert path.stat().st_size < 200_000
    with pytest.raises(CheckError, match=reason) as caught:
        planner.measure_check(lambda prompt, answer: True, tmp_path)
    assert str(path) in str(caught.value)


def expected_cost(planner, prompts, goals, check):
    plans = [planner.route(prompt, goals=goals, check=check).plan for prompt in prompts]
    return float(np.mean([plan.cost for plan in plans])), plans


def test_a_budget_counts_every_attempt(planner, tables):
    prompts = tables[1].prompts[:60]
    check = rated(1.0, 0.0)
    calibration = planner.calibrate(prompts, "mean cost <= 4 USD per 1000 prompts", check=check)
    assert calibration.met
    cost, plans = expected_cost(planner, prompts, calibration, check)
    assert cost == pytest.approx(
        calibration.attained["mean cost <= 4 USD per 1000 prompts"]["value"]
    )
    assert 0.002 < cost <= 0.004
    assert any(len(plan.attempts) > 1 for plan in plans)
    cheaper, _ = expected_cost(planner, prompts, Goals(cost=calibration.weights["cost"] / 3), check)
    assert cheaper > cost  # a smaller weight breaks the budget


def test_a_score_budget_lowers_the_cost(planner, tables):
    prompts = tables[1].prompts[:60]
    calibration = planner.calibrate(prompts, "score >= 95% of best", check=rated(1.0, 0.0))
    row = calibration.attained["score >= 95% of best"]
    assert calibration.met
    assert row["ci95"][0] <= row["value"] <= row["ci95"][1]
    free, _ = expected_cost(planner, prompts, Goals(cost=0.0), rated(1.0, 0.0))
    cost, _ = expected_cost(planner, prompts, calibration, rated(1.0, 0.0))
    assert cost < free


def test_a_budget_that_cannot_be_met_tells_the_nearest(planner, tables):
    text = "mean cost <= 0.1 USD per 1000 prompts"
    calibration = planner.calibrate(tables[1].prompts[:20], text, check=rated())
    assert not calibration.met
    assert calibration.attained[text]["attainable"] == pytest.approx(0.001)


@pytest.mark.parametrize(
    ("budgets", "words"),
    [
        (
            ["mean cost <= 4 USD per 1000 prompts", "score >= 90% of best"],
            "2 budgets; with a check",
        ),
        (["size <= 3B"], "does not add up over attempts"),
    ],
)
def test_budgets_that_plans_cannot_meet(planner, tables, budgets, words):
    with pytest.raises(GoalError, match=words):
        planner.calibrate(tables[1].prompts[:5], *budgets, check=rated())
