"""Decisions among thousands of experts, compared with plain enumeration of all of them."""

import dataclasses
import datetime
import functools
import itertools
import math
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from tryage import Decision, Expert, Goals, Library, Price, Router, ScoreTable, Security
from tryage.dispatch import dispatch, record
from tryage.eligibility import of_library, overflow
from tryage.encoders import StaticEncoder
from tryage.errors import GoalError, NoEligibleExpertError
from tryage.experts import FILL_MASK, TEXT_GENERATION
from tryage.goals import Goal
from tryage.limits import parse_limits
from tryage.objective import Objective
from tryage.predictors import ClustersPredictor
from tryage.ties import TIE
from tryage.tokens import count_tokens

SIZE = 1300
THEMES = (
    "Write a Python function that sorts a list of {} numbers.",
    "Who was the king of France in the year {}?",
    "A train leaves at {} o'clock and drives 90 km; when does it arrive?",
)
CHAIN = "Use the context to answer.\n\nContext:\nThe river is {} km long.\n\nQuestion: {}\nAnswer:"
PROMPTS = (
    *(theme.format(number) for theme in THEMES for number in (5, 17)),
    "กรุงเทพมหานครเป็นเมืองหลวง",
    CHAIN.format(7, THEMES[1].format(1700)),
    THEMES[0].format(8) + " Explain every step." * 120,
)


class Shortest(Goal):
    """A goal of one's own: the length of the name, and of the model's."""

    name, unit = "shortest", "characters"

    def value(self, expert):
        return float(len(expert.name + expert.model))


def measured_table(names, rng):
    """Losses by theme, in tenths so that many tie; a third of the experts are copies of others."""
    prompts = [theme.format(number) for theme in THEMES for number in range(40)]
    level = rng.choice([0.2, 0.4, 0.6], size=(1, len(names)))
    skill = rng.integers(-2, 3, size=(len(THEMES), len(names))) / 10
    losses = np.clip(level + np.repeat(skill, 40, axis=0), 0, 1)
    losses = (rng.random(losses.shape) < losses).astype(float)
    losses[rng.random(losses.shape) < 0.3] = np.nan
    losses[0] = np.where(np.isnan(losses).all(axis=0), 0.5, losses[0])
    copies = rng.permutation(len(names))[: len(names) // 3]
    losses[:, copies] = losses[:, rng.integers(len(names), size=len(copies))]
    losses[0] = np.where(np.isnan(losses).all(axis=0), 0.5, losses[0])
    ids = tuple(str(number) for number in range(len(prompts)))
    return ScoreTable(
        tuple(prompts), ids, ids, (TEXT_GENERATION,) * len(ids), ("",) * len(ids), names, losses
    )


def made_router(seed, *, mixed):
    """A router over experts with attributes; `mixed` also has experts of another task."""
    rng = np.random.default_rng(seed)
    numbers = rng.permutation(SIZE).tolist()
    experts = [
        Expert(
            name=f"expert-{number}",
            model="m" * (1 + number % 3),
            task=FILL_MASK if mixed and number % 7 == 0 else TEXT_GENERATION,
            parameters=10**9 * (1 + number % 70),
            released=datetime.date(2020 + number % 6, 1 + number % 9, 1),
            license=("mit", "apache-2.0", "other")[number % 3],
            context_length=None if number % 5 else 512,
            security=Security(safetensors=bool(number % 2), remote_code=number % 3 == 0),
        )
        for number in numbers
    ]
    library = Library(experts, name="wide")
    fitted = tuple(expert.name for expert in experts if expert.task == TEXT_GENERATION)
    # The predictor may know the experts in another order than the library, and more of them.
    fitted = ("retired", *fitted[::-1]) if mixed else fitted
    table = measured_table(fitted, rng)
    predictor = ClustersPredictor(StaticEncoder.bundled(), k=6).fit(table.prompts, table)
    objective = Objective.fit(library, {TEXT_GENERATION: 0.8})
    provenance = {"scripts": ["Latin"]}
    predictors = {TEXT_GENERATION: predictor}
    return Router(library, predictors, objective=objective, provenance=provenance)


def few_at_a_time(predictor, prompts):
    """Mean losses in double precision, of predictors of a few hundred experts each: name → row."""
    config, arrays = predictor.state()
    rows = {}
    for first in range(0, len(predictor.experts_), 300):
        part = slice(first, first + 300)
        some = {
            name: array if name.split(".")[-1] in ("centres", "threshold") else array[..., part]
            for name, array in arrays.items()
        }
        names = config["experts"][part]
        few = ClustersPredictor.from_state({**config, "experts": names}, some, predictor.encoder)
        losses = few.predict(prompts).with_averages(few.averages_).mean["loss"]
        rows |= dict(zip(names, losses.T, strict=True))
    return rows


def plain_totals(router, prompt, losses, weights, holds):
    """Every expert's total, one at a time; infinity where a limit, task or context excludes it."""
    totals = []
    for column, expert in enumerate(router.library):
        scaled = {name: router.objective.scaled[name][column] for name in weights}
        total = losses.get(expert.name, math.nan) + sum(
            weight * 0.8 * scaled[name] for name, weight in weights.items()
        )
        tokens = count_tokens(prompt)
        out = expert.task != TEXT_GENERATION or not holds(expert)
        out = out or overflow(router.library, column, tokens) is not None
        totals.append(math.inf if out else total)
    return totals


def by_price_and_name(expert):
    price = math.inf if expert.price is None else expert.price.input + expert.price.output
    return price, expert.name


def check_against_enumeration(router, decision, fresh):
    """`decision` has been looked at, `fresh` is the same one before anything was."""
    library = router.library
    rows = [one.to_dict() for one in decision.ranking]
    least = min(decision.totals.tolist())
    tied = [e for e, total in zip(library, decision.totals, strict=True) if total <= least + TIE]
    assert decision.expert == fresh.expert == min(tied, key=by_price_and_name).name
    place = dict(zip(library.names, decision.totals.tolist(), strict=True))
    order = sorted(place, key=lambda name: (name != decision.expert, place[name], name))
    eligible = [name for name in order if place[name] < math.inf]
    excluded = sorted(name for name in order if place[name] == math.inf)
    assert [row["expert"] for row in rows] == [*eligible, *excluded]
    assert decision.order == tuple(eligible)
    for top in (0, 1, 5, 10, 11, 40, None):
        assert fresh.to_dict(top=top)["ranking"] == rows[:top]
    assert fresh.predicted_loss == decision.predicted_loss == rows[0]["loss"]
    assert set(decision.reasons) == set(excluded)
    for name in excluded[:3]:
        assert fresh.reasons[name] == decision.reasons[name] == dict(decision.reasons)[name]
    assert decision.expert not in fresh.reasons


LIMITS = (
    ({}, lambda e: True),
    ({"parameters": "<=8B"}, lambda e: e.parameters <= 8 * 10**9),
    (
        {"parameters": "<=8B", "released": ">=2024-01-01"},
        lambda e: e.parameters <= 8 * 10**9 and e.released >= datetime.date(2024, 1, 1),
    ),
    ({"license": ["mit", "other"]}, lambda e: e.license in ("mit", "other")),
    (
        {"parameters": "<=1B", "released": ">=2025-06-01"},
        lambda e: e.parameters <= 10**9 and e.released >= datetime.date(2025, 6, 1),
    ),
)
WEIGHTS = ({}, {"size": 0.3}, {"size": 0.3, "recency": 0.1}, {"recency": 3.0}, {"size": 1e5})


@functools.cache
def routed(mixed):
    """A router, and the losses of all prompts in double precision."""
    router = made_router(1 + mixed, mixed=mixed)
    return router, few_at_a_time(router.predictors[TEXT_GENERATION], list(PROMPTS))


@pytest.fixture(scope="module", name="router")
def _router():
    return routed(False)[0]


@settings(max_examples=60, deadline=None)
@given(
    st.booleans(),
    st.integers(0, len(PROMPTS) - 1),
    st.sampled_from(WEIGHTS),
    st.sampled_from(LIMITS),
)
def test_a_wide_decision_is_that_of_plain_enumeration(mixed, number, weights, limited):
    router, losses = routed(mixed)
    limits, holds = limited
    prompt, goals = PROMPTS[number], Goals(limits=limits, **weights)
    own = {name: row[number] for name, row in losses.items()}
    totals = plain_totals(router, prompt, own, weights, holds)
    if min(totals) == math.inf:
        with pytest.raises(NoEligibleExpertError):
            router.route(prompt, goals=goals)
        return
    decision, fresh = router.route(prompt, goals=goals), router.route(prompt, goals=goals)
    assert fresh.deferred is not None
    assert set(fresh.deferred.make) == {"losses", "std", "totals"}  # found by bounds alone
    check_against_enumeration(router, decision, fresh)
    if decision.question is None:  # else the prompt was predicted by a part of it
        np.testing.assert_allclose(
            decision.totals, totals, atol=1e-6 * max(1, sum(weights.values()))
        )


def test_a_prompt_gets_in_a_batch_what_it_gets_alone(router):
    goals = Goals(size=0.2, limits={"parameters": "<=30B"})
    together = router.route_batch(list(PROMPTS), goals=goals)
    for prompt, decision in zip(PROMPTS, together, strict=True):
        alone = router.route(prompt, goals=goals)
        assert decision.to_dict(top=5)["ranking"][0]["expert"] == alone.expert
        np.testing.assert_allclose(decision.totals, alone.totals, atol=1e-5)
        assert decision.question == alone.question


def test_a_few_of_many_are_explained_and_shown(router):
    goals = Goals(size=0.2, limits={"parameters": "<=30B"})
    decision, fresh = (router.route(PROMPTS[0], goals=goals) for _ in range(2))
    eligible = len(decision.order)
    text = fresh.explain(top=4)
    assert f"lowest total of {eligible} eligible experts" in text
    assert text == "\n".join(decision.explain().splitlines()[: len(text.splitlines())])
    assert [line.split()[0] for line in text.splitlines()[-4:]] == list(decision.order[:4])
    page = router.route(PROMPTS[0], goals=goals)._repr_html_()
    assert decision.order[20] in page
    assert page.count("<tr>") < 100


def test_limits_that_exclude_everyone_name_the_reasons(router):
    with pytest.raises(NoEligibleExpertError, match="the limit is < 1") as caught:
        router.route(PROMPTS[0], goals=Goals(limits={"parameters": "<1B"}))
    assert len(caught.value.reasons) == SIZE
    lines = str(caught.value).splitlines()
    assert len(lines) == 102
    assert lines[-1] == "  and 1,200 more"


@functools.cache
def made_wider(kind):
    """A router over 9,000 experts, whose cells were not fitted but drawn."""
    rng, size = np.random.default_rng(5), 9000
    prompts = [theme.format(number) for theme in THEMES for number in range(40)]
    few = ScoreTable(
        tuple(prompts),
        ids := tuple(map(str, range(len(prompts)))),
        ids,
        (TEXT_GENERATION,) * len(ids),
        ("",) * len(ids),
        ("one",),
        rng.random((len(ids), 1)),
    )
    predictor = ClustersPredictor(StaticEncoder.bundled(), k=6).fit(prompts, few)
    config, arrays = predictor.state()
    names = [f"expert-{number}" for number in rng.permutation(size)]
    cells = arrays["loss.shifts"].shape[0]
    levels = {"apart": rng.random(size), "alike": np.full(size, 0.5), "copies": rng.random(5)}
    columns = np.arange(size) % 5 if kind == "copies" else np.arange(size)
    arrays |= {
        "loss.average": levels[kind][columns],
        "loss.shifts": rng.normal(0, 0.1, (cells, size))[:, columns],
        "loss.errors": rng.uniform(0.01, 0.1, (cells, size))[:, columns],
    }
    predictor = ClustersPredictor.from_state(
        {**config, "experts": names}, arrays, predictor.encoder
    )
    experts = [Expert(name=name, model="m", parameters=1 + n) for n, name in enumerate(names)]
    library = Library(experts, name=kind)
    objective = Objective.fit(library, {TEXT_GENERATION: 1.0})
    return Router(library, {TEXT_GENERATION: predictor}, objective=objective)


@pytest.mark.parametrize("kind", ["apart", "alike", "copies"])
@pytest.mark.parametrize("goals", [Goals(), Goals(size=0.3), Goals(limits={"parameters": "<=3K"})])
def test_no_block_that_holds_one_of_the_first_is_left_out(kind, goals):
    router = made_wider(kind)
    for prompt in PROMPTS:
        decision = router.route(prompt, goals=goals)
        rows = decision.to_dict(top=10)["ranking"]
        totals = decision.totals
        names = np.array(decision.names)
        first = np.lexsort((names, totals))[:11]
        assert totals[decision.names.index(decision.expert)] <= totals.min() + TIE
        order = [decision.expert, *(name for name in names[first] if name != decision.expert)]
        assert [row["expert"] for row in rows] == order[:10]
        columns = [decision.names.index(row["expert"]) for row in rows]
        assert [row["total"] for row in rows] == totals[columns].tolist()
        assert [row["std"] for row in rows] == decision.std[columns].tolist()


def test_reasons_of_many_are_those_of_each_alone(router):
    limits = parse_limits(
        ["parameters <= 30B", "released >= 2022-01-01", "license in [mit, other]", "pinned = false"]
    )
    unavailable = {"expert-3": "it is broken", "expert-5000": "nobody knows it"}
    library = pickle.loads(pickle.dumps(router.library))
    many = of_library(library, unavailable, TEXT_GENERATION, limits)
    for expert, holds in zip(library, many.mask.tolist(), strict=True):
        alone = of_library(Library([expert]), unavailable, TEXT_GENERATION, limits)
        assert many.reasons.get(expert.name) == alone.reasons.get(expert.name)
        assert holds == (expert.name not in many.reasons) == alone.mask[0]
    assert 0 < len(many.reasons) < SIZE
    with pytest.raises(KeyError):
        many.reasons["nobody"]
    assert pickle.loads(pickle.dumps(many.reasons)) == dict(many.reasons)


def test_the_first_of_many_that_does_not_state_what_is_limited_is_named(router):
    experts = list(router.library.experts)
    for column, changes in ((40, {"license": None}), (30, {"license": None, "task": FILL_MASK})):
        experts[column] = experts[column].model_copy(update=changes)
    limits = parse_limits(["parameters <= 1B", "license = mit"])
    with pytest.raises(GoalError, match=f"expert '{experts[40].name}' states no license"):
        of_library(Library(experts), {}, TEXT_GENERATION, limits)
    excluded = {experts[40].name: "it is switched off"}
    assert of_library(Library(experts), excluded, TEXT_GENERATION, limits).mask.any()


def test_goals_of_prompts_and_of_ones_own_count_among_thousands(router):
    for goals in (Goals(custom=[Shortest(weight=0.4)]), Goals(latency=0.5), Goals(security=0.2)):
        decision, fresh = (
            router.route(PROMPTS[0], goals=goals),
            router.route(PROMPTS[0], goals=goals),
        )
        check_against_enumeration(router, decision, fresh)
        plain = router.route(PROMPTS[0])
        assert np.abs(decision.totals - plain.totals).max() > 0.01


def test_goals_of_the_same_name_are_not_taken_for_each_other(router):
    class Longest(Shortest):
        def value(self, expert):
            return -super().value(expert)

    shortest = router.route(PROMPTS[0], goals=Goals(custom=[Shortest(weight=9.0)]))
    longest = router.route(PROMPTS[0], goals=Goals(custom=[Longest(weight=9.0)]))
    lengths = [
        len(router.library[d.expert].name + router.library[d.expert].model)
        for d in (shortest, longest)
    ]
    assert lengths[0] < lengths[1]


def test_a_limit_on_a_goal_holds_among_thousands(router):
    for goal, most in (("latency", 2), ("security", 4)):
        goals = Goals(limits={goal: f"<={most}"})
        decision = router.route(PROMPTS[0], goals=goals)
        check_against_enumeration(router, decision, router.route(PROMPTS[0], goals=goals))
        chosen = decision.names.index(decision.expert)
        assert decision.values[goal][chosen] <= most < decision.values[goal].max()


def test_prices_settle_ties_among_thousands():
    names = [f"e{number:04}" for number in range(700)]
    prices = {"e0400": 2.0, "e0500": 1.0, "e0600": 1.0}
    experts = [
        Expert(
            name=name,
            model="m",
            price=Price(input=prices[name], output=1) if name in prices else None,
        )
        for name in names
    ]
    prompts = tuple(theme.format(n) for theme in THEMES for n in range(40))
    ids = tuple(map(str, range(len(prompts))))
    # The cheapest are a little worse than the others, so that they only win where all are equal.
    for better, chosen in ((0.0, "e0500"), (0.2, "e0000")):
        losses = np.full((len(ids), len(names)), 0.5)
        losses[:, [name not in prices for name in names]] -= better
        tasks = (TEXT_GENERATION,) * len(ids)
        table = ScoreTable(prompts, ids, ids, tasks, ("",) * len(ids), tuple(names), losses)
        predictor = ClustersPredictor(StaticEncoder.bundled(), k=4).fit(prompts, table)
        library = Library(experts, name="priced")
        router = Router(library, {TEXT_GENERATION: predictor}, objective=Objective.fit(library, {}))
        decision = router.route(prompts[3])
        assert decision.expert == chosen
        rest = [row["expert"] for row in decision.to_dict(top=4)["ranking"]]
        others = sorted(
            (n for n in names if n != chosen), key=lambda n: (n in prices and better, n)
        )
        assert rest == [chosen, *itertools.islice(others, 3)]


def test_a_wide_decision_is_copied_recorded_and_dumped_whole(router):
    fresh = router.route(PROMPTS[2])
    check_against_enumeration(router, fresh, pickle.loads(pickle.dumps(router.route(PROMPTS[2]))))
    moved = dataclasses.replace(router.route(PROMPTS[2]), expert=fresh.order[3])
    assert moved.order[:4] == (fresh.order[3], *fresh.order[:3])
    assert moved.to_dict(top=2)["ranking"][0]["expert"] == fresh.order[3]
    decision = router.route(PROMPTS[2])
    recorded = record(decision, dispatch(decision, lambda name: f"answer of {name}"))
    assert recorded.to_dict(top=5)["ranking"] == fresh.to_dict(top=5)["ranking"]
    assert recorded.losses.tolist() == fresh.losses.tolist()
    adapter = TypeAdapter(Decision)
    again = adapter.validate_json(adapter.dump_json(router.route(PROMPTS[2])))
    assert again.to_dict() == fresh.to_dict()
