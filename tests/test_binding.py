"""A binding: copies and pickles of it, and what passes through it at once."""

import copy
import pickle
import sys
from types import ModuleType

import numpy as np
import pytest

from tryage.binding import Binding, own_text
from tryage.errors import PromptError
from tryage.goals import Goal, Goals

PROMPT = "def alpha_count(total, count=3):\n    return total - count\n"
NAMES = ("coder", "writer", "giant")

COPIES = pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda given: pickle.loads(pickle.dumps(given))]
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

        def values(self, library, facts):
            return np.zeros(len(library))

    decision = router.route(PROMPT, goals=Goals(custom=[Own(1.0)]))
    assert decision.weights == {"own": 1.0}
    again = pickle.loads(pickle.dumps(router)).route(PROMPT)
    assert again.to_dict() == router.route(PROMPT).to_dict()


@COPIES
def test_a_binding_can_be_copied(router, copied, tmp_path):
    router.save_pretrained(tmp_path / "r")
    for given in (router, tmp_path / "r"):
        binding = Binding(given, {"coder": "c", "writer": "w"}, goals=Goals(size=2.0))
        decision = binding.decide(PROMPT)
        binding.dispatch(decision, lambda name, expert: expert)
        again = copied(binding)
        assert dict(again.health.snapshot()) == dict(binding.health.snapshot()) != {}
        assert again.decide(PROMPT).order == decision.order
        assert again.dispatch(again.decide(PROMPT), lambda name, expert: expert)[0] == "w"


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
    def fails(given):
        raise RuntimeError("no network")

    with pytest.raises(PromptError, match="RuntimeError: no network"):
        own_text(fails, "text")
