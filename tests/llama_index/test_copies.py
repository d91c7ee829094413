"""Fields that are assigned, copies and pickles: an LLM is what its fields say now."""

import copy
import pickle

import pytest
from llama_index.core.callbacks import CallbackManager, LlamaDebugHandler
from llama_index.core.tools import FunctionTool
from llama_index.core.workflow import Event, JsonSerializer

from llama_index_tryage import TryageLLM
from tryage import Decision, Goals

SMALL = Goals(size=2.0)


def test_assigned_fields_act(router, kit):
    llm = TryageLLM(router, kit.experts())
    assert llm.complete(kit.code).text.startswith("coder")
    llm.goals = SMALL
    assert llm.complete(kit.code).text.startswith("writer")
    llm.experts = {"coder": kit.Scripted(label="other")}
    assert llm.complete(kit.code).text.startswith("other")
    llm.experts = {"coder": str.upper}
    with pytest.raises(TypeError, match="must be an LLM"):
        llm.complete(kit.code)


def test_updates_of_a_copy_act_in_the_copy_alone(router, kit):
    llm = TryageLLM(router, kit.experts())
    small = llm.model_copy(update={"goals": SMALL})
    for _ in range(2):
        assert small.complete(kit.code).text.startswith("writer")
        assert llm.complete(kit.code).text.startswith("coder")


def test_an_expert_that_is_replaced_by_its_like_is_not_called(router, kit):
    first, second = (kit.Scripted(label="same") for _ in range(2))
    second.__dict__.update(first.__dict__)
    manager = CallbackManager([LlamaDebugHandler(print_trace_on_end=False)])
    llm = TryageLLM(router, {"coder": first}, callback_manager=manager)
    llm.complete(kit.code)
    llm.experts = {"coder": second}
    llm.complete(kit.code)
    assert (len(first.calls), len(second.calls)) == (1, 1)


@pytest.mark.parametrize("called", [False, True])
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_an_llm_can_be_copied_and_pickled(router, kit, called, copied):
    llm = TryageLLM(router, kit.experts(), goals=SMALL, context_window=99)
    if called:
        llm.complete(kit.code)
    again = copied(llm)
    for one in (again, llm):
        response = one.complete(kit.code)
        assert response.text.startswith("writer")
        assert response.additional_kwargs["tryage"]["weights"] == {"size": 2.0}
        assert one.metadata.context_window == 99


def test_pickling_what_cannot_be_pickled_leaves_the_llm_whole(router, kit):
    llm = TryageLLM(router, kit.experts(), flags_from=lambda messages: messages)
    with pytest.raises((pickle.PicklingError, AttributeError)):
        pickle.dumps(llm)
    assert llm.complete(kit.code).text.startswith("coder")


class Routed(Event):
    """An event of a workflow that carries a decision."""

    decision: Decision


def test_events_and_tools_hold_decisions(router, kit):
    decision = router.route(kit.code)
    written = JsonSerializer().serialize(Routed(decision=decision))
    assert "alpha_count" not in written
    restored = JsonSerializer().deserialize(written).decision
    assert restored.to_dict() == decision.to_dict()

    def explain(decision: Decision) -> str:
        """Explain a decision."""
        return decision.explain()

    tool = FunctionTool.from_defaults(explain)
    assert tool.metadata.get_parameters_dict()["properties"]["decision"]["title"] == "Decision"
    assert tool.call(decision=decision).content == decision.explain()
