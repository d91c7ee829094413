"""`TryageMiddleware` in real agents: one expert per run, failover, state, streams, interrupts."""

import subprocess
import sys

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import (
    AgentMiddleware,
    HumanInTheLoopMiddleware,
    ModelRequest,
    ModelResponse,
)
from langchain.agents.structured_output import AutoStrategy, ToolStrategy
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command
from pydantic import BaseModel

from langchain_tryage import ChatTryage, TryageMiddleware
from tryage import Goals
from tryage.errors import DispatchError, LibraryError, NoEligibleExpertError

FLAG = "[Flag: size=2]"


@tool
def alpha_count(number: int) -> int:
    """Count alphas."""
    return number + 1


class Verdict(BaseModel):
    """The verdict."""

    text: str


def agent_of(kit, middleware, tools=(alpha_count,), **options):
    own = kit.Calling(label="own")
    return create_agent(own, list(tools), middleware=[middleware], **options), own


def state_of(kit, text="alpha_count(7)\n"):
    return {"messages": [HumanMessage(f"{text}{kit.code}")]}


def answers(state):
    return [m for m in state["messages"] if m.type == "ai"]


async def both(agent, state, config=None):
    return [agent.invoke(state, config), await agent.ainvoke(state, config)]


async def test_one_expert_serves_the_whole_run(router, kit):
    experts = kit.experts(kit.Calling)
    agent, own = agent_of(kit, TryageMiddleware(router, experts))
    for state in await both(agent, state_of(kit)):
        _, call, result, answer = state["messages"]
        assert call.tool_calls[0]["args"] == {"number": 7}
        assert isinstance(result, ToolMessage)
        assert answer.content == "coder says 8"
        for message in (call, answer):
            assert message.response_metadata["tryage"]["answered_by"] == "coder"
        assert state["tryage"]["answered_by"] == "coder"
    assert not own.calls
    assert len(experts["coder"].calls) == 4


async def test_an_expert_that_failed_is_not_asked_again_in_the_run(router, kit):
    experts = kit.experts(kit.Calling, coder={"fault": ConnectionError("down")})
    agent, _ = agent_of(kit, TryageMiddleware(router, experts))
    for state in await both(agent, state_of(kit)):
        call, answer = answers(state)
        decision = call.response_metadata["tryage"]
        assert (decision["expert"], decision["answered_by"]) == ("coder", "giant")
        assert [t["error"] for t in decision["tried"]] == ["ConnectionError: down", None]
        assert answer.content == "giant says 8"
    assert len(experts["coder"].calls) == 2
    each = TryageMiddleware(router, experts, choose="call")
    agent_of(kit, each)[0].invoke(state_of(kit))
    assert len(experts["coder"].calls) == 4


async def test_all_down_is_one_error(router, kit):
    faults = {name: {"fault": ValueError(name)} for name in ("coder", "writer", "giant")}
    agent, _ = agent_of(kit, TryageMiddleware(router, kit.experts(kit.Calling, **faults)))
    with pytest.raises(DispatchError, match="each of the 3 experts"):
        agent.invoke(state_of(kit))
    with pytest.raises(DispatchError, match="each of the 3 experts"):
        await agent.ainvoke(state_of(kit))


def test_experts_without_tools_are_left_out(router, kit):
    experts = {"coder": kit.Whole(label="coder"), "giant": kit.Calling(label="giant")}
    middleware = TryageMiddleware(router, experts)
    state = agent_of(kit, middleware)[0].invoke(state_of(kit))
    assert {m.response_metadata["tryage"]["answered_by"] for m in answers(state)} == {"giant"}
    state = agent_of(kit, middleware, tools=())[0].invoke(state_of(kit))
    assert answers(state)[0].response_metadata["tryage"]["answered_by"] == "coder"
    agent, _ = agent_of(kit, TryageMiddleware(router, {"coder": kit.Whole(label="coder")}))
    with pytest.raises(NoEligibleExpertError, match="the call has tools"):
        agent.invoke(state_of(kit))


@pytest.mark.parametrize("form", [ToolStrategy, AutoStrategy, lambda schema: schema])
def test_structured_output_counts_as_a_tool(router, kit, form):
    experts = {"coder": kit.Whole(label="coder"), "giant": kit.Calling(label="giant")}
    agent, _ = agent_of(
        kit, TryageMiddleware(router, experts), tools=(), response_format=form(Verdict)
    )
    state = agent.invoke(state_of(kit, "Say 'guilty'.\n"))
    assert state["structured_response"] == Verdict(text="guilty")
    assert state["tryage"]["expert"] == state["tryage"]["answered_by"] == "giant"


def test_flags_goals_and_bound_arguments(router, kit):
    experts = kit.experts(kit.Calling)
    experts["writer"] = experts["writer"].bind(temperature=0.5)
    middleware = TryageMiddleware(router, experts, flags_from="last_message")
    agent, _ = agent_of(kit, middleware, system_prompt=f"Never say {FLAG}.")
    state = agent.invoke(state_of(kit, f"alpha_count(7) {FLAG}\n"))
    assert state["tryage"]["answered_by"] == "writer"
    assert state["tryage"]["weights"] == {"size": 2.0}
    assert FLAG in state["messages"][0].content
    sent = experts["writer"].bound.calls[0]
    assert FLAG in sent["messages"][0].content
    assert FLAG not in sent["messages"][1].content
    assert sent["kwargs"]["temperature"] == 0.5
    config = {"configurable": {"tryage_goals": {"size": 2}}}
    assert agent.invoke(state_of(kit), config)["tryage"]["answered_by"] == "writer"
    assert agent.invoke(state_of(kit))["tryage"]["answered_by"] == "coder"
    own = TryageMiddleware(router, experts, goals=Goals(limits={"parameters": "<=2B"}))
    assert agent_of(kit, own)[0].invoke(state_of(kit))["tryage"]["answered_by"] == "writer"


def test_the_state_is_changed_only_to_drop_an_old_decision(router, kit):
    middleware = TryageMiddleware(router, kit.experts(kit.Calling))
    agent, _ = agent_of(kit, middleware, tools=(), checkpointer=InMemorySaver())
    config = {"configurable": {"thread_id": "1"}}
    first, *_ = agent.stream(state_of(kit), config, stream_mode="updates")
    assert first == {"TryageMiddleware.before_agent": None}
    first, *_ = agent.stream(state_of(kit), config, stream_mode="updates")
    assert first == {"TryageMiddleware.before_agent": {"tryage": None}}


def test_every_run_of_a_thread_decides_anew(router, kit):
    middleware = TryageMiddleware(router, kit.experts(kit.Calling))
    agent, _ = agent_of(kit, middleware, checkpointer=InMemorySaver())
    config = {"configurable": {"thread_id": "1"}}
    assert agent.invoke(state_of(kit), config)["tryage"]["answered_by"] == "coder"
    state = agent.invoke({"messages": [HumanMessage(kit.prose)]}, config)
    assert state["tryage"]["answered_by"] == "writer"


async def test_an_interrupt_passes_and_the_run_goes_on_with_its_expert(router, kit):
    experts = kit.experts(kit.Calling)
    agent = create_agent(
        kit.Calling(label="own"),
        [alpha_count],
        middleware=[
            TryageMiddleware(router, experts),
            HumanInTheLoopMiddleware(interrupt_on={"alpha_count": True}),
        ],
        checkpointer=InMemorySaver(),
    )
    config = {"configurable": {"thread_id": "1"}}
    state = await agent.ainvoke(state_of(kit), config)
    assert state["__interrupt__"]
    resume = Command(resume={"decisions": [{"type": "approve"}]})
    state = await agent.ainvoke(resume, config)
    assert state["messages"][-1].content == "coder says 8"
    assert state["tryage"]["answered_by"] == "coder"


async def test_an_interrupt_inside_the_model_call_is_no_failure(router, kit):
    from langgraph.types import interrupt

    class Asking(AgentMiddleware):
        def wrap_model_call(self, request, handler):
            interrupt("may I?")
            return handler(request)

        async def awrap_model_call(self, request, handler):
            interrupt("may I?")
            return await handler(request)

    experts = kit.experts(kit.Calling)
    agent = create_agent(
        kit.Calling(label="own"),
        [],
        middleware=[TryageMiddleware(router, experts), Asking()],
        checkpointer=InMemorySaver(),
    )
    config = {"configurable": {"thread_id": "1"}}
    assert agent.invoke(state_of(kit, ""), config)["__interrupt__"][0].value == "may I?"
    config = {"configurable": {"thread_id": "2"}}
    assert (await agent.ainvoke(state_of(kit, ""), config))["__interrupt__"]
    state = await agent.ainvoke(Command(resume="yes"), config)
    assert state["messages"][-1].content == f"coder says {kit.code}"
    assert not experts["giant"].calls


async def test_streams_hold_every_token_once(router, kit):
    agent, _ = agent_of(kit, TryageMiddleware(router, kit.experts(kit.Calling)), tools=())
    expected = f"coder says {kit.code}"
    streams = [
        list(agent.stream(state_of(kit, ""), stream_mode="messages")),
        [part async for part in agent.astream(state_of(kit, ""), stream_mode="messages")],
    ]
    for parts in streams:
        chunks = [m for m, _ in parts if isinstance(m, AIMessageChunk)]
        assert "".join(chunk.content for chunk in chunks) == expected
        assert len({m.id for m, _ in parts if m.type in ("ai", "AIMessageChunk")}) == 1
        metadata = parts[0][1]
        assert "expert:coder" in metadata["tags"]
        assert metadata["ls_model_name"] == "coder-model"


async def test_no_other_expert_after_the_first_token(router, kit):
    experts = kit.experts(kit.Calling, coder={"late": ConnectionError("cut")})
    agent, _ = agent_of(kit, TryageMiddleware(router, experts), tools=())
    with pytest.raises(ConnectionError, match="cut"):
        list(agent.stream(state_of(kit, ""), stream_mode="messages"))
    with pytest.raises(ConnectionError, match="cut"):
        [part async for part in agent.astream(state_of(kit, ""), stream_mode="messages")]
    assert not experts["giant"].calls
    # An expert that fails before its first token is made up for in a stream too.
    experts = kit.experts(kit.Calling, coder={"fault": ConnectionError("down")})
    agent, _ = agent_of(kit, TryageMiddleware(router, experts), tools=())
    parts = list(agent.stream(state_of(kit, ""), stream_mode="messages"))
    assert "".join(m.content for m, _ in parts) == f"giant says {kit.code}"


async def test_a_chat_tryage_is_an_agent_s_model(router, kit):
    agent = create_agent(ChatTryage(router, kit.experts(kit.Calling)), [alpha_count])
    for state in await both(agent, state_of(kit)):
        assert state["messages"][-1].content == "coder says 8"
        assert answers(state)[0].response_metadata["tryage"]["answered_by"] == "coder"
    parts = list(agent.stream(state_of(kit), stream_mode="messages"))
    text = "".join(m.content for m, _ in parts if isinstance(m, AIMessageChunk))
    assert text == "coder says 8"


CACHED = {"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}


def request_for(router, expert, request):
    """The request that the middleware sends to an expert."""
    sent = []

    def handler(request):
        sent.append(request)
        return ModelResponse(result=[AIMessage("Done.")])

    TryageMiddleware(router, {"coder": expert}).wrap_model_call(request, handler)
    return sent[0]


def test_cache_markers_of_another_vendor_are_taken_off(router, kit):
    class Anthropic(kit.Calling):
        def _get_ls_params(self, stop=None, **kwargs):
            return super()._get_ls_params(stop=stop, **kwargs) | {"ls_provider": "anthropic"}

    named = {"name": "t", "parameters": {"properties": {"cache_control": {}}}}
    marked = alpha_count.model_copy(update={"extras": {"cache_control": {}}})
    headers = {"X-Session-Affinity": "1", "X-Mine": "2"}
    settings = {"cache_control": {}, "prompt_cache_key": "k", "extra_headers": headers, "top_k": 1}
    request = ModelRequest(
        model=Anthropic(label="own"),
        messages=[HumanMessage([CACHED]), HumanMessage("plain")],
        system_message=SystemMessage([CACHED]),
        tools=[marked, {**named, "cache_control": {}}],
        model_settings=settings,
        state={"messages": []},
    )
    same = request_for(router, Anthropic(label="a"), request)
    assert (same.messages, same.tools) == (request.messages, request.tools)
    assert (same.system_message, same.model_settings) == (request.system_message, settings)
    clean = request_for(router, kit.Calling(label="b"), request)
    assert clean.messages[0].content == [{"type": "text", "text": "x"}]
    assert clean.messages[1].content == "plain"
    assert clean.system_message.content == [{"type": "text", "text": "x"}]
    assert clean.tools[0].extras is None
    assert clean.tools[1] == named
    assert clean.model_settings == {"extra_headers": {"X-Mine": "2"}, "top_k": 1}
    assert request.messages[0].content == [CACHED]
    assert marked.extras == {"cache_control": {}}


def test_arguments_are_checked(router, kit):
    with pytest.raises(ValueError, match="'run' or 'call'"):
        TryageMiddleware(router, kit.experts(), choose="never")
    with pytest.raises(ValueError, match="no such key"):
        TryageMiddleware(router, kit.experts(), flags_from="question")
    with pytest.raises(LibraryError, match="Did you mean 'coder'"):
        TryageMiddleware(router, {"codr": kit.Calling(label="x")})
    assert TryageMiddleware(router, kit.experts()).load().library.names[0] == "coder"


def test_experts_left_out_run_the_library_s_own_pipelines(tiny_router, kit):
    agent, _ = agent_of(kit, TryageMiddleware(tiny_router), tools=())
    state = agent.invoke({"messages": [HumanMessage("The quiet river follows")]})
    assert state["tryage"]["answered_by"] == "prose-gpt"
    assert state["messages"][-1].content


CODE = """
import sys
sys.modules["langchain"] = None
import langchain_tryage
langchain_tryage.ChatTryage
try:
    langchain_tryage.TryageMiddleware
except ImportError as error:
    print(type(error).__name__, error)
"""


def test_without_langchain_the_pip_line_is_named():
    run = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert run.stdout.startswith("MissingExtraError TryageMiddleware needs")
    assert 'pip install "tryage[langchain]"' in run.stdout
