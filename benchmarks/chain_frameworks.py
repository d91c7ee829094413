"""Ask the cases of `chain_cases` through both frameworks' own chains, engines and agents.

Every function takes a router, returns whether each choice is right, and calls scripted experts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from chain_cases import RIGHT, Context, Template
from langchain.agents import create_agent
from langchain_core.language_models import FakeListChatModel
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder
from langchain_core.runnables import RunnableLambda, RunnablePassthrough
from langchain_core.tools import tool
from llama_index.core import Document, MockEmbedding, VectorStoreIndex
from llama_index.core.agent.workflow import FunctionAgent, ReActAgent
from llama_index.core.base.llms.types import (
    ChatMessage,
    CompletionResponse,
    LLMMetadata,
    TextBlock,
    ToolCallBlock,
)
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.llms import CustomLLM, MockLLM
from llama_index.core.llms.callbacks import llm_completion_callback
from llama_index.core.llms.mock import MockFunctionCallingLLM
from llama_index.core.memory import ChatMemoryBuffer

from langchain_tryage import ChatTryage, TryageFlags, TryageMiddleware, TryageRouter
from llama_index_tryage import TryageDecisionEvent, TryageFunctionCallingLLM, TryageLLM
from llama_index_tryage import TryageFlags as LlamaFlags
from tryage import Router

Questions = Sequence[tuple[str, str]]
"""Prompts with their kinds."""

HISTORY = (
    ("Hello, can you help me?", "With pleasure."),
    ("What is 12 times 12?", "144."),
    ("How long do I cook porridge?", "Ten minutes."),
)
"""Earlier turns of a chat, of the same kinds as the questions."""


def chat_model(router: Router, **options: Any) -> ChatTryage:
    """Return LangChain's chat model over experts that say their names."""
    experts = {name: FakeListChatModel(responses=[name]) for name in router.library.names}
    return ChatTryage(router, experts, **options)


def langchain_chain(
    router: Router, template: Template, context: Context, questions: Questions
) -> int:
    """Return how many questions go to the right expert through ``template | ChatTryage``."""
    if callable(template.text):
        prompt: Any = RunnableLambda(lambda row: template.fill(row["context"], row["question"]))
    else:
        prompt = ChatPromptTemplate.from_messages([("human", _braced(template.text))])
    inputs = {"context": lambda _: context.text, "question": RunnablePassthrough()}
    chain: Any = inputs | prompt | chat_model(router)
    messages = chain.batch([question for question, _ in questions])
    return sum(
        message.response_metadata["tryage"]["expert"] == RIGHT[kind]
        for message, (_, kind) in zip(messages, questions, strict=True)
    )


def _braced(text: str) -> str:
    """Return a template in which only the two names are variables."""
    text = text.replace("{", "{{").replace("}", "}}")
    return text.replace("{{context}}", "{context}").replace("{{question}}", "{question}")


def langchain_others(router: Router, context: Context, questions: Questions) -> dict[str, int]:
    """Return how many questions go to the right expert in LangChain's other ways."""
    rag = ChatPromptTemplate.from_messages(
        [
            ("system", "Answer from the context:\n{context}"),
            MessagesPlaceholder("history"),
            ("human", "{question}"),
        ]
    )
    turns = [m for q, a in HISTORY for m in (HumanMessage(q), AIMessage(a))]
    inputs = {
        "context": lambda _: context.text,
        "history": lambda _: turns,
        "question": RunnablePassthrough(),
    }
    usual = ChatPromptTemplate.from_template("Context:\n{context}\n\nQuestion: {question}")
    experts = {name: FakeListChatModel(responses=[name]) for name in router.library.names}
    routed = TryageRouter(router, experts, with_decision=True)
    ways: dict[str, Any] = {
        "LangChain, chat with history, context in the system message": inputs
        | rag
        | chat_model(router),
        "LangChain, `TryageFlags` around a chain": TryageFlags(inputs | usual | chat_model(router)),
        "LangChain, `template \\| TryageRouter`": inputs
        | usual
        | routed
        | (lambda answer: answer["output"]),
    }
    return {
        name: sum(way.invoke(question).content == RIGHT[kind] for question, kind in questions)
        for name, way in ways.items()
    }


@tool
def look_up(topic: str) -> str:
    """Look a topic up."""
    return f"Nothing is known about {topic}. Question: What is 12 times 12?"


class Caller(GenericFakeChatModel):
    """Calls the tool, then answers; takes tools."""

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        """Return itself: the script calls the tool whatever it is given."""
        return self


def langchain_agents(router: Router, questions: Questions) -> dict[str, tuple[int, int]]:
    """Return right choices and all choices of agents, two model calls for each question."""
    experts = {name: Caller(messages=_script()) for name in router.library.names}
    counts = {}
    for name, choose in (("once a run", "run"), ("at every call", "call")):
        middleware = TryageMiddleware(router, experts, choose=choose)
        agent = create_agent(Caller(messages=_script()), [look_up], middleware=[middleware])
        counts[f"LangChain, `create_agent` with `TryageMiddleware`, {name}"] = _agent(
            agent, questions
        )
    model = ChatTryage(router, experts)
    agent = create_agent(model, [look_up])
    counts["LangChain, `create_agent` over `ChatTryage`"] = _agent(agent, questions)
    return counts


def _script() -> Iterator[AIMessage]:
    number = 0
    while True:
        number += 1
        call = {"name": "look_up", "args": {"topic": "it"}, "id": str(number)}
        yield AIMessage("", tool_calls=[call]) if number % 2 else AIMessage("Done.")


def _agent(agent: Any, questions: Questions) -> tuple[int, int]:
    right = count = 0
    for question, kind in questions:
        state = agent.invoke({"messages": [("human", question)]})
        records = [
            message.response_metadata.get("tryage") or state.get("tryage")
            for message in state["messages"]
            if isinstance(message, AIMessage)
        ]
        count += len(records)
        right += sum(record["expert"] == RIGHT[kind] for record in records)
    return right, count


class Decisions(BaseEventHandler):
    """Keeps the decisions that LlamaIndex's dispatcher tells of."""

    experts: list[str]

    def handle(self, event: Any, **kwargs: Any) -> None:
        """Keep the chosen expert."""
        if isinstance(event, TryageDecisionEvent):
            self.experts.append(event.decision["expert"])


def llama_index_ways(router: Router, context: Context, questions: Questions) -> dict[str, int]:
    """Return how many questions go to the right expert in LlamaIndex's engines.

    The last decision of a call counts, which is the one on the answer.
    """
    llm = TryageLLM(router, {name: MockLLM(max_tokens=1) for name in router.library.names})
    documents = [Document(text=context.text)]
    index = VectorStoreIndex.from_documents(documents, embed_model=MockEmbedding(embed_dim=4))
    top = {"llm": llm, "similarity_top_k": 4}
    ways: dict[str, Callable[[str], Any]] = {
        f"LlamaIndex, `as_query_engine`, {mode}": index.as_query_engine(
            response_mode=mode, **top
        ).query
        for mode in ("compact", "refine", "tree_summarize")
    }
    engine = index.as_query_engine(**top)
    ways["LlamaIndex, `TryageFlags` around a query engine"] = LlamaFlags(engine).query
    for mode in ("context", "condense_plus_context"):
        name = f"LlamaIndex, `as_chat_engine`, {mode}, with history"
        ways[name] = _chat(index, mode, top)
    return {name: _last_right(way, questions) for name, way in ways.items()}


def _chat(index: VectorStoreIndex, mode: Any, top: dict[str, Any]) -> Callable[[str], Any]:
    def ask(question: str) -> Any:
        memory = ChatMemoryBuffer.from_defaults(token_limit=3_000)
        for user, assistant in HISTORY:
            memory.put(ChatMessage(user, role="user"))
            memory.put(ChatMessage(assistant, role="assistant"))
        return index.as_chat_engine(chat_mode=mode, memory=memory, **top).chat(question)

    return ask


def _last_right(way: Callable[[str], Any], questions: Questions) -> int:
    decisions = Decisions(experts=[])
    handlers = get_dispatcher().event_handlers
    handlers.append(decisions)
    try:
        right = 0
        for question, kind in questions:
            decisions.experts.clear()
            way(question)
            right += decisions.experts[-1] == RIGHT[kind]
        return right
    finally:
        handlers.remove(decisions)


def look_it_up(topic: str) -> str:
    """Look a topic up."""
    return f"Nothing is known about {topic}. Question: What is 12 times 12?"


class LlamaCaller(MockFunctionCallingLLM):
    """Calls the tool until a tool has answered, then answers."""

    def __init__(self) -> None:
        super().__init__(response_generator=_llama_script, is_chat_model=True)


def _llama_script(messages: Sequence[ChatMessage], **_: Any) -> ChatMessage:
    if messages[-1].role == "tool":
        return ChatMessage("Done.", role="assistant")
    call = ToolCallBlock(tool_name="look_it_up", tool_kwargs={"topic": "it"}, tool_call_id="1")
    return ChatMessage(role="assistant", blocks=[TextBlock(text=""), call])


class Thinker(CustomLLM):
    """Follows the ReAct format: uses the tool once, then answers."""

    @property
    def metadata(self) -> LLMMetadata:
        """What LlamaIndex asks."""
        return LLMMetadata(context_window=16_000, model_name="thinker")

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Return the next step."""
        if "Nothing is known" in prompt:
            return CompletionResponse(text="Thought: I can answer.\nAnswer: Done.")
        step = 'Thought: I need it.\nAction: look_it_up\nAction Input: {"topic": "it"}'
        return CompletionResponse(text=step)

    @llm_completion_callback()
    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> Any:
        """Return the next step as a stream of one chunk."""
        text = self.complete(prompt, formatted=True, **kwargs).text
        return (CompletionResponse(text=part, delta=part) for part in (text,))


def llama_index_agents(router: Router, questions: Questions) -> dict[str, tuple[int, int]]:
    """Return right choices and all choices of both kinds of agent, two model calls a question."""
    names = router.library.names
    callers = TryageFunctionCallingLLM(router, {name: LlamaCaller() for name in names})
    thinkers = TryageLLM(router, {name: Thinker() for name in names})
    decisions = Decisions(experts=[])
    handlers = get_dispatcher().event_handlers
    handlers.append(decisions)

    async def run(make: Callable[[], Any]) -> tuple[int, int]:
        right = count = 0
        for question, kind in questions:
            decisions.experts.clear()
            await make().run(question, memory=ChatMemoryBuffer.from_defaults())
            count += len(decisions.experts)
            right += sum(expert == RIGHT[kind] for expert in decisions.experts)
        return right, count

    tools = [look_it_up]
    agents = {
        "LlamaIndex, `FunctionAgent`": lambda: FunctionAgent(tools=tools, llm=callers),
        "LlamaIndex, `ReActAgent`": lambda: ReActAgent(tools=tools, llm=thinkers),
    }
    try:
        return {name: asyncio.run(run(make)) for name, make in agents.items()}
    finally:
        handlers.remove(decisions)
