"""Decisions inside LangGraph's state, and in LangSmith's traces."""

from typing import Any, TypedDict
from unittest.mock import MagicMock

import pytest
from langchain_core.language_models import FakeListChatModel
from langchain_core.tools import tool
from langchain_core.tracers import LangChainTracer
from pydantic import BaseModel, TypeAdapter

from langchain_tryage import ChatTryage, TryageRouter, TryageSelector
from tryage import Decision
from tryage.checks import Check


class State(TypedDict, total=False):
    """What the graph keeps."""

    text: str
    decision: Any
    why: str


@pytest.mark.parametrize("check", [None, Check(lambda p, a: True, accepts_wrong=0.0)])
def test_a_decision_from_a_checkpoint_is_as_it_was(scored_router, kit, check):
    memory = pytest.importorskip("langgraph.checkpoint.memory")
    graph = pytest.importorskip("langgraph.graph")
    types = pytest.importorskip("langgraph.types")
    made = scored_router.route(kit.code, check=check)

    def ask(state):
        types.interrupt("go on?")
        return {"why": state["decision"].explain()}

    builder = graph.StateGraph(State)
    builder.add_node("route", lambda state: {"decision": made})
    builder.add_node("ask", ask)
    builder.add_edge(graph.START, "route")
    builder.add_edge("route", "ask")
    builder.add_edge("ask", graph.END)
    app = builder.compile(checkpointer=memory.InMemorySaver())
    config = {"configurable": {"thread_id": "1"}}
    app.invoke({"text": kit.code}, config)
    restored = app.get_state(config).values["decision"]
    assert restored.to_dict() == made.to_dict()
    assert restored.order == made.order
    assert restored.prompt == kit.code
    assert app.invoke(types.Command(resume=True), config)["why"] == made.explain()


class Checked(BaseModel):
    """What a graph keeps whose state is checked."""

    text: str
    decision: Decision | None = None
    why: str = ""


def test_a_graph_s_checked_state_and_its_tools_hold_decisions(router, kit):
    memory = pytest.importorskip("langgraph.checkpoint.memory")
    graph = pytest.importorskip("langgraph.graph")
    types = pytest.importorskip("langgraph.types")

    @tool
    def explain(decision: Decision) -> Decision:
        """Explain a decision."""
        return decision

    def ask(state):
        types.interrupt("go on?")
        return {"why": state.decision.explain()}

    builder = graph.StateGraph(Checked)
    builder.add_node("route", lambda state: {"decision": router.route(state.text)})
    builder.add_node("ask", ask)
    builder.add_edge(graph.START, "route")
    builder.add_edge("route", "ask")
    builder.add_edge("ask", graph.END)
    app = builder.compile(checkpointer=memory.InMemorySaver())
    config = {"configurable": {"thread_id": "1"}}
    app.invoke({"text": kit.code}, config)
    decision = app.get_state(config).values["decision"]
    assert decision.prompt == kit.code
    assert app.invoke(types.Command(resume=True), config)["why"] == decision.explain()
    assert app.get_output_jsonschema()["type"] == "object"
    assert explain.args["decision"]["title"] == "Decision"
    data = TypeAdapter(Decision).dump_python(decision)
    assert explain.invoke({"decision": data}).to_dict() == decision.to_dict()
    call = {"name": "explain", "args": {"decision": decision}, "id": "1", "type": "tool_call"}
    answer = explain.invoke(call)
    assert decision.expert in answer.text
    assert "alpha_count" not in answer.text


def test_hidden_inputs_stay_hidden_in_a_trace(router, kit):
    langsmith = pytest.importorskip("langsmith")
    experts = {name: FakeListChatModel(responses=["quiet"]) for name in kit.experts()}
    for model in (
        ChatTryage(router, experts),
        TryageRouter(router, experts),
        TryageRouter(router, experts, with_decision=True),
        TryageSelector(router),
    ):
        session = MagicMock()
        session.request.return_value.status_code = 200
        client = langsmith.Client(
            api_url="http://127.0.0.1:9",
            api_key="none",
            session=session,
            auto_batch_tracing=False,
            hide_inputs=True,
            info={},
        )
        tracer = LangChainTracer(client=client, project_name="p")
        model.invoke(f"{kit.code} XYZZYMARK", {"callbacks": [tracer]})
        sent = b" ".join(call.kwargs["data"] for call in session.request.call_args_list)
        assert type(model).__name__.encode() in sent
        assert b"XYZZYMARK" not in sent
