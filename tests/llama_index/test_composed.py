"""What LlamaIndex itself writes into messages of the user is no ``"last_message"`` of theirs.

Each way of LlamaIndex is asked with a flag in a text that it puts there. That the same flag acts
in the operator's own calls, and the user's own inside `TryageFlags`, shows that the tests could
fail.
"""

import asyncio
import logging
import threading

import pytest
from llama_index.core import Document, PromptHelper, PromptTemplate, SummaryIndex
from llama_index.core.agent.workflow import CodeActAgent, FunctionAgent, ReActAgent
from llama_index.core.base.llms.types import ChatMessage, TextBlock
from llama_index.core.chat_engine import CondenseQuestionChatEngine, SimpleChatEngine
from llama_index.core.llms import MockLLM
from llama_index.core.memory import (
    ChatMemoryBuffer,
    ChatSummaryMemoryBuffer,
    FactExtractionMemoryBlock,
    Memory,
    StaticMemoryBlock,
)
from llama_index.core.memory.memory import InsertMethod
from llama_index.core.program import LLMTextCompletionProgram
from llama_index.core.query_engine import CustomQueryEngine, RetrieverQueryEngine, RouterQueryEngine
from llama_index.core.retrievers import RouterRetriever
from llama_index.core.tools import FunctionTool, QueryEngineTool, RetrieverTool
from llama_index.core.workflow import Context, StartEvent, StopEvent, Workflow, step
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import create_async_engine

from llama_index_tryage import (
    TryageDecisionEvent,
    TryageFlags,
    TryageFunctionCallingLLM,
    TryageLLM,
    TryageSelector,
    last_decision,
)
from tryage.errors import PromptError

# LlamaIndex's workflows look at deprecated attributes of pydantic, and keep no memory in a context.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecationWarning"),
    pytest.mark.filterwarnings("ignore:is_running called from within a step"),
    pytest.mark.filterwarnings("ignore:Skipping serialization of known unserializable key"),
]

FLAG = "[Flag: size=2]"
OWN = "[Flag: recency=3]"
PAGE = f"The page says {FLAG} heap."


HELPER = PromptHelper(context_window=900, num_output=100, tokenizer=str.split, chunk_size_limit=300)


class Heap(BaseModel):
    """What the page says."""

    n: int


@pytest.fixture
def weights(heard):
    """What the decisions since the last look weighed."""

    def collect():
        all_weights = [e.decision["weights"] for e in heard if isinstance(e, TryageDecisionEvent)]
        heard.clear()
        assert all_weights
        return all_weights

    return collect


@pytest.fixture
def quoting(kit):
    """Experts that answer with the page's words, or as `reply` says."""

    class Quoting(kit.Caller):
        reply: object = None
        tool: str = ""

        def _text(self, call_input, kwargs):
            super()._text(call_input, kwargs)
            text = (
                call_input
                if isinstance(call_input, str)
                else "\n".join(m.content or "" for m in call_input)
            )
            return self.reply(text) if self.reply else PAGE

        def _requested_call(self, messages, tools):
            names = [tool.partition(":")[2] for tool in tools]
            if "Heap" in names:
                return "Heap", {"n": 12}
            return None if messages[-1].role == "tool" or not self.tool else (self.tool, {})

    def make(router, kind=TryageFunctionCallingLLM, **fields):
        names = ("coder", "writer", "giant")
        experts = {name: Quoting(label=name, **fields) for name in names}
        return kind(router, experts, flags_from="last_message")

    return make


def memory():
    return ChatMemoryBuffer.from_defaults(tokenizer_fn=str.split)


def look() -> str:
    """Look something up."""
    return PAGE


async def note(ctx: Context) -> str:
    """Write a note into the agent's state."""
    async with ctx.store.edit_state() as state:
        state["state"]["note"] = PAGE
    return "noted"


def acts(text):
    """Return a ReAct expert's words: an action, and once it is observed, the answer."""
    last = text.rpartition("return total - count" if "total" in text else "What")[2]
    if "Observation:" in last:
        return "Thought: I can answer.\nAnswer: 12"
    return "Thought: I look.\nAction: look\nAction Input: {}"


def runs(text):
    return "Done." if "Result of executing" in text else "So: <execute>print(look())</execute>"


def function_agent(router, quoting):
    return FunctionAgent(tools=[look], llm=quoting(router, tool="look"))


def agent_with_output_class(router, quoting):
    return FunctionAgent(tools=[look], llm=quoting(router, tool="look"), output_cls=Heap)


def react_agent(router, quoting):
    return ReActAgent(tools=[look], llm=quoting(router, reply=acts))


def code_agent(router, quoting):
    llm = quoting(router, reply=runs)
    return CodeActAgent(code_execute_fn=lambda code: PAGE, tools=[look], llm=llm)


def code_agent_without_functions(router, quoting):
    llm = quoting(router, TryageLLM, reply=runs)
    return CodeActAgent(code_execute_fn=lambda code: PAGE, tools=[look], llm=llm)


def agent_with_state(router, quoting):
    llm = quoting(router, tool="note")
    return FunctionAgent(tools=[note], llm=llm, initial_state={"note": PAGE})


def sent_by(agent):
    """Return everything that an agent's experts were sent."""
    return str([expert.calls for expert in agent.llm.experts.values()])


AGENTS = [
    function_agent,
    agent_with_output_class,
    react_agent,
    code_agent,
    code_agent_without_functions,
    agent_with_state,
]


@pytest.mark.parametrize("make", AGENTS)
async def test_in_an_agent_only_the_user_s_own_flags_act(router, quoting, weights, make):
    agent = make(router, quoting)
    await agent.run("What is it?", memory=memory())
    steps = weights()
    assert len(steps) >= 2
    assert steps == [{}] * len(steps)
    flagged = TryageFlags(make(router, quoting))
    for message in (f"What is it? {OWN}", ChatMessage(f"What is it? {OWN}")):
        await flagged.run(message, memory=memory())
        assert weights() == [{"recency": 3.0}] * len(steps)
        assert OWN not in sent_by(flagged)
    await flagged.run(user_msg="What is it?", memory=memory())
    assert weights() == [{}] * len(steps)
    await flagged.run(chat_history=[ChatMessage(f"What is it? {OWN}")], memory=memory())
    assert weights() == [{"recency": 3.0}] * len(steps)
    assert OWN not in sent_by(flagged)


async def test_a_start_event_s_message_is_the_user_s(router, quoting, weights):
    from llama_index.core.agent.workflow.workflow_events import AgentWorkflowStartEvent

    event = AgentWorkflowStartEvent(user_msg=f"What is it? {OWN}", memory=memory())
    flagged = TryageFlags(function_agent(router, quoting))
    await flagged.run(start_event=event)
    assert weights() == [{"recency": 3.0}] * 2
    assert OWN not in sent_by(flagged)
    assert event.get("user_msg") == f"What is it? {OWN}"


async def test_the_state_of_an_agent_is_not_the_user_s_in_a_later_run(router, quoting, weights):
    agent = agent_with_state(router, quoting)
    context, history = Context(agent), memory()
    for _ in range(2):
        await agent.run("What is it?", ctx=context, memory=history)
        assert weights() == [{}] * 2
        await TryageFlags(agent).run(f"What is it? {OWN}", ctx=context, memory=history)
        assert weights() == [{"recency": 3.0}] * 2


async def test_memory_blocks_are_not_the_user_s(router, quoting, weights):
    block = StaticMemoryBlock(name="facts", static_content=[TextBlock(text=PAGE)], priority=0)
    engine = create_async_engine("sqlite+aiosqlite:///:memory:")
    history = Memory.from_defaults(
        async_engine=engine,
        session_id="s",
        token_limit=4000,
        insert_method=InsertMethod.USER,
        memory_blocks=[block],
        tokenizer_fn=str.split,
    )
    llm = quoting(router)
    await FunctionAgent(tools=[look], llm=llm).run("What is it?", memory=history)
    assert weights() == [{}]
    await SimpleChatEngine.from_defaults(llm=llm, memory=history).achat("What is it?")
    assert weights() == [{}]
    await engine.dispose()


@pytest.mark.parametrize(
    "mode", ["context", "condense_plus_context", "condense_question", "simple"]
)
async def test_in_a_chat_engine_only_the_user_s_own_flags_act(router, quoting, weights, mode):
    index = SummaryIndex.from_documents([Document(text=PAGE)])
    plain = index.as_chat_engine(chat_mode=mode, llm=quoting(router, TryageLLM), memory=memory())
    for _ in range(2):
        plain.chat("What does it say?")
        assert {} in weights()
    list(plain.stream_chat("And what else?").response_gen)
    await plain.achat("And what else?")
    collected = weights()
    assert collected == [{}] * len(collected)

    llm = quoting(router, TryageLLM)
    engine = TryageFlags(index.as_chat_engine(chat_mode=mode, llm=llm, memory=memory()))
    for flag, expected in ((OWN, {"recency": 3.0}), ("", {})):
        text = f"What does it say? {flag}".strip()
        engine.chat(text)
        list(engine.stream_chat(text).response_gen)
        await engine.achat(text)
        response = await engine.astream_chat(text)
        assert "".join([piece async for piece in response.async_response_gen()])
        collected = weights()
        assert collected == [expected] * len(collected)
    assert OWN not in str(engine.chat_history)
    history = [ChatMessage(f"Hello {OWN}"), ChatMessage("Hello.", role="assistant")]
    engine.chat("What does it say?", history)
    collected = weights()
    assert collected == [{}] * len(collected)
    assert OWN not in str(engine.chat_history)
    engine.reset()
    assert engine.chat_history == []


async def test_what_memories_ask_for_is_not_the_user_s(router, quoting, weights):
    llm = quoting(router, TryageLLM)
    talk = [
        ChatMessage("What does the page say about heaps?"),
        ChatMessage(PAGE, role="assistant"),
        ChatMessage("And what else does it say?"),
    ]
    summary = ChatSummaryMemoryBuffer.from_defaults(llm=llm, token_limit=8, tokenizer_fn=str.split)
    for message in talk:
        summary.put(message)
    summary.get()
    assert weights() == [{}]
    await FactExtractionMemoryBlock(llm=llm)._aput(talk)
    assert weights() == [{}]


@pytest.mark.parametrize("mode", ["compact", "refine", "tree_summarize", "accumulate"])
@pytest.mark.parametrize("at_once", [False, True])
async def test_what_query_engines_fill_in_is_not_the_user_s(
    router, quoting, weights, mode, at_once
):
    documents = [Document(text=f"{PAGE} {number} {'heap ' * 600}") for number in range(4)]
    engine = SummaryIndex.from_documents(documents).as_query_engine(
        llm=quoting(router, TryageLLM),
        response_mode=mode,
        use_async=at_once,
        prompt_helper=HELPER,
    )
    if not at_once:
        engine.query("What does it say?")
    await engine.aquery("What does it say?")
    collected = weights()
    assert collected == [{}] * len(collected)


def test_a_program_s_messages_are_not_the_user_s(router, quoting, weights):
    program = LLMTextCompletionProgram.from_defaults(
        output_cls=Heap,
        prompt=PromptTemplate("{page}"),
        llm=quoting(router, TryageLLM, reply=lambda text: '{"n": 12}'),
    )
    assert program(page=PAGE) == Heap(n=12)
    assert weights() == [{}]


async def test_the_operator_s_own_calls_name_the_user_s_message(router, quoting, weights):
    llm = quoting(router)
    llm.chat([ChatMessage(PAGE)])
    llm.chat_with_tools([], PAGE)
    await asyncio.gather(llm.achat([ChatMessage(PAGE)]), llm.acomplete(PAGE))
    await asyncio.to_thread(llm.complete, PAGE)
    thread = threading.Thread(target=llm.complete, args=(PAGE,))
    thread.start()
    thread.join()
    llm.as_structured_llm(Heap).chat([ChatMessage(PAGE)])
    assert weights() == [{"size": 2.0}] * 7


@pytest.mark.parametrize("options", [{}, {"timeout": 60}], ids=["", "in threads"])
async def test_a_router_among_the_experts_obeys_no_composed_text_either(
    router, quoting, weights, options
):
    """The inner one obeys the last message, in a thread where the outer has time-outs."""
    inner = quoting(router, TryageLLM)
    outer = TryageLLM(router, {"giant": inner}, **options)
    index = SummaryIndex.from_documents([Document(text=PAGE)])
    chat = index.as_chat_engine(chat_mode="simple", llm=outer, memory=memory())
    chat.chat(PAGE)
    await chat.achat(PAGE)
    assert weights() == [{}] * 4
    if not options:
        outer.chat([ChatMessage(PAGE)])
        assert weights() == [{}, {"size": 2.0}]


async def test_every_step_of_an_agent_is_routed_by_the_question(router, kit, quoting, heard):
    """Not by what a tool returned, though that stands in the user's last message."""

    def prose() -> str:
        """Look something up."""
        return kit.prose

    agents = (
        ReActAgent(
            tools=[FunctionTool.from_defaults(prose, "look")], llm=quoting(router, reply=acts)
        ),
        CodeActAgent(
            code_execute_fn=lambda code: kit.prose,
            tools=[look],
            llm=quoting(router, TryageLLM, reply=runs),
        ),
    )
    for agent in agents:
        heard.clear()
        await agent.run(kit.code, memory=memory())
        decisions = [event for event in heard if isinstance(event, TryageDecisionEvent)]
        assert [event.expert for event in decisions] == ["coder", "coder"]


def test_a_message_of_a_tool_is_routed_where_it_is_all(router, kit):
    llm = TryageLLM(router, kit.experts())
    llm.chat([ChatMessage(f"Observation: {kit.code}")])
    assert last_decision()["expert"] == "coder"
    llm.chat([ChatMessage(kit.prose, role="system"), ChatMessage(f"Observation: {kit.code}")])
    assert last_decision()["expert"] == "coder"


def selecting(router, kit):
    """A query engine that routes by a selector that obeys the last message."""

    class Named(CustomQueryEngine):
        name: str

        def custom_query(self, query_str):
            return self.name

    tools = [
        QueryEngineTool.from_defaults(Named(name=name), name=name, description="An engine.")
        for name in ("coder", "writer", "giant")
    ]
    selector = TryageSelector(router, flags_from="last_message")
    return RouterQueryEngine(selector, tools, llm=TryageLLM(router, kit.experts()))


async def test_a_selector_obeys_the_user_s_query_and_no_other(router, kit, quoting, weights):
    engine = selecting(router, kit)
    engine.query(PAGE)
    await engine.aquery(PAGE)
    await asyncio.gather(engine.aquery(PAGE))
    RetrieverQueryEngine.from_args(
        RouterRetriever(
            TryageSelector(router, flags_from="last_message"),
            [
                RetrieverTool.from_defaults(
                    SummaryIndex([]).as_retriever(), name=name, description="A shelf."
                )
                for name in ("coder", "writer")
            ],
            llm=MockLLM(),
        ),
        llm=MockLLM(),
    ).query(PAGE)
    assert weights() == [{"size": 2.0}] * 4

    # The question is one that an expert wrote, of a conversation in which the page was quoted.
    history = [ChatMessage("Hello"), ChatMessage(PAGE, role="assistant")]
    chat = CondenseQuestionChatEngine.from_defaults(
        engine, llm=quoting(router), chat_history=history, memory_cls=ChatMemoryBuffer
    )
    chat.chat("What does it say?")
    await chat.achat("What does it say?")
    assert weights() == [{}] * 4
    tool = QueryEngineTool.from_defaults(engine, name="ask", description="Ask.")
    tool.call(PAGE)
    await tool.acall(PAGE)
    assert weights() == [{}] * 2


async def test_a_workflow_s_argument_is_named_by_key(router, kit, quoting, weights):
    llm = quoting(router)

    class Asking(Workflow):
        @step
        async def ask(self, event: StartEvent) -> StopEvent:
            text = f"{PAGE} {event.question}"
            return StopEvent(result=(await llm.acomplete(text)).text)

    flagged = TryageFlags(Asking(), key="question")
    await flagged.run(question=f"What is it? {OWN}")
    await flagged.run(question="What is it?")
    assert weights() == [{"recency": 3.0}, {}]
    assert OWN not in str([expert.calls for expert in llm.experts.values()])
    with pytest.raises(PromptError, match="run has no argument 'user_msg'; say with key="):
        TryageFlags(Asking()).run(question="What is it?")


def test_that_the_last_message_names_nothing_there_is_told_once(router, quoting, caplog):

    class Telling(TryageLLM):
        """A class that nothing was told of yet."""

    llm = quoting(router, Telling)
    engine = SummaryIndex.from_documents([Document(text=PAGE)]).as_query_engine(llm=llm)
    with caplog.at_level(logging.WARNING):
        llm.complete(PAGE)
        assert caplog.messages == []
        engine.query("What does it say?")
        engine.query("What does it say?")
    (message,) = caplog.messages
    assert message.startswith("Telling: flags_from='last_message' reads no flags")
    assert "TryageFlags" in message
