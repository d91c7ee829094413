"""The same fault reads the same in both adapters: what was tried, in which order, and in words."""

import re
import threading

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    CompletionResponse,
    LLMMetadata,
)
from llama_index.core.llms import CustomLLM

import langchain_tryage
from langchain_tryage import ChatTryage
from llama_index_tryage import TryageFunctionCallingLLM, TryageLLM
from llama_index_tryage import TryageSelector as LlamaIndexSelector
from tryage.errors import TryageError

QUESTION = "What is 17 * 3?"
OVER = threading.Event()


@pytest.fixture(autouse=True)
def _no_thread_is_left():
    """Calls that hang wait until the test is over; their threads end with them."""
    OVER.clear()
    yield
    OVER.set()
    for thread in threading.enumerate():
        if thread.name.startswith("tryage-call"):
            thread.join(10)
            assert not thread.is_alive()


def pieces(fault):
    """The two pieces of an answer, as far as a fault lets them come."""
    if fault == "raises":
        raise ConnectionError("refused, api_key=sk-notasecret123")
    if fault == "hangs":
        OVER.wait(60)
    if fault == "streams nothing":
        return
    yield "six"
    if fault == "dies":
        raise ConnectionError("cut off")
    yield "ty"


class OfLangChain(BaseChatModel):
    """Answers in two pieces, unless it has a fault."""

    fault: str = ""

    @property
    def _llm_type(self):
        return "faulty"

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        if self.fault == "returns nothing":
            return None
        answer = AIMessage("".join(pieces(self.fault)))
        return ChatResult(generations=[ChatGeneration(message=answer)])

    def _stream(self, messages, stop=None, run_manager=None, **kwargs):
        if self.fault == "returns nothing":
            return None
        chunks = pieces(self.fault)
        return (ChatGenerationChunk(message=AIMessageChunk(piece)) for piece in chunks)


class OfLlamaIndex(CustomLLM):
    """Answers in two pieces, unless it has a fault."""

    fault: str = ""

    @property
    def metadata(self):
        return LLMMetadata(is_chat_model=True)

    def chat(self, messages, **kwargs):
        if self.fault == "returns nothing":
            return None
        return ChatResponse(message=ChatMessage("".join(pieces(self.fault)), role="assistant"))

    def stream_chat(self, messages, **kwargs):
        if self.fault == "returns nothing":
            return None
        chunks = pieces(self.fault)
        return (ChatResponse(message=ChatMessage(p, role="assistant"), delta=p) for p in chunks)

    def complete(self, prompt, formatted=False, **kwargs):
        return CompletionResponse(text="".join(pieces(self.fault)))

    def stream_complete(self, prompt, formatted=False, **kwargs):
        for piece in pieces(self.fault):
            yield CompletionResponse(text=piece, delta=piece)


def ask_langchain(llm, streaming):
    if not streaming:
        return llm.invoke(QUESTION).response_metadata["tryage"]
    [record] = [
        chunk.response_metadata["tryage"]
        for chunk in llm.stream(QUESTION)
        if "tryage" in chunk.response_metadata
    ]
    return record


def ask_llama_index(llm, streaming):
    messages = [ChatMessage(QUESTION)]
    response = list(llm.stream_chat(messages))[-1] if streaming else llm.chat(messages)
    return response.additional_kwargs["tryage"]


ADAPTERS = (
    (ChatTryage, OfLangChain, ask_langchain),
    (TryageLLM, OfLlamaIndex, ask_llama_index),
    (TryageFunctionCallingLLM, OfLlamaIndex, ask_llama_index),
)


def outcome(act):
    """The chosen and the answering expert and the calls, or type and words of the error."""
    try:
        record = act()
    except (TryageError, ConnectionError, TypeError, ValueError) as error:
        return type(error).__name__, re.sub(r" \(after [\d.]+ s\)", "", str(error))
    return (
        record["expert"],
        record["answered_by"],
        [(t["expert"], t["error"]) for t in record["tried"]],
    )


def the_one(outcomes):
    """What all adapters said, which is one thing."""
    assert all(other == outcomes[0] for other in outcomes)
    return outcomes[0]


def of_all(open7, fault, streaming, down):
    """The outcome of a question to which the experts that are down have a fault."""
    options = {"timeout": 0.05} if fault == "hangs" else {}
    outcomes = []
    for llm, expert, ask in ADAPTERS:
        experts = {n: expert(fault=fault if n in down else "") for n in open7.library.names}
        model = llm(open7, experts, **options)
        outcomes.append(outcome(lambda ask=ask, model=model: ask(model, streaming)))
    return the_one(outcomes)


FAULTS = [
    ("raises", False, "ConnectionError: refused, api_key=***"),
    ("raises", True, "ConnectionError: refused, api_key=***"),
    ("hangs", False, "ExpertTimeoutError: {name} did not answer within 0.05 s"),
    ("hangs", True, "ExpertTimeoutError: {name} did not answer within 0.05 s"),
    ("returns nothing", False, "ExpertError: {name} returned nothing"),
    ("returns nothing", True, "ExpertError: {name} returned nothing"),
    ("streams nothing", True, "ExpertError: the stream of {name} ended without a chunk"),
]


@pytest.mark.parametrize(("fault", "streaming", "words"), FAULTS)
def test_the_next_expert_answers_and_the_record_says_why(open7, fault, streaming, words):
    best, second = open7.route(QUESTION).order[:2]
    chosen, answered_by, tried = of_all(open7, fault, streaming, {best})
    assert (chosen, answered_by) == (best, second)
    assert tried == [(best, words.format(name=best)), (second, None)]


@pytest.mark.parametrize(("fault", "streaming", "words"), FAULTS)
def test_all_down_is_one_error_that_lists_them_in_order(open7, fault, streaming, words):
    order = open7.route(QUESTION).order
    kind, message = of_all(open7, fault, streaming, set(order))
    assert kind == "DispatchError"
    lines = [f"  {name}: {words.format(name=name)}" for name in order]
    assert message.splitlines() == ["each of the 7 experts tried failed:", *lines]


def test_a_stream_that_dies_is_the_expert_s_own_error(open7):
    assert of_all(open7, "dies", True, set(open7.library.names)) == (
        "ConnectionError",
        "cut off",
    )


async def records_of_langchain(model):
    """The record of every way to call a chat model."""
    for message in (model.invoke(QUESTION), await model.ainvoke(QUESTION)):
        yield message.response_metadata["tryage"]
    chunks = [*model.stream(QUESTION), *[chunk async for chunk in model.astream(QUESTION)]]
    for chunk in chunks:
        if "tryage" in chunk.response_metadata:
            yield chunk.response_metadata["tryage"]


async def records_of_llama_index(model):
    """The record of every way to call an LLM."""
    messages = [ChatMessage(QUESTION)]
    responses = [model.chat(messages), model.complete(QUESTION)]
    responses += [await model.achat(messages), await model.acomplete(QUESTION)]
    responses += [*model.stream_chat(messages), *model.stream_complete(QUESTION)]
    responses += [chunk async for chunk in await model.astream_chat(messages)]
    responses += [chunk async for chunk in await model.astream_complete(QUESTION)]
    for response in responses:
        yield response.additional_kwargs["tryage"]


@pytest.mark.parametrize(
    ("llm", "expert", "records", "ways"),
    [
        (ChatTryage, OfLangChain, records_of_langchain, 4),
        (TryageLLM, OfLlamaIndex, records_of_llama_index, 8),
        (TryageFunctionCallingLLM, OfLlamaIndex, records_of_llama_index, 8),
    ],
)
async def test_metadata_hold_the_five_best_of_many_experts(open7, llm, expert, records, ways):
    model = llm(open7, {name: expert() for name in open7.library.names})
    best = list(open7.route(QUESTION).order[:5])
    all_records = [record async for record in records(model)]
    assert len(all_records) >= ways
    for record in all_records:
        assert [row["expert"] for row in record["ranking"]] == best
        assert record["answered_by"] == best[0]


@pytest.mark.parametrize(
    ("router", "names", "options"),
    [
        ("no/such/folder", ["x"], {}),
        ("open7", ["x"], {}),
        ("open7", [], {}),
        ("open7", None, {"aliases": {"one": "another"}}),
        ("open7", None, {"max_attempts": 0}),
        ("open7", None, {"timeout": 0}),
        ("open7", None, {"total_timeout": -1}),
        ("open7", None, {"task": "fill-mask"}),
        ("open7", None, {"max_attemps": 1}),
        ("open7", None, {"goals": {"size": 0.3}}),
        ("open7", None, {"policy": "strict"}),
        ("open7", None, {"aliases": ["one"]}),
        ("open7", None, {"breaker": 5}),
        ("open7", None, {"errors": "ConnectionError"}),
        ("open7", None, {"errors": [3]}),
        ("open7", None, {"flags_from": True}),
        (5, None, {}),
    ],
)
def test_what_cannot_work_is_told_in_the_same_words(open7, router, names, options):
    errors = []
    for llm, expert, ask in ADAPTERS:
        experts = {name: expert() for name in (open7.library.names if names is None else names)}
        error = outcome(
            lambda llm=llm, experts=experts, ask=ask: ask(llm(router, experts, **options), False)
        )
        assert error[0].endswith("Error")
        errors.append((error[0], error[1].replace(llm.__name__, "the LLM")))
    the_one(errors)


@pytest.mark.parametrize("experts", [["x"], "x", 7, {"x": 7}, {"x": None}])
def test_experts_that_are_none_are_told_in_the_same_words(experts):
    """Each adapter adds what it takes instead."""
    outcomes = [outcome(lambda llm=llm: llm("open7", experts)) for llm, _, _ in ADAPTERS]
    kind, message = the_one([(kind, message.partition(";")[0]) for kind, message in outcomes])
    value = experts["x"] if isinstance(experts, dict) else experts
    subject = "expert 'x'" if isinstance(experts, dict) else "experts"
    assert (kind, message) == ("TypeError", f"{subject} is of type {type(value).__name__}")


@pytest.mark.parametrize("errors", [ConnectionError, [ConnectionError], {ConnectionError}])
def test_errors_may_be_one_or_several(open7, errors):
    best, second = open7.route(QUESTION).order[:2]
    for llm, expert, ask in ADAPTERS:
        experts = {n: expert(fault="raises" if n == best else "") for n in open7.library.names}
        assert ask(llm(open7, experts, errors=errors), False)["answered_by"] == second


@pytest.mark.parametrize("selector", [langchain_tryage.TryageSelector, LlamaIndexSelector])
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"goals": {"size": 0.3}}, "goals is of type dict; it is a Goals, or None"),
        ({"experts": "small"}, "experts is 'small'; it is a sequence of names, or None"),
        ({"flags_from": True}, "flags_from is True; it is 'last_message', a function"),
        ({"router": 5}, "router is of type int; it is a Router, a router folder"),
    ],
)
def test_selectors_say_so_too(selector, options, words):
    with pytest.raises(TypeError, match=re.escape(words)):
        selector(**{"router": "open7", **options})
