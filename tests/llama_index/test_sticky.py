"""Conversations that stay with an expert: all ways of chat, agents, tools, reasoning."""

import copy

import pytest
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
)
from llama_index.core.llms import MockLLM
from llama_index.core.memory import ChatMemoryBuffer

from llama_index_tryage import TryageFunctionCallingLLM, TryageLLM
from llama_index_tryage._conversations import MOST_ANSWERS
from tryage import Goals, Library, Router

pytestmark = pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecationWarning")

LONG = "Some words of a long document. " * 1200


def user(text):
    return ChatMessage(text, role="user")


def expert_of(response):
    return response.additional_kwargs["tryage"]["answered_by"]


WAYS = {
    "chat": lambda llm, messages: llm.chat(messages),
    "stream_chat": lambda llm, messages: list(llm.stream_chat(messages))[-1],
}
AWAITED = {
    "achat": lambda llm, messages: llm.achat(messages),
    "astream_chat": lambda llm, messages: last_of(llm.astream_chat(messages)),
}


async def last_of(stream):
    return [response async for response in await stream][-1]


async def ask(way, llm, messages):
    if way in WAYS:
        return WAYS[way](llm, messages)
    return await AWAITED[way](llm, messages)


@pytest.fixture(scope="module")
def priced(table, table_library):
    """The fitted router, with prices: those who read from a cache pay a twentieth."""
    prices = {"coder": 1.9, "writer": 2.0, "giant": 8.0}
    rows = [
        {**row, "price": {"input": price, "output": price, "cached_input": 0.1}}
        for row in table_library.to_dict()["experts"]
        for price in [prices[row["name"]]]
    ]
    library = Library.from_dict({"name": "priced", "experts": rows})
    return Router.fit(table, library=library, predictor="clusters")


@pytest.mark.parametrize("kind", [TryageLLM, TryageFunctionCallingLLM])
@pytest.mark.parametrize("way", [*WAYS, *AWAITED])
async def test_a_conversation_stays_with_its_expert(router, kit, way, kind):
    llm = kind(router, kit.experts(kit.Caller), sticky=True)
    first = await ask(way, llm, [user(kit.code)])
    talk = [user(kit.code), ChatMessage(first.message.content, role="assistant"), user(kit.prose)]
    second = await ask(way, llm, talk)
    assert (expert_of(first), expert_of(second)) == ("coder", "coder")
    assert expert_of(await ask(way, kind(router, kit.experts(kit.Caller)), talk)) == "writer"
    # What another LLM answered is not known here.
    assert expert_of(await ask(way, kind(router, kit.experts(kit.Caller), sticky=True), talk)) == (
        "writer"
    )


@pytest.mark.parametrize("way", [*WAYS, *AWAITED])
async def test_by_price_a_long_one_stays_and_a_short_one_switches(priced, kit, way):
    for text, second in ((LONG, "coder"), ("Hello.", "writer")):
        llm = TryageLLM(priced, kit.experts(window=10**6), sticky="price", goals=Goals(cost=0.2))
        start = [ChatMessage(text, role="system"), user(kit.code)]
        first = await ask(way, llm, start)
        talk = [*start, first.message, user(kit.prose)]
        assert (expert_of(first), expert_of(await ask(way, llm, talk))) == ("coder", second)


REPORT = "Observation: 7"


@pytest.mark.parametrize("sticky", [True, 0.0, "price"])
@pytest.mark.parametrize(
    "result",
    [ChatMessage("7", role="tool"), ChatMessage("7", role="function"), user(REPORT)],
    ids=lambda message: message.role.value,
)
def test_nobody_else_goes_on_in_a_tool_loop(router, kit, sticky, result):
    llm = TryageLLM(router, kit.experts(), sticky=sticky)
    first = llm.chat([user(kit.code)])
    talk = [user(kit.prose), first.message, result]
    assert expert_of(llm.chat(talk)) == "coder"
    assert expert_of(TryageLLM(router, kit.experts()).chat(talk)) == "writer"


CALL = ToolCallBlock(tool_call_id="1", tool_name="look", tool_kwargs={})
THOUGHT = ThinkingBlock(content="so", additional_information={"signature": "Er4B"})


class Looking(MockLLM):
    """Answers with the blocks that it holds."""

    blocks: tuple = ()

    def chat(self, messages, **kwargs):
        return ChatResponse(message=ChatMessage(role="assistant", blocks=list(self.blocks)))

    async def achat(self, messages, **kwargs):
        return self.chat(messages)

    def stream_chat(self, messages, **kwargs):
        return iter([self.chat(messages)])

    async def astream_chat(self, messages, **kwargs):
        async def responses():
            yield self.chat(messages)

        return responses()


@pytest.mark.parametrize("way", [*WAYS, *AWAITED])
@pytest.mark.parametrize(
    ("blocks", "last"),
    [([CALL], ChatMessage("7", role="tool")), ([THOUGHT, TextBlock(text="a")], None)],
    ids=["a tool's result", "encrypted reasoning"],
)
async def test_without_sticky_who_is_bound_stays(router, kit, way, blocks, last):
    experts = {name: Looking() for name in kit.experts()}
    for expert in experts.values():
        expert.blocks = tuple(blocks)
    llm = TryageLLM(router, experts)
    first = await ask(way, llm, [user(kit.code)])
    assert expert_of(first) == "coder"
    talk = [user(kit.prose), first.message, last or user(kit.prose)]
    assert expert_of(await ask(way, llm, talk)) == "coder"
    # What is answered in the open binds nobody.
    free = TryageLLM(router, kit.experts())
    plain = await ask(way, free, [user(kit.code)])
    talk = [user(kit.prose), plain.message, user(kit.prose)]
    assert expert_of(await ask(way, free, talk)) == "writer"


def test_nor_while_encrypted_reasoning_is_in_the_messages(router, kit):
    llm = TryageLLM(router, kit.experts(), sticky="price")
    first = llm.chat([user(kit.code)])
    thought = ThinkingBlock(content="so", additional_information={"signature": "Er4B"})
    signed = ChatMessage(role="assistant", blocks=[thought, TextBlock(text=first.message.content)])
    talk = [user(kit.code), signed, user(kit.prose)]
    assert expert_of(llm.chat(talk)) == "coder"
    open_thought = ThinkingBlock(content="so", additional_information={})
    signed.blocks[0] = open_thought
    assert expert_of(llm.chat(talk)) == "writer"
    beside = ChatMessage(
        first.message.content,
        role="assistant",
        additional_kwargs={"reasoning": {"encrypted_content": "gAAA"}},
    )
    assert expert_of(llm.chat([user(kit.code), beside, user(kit.prose)])) == "coder"


def test_unless_it_failed(router, kit):
    experts = kit.experts()
    llm = TryageLLM(router, experts, sticky="price")
    first = llm.chat([user(kit.code)])
    experts["coder"].fault = ConnectionError("down")
    talk = [user(kit.prose), first.message, ChatMessage("7", role="tool")]
    second = llm.chat(talk)
    assert expert_of(second) == "writer"
    tried = [attempt["expert"] for attempt in second.additional_kwargs["tryage"]["tried"]]
    assert tried == ["coder", "writer"]
    experts["coder"].fault = None
    assert expert_of(llm.chat([*talk, second.message, ChatMessage("8", role="tool")])) == "writer"


async def test_an_agent_s_loop_stays(router, kit):
    def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    experts = kit.experts(kit.Caller)
    llm = TryageFunctionCallingLLM(router, experts, sticky="price")
    agent = FunctionAgent(tools=[add], llm=llm, streaming=True)
    memory = ChatMemoryBuffer.from_defaults()
    answer = await agent.run(f"{kit.prose} add 2 and 3", memory=memory)
    assert str(answer) == "writer says 5"
    assert len(experts["writer"].calls) == 2
    assert not experts["coder"].calls


def test_only_the_last_answers_are_remembered_and_no_text(router, kit):
    llm = TryageLLM(router, kit.experts(), sticky=True)
    first = llm.chat([user(kit.code)])
    remembered = llm._answerers._experts
    assert list(remembered.values()) == ["coder"]
    assert all(isinstance(digest, bytes) and len(digest) == 16 for digest in remembered)
    llm.chat([user(kit.code)])
    assert len(remembered) == 1
    for number in range(MOST_ANSWERS):
        response = first.model_copy(update={"message": ChatMessage(f"{number}", role="assistant")})
        llm._answerers.note(response)
    assert len(remembered) == MOST_ANSWERS
    talk = [user(kit.code), first.message, user(kit.prose)]
    assert expert_of(llm.chat(talk)) == "writer"


def test_copies_go_on_and_what_is_off_remembers_nothing(router, kit):
    llm = TryageLLM(router, kit.experts(), sticky=True)
    first = llm.chat([user(kit.code)])
    talk = [user(kit.code), first.message, user(kit.prose)]
    for other in (llm.model_copy(), copy.deepcopy(llm)):
        assert expert_of(other.chat(talk)) == "coder"
    off = TryageLLM(router, kit.experts())
    off.chat([user(kit.code)])
    assert off._answerers._experts == {}


def test_a_stream_that_is_left_early_counts(router, kit):
    llm = TryageLLM(router, kit.experts(), sticky=True)
    stream = llm.stream_chat([user(kit.code)])
    part = next(stream).message.content
    stream.close()
    talk = [user(kit.code), ChatMessage(part, role="assistant"), user(kit.prose)]
    assert expert_of(llm.chat(talk)) == "coder"


def test_what_is_refused(router, kit):
    with pytest.raises(ValueError, match="sticky is 'prise'; it is True, False, 'price'"):
        TryageLLM(router, kit.experts(), sticky="prise")
