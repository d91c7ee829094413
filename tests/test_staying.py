"""What a prompt cache is worth, and who stays: against figures worked out by hand."""

import dataclasses

import numpy as np
import pytest

from tryage import Goals, Library, Router, ScoreTable
from tryage.binding import Conversation, holds_encrypted, stay
from tryage.binding.staying import CACHED_FROM, cache_value
from tryage.errors import LibraryError

PRICES = {
    "large": {"input": 3.0, "output": 10.0, "cached_input": 0.3},
    "small": {"input": 1.0, "output": 2.0, "cached_input": 0.5},
    "plain": {"input": 1.5, "output": 3.0},
}
READ = 2000.0


def library_of(prices):
    rows = [{"name": name, "model": name, "price": price} for name, price in prices.items()]
    return Library.from_dict({"name": "priced", "experts": rows})


@pytest.fixture(scope="module")
def priced():
    """A router by attributes: the cost decides."""
    return Router.from_library(library_of(PRICES))


def after(expert, tokens=READ, **fields):
    return Conversation(expert, tokens, **fields)


def decision_of(router, weight=0.5, **goals):
    weights = {"cost": weight} if weight else {}
    return router.route("And then?", goals=Goals(**weights, **goals), sent_tokens=READ + 50)


def test_the_value_is_the_saving_in_units_of_loss(priced):
    decision = decision_of(priced)
    scale = priced.objective.scales["cost"]
    per_usd = priced.objective.spreads.get("text-generation", 1.0) / (scale.high - scale.low)
    expected = (3.0 - 0.3) / 1e6 * READ * 0.5 * per_usd
    assert cache_value(decision, after("large"), priced) == pytest.approx(expected)
    # The totals are linear in the cost, so the cheaper cache shifts this total by as much.
    column, cheap = decision.names.index("large"), decision.names.index("small")
    costs = decision.values["cost"]
    slope = (decision.totals[column] - decision.totals[cheap]) / (costs[column] - costs[cheap])
    assert expected == pytest.approx(slope * (3.0 - 0.3) / 1e6 * READ)


@pytest.mark.parametrize(
    ("weight", "conversation"),
    [
        (0.0, after("large")),
        (0.5, after("plain")),
        (0.5, after("large", CACHED_FROM - 1)),
        (0.5, Conversation()),
    ],
    ids=["no weight", "no price of the cache", "too short", "nobody answered"],
)
def test_where_nothing_is_saved(priced, weight, conversation):
    assert cache_value(decision_of(priced, weight), conversation, priced) == 0.0


def test_a_token_of_an_expert_counts_by_its_own_tokenizer():
    rows = {name: dict(price) for name, price in PRICES.items()}
    experts = [{"name": n, "model": n, "price": p, "chars_per_token": 2.0} for n, p in rows.items()]
    router = Router.from_library(Library.from_dict({"name": "dense", "experts": experts}))
    decision = decision_of(router)
    scale = router.objective.scales["cost"]
    per_usd = router.objective.spreads.get("text-generation", 1.0) / (scale.high - scale.low)
    expected = 2 * (3.0 - 0.3) / 1e6 * READ * 0.5 * per_usd
    assert cache_value(decision, after("large"), router) == pytest.approx(expected)


def test_predicted_costs_know_nothing_of_the_conversation(table):
    costs = np.broadcast_to([9e-3, 1e-4, 2e-4], table.losses.shape)
    measured = dataclasses.replace(table, targets={"cost": costs})
    prices = dict(zip(table.experts, PRICES.values(), strict=True))
    router = Router.fit(measured, library=library_of(prices), predictor="clusters")
    decision = decision_of(router, 1.0)
    own, chosen = table.experts[0], decision.expert
    assert chosen != own
    other = library_of(prices)[chosen].price.input
    goal = router.objective.unit_penalty
    from tryage.goals import GOALS

    nothing, dollar = goal(GOALS["cost"], decision.task, np.array([0.0, 1.0]))
    expected = (other - PRICES["large"]["cached_input"]) / 1e6 * READ * (dollar - nothing)
    assert cache_value(decision, after(own), router) == pytest.approx(expected)


def test_it_stays_while_the_cache_is_worth_it(priced):
    decision = decision_of(priced)
    assert decision.expert == "small"
    # 2000 tokens cost 0.6 thousandths from the cache, 2 thousandths anew elsewhere.
    assert stay(decision, after("large"), "price", priced).expert == "small"
    long = priced.route("And then?", goals=Goals(cost=0.5), sent_tokens=40_050)
    assert stay(long, after("large", 40_000), "price", priced).expert == "large"
    assert stay(long, after("large", 1_100), "price", priced).expert == "small"
    assert stay(long, after("plain", 40_000), "price", priced).expert == "small"


@pytest.mark.parametrize("sticky", [False, True, 0.0, 0.1, "price"])
def test_who_is_bound_stays_and_who_may_not_answer_never_does(priced, sticky):
    decision = decision_of(priced)
    bound = after("plain", 10, is_bound=True)
    assert stay(decision, bound, sticky, priced).expert == "plain"
    assert stay(decision, after("plain", 10), False, priced).expert == "small"
    limited = decision_of(priced, limits={"cost": "<=0.004"})
    assert stay(limited, after("large", 10, is_bound=True), sticky, priced).expert == "small"
    assert stay(decision, Conversation(is_bound=True), sticky, priced).expert == "small"
    assert stay(decision, after("another", is_bound=True), sticky, priced).expert == "small"


def test_a_number_is_the_most_that_it_may_cost(priced):
    decision = decision_of(priced)
    totals = dict(zip(decision.names, decision.totals, strict=True))
    excess = totals["plain"] - totals["small"]
    assert stay(decision, after("plain"), excess + 1e-6, priced).expert == "plain"
    assert stay(decision, after("plain"), excess - 1e-6, priced).expert == "small"


def test_with_a_plan_the_check_says_who_goes_on(scored_router):
    decision = scored_router.route("def f(x):", check=lambda prompt, answer: True)
    other = next(name for name in decision.names if name != decision.expert)
    bound = after(other, is_bound=True)
    assert stay(decision, bound, True, scored_router) is decision


ENCRYPTED = {
    "OpenAI's reasoning": [{"type": "reasoning", "encrypted_content": "gAAA"}],
    "OpenAI's reasoning beside": {"reasoning": {"summary": [], "encrypted_content": "gAAA"}},
    "Anthropic's thoughts": [{"type": "thinking", "thinking": "so", "signature": "Er4"}],
    "Anthropic's hidden thoughts": [{"type": "redacted_thinking", "data": "Er4"}],
    "Google's": {"__gemini_function_call_thought_signatures__": {"call-1": "CiQ"}},
    "Google's in extras": [{"type": "text", "text": "a", "extras": {"signature": "CiQ"}}],
}


@pytest.mark.parametrize("value", ENCRYPTED.values(), ids=ENCRYPTED)
def test_encrypted_reasoning_is_seen(value):
    assert holds_encrypted(value)


PLAIN = {
    "text": "signature",
    "text in a block": [{"type": "text", "text": "encrypted_content"}],
    "thoughts in the open": [{"type": "reasoning", "reasoning": "so", "signature": ""}],
    "an argument of a tool": [{"type": "tool_use", "name": "sign", "input": {"signature": "x"}}],
    "calls": {"tool_calls": [{"function": {"arguments": {"signature": "x"}}}]},
    "nothing": None,
}


@pytest.mark.parametrize("value", PLAIN.values(), ids=PLAIN)
def test_what_anybody_can_read_is_not(value):
    assert not holds_encrypted(value)


def test_what_is_nested_without_end_is_not_followed():
    loop = []
    loop.append(loop)
    assert not holds_encrypted(loop)


def test_a_price_of_cached_tokens_is_read_and_kept(priced, tmp_path):
    assert priced.library.cached_prices == pytest.approx([0.3e-6, 0.5e-6, np.nan], nan_ok=True)
    priced_again = Library.from_dict(priced.library.to_dict())
    assert priced_again["large"].price.cached_input == 0.3
    assert "cached_input" not in str(priced_again["plain"].price.model_dump(exclude_none=True))
    rows = [{"prompt": f"question {n}", "scores": dict.fromkeys(PRICES, 0.5)} for n in range(30)]
    router = Router.fit(ScoreTable.from_rows(rows), library=priced.library, predictor="best-single")
    router.save_pretrained(tmp_path / "r")
    assert Router.from_pretrained(tmp_path / "r").library["small"].price.cached_input == 0.5
    with pytest.raises(LibraryError, match="cached_input"):
        library_of({"a": {"input": 1, "output": 1, "cached_input": -1}})
