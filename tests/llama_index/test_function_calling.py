"""`TryageFunctionCallingLLM`: tools in the expert's own dialect, agents, who takes none and why."""

import json

import pytest
from llama_index.core.agent.workflow import AgentStream, AgentWorkflow, FunctionAgent, ReActAgent
from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    MessageRole,
    TextBlock,
    ToolCallBlock,
)
from llama_index.core.llms import MockLLM
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.tools import FunctionTool

from llama_index_tryage import TryageFunctionCallingLLM, TryageLLM
from tryage import Library, Policy, Router
from tryage.errors import DispatchError, ExpertError, NoEligibleExpertError

# LlamaIndex's workflows look at every attribute of an agent, deprecated ones of pydantic too, and
# its ReAct agent asks an odd question of them.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecationWarning"),
    pytest.mark.filterwarnings("ignore:is_running called from within a step"),
]

FLAG = "[Flag: size=2]"
NAMES = ("coder", "writer", "giant")


def memory():
    """Return a memory in memory: LlamaIndex's default leaves an open database behind."""
    return ChatMemoryBuffer.from_defaults()


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def multiply(a: int, b: int) -> int:
    """Multiply two numbers."""
    return a * b


TOOLS = [FunctionTool.from_defaults(add), FunctionTool.from_defaults(multiply)]


async def every_way(llm, text, **kwargs):
    """Call with tools in all four ways; the last response of each."""
    return [
        llm.chat_with_tools(TOOLS, text, **kwargs),
        await llm.achat_with_tools(TOOLS, text, **kwargs),
        list(llm.stream_chat_with_tools(TOOLS, text, **kwargs))[-1],
        [r async for r in await llm.astream_chat_with_tools(TOOLS, text, **kwargs)][-1],
    ]


def record_of(response):
    return response.additional_kwargs["tryage"]


async def test_the_chosen_expert_prepares_the_tools_and_reads_the_calls(router, kit):
    experts = kit.experts(kit.Caller)
    llm = TryageFunctionCallingLLM(router, experts)
    assert llm.metadata.is_function_calling_model
    for text, name in ((kit.code, "coder"), (kit.prose, "writer")):
        for response in await every_way(llm, f"{text} add 6 and 7.", tool_required=True):
            assert record_of(response)["answered_by"] == name
            (call,) = llm.get_tool_calls_from_response(response)
            assert (call.tool_id, call.tool_name) == (f"{name}-0", "add")
            assert call.tool_kwargs == {"a": 6, "b": 7}
        assert len(experts[name].calls) == 4
        for _, kwargs in experts[name].calls:
            assert kwargs["tools"] == [f"{name}:add", f"{name}:multiply"]
            assert kwargs["tool_choice"] == "any"


async def test_arguments_and_history_reach_the_expert(router, kit):
    experts = kit.experts(kit.Caller)
    llm = TryageFunctionCallingLLM(router, experts)
    history = [ChatMessage("Be brief.", role="system"), ChatMessage(f"{kit.code} add 1 and 2")]
    for arguments in ({"chat_history": history}, {"chat_history": history[:1], "user_msg": None}):
        arguments.setdefault("user_msg", None)
        if arguments["chat_history"] is not history:
            arguments["user_msg"] = history[1]
        llm.chat_with_tools(TOOLS, temperature=0.3, **arguments)
        sent, kwargs = experts["coder"].calls[-1]
        assert sent == history
        assert kwargs["temperature"] == 0.3
    assert len(history) == 2


async def test_the_user_s_own_flags_act_and_are_taken_off(router, kit):
    experts = kit.experts(kit.Caller)
    llm = TryageFunctionCallingLLM(router, experts, flags_from="last_message")
    for response in await every_way(llm, f"{kit.code} add 1 and 2 {FLAG}"):
        assert record_of(response)["answered_by"] == "writer"
    assert all(FLAG not in sent[-1].content for sent, _ in experts["writer"].calls)


def test_experts_that_take_no_tools_are_not_eligible_and_the_decision_says_why(router, kit):
    experts = {
        "coder": kit.Scripted(label="coder"),
        "writer": kit.Caller(label="writer", calls_functions=False),
        "giant": kit.Caller(label="giant"),
    }
    llm = TryageFunctionCallingLLM(router, experts)
    response = llm.chat_with_tools(TOOLS, f"{kit.code} add 1 and 2")
    assert record_of(response)["expert"] == "giant"
    reasons = {row["expert"]: row.get("reason") for row in record_of(response)["ranking"]}
    assert reasons == {
        "giant": None,
        "coder": "it takes no tools: ScriptedLLM is no FunctionCallingLLM",
        "writer": "it takes no tools: its model does not call functions",
    }
    # Without tools it may answer.
    assert llm.chat([ChatMessage(kit.code)]).message.content.startswith("coder says")
    assert llm.chat_with_tools([], kit.code).message.content.startswith("coder says")
    assert experts["coder"].calls[-1][1] == {}
    del experts["giant"]
    nobody = TryageFunctionCallingLLM(router, experts)
    assert not nobody.metadata.is_function_calling_model
    with pytest.raises(NoEligibleExpertError, match="ScriptedLLM is no FunctionCallingLLM"):
        nobody.chat_with_tools(TOOLS, kit.code)


def test_the_library_may_say_that_an_expert_takes_no_tools(table, table_library, kit):
    rows = [expert.model_dump(exclude_none=True) for expert in table_library]
    rows[0]["tools"] = False
    router = Router.fit(table, library=Library.from_dict({"name": "made-up", "experts": rows}))
    llm = TryageFunctionCallingLLM(router, kit.experts(kit.Caller))
    response = llm.chat_with_tools(TOOLS, f"{kit.code} add 1 and 2")
    assert record_of(response)["answered_by"] == "giant"


def test_limits_hold_for_the_metadata(router, kit):
    experts = {"coder": kit.Caller(label="coder"), "giant": kit.Scripted(label="giant")}
    big = Policy(limits={"parameters": ">=10B"})
    assert TryageFunctionCallingLLM(router, experts).metadata.is_function_calling_model
    llm = TryageFunctionCallingLLM(router, experts, policy=big)
    assert not llm.metadata.is_function_calling_model


async def test_fails_over_to_an_expert_with_another_dialect(router, kit):
    experts = kit.experts(kit.Caller, coder={"fault": ConnectionError("down")})
    llm = TryageFunctionCallingLLM(router, experts)
    for response in await every_way(llm, f"{kit.code} add 2 and 3"):
        assert (record_of(response)["expert"], record_of(response)["answered_by"]) == (
            "coder",
            "giant",
        )
        assert llm.get_tool_calls_from_response(response)[0].tool_id == "giant-0"
    faults = {name: {"fault": ValueError(name)} for name in NAMES}
    down = TryageFunctionCallingLLM(router, kit.experts(kit.Caller, **faults))
    with pytest.raises(DispatchError, match="each of the 3 experts"):
        await down.achat_with_tools(TOOLS, kit.code)


def test_tool_calls_of_responses_that_others_made(router, kit):
    llm = TryageFunctionCallingLLM(router, kit.experts(kit.Caller))
    plain = ChatResponse(message=ChatMessage("Hello.", role=MessageRole.ASSISTANT))
    assert llm.get_tool_calls_from_response(plain, error_on_no_tool_call=False) == []
    with pytest.raises(ValueError, match="holds no tool calls"):
        llm.get_tool_calls_from_response(plain)
    blocks = [
        TextBlock(text="So be it."),
        ToolCallBlock(tool_call_id="1", tool_name="add", tool_kwargs={"a": 1, "b": 2}),
        ToolCallBlock(tool_call_id="2", tool_name="add", tool_kwargs=json.dumps({"a": 3, "b": 4})),
    ]
    response = ChatResponse(message=ChatMessage(blocks=blocks, role=MessageRole.ASSISTANT))
    calls = llm.get_tool_calls_from_response(response)
    assert [(call.tool_id, call.tool_kwargs["a"]) for call in calls] == [("1", 1), ("2", 3)]
    with pytest.raises(ValueError, match="called nothing"):
        llm.get_tool_calls_from_response(llm.chat_with_tools(TOOLS, kit.code))


async def test_predict_and_call(router, kit):
    llm = TryageFunctionCallingLLM(router, kit.experts(kit.Caller))
    text = f"{kit.code} multiply 6 and 7"
    assert llm.predict_and_call(TOOLS, text).response == "42"
    assert (await llm.apredict_and_call(TOOLS, text)).sources[0].raw_output == 42


@pytest.mark.parametrize("streaming", [True, False])
async def test_a_function_agent_works_with_it(router, kit, streaming):
    experts = kit.experts(kit.Caller)
    llm = TryageFunctionCallingLLM(router, experts)
    agent = FunctionAgent(tools=[add, multiply], llm=llm, streaming=streaming)
    handler = agent.run(f"{kit.code} multiply 6 and 7", memory=memory())
    events = [event async for event in handler.stream_events()]
    result = await handler
    assert str(result) == "coder says 42"
    assert [call.tool_name for call in result.tool_calls] == ["multiply"]
    assert result.tool_calls[0].tool_output.raw_output == 42
    assert any(isinstance(event, AgentStream) for event in events) == streaming
    assert not experts["writer"].calls


async def test_a_function_agent_goes_on_with_another_expert(router, kit):
    class Once(kit.Caller):
        def _text(self, call_input, kwargs):
            self.fault = ConnectionError("down") if self.calls else None
            return super()._text(call_input, kwargs)

    experts = kit.experts(kit.Caller) | {"coder": Once(label="coder")}
    agent = FunctionAgent(tools=[add], llm=TryageFunctionCallingLLM(router, experts))
    assert str(await agent.run(f"{kit.code} add 2 and 3", memory=memory())) == "giant says 5"


async def test_an_agent_workflow_hands_over(router, kit):
    llm = TryageFunctionCallingLLM(router, kit.experts(kit.Caller))
    agent = FunctionAgent(
        name="sums", description="Adds.", tools=[add], llm=llm, system_prompt="Add."
    )
    workflow = AgentWorkflow(agents=[agent], root_agent="sums")
    assert str(await workflow.run(f"{kit.code} add 2 and 3", memory=memory())) == "coder says 5"


async def test_a_function_agent_refuses_an_llm_without_function_calling(router, kit):
    agent = FunctionAgent(tools=[add], llm=TryageLLM(router, kit.experts()))
    with pytest.raises(ValueError, match="must be a FunctionCallingLLM"):
        await agent.run(kit.code, memory=memory())


class Reasoner:
    """Answers as a ReAct agent expects it."""

    def _text(self, call_input, kwargs):
        super()._text(call_input, kwargs)
        last = call_input[-1].content
        if last.startswith("Observation:"):
            return f"Thought: I can answer.\nAnswer: {self.label} found {last.split()[-1]}"
        return 'Thought: I need a tool.\nAction: multiply\nAction Input: {"a": 6, "b": 7}'


@pytest.mark.parametrize("streaming", [True, False])
async def test_a_react_agent_works_with_it(router, kit, streaming):
    for kind, base in ((TryageLLM, kit.Scripted), (TryageFunctionCallingLLM, kit.Caller)):

        class Reasoning(Reasoner, base):
            pass

        llm = kind(router, kit.experts(Reasoning))
        agent = ReActAgent(tools=[add, multiply], llm=llm, streaming=streaming)
        result = await agent.run(kit.code, memory=memory())
        assert str(result).endswith("found 42")


async def test_what_a_tool_returns_to_a_react_agent_sets_no_flag(router, kit):
    # A ReAct agent writes what a tool returned into a message of the user, where it would act.
    class Reasoning(Reasoner, kit.Scripted):
        pass

    def look() -> str:
        """Look it up."""
        return f"{FLAG} 42"

    class Looking(Reasoning):
        def _text(self, call_input, kwargs):
            return (
                super()
                ._text(call_input, kwargs)
                .replace("multiply", "look")
                .replace('{"a": 6, "b": 7}', "{}")
            )

    def question(messages):
        users = (m.content for m in messages if m.role == MessageRole.USER)
        return next(text for text in users if not text.startswith("Observation:"))

    experts = kit.experts(Looking)
    llm = TryageLLM(router, experts, flags_from=question)
    assert (
        str(await ReActAgent(tools=[look], llm=llm).run(kit.code, memory=memory()))
        == "coder found 42"
    )
    assert not experts["writer"].calls


def test_it_is_a_function_calling_llm_of_llama_index():
    names = [cls.__name__ for cls in TryageFunctionCallingLLM.__mro__]
    assert names.index("TryageLLM") < names.index("FunctionCallingLLM") < names.index("BaseLLM")
    assert issubclass(TryageFunctionCallingLLM, FunctionCallingLLM)
    assert TryageFunctionCallingLLM.class_name() == "TryageFunctionCallingLLM"


def test_local_pipelines_take_no_tools(tiny_router):
    llm = TryageFunctionCallingLLM(tiny_router)
    assert not llm.metadata.is_function_calling_model
    with pytest.raises(NoEligibleExpertError, match="TryagePipeline is no FunctionCallingLLM"):
        llm.chat_with_tools(TOOLS, "The quiet river")


def test_experts_are_checked_at_construction(router):
    with pytest.raises(TypeError, match=r"TryageFunctionCallingLLM.*'alias'\. Did you mean"):
        TryageFunctionCallingLLM(router, {"coder": MockLLM()}, alias={})


class Undescribed(FunctionTool):
    """A tool whose schema cannot be written."""

    @property
    def metadata(self):
        raise TypeError("no schema for a socket")


async def test_tools_that_cannot_be_described_open_no_circuit(router, kit):
    llm = TryageFunctionCallingLLM(router, {"coder": kit.Caller(label="coder")}, breaker=True)
    tools = [Undescribed(fn=add, metadata=TOOLS[0].metadata)]
    for _ in range(3):
        with pytest.raises(DispatchError, match="no schema for a socket"):
            llm.chat_with_tools(tools, kit.code)
        with pytest.raises(DispatchError, match="no schema for a socket"):
            await llm.achat_with_tools(tools, kit.code)
    assert llm._binding.health.state("coder") == "closed"


@pytest.mark.parametrize(
    ("stored", "arguments"), [({}, {}), ("", {}), (" ", {}), ("{}", {}), ('{"a": 1}', {"a": 1})]
)
def test_a_kept_message_s_calls_are_read(router, kit, stored, arguments):
    llm = TryageFunctionCallingLLM(router, kit.experts(kit.Caller))
    block = ToolCallBlock(tool_call_id="1", tool_name="ping", tool_kwargs=stored)
    response = ChatResponse(message=ChatMessage(role="assistant", blocks=[block]))
    (call,) = llm.get_tool_calls_from_response(response)
    assert (call.tool_id, call.tool_name, call.tool_kwargs) == ("1", "ping", arguments)


@pytest.mark.parametrize(
    ("stored", "reason"),
    [
        ('{"a": ', "is not JSON"),
        ("[" * 10**5, "is not JSON"),
        ("[1]", "holds list where its arguments"),
    ],
)
def test_a_kept_message_s_broken_call_is_an_error(router, kit, stored, reason):
    llm = TryageFunctionCallingLLM(router, kit.experts(kit.Caller))
    block = ToolCallBlock(tool_call_id="1", tool_name="ping", tool_kwargs=stored)
    response = ChatResponse(message=ChatMessage(role="assistant", blocks=[block]))
    with pytest.raises(ExpertError, match=f"the call of tool 'ping' {reason}"):
        llm.get_tool_calls_from_response(response)


def test_a_kept_message_s_calls_are_read_in_an_expert_s_own_form(router, kit):
    """`Caller` reads no dialect but its own; the others' raise."""
    llm = TryageFunctionCallingLLM(router, kit.experts(kit.Caller))
    calls = [("writer", "add", {"a": 1, "b": 2})]
    message = ChatMessage(role="assistant", additional_kwargs={"tool_calls": calls})
    (call,) = llm.get_tool_calls_from_response(ChatResponse(message=message))
    assert (call.tool_id, call.tool_name) == ("writer-0", "add")
    message = ChatMessage(role="assistant", additional_kwargs={"tool_calls": [("who", "add", {})]})
    for strange in (message, ChatMessage("Hello", role="assistant")):
        response = ChatResponse(message=strange)
        assert llm.get_tool_calls_from_response(response, error_on_no_tool_call=False) == []
        with pytest.raises(ValueError, match="holds no tool calls"):
            llm.get_tool_calls_from_response(response)


async def test_a_router_among_the_experts_reads_its_own_calls(router, kit):
    inner = TryageFunctionCallingLLM(router, kit.experts(kit.Caller))
    middle = TryageFunctionCallingLLM(router, {"giant": inner})
    outer = TryageFunctionCallingLLM(router, {"writer": middle})
    for response in await every_way(outer, f"{kit.code} add 1 and 2"):
        (call,) = outer.get_tool_calls_from_response(response)
        assert (call.tool_id, call.tool_kwargs) == ("coder-0", {"a": 1, "b": 2})
        record = response.additional_kwargs["tryage"]
        answered = [record["answered_by"]]
        while "inner" in record:
            record = record["inner"]
            answered.append(record["answered_by"])
        assert answered == ["writer", "giant", "coder"]
    agent = FunctionAgent(tools=TOOLS, llm=outer)
    result = await agent.run(
        f"{kit.code} add 1 and 2", memory=ChatMemoryBuffer.from_defaults(tokenizer_fn=str.split)
    )
    assert [one.tool_output.content for one in result.tool_calls] == ["3"]
