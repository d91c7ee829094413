"""A binding: copies and pickles of it, and what passes through it at once."""

import copy
import gc
import pickle
import sys
from types import ModuleType

import numpy as np
import pytest

from tryage import Library, Router, TryageWarning
from tryage.binding import (
    Binding,
    flag_mode,
    joined_goals,
    known_query,
    own_text,
    passed_query,
    passing_on,
    text_tokens,
)
from tryage.errors import LibraryError, NoEligibleExpertError, PromptError
from tryage.flags import parse
from tryage.goals import Goal, Goals, Security

PROMPT = "def alpha_count(total, count=3):\n    return total - count\n"
NAMES = ("coder", "writer", "giant")

COPIES = pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda source: pickle.loads(pickle.dumps(source))]
)


@COPIES
def test_routers_and_decisions_can_be_copied(router, copied):
    decision = router.route(f"{PROMPT} [Flag: size=2]", goals=Goals(limits={"parameters": "<=10B"}))
    assert copied(decision).to_dict() == decision.to_dict()
    assert copied(decision).explain() == decision.explain()
    again = copied(router).route(PROMPT)
    assert again.to_dict() == router.route(PROMPT).to_dict()


def test_a_decision_shares_no_reasons_with_the_router(router):
    bounded = Goals(limits={"parameters": "<=10B"})
    decision = router.route(PROMPT, goals=bounded)
    decision.reasons["coder"] = "spoiled"
    assert "coder" not in router.route(PROMPT, goals=bounded).reasons


def test_a_router_can_be_pickled_after_a_call_brought_its_own_goal(router):
    class Own(Goal):
        name = "own"

        def values(self, library, inputs):
            return np.zeros(len(library))

    decision = router.route(PROMPT, goals=Goals(custom=[Own(1.0)]))
    assert decision.weights == {"own": 1.0}
    again = pickle.loads(pickle.dumps(router)).route(PROMPT)
    assert again.to_dict() == router.route(PROMPT).to_dict()


@COPIES
def test_a_binding_can_be_copied(router, copied, tmp_path):
    router.save_pretrained(tmp_path / "r")
    for source in (router, tmp_path / "r"):
        binding = Binding(source, {"coder": "c", "writer": "w"}, goals=Goals(size=2.0))
        decision = binding.decide(PROMPT)
        binding.dispatch(decision, lambda name, expert: expert)
        again = copied(binding)
        assert dict(again.health.snapshot()) == dict(binding.health.snapshot()) != {}
        assert again.decide(PROMPT).order == decision.order
        assert again.dispatch(again.decide(PROMPT), lambda name, expert: expert)[0] == "w"


def test_the_goals_of_a_call_come_before_those_of_the_binding(router):
    """Size 2 alone sends code to the smallest expert, size 0 to the best one."""
    experts = dict.fromkeys(NAMES, "expert")
    binding = Binding(router, experts, goals=Goals(size=2.0, limits={"parameters": "<=60B"}))
    assert binding.decide(PROMPT).weights == {"size": 2.0}
    for decision in (
        binding.decide(PROMPT, goals=Goals(size=0.0, limits={"parameters": ">=2B"})),
        *binding.decide_batch([PROMPT], goals=Goals(size=0.0, limits={"parameters": ">=2B"})),
    ):
        assert decision.weights == {}
        assert decision.expert == "coder"
        assert set(decision.reasons) == {"writer", "giant"}
    assert binding.decide(PROMPT, goals=Goals(recency=1.0)).weights == {"size": 2.0, "recency": 1.0}


def test_joined_goals_of_ones_own_have_the_weight_of_the_call():
    strict, lax = Security(0.2, rules=RULES), Security(0.4, rules=RULES)
    own = Goals(custom=[strict], size=0.1)
    joined = joined_goals(own, Goals(security=0.9))
    assert joined.weights == {"size": 0.1, "security": 0.9}
    assert joined.custom == {"security": strict}
    joined = joined_goals(own, Goals(custom=[lax]))
    assert (joined.weights["security"], joined.custom) == (0.4, {"security": lax})
    joined = joined_goals(Goals(security=0.9), own)
    assert (joined.weights["security"], joined.custom) == (0.2, {"security": strict})
    assert joined_goals(own, None) is own
    assert joined_goals(None, own) is own


def test_calls_that_need_different_experts_take_no_more_and_more_memory(router):
    binding = Binding(router, dict.fromkeys(NAMES, "expert"))
    for number in range(300):
        decision = binding.decide(PROMPT, without={"coder": f"call {number} needs tools"})
        assert decision.expert == "giant"
        assert decision.reasons == {"coder": f"call {number} needs tools"}
    assert sum(type(held) is Router for held in gc.get_objects()) < 150


def test_an_expert_that_a_call_asks_for_and_is_not_there_is_named_with_the_nearest(router):
    binding = Binding(router, dict.fromkeys(NAMES, "expert"), aliases={})
    assert binding.decide(PROMPT, only="writer").expert == "writer"
    with pytest.raises(LibraryError, match=r"there is no expert 'codr'\. Did you mean 'coder'"):
        binding.decide(PROMPT, only="codr")
    with pytest.raises(LibraryError, match=r"'nobody'\. Known: coder, writer, giant\."):
        binding.decide_batch([PROMPT], only="nobody")


def test_without_experts_and_a_way_to_make_them_there_is_an_error(router):
    with pytest.raises(LibraryError, match="experts is needed"):
        Binding(router, None)


STRANGE = "量子力学中的波函数坍缩是什么？ " * 3


@pytest.mark.parametrize("batch", [False, True])
def test_a_warning_comes_once_where_most_of_the_last_hundred_prompts_are_strange(router, batch):
    binding = Binding(router, dict.fromkeys(NAMES, "expert"))

    def decide(text, times):
        if batch:
            binding.decide_batch([text] * times)
        for _ in range(0 if batch else times):
            binding.decide(text)

    decide(STRANGE, 40)  # of fewer than a hundred nothing is said
    decide(PROMPT, 90)
    decide(STRANGE, 40)
    decide(PROMPT, 10)
    decide(STRANGE, 10)  # half of them is not most of them
    with pytest.warns(TryageWarning, match="51 of the last 100 prompts") as caught:
        decide(STRANGE, 1)
    assert len(caught) == 1
    decide(STRANGE, 100)  # warnings are errors here, and no second one comes


RULES = {"rules": [{"fact": "vendor", "points": {"acme": 0, "*": 5}}]}


class Interrupt(Exception):
    """Stands for what a framework steers by."""


@pytest.mark.parametrize(
    ("module", "name"),
    [("langgraph.errors", "GraphBubbleUp"), ("workflows.runtime.types.results", "WaitingForEvent")],
)
async def test_what_a_framework_steers_by_passes_at_once(router, monkeypatch, module, name):
    loaded = ModuleType(module)
    setattr(loaded, name, Interrupt)
    monkeypatch.setitem(sys.modules, module, loaded)
    binding = Binding(router, dict.fromkeys(NAMES, "expert"))
    decision = binding.decide(PROMPT)
    called = []

    def call(name, expert):
        called.append(name)
        raise Interrupt

    async def acall(name, expert):
        return call(name, expert)

    for steered in (
        lambda: binding.dispatch(decision, call),
        lambda: next(binding.stream(decision, call)),
    ):
        with pytest.raises(Interrupt):
            steered()
    with pytest.raises(Interrupt):
        await binding.adispatch(decision, acall)
    with pytest.raises(Interrupt):
        await anext(binding.astream(decision, acall))
    (error,) = binding.dispatch_batch([decision], lambda name, expert, rows: [Interrupt()])
    assert isinstance(error, Interrupt)
    assert called == [decision.expert] * 4


def test_whatever_a_function_of_the_input_raises_is_told():
    def fails(source):
        raise RuntimeError("no network")

    with pytest.raises(PromptError, match="RuntimeError: no network"):
        own_text(fails, "text")


@pytest.fixture(scope="module")
def short_writer(table, table_library):
    """A router whose best expert for prose takes 100 tokens."""
    experts = [
        {**expert, "context_length": 100 if expert["name"] == "writer" else 4096}
        for expert in table_library.to_dict()["experts"]
    ]
    return Router.fit(table, library=Library.from_dict({"experts": experts}))


PROSE = "The quiet river follows the garden, and the garden watches a small village."


def test_all_that_is_sent_counts_against_context_lengths_and_costs(short_writer):
    binding = Binding(short_writer, dict.fromkeys(NAMES, "x"))
    assert binding.decide(PROSE).expert == "writer"
    assert binding.decide(PROSE, sent_tokens=87).expert == "writer"
    decision = binding.decide(PROSE, sent_tokens=88)
    assert decision.reasons["writer"].startswith(
        "context_length is 100, the prompt has about 88 tokens"
    )
    # What is sent holds the prompt, so it is never shorter.
    assert binding.decide(PROSE * 10, sent_tokens=0).expert != "writer"
    with pytest.raises(NoEligibleExpertError, match="about 5000 tokens"):
        binding.decide(PROSE, sent_tokens=5_000)
    one, other, last = binding.decide_batch([PROSE, PROSE, PROMPT], sent_tokens=[10, 88, 10])
    assert (one.expert, "writer" in other.reasons, last.expert) == ("writer", True, "coder")


def test_what_is_sent_is_priced(table, table_library):
    price = {"price": {"input": 1.0, "output": 1.0, "per": 1_000_000}}
    experts = [{**expert, **price} for expert in table_library.to_dict()["experts"]]
    router = Router.fit(table, library=Library.from_dict({"experts": experts}))
    alone, long = (
        router.route(PROSE, goals=Goals(cost=0.1), sent_tokens=tokens).values["cost"]
        for tokens in (None, 10_000)
    )
    assert long - alone == pytest.approx([(10_000 - len(PROSE) / 4) / 1e6] * 3)


@pytest.mark.parametrize(
    ("value", "chars"),
    [
        ("four", 4),
        (["four", {"text": "four"}], 12),
        ({"mime_type": "image/png", "data": "A" * 900, "title": "four"}, 9 + 9 + 5 + 4),
        ({"image_url": {"url": "data:image/png;base64,AAAA"}}, 9 + 3),
        ({"data": "four", "url": "four"}, 4 + 4 + 3 + 4),
        ([b"four", None, object(), 12], 2),
    ],
)
def test_texts_are_counted_and_pictures_are_not(value, chars):
    assert text_tokens(value) == chars / 4


def test_inside_the_user_s_known_text_no_other_flags_act():
    assert (flag_mode(True), flag_mode(False), passed_query()) == ("warn", False, None)
    with passing_on(parse("Why? [Flag: size=2]")):
        assert (flag_mode(True).weights, passed_query()) == ({"size": 2.0}, "Why?")
        with passing_on(parse("And how?")):
            assert (flag_mode(False).weights, passed_query()) == ({"size": 2.0}, "And how?")
        assert passed_query() == "Why?"
        with known_query("And where? [Flag: size=3]"):
            assert passed_query() == "And where? [Flag: size=3]"
            assert flag_mode(True).weights == {"size": 2.0}
        assert passed_query() == "Why?"
    with known_query("Why?"):
        assert flag_mode(True) == "warn"
    with passing_on(parse("Why?")):
        assert (flag_mode(True).found, passed_query()) == (False, "Why?")
