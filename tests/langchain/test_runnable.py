"""`TryageRouter`: the right expert, the user's own flags, every way to call, every fault."""

import asyncio
import threading
from operator import itemgetter

import numpy as np
import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate, PromptTemplate
from langchain_core.runnables import (
    ConfigurableField,
    RunnableGenerator,
    RunnableLambda,
    RunnablePassthrough,
)

from langchain_tryage import TryageRouter
from tryage import Goals, Policy, TryageWarning
from tryage.errors import (
    DispatchError,
    FlagError,
    LibraryError,
    MissingExtraError,
    NoEligibleExpertError,
    PromptError,
    RouterNotFoundError,
)
from tryage.goals import Goal
from tryage.tokens import count_tokens

NAMES = ("coder", "writer", "giant")


def named(**faults):
    """Experts that answer with their name and what they got."""

    def expert(name):
        def answer(input):
            if name in faults:
                raise faults[name]
            return f"{name}: {input}"

        return RunnableLambda(answer)

    return {name: expert(name) for name in NAMES}


class Chains(BaseCallbackHandler):
    def __init__(self):
        self.starts, self.ends, self.errors = [], [], []

    def on_chain_start(self, serialized, inputs, **kwargs):
        self.starts.append(kwargs)

    def on_chain_end(self, outputs, **kwargs):
        self.ends.append(outputs)

    def on_chain_error(self, error, **kwargs):
        self.errors.append(error)


async def every_way(runnable, input, config=None, **kwargs):
    """Call a runnable in all six ways; one output each."""
    pieces = [piece async for piece in runnable.astream(input, config, **kwargs)]
    return [
        runnable.invoke(input, config, **kwargs),
        await runnable.ainvoke(input, config, **kwargs),
        *runnable.batch([input], config, **kwargs),
        *await runnable.abatch([input], config, **kwargs),
        *runnable.stream(input, config, **kwargs),
        *pieces,
    ]


async def test_each_prompt_goes_to_its_expert_in_every_way(router, kit):
    runnable = TryageRouter(router, named())
    assert await every_way(runnable, kit.code) == [f"coder: {kit.code}"] * 6
    assert await every_way(runnable, kit.prose) == [f"writer: {kit.prose}"] * 6


async def test_kwargs_and_config_reach_the_expert_in_every_way(router, kit):
    def answer(input, config, *, punctuation="."):
        return config["configurable"]["who"] + punctuation

    runnable = TryageRouter(router, dict.fromkeys(NAMES, RunnableLambda(answer)))
    config = {"configurable": {"who": "me"}}
    assert await every_way(runnable, kit.code, config, punctuation="!") == ["me!"] * 6


def test_in_a_chain_the_decision_is_in_the_message_and_the_run(router, kit):
    recorder = kit.Recorder()
    chain = ChatPromptTemplate.from_messages([("system", "Be brief."), ("human", "{text}")])
    chain |= TryageRouter(router, kit.experts())
    message = chain.invoke({"text": kit.code}, {"callbacks": [recorder]})
    assert message.content == f"coder says {kit.code}"
    decision = message.response_metadata["tryage"]
    assert (decision["expert"], decision["answered_by"]) == ("coder", "coder")
    assert message.response_metadata["model_name"] == "coder-model"
    (start,) = recorder.starts
    assert "expert:coder" in start["tags"]
    assert start["metadata"]["tryage"]["expert"] == "coder"
    assert [m.type for m in start["messages"][0]] == ["system", "human"]
    assert kit.code not in repr(start["metadata"])


def test_the_message_of_the_expert_is_not_touched(router, kit):
    message = AIMessage("kept")
    runnable = TryageRouter(router, dict.fromkeys(NAMES, RunnableLambda(lambda _: message)))
    assert "tryage" in runnable.invoke(kit.code).response_metadata
    assert message.response_metadata == {}


async def test_with_decision(router, kit):
    runnable = TryageRouter(router, named(coder=ValueError("no")), with_decision=True)
    for output in await every_way(runnable, kit.code):
        assert set(output) == {"output", "decision"}
        assert output["output"] == f"giant: {kit.code}"
        decision = output["decision"]
        assert (decision.expert, decision.answered_by) == ("coder", "giant")
        assert [attempt.error for attempt in decision.tried] == ["ValueError: no", None]
    assert (runnable | itemgetter("output")).invoke(kit.prose).startswith("writer")


def test_streamed_decisions_come_once(router, kit):
    chunks = list(TryageRouter(router, kit.experts(), with_decision=True).stream(kit.code))
    assert [("decision" in chunk) for chunk in chunks] == [True] + [False] * (len(chunks) - 1)
    total = sum(chunks[1:], chunks[0])
    assert total["output"].content == f"coder says {kit.code}"
    assert total["decision"].answered_by == "coder"


async def test_streams_piece_by_piece_through_a_chain(router, kit):
    chain = ChatPromptTemplate.from_template("{text}") | TryageRouter(router, kit.experts())
    chunks = list(chain.stream({"text": kit.prose}))
    assert len(chunks) > 5
    annotated = [chunk for chunk in chunks if "tryage" in chunk.response_metadata]
    assert len(annotated) == 1
    chain |= StrOutputParser()
    pieces = [piece async for piece in chain.astream({"text": kit.prose})]
    assert "".join(pieces) == f"writer says {kit.prose}"
    assert "".join(chain.stream({"text": kit.prose})) == f"writer says {kit.prose}"


async def test_events_of_a_stream_are_not_doubled(router, kit):
    runnable = TryageRouter(router, kit.experts())
    events = [e async for e in runnable.astream_events(kit.prose, version="v2")]
    kinds = [event["event"] for event in events]
    assert kinds.count("on_chat_model_start") == kinds.count("on_chat_model_end") == 1
    text = "".join(
        e["data"]["chunk"].content for e in events if e["event"] == "on_chat_model_stream"
    )
    assert text == f"writer says {kit.prose}"
    start = next(e for e in events if e["event"] == "on_chat_model_start")
    assert "expert:writer" in start["tags"]


def test_batch_keeps_order_and_groups_by_expert(router, kit):
    sizes = []

    class Counting(RunnableLambda):
        def batch(self, inputs, config=None, *, return_exceptions=False, **kwargs):
            sizes.append(len(inputs))
            return super().batch(inputs, config, return_exceptions=return_exceptions, **kwargs)

    experts = {n: Counting(lambda input, n=n: f"{n}: {input}") for n in NAMES}
    prompts = [kit.code, kit.prose, kit.code + "pass", kit.prose + " It was old.", kit.code]
    outputs = TryageRouter(router, experts).batch(prompts)
    assert [output.partition(":")[0] for output in outputs] == [
        "coder", "writer", "coder", "writer", "coder",
    ]  # fmt: skip
    assert [output.partition(": ")[2] for output in outputs] == prompts
    assert sorted(sizes) == [2, 3]


async def test_an_empty_batch(router):
    runnable = TryageRouter(router, named())
    assert runnable.batch([]) == []
    assert await runnable.abatch([]) == []


async def test_batch_fails_over_item_by_item(router, kit):
    def picky(input):
        if "count" in input:
            raise ValueError("no counting")
        return f"coder: {input}"

    experts = named() | {"coder": RunnableLambda(picky)}
    runnable = TryageRouter(router, experts, with_decision=True)
    other = "def item_value(index, value=7):\n    if index > value:\n        return index - value\n"
    inputs = [kit.code, other, kit.prose]
    for outputs in (runnable.batch(inputs), await runnable.abatch(inputs)):
        answered = [output["decision"].answered_by for output in outputs]
        assert answered == ["giant", "coder", "writer"]
        assert outputs[0]["decision"].tried[0].error == "ValueError: no counting"


async def test_batch_returns_exceptions_where_asked(router, kit):
    faults = dict.fromkeys(NAMES, ValueError("down"))
    runnable = TryageRouter(router, named(**faults) | {"writer": RunnableLambda(str.upper)})
    runnable = TryageRouter(router, runnable.experts, max_attempts=1)
    inputs = [kit.prose, "  ", kit.code]
    for outputs in (
        runnable.batch(inputs, return_exceptions=True),
        await runnable.abatch(inputs, return_exceptions=True),
    ):
        assert outputs[0] == kit.prose.upper()
        assert isinstance(outputs[1], PromptError)
        assert isinstance(outputs[2], DispatchError)
        assert isinstance(outputs[2].__cause__, ValueError)
    with pytest.raises(PromptError):
        runnable.batch(inputs)
    with pytest.raises(DispatchError):
        await runnable.abatch([kit.code])


async def test_an_input_that_cannot_be_read_does_not_spoil_the_others(router, kit):
    def users_text(input):
        if input == kit.prose:
            raise RuntimeError("no network")
        return input

    bad = [[{"bad": 1}], [7], [("a", "b", "c")], [{"role": "user", "content": 5}]]
    for runnable, inputs in (
        (TryageRouter(router, named()), [kit.code, *bad]),
        (TryageRouter(router, named(), flags_from=users_text), [kit.code, kit.prose]),
    ):
        for outputs in (
            runnable.batch(inputs, return_exceptions=True),
            await runnable.abatch(inputs, return_exceptions=True),
        ):
            assert outputs[0] == f"coder: {kit.code}"
            assert {type(output) for output in outputs[1:]} == {PromptError}
        with pytest.raises(PromptError):
            runnable.batch(inputs)
        with pytest.raises(PromptError):
            runnable.invoke(inputs[1])


async def test_an_input_that_cannot_be_decided_on_does_not_spoil_the_others(router, kit):
    class Picky(Goal):
        name = "picky"
        fixed = False

        def values(self, library, inputs):
            if inputs.longest == count_tokens(kit.prose):
                raise ArithmeticError
            return np.zeros(len(library))

    goals = Goals(custom=[Picky(1.0)])
    runnable = TryageRouter(router, named(), goals=goals)
    for outputs in (
        runnable.batch([kit.prose, kit.code], return_exceptions=True),
        await runnable.abatch([kit.prose, kit.code], return_exceptions=True),
    ):
        assert isinstance(outputs[0], Exception)
        assert outputs[1] == f"coder: {kit.code}"


async def test_batch_calls_no_other_expert_where_none_can_run(router, kit):
    called = []

    def missing(input):
        called.append(input)
        raise MissingExtraError("install it")

    runnable = TryageRouter(router, dict.fromkeys(NAMES, RunnableLambda(missing)))
    for batch in (runnable.batch, lambda inputs: asyncio.run(runnable.abatch(inputs))):
        with pytest.raises(MissingExtraError):
            await asyncio.to_thread(batch, [kit.code, kit.prose])
    assert len(called) == 4


async def test_an_interrupt_of_a_graph_is_no_failure(router, kit):
    pytest.importorskip("langgraph")
    from langgraph.checkpoint.memory import InMemorySaver
    from langgraph.graph import START, StateGraph
    from langgraph.types import Command, interrupt

    called = []

    def asks(input):
        called.append(input)
        return interrupt("may I?")

    runnable = TryageRouter(router, dict.fromkeys(NAMES, RunnableLambda(asks)))
    graph = StateGraph(dict)
    graph.add_node("ask", lambda state: {"answer": runnable.invoke(kit.code)})
    graph.add_edge(START, "ask")
    compiled = graph.compile(checkpointer=InMemorySaver())
    config = {"configurable": {"thread_id": "1"}}
    assert compiled.invoke({"q": "?"}, config)["__interrupt__"][0].value == "may I?"
    assert len(called) == 1
    assert compiled.invoke(Command(resume="yes"), config)["answer"] == "yes"


async def test_batch_honours_the_config_of_each_item(router, kit):
    runnable = TryageRouter(router, named())
    for batch in (runnable.batch, lambda *a: asyncio.run(runnable.abatch(*a))):
        handlers = [Chains(), Chains()]
        configs = [
            {"callbacks": [handler], "tags": [tag]}
            for handler, tag in zip(handlers, ("one", "two"), strict=True)
        ]
        await asyncio.to_thread(batch, [kit.code, kit.prose], configs)
        for handler, tag, expert in zip(handlers, ("one", "two"), ("coder", "writer"), strict=True):
            outer, inner = handler.starts
            assert tag in outer["tags"]
            assert {tag, f"expert:{expert}"} <= set(inner["tags"])
            assert len(handler.ends) == 2


@pytest.mark.parametrize("bound", [1, 2])
async def test_batch_honours_max_concurrency(router, kit, bound):
    lock, running, peak = threading.Lock(), 0, 0
    begun = threading.Semaphore(0)

    def enter():
        nonlocal running, peak
        with lock:
            running += 1
            peak = max(peak, running)
        begun.release()

    def leave():
        nonlocal running
        with lock:
            running -= 1

    def answer(input):
        enter()
        begun.acquire(timeout=0.01)
        leave()
        return input

    async def aanswer(input):
        enter()
        await asyncio.sleep(0.001)
        leave()
        return input

    runnable = TryageRouter(router, dict.fromkeys(NAMES, RunnableLambda(answer, aanswer)))
    inputs = [kit.code, kit.prose] * 4
    assert runnable.batch(inputs, {"max_concurrency": bound}) == inputs
    assert await runnable.abatch(inputs, {"max_concurrency": bound}) == inputs
    assert peak <= bound


async def test_falls_over_in_order_and_says_so(router, kit):
    runnable = TryageRouter(router, kit.experts(coder={"fault": ValueError("no")}))
    for message in (runnable.invoke(kit.code), await runnable.ainvoke(kit.code)):
        decision = message.response_metadata["tryage"]
        assert (decision["expert"], decision["answered_by"]) == ("coder", "giant")
        assert [(t["expert"], t["error"]) for t in decision["tried"]] == [
            ("coder", "ValueError: no"),
            ("giant", None),
        ]


async def test_streams_fail_over_before_the_first_chunk_only(router, kit):
    runnable = TryageRouter(router, kit.experts(coder={"fault": ValueError("no")}))
    chunks = list(runnable.stream(kit.code))
    assert chunks[0].response_metadata["tryage"]["answered_by"] == "giant"
    runnable = TryageRouter(router, kit.experts(coder={"late": ConnectionError("cut")}))
    chunks = runnable.stream(kit.code)
    assert next(chunks).content == "coder"
    with pytest.raises(ConnectionError, match="cut"):
        next(chunks)
    chunks = runnable.astream(kit.code)
    assert (await anext(chunks)).content == "coder"
    with pytest.raises(ConnectionError, match="cut"):
        await anext(chunks)


async def test_all_down_is_one_error_that_lists_them(router, kit):
    runnable = TryageRouter(router, named(**dict.fromkeys(NAMES, ValueError("down"))))
    chains = Chains()
    with pytest.raises(DispatchError, match="each of the 3 experts") as caught:
        runnable.invoke(kit.code, {"callbacks": [chains]})
    assert [attempt.expert for attempt in caught.value.tried] == ["coder", "giant", "writer"]
    assert chains.errors[-1] is caught.value
    with pytest.raises(DispatchError):
        list(runnable.stream(kit.code))
    with pytest.raises(DispatchError):
        await runnable.ainvoke(kit.code)


def test_errors_that_are_not_declared_are_raised(router, kit):
    runnable = TryageRouter(router, named(coder=KeyError("bug")), errors=(TimeoutError,))
    with pytest.raises(KeyError, match="bug"):
        runnable.invoke(kit.code)
    assert isinstance(runnable.batch([kit.code], return_exceptions=True)[0], KeyError)


async def test_cancelling_reaches_the_expert_and_calls_no_other(router, kit):
    called, cancelled = [], []

    async def hang(input):
        called.append(input)
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            cancelled.append(input)
            raise

    def no(input):
        raise AssertionError

    runnable = TryageRouter(router, dict.fromkeys(NAMES, RunnableLambda(no, hang)))
    task = asyncio.create_task(runnable.ainvoke(kit.code))
    await kit.until(lambda: called)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (len(called), len(cancelled)) == (1, 1)


FLAG = "[Flag: size=2]"


def test_flags_are_off_by_default(router, kit):
    text = f"{kit.code} {FLAG}"
    assert TryageRouter(router, named()).invoke(text) == f"coder: {text}"


@pytest.mark.parametrize("kind", ["string", "messages", "prompt", "blocks"])
def test_flags_of_the_last_message_act_and_are_taken_off(router, kit, kind):
    runnable = TryageRouter(router, named(), flags_from="last_message", with_decision=True)
    text = f"{kit.code} {FLAG}"
    system = SystemMessage(f"Say nothing of {FLAG}.")
    blocks = [{"type": "text", "text": text}, {"type": "image_url", "image_url": {"url": "u"}}]
    state = {
        "string": text,
        "messages": [system, HumanMessage(text, id="7")],
        "prompt": ChatPromptTemplate.from_messages([system, ("human", "{t}")]).invoke({"t": text}),
        "blocks": [system, HumanMessage(blocks)],
    }[kind]
    before = repr(state)
    received = []
    experts = dict.fromkeys(NAMES, RunnableLambda(received.append))
    decision = TryageRouter(router, experts, flags_from="last_message", with_decision=True).invoke(
        state
    )["decision"]
    assert runnable.invoke(state)["output"].startswith("writer")
    assert decision.expert == "writer"
    assert decision.weights == {"size": 2.0}
    assert repr(state) == before
    (sent,) = received
    if kind == "string":
        assert sent == kit.code
        return
    messages = sent.to_messages() if kind == "prompt" else sent
    assert messages[0].content == system.content
    assert messages[1].text == kit.code
    assert kind != "messages" or messages[1].id == "7"
    assert kind != "blocks" or messages[1].content[1] == blocks[1]


def test_flags_of_earlier_turns_reach_no_expert(router, kit):
    sent = []
    experts = dict.fromkeys(NAMES, RunnableLambda(sent.append))
    runnable = TryageRouter(router, experts, flags_from="last_message", with_decision=True)
    system, answer = SystemMessage(f"Say nothing of {FLAG}."), AIMessage(f"I read {FLAG}.")
    messages = [system, HumanMessage(f"Hello {FLAG}"), answer, HumanMessage(kit.code)]
    assert runnable.invoke(messages)["decision"].weights == {}
    prompt = ChatPromptTemplate.from_messages(messages).invoke({})
    assert runnable.invoke(prompt)["decision"].weights == {}
    expected = [system.content, "Hello", answer.content, kit.code]
    assert [message.content for message in sent[0]] == expected
    assert [message.content for message in sent[1].to_messages()] == expected
    assert messages[1].content == f"Hello {FLAG}"


def test_a_flag_stands_in_one_block(router, kit):
    texts = [f"{kit.code} [Flag: size", "=2]", f"{FLAG} z"]
    blocks = [{"type": "text", "text": text} for text in texts]
    sent = []
    experts = dict.fromkeys(NAMES, RunnableLambda(sent.append))
    runnable = TryageRouter(router, experts, flags_from="last_message", with_decision=True)
    assert runnable.invoke([HumanMessage(blocks[:2])])["decision"].weights == {}
    assert sent[0][0].content == blocks[:2]
    assert runnable.invoke([HumanMessage(blocks)])["decision"].weights == {"size": 2.0}
    assert [block["text"] for block in sent[1][0].content] == [*texts[:2], "z"]


def test_flags_are_stripped_exactly_once(router, kit):
    code = kit.code.strip()
    runnable = TryageRouter(router, named(), flags_from="last_message")
    sent = runnable.invoke(f"{code} {FLAG} and keep [MARK] [Flag")
    assert sent == f"writer: {code} and keep [MARK] [Flag"


RAG = ChatPromptTemplate.from_template("Context: {context}\n\nQuestion: {question}")


def test_an_injected_flag_in_a_document_does_not_act(router, kit):
    document = f"Old text. {FLAG}"
    values = {"context": document, "question": kit.code}
    expected = RAG.invoke(values)
    sent = []
    experts = dict.fromkeys(NAMES, RunnableLambda(sent.append))
    off = TryageRouter(router, experts, with_decision=True)
    decision = (RAG | off).invoke(values)["decision"]
    assert (decision.weights, decision.flags) == ({}, ())
    keyed = TryageRouter(router, experts, flags_from="question", with_decision=True)
    decision = keyed.invoke(values)["decision"]
    assert (decision.expert, decision.weights) == ("coder", {})
    assert sent == [expected, values]


def test_flags_from_a_key(router, kit):
    sent = []
    experts = {name: RunnableLambda(sent.append) for name in NAMES}
    runnable = TryageRouter(router, experts, flags_from="question", with_decision=True)
    values = {"context": f"Doc {FLAG}", "question": f"{FLAG} {kit.code}"}
    assert runnable.invoke(values)["decision"].expert == "writer"
    assert sent == [{"context": f"Doc {FLAG}", "question": kit.code}]
    assert values["question"].startswith(FLAG)


def test_flags_from_a_function(router, kit):
    sent = []
    experts = {name: RunnableLambda(sent.append) for name in NAMES}
    question = f"{FLAG} {kit.code}"

    def users_text(prompt):
        return prompt.to_messages()[-1].text.partition("Question: ")[2]

    runnable = TryageRouter(router, experts, flags_from=users_text, with_decision=True)
    rag_prompt = RAG.invoke({"context": f"Doc {question}", "question": question})
    decision = runnable.invoke(rag_prompt)["decision"]
    assert (decision.expert, decision.prompt) == ("writer", kit.code)
    expected = f"Context: Doc {question}\n\nQuestion: {kit.code}"
    assert sent[0].to_messages()[0].content == expected


def test_flags_from_a_function_of_a_nested_input(router, kit):
    sent = []
    experts = {name: RunnableLambda(sent.append) for name in NAMES}
    runnable = TryageRouter(router, experts, flags_from=lambda values: values["user"][0]["said"])
    runnable.invoke({"user": ({"said": f"{kit.code} {FLAG}"},), "other": [HumanMessage("hi")]})
    assert sent == [{"user": ({"said": kit.code},), "other": [HumanMessage("hi")]}]


def test_a_function_that_makes_text_up_is_told_so(router, kit):
    runnable = TryageRouter(router, named(), flags_from=lambda text: f"{text.upper()} {FLAG}")
    with pytest.raises(PromptError, match="word for word"):
        runnable.invoke(kit.prose)
    runnable = TryageRouter(router, named(), flags_from=lambda text: text["absent"])
    with pytest.raises(PromptError, match="KeyError: 'absent'"):
        runnable.invoke({"text": kit.prose})
    runnable = TryageRouter(router, named(), flags_from=lambda text: 7)
    with pytest.raises(PromptError, match="returned int"):
        runnable.invoke(kit.prose)


def test_unknown_flags_warn_unless_the_policy_says_error(router, kit):
    text = f"{kit.code} [Flag: shiniest model]"
    with pytest.warns(TryageWarning, match="shiniest"):
        sent = TryageRouter(router, named(), flags_from="last_message").invoke(text)
    assert sent == f"coder: {kit.code}"
    strict = Policy(unknown_flags="error")
    with pytest.raises(FlagError, match="shiniest"):
        TryageRouter(router, named(), flags_from="last_message", policy=strict).invoke(text)


def test_dicts_need_a_key(router, kit):
    values = {"text": kit.prose, "other": "x"}
    with pytest.raises(PromptError, match="key= which text to route: 'text', 'other'"):
        TryageRouter(router, named()).invoke(values)
    assert TryageRouter(router, named(), key="text").invoke(values).startswith("writer")
    with pytest.raises(PromptError, match=r"no key 'texts'\. Did you mean 'text'"):
        TryageRouter(router, named(), key="texts").invoke(values)
    with pytest.raises(PromptError, match="needs a dict, found str"):
        TryageRouter(router, named(), key="text").invoke(kit.prose)
    with pytest.raises(PromptError, match="cannot see the text of int"):
        TryageRouter(router, named()).invoke(7)
    with pytest.raises(PromptError, match="list of messages is empty"):
        TryageRouter(router, named()).invoke([])
    with pytest.raises(ValueError, match="name two texts"):
        TryageRouter(router, named(), key="text", flags_from="question")


def test_the_last_human_message_is_routed(router, kit):
    runnable = TryageRouter(router, named(), with_decision=True)
    history = [HumanMessage(kit.prose), AIMessage(kit.prose), HumanMessage(kit.code)]
    assert runnable.invoke(history)["decision"].expert == "coder"
    assert runnable.invoke([*history, AIMessage(kit.prose)])["decision"].expert == "coder"
    assert runnable.invoke(HumanMessage(kit.prose))["decision"].expert == "writer"
    assert runnable.invoke([("human", kit.prose)])["decision"].expert == "writer"
    assert runnable.invoke([SystemMessage(kit.code)])["decision"].expert == "coder"
    prompt = PromptTemplate.from_template("{text}").invoke({"text": kit.code})
    assert runnable.invoke(prompt)["decision"].expert == "coder"


def test_goals_limits_and_policy(router, kit):
    assert (
        TryageRouter(router, named(), goals=Goals(size=2.0)).invoke(kit.code).startswith("writer")
    )
    policy = Policy(limits={"parameters": "<=10B"})
    bounded = TryageRouter(router, named(coder=ValueError()), policy=policy)
    assert bounded.invoke(kit.code).startswith("writer")
    nobody = TryageRouter(router, named(), goals=Goals(limits={"parameters": "<=1M"}))
    with pytest.raises(NoEligibleExpertError, match="giant"):
        nobody.invoke(kit.code)


def test_goals_can_be_configured(router, kit):
    runnable = TryageRouter(router, named()).configurable_fields(goals=ConfigurableField("goals"))
    assert runnable.invoke(kit.code).startswith("coder")
    config = {"configurable": {"goals": Goals(size=2.0)}}
    assert runnable.invoke(kit.code, config).startswith("writer")


def test_experts_are_checked_at_construction(router):
    with pytest.raises(LibraryError, match=r"no expert 'codr'\. Did you mean 'coder'"):
        TryageRouter(router, {"codr": str.upper})
    with pytest.raises(LibraryError, match="two callables"):
        TryageRouter(router, {"a": str, "coder": str}, aliases={"a": "coder"})
    with pytest.raises(LibraryError, match="aliases name 'b'"):
        TryageRouter(router, {"coder": str}, aliases={"b": "coder"})
    with pytest.raises(TypeError, match="expert 'coder' is of type int; it must be a runnable"):
        TryageRouter(router, {"coder": 7})
    with pytest.raises(TypeError, match=r"'alias'\. Did you mean 'aliases'"):
        TryageRouter(router, {"coder": str}, alias={})
    with pytest.raises(RouterNotFoundError):
        TryageRouter("no/such/folder", {"coder": str})
    with pytest.raises(ValueError, match="max_attempts is 0"):
        TryageRouter(router, {"coder": str}, max_attempts=0)


def test_aliases_and_experts_without_a_callable(router, kit):
    runnable = TryageRouter(
        router, {"local": str.upper}, aliases={"local": "writer"}, with_decision=True
    )
    output = runnable.invoke(kit.code)
    assert output["output"] == kit.code.upper()
    assert output["decision"].expert == "writer"
    assert output["decision"].reasons["coder"] == "no callable was given for it"


def test_a_folder_is_loaded_at_first_use(router, kit, tmp_path):
    router.save_pretrained(tmp_path / "r")
    runnable = TryageRouter(tmp_path / "r", named())
    assert runnable.invoke(kit.code).startswith("coder")
    assert TryageRouter(str(tmp_path / "r"), named()).load().library.names == NAMES
    wrong = TryageRouter(tmp_path / "r", {"codr": str.upper})
    with pytest.raises(LibraryError, match="codr"):
        wrong.load()


def test_the_graph_shows_the_experts_as_branches(router):
    runnable = PromptTemplate.from_template("{x}") | TryageRouter(router, named()) | str.strip
    drawn = runnable.get_graph().draw_mermaid()
    for name in NAMES:
        assert f"&nbsp;{name}&nbsp;" in drawn
    through = TryageRouter(router, {"coder": RunnablePassthrough()}).get_graph()
    assert [edge.data for edge in through.edges if edge.conditional] == ["coder"]


def test_schemas_and_config_specs_are_the_experts(router):
    def length(text: str) -> int:
        return len(text)

    runnable = TryageRouter(router, {"coder": length})
    assert runnable.get_input_schema().model_json_schema()["type"] == "string"
    assert runnable.get_output_schema().model_json_schema()["type"] == "integer"
    runnable = TryageRouter(router, {"coder": length}, with_decision=True)
    assert runnable.get_output_schema().model_json_schema()["type"] == "object"
    prompt = PromptTemplate.from_template("{x}").configurable_fields(
        template=ConfigurableField("template")
    )
    runnable = TryageRouter(router, {"coder": prompt, "writer": length})
    assert [spec.id for spec in runnable.config_specs] == ["template", "tryage_goals"]


def test_repr_holds_names_only(router, kit):
    runnable = TryageRouter(router, kit.experts())
    assert "coder" in repr(runnable)
    assert "Streaming" not in repr(runnable)


def test_fifty_threads(router, kit):
    runnable = TryageRouter(router, named())
    barrier = threading.Barrier(50)
    outputs = [None] * 50

    def work(number):
        barrier.wait()
        outputs[number] = runnable.invoke(kit.code if number % 2 else kit.prose)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [o.partition(":")[0] for o in outputs] == ["writer", "coder"] * 25


async def test_experts_left_out_run_the_library_s_own_pipelines(tiny_router, tiny_texts):
    chain = ChatPromptTemplate.from_template("{text}") | TryageRouter(tiny_router)
    message = chain.invoke({"text": "The quiet river follows"})
    assert message.response_metadata["tryage"]["expert"] == "prose-gpt"
    assert message.usage_metadata["output_tokens"] > 0
    filled = await chain.ainvoke({"text": "The quiet [MASK] follows the garden."})
    assert filled.response_metadata["tryage"]["expert"] == "prose-bert"
    assert "[MASK]" not in filled.content
    assert filled.content.startswith("The quiet ")
    pieces = list((chain | StrOutputParser()).stream({"text": tiny_texts["code"][0][:20]}))
    assert "".join(pieces)


async def test_an_empty_stream_of_a_runnable_is_its_output(router, kit):
    def nothing(input):
        yield from ()

    async def anothing(input):
        return
        yield

    experts = {name: RunnableGenerator(nothing, anothing) for name in ("coder", "writer")}
    silent = TryageRouter(router, experts)
    assert list(silent.stream(kit.code)) == [c async for c in silent.astream(kit.code)] == []
    telling = TryageRouter(router, experts, with_decision=True)
    for chunks in (list(telling.stream(kit.code)), [c async for c in telling.astream(kit.code)]):
        (chunk,) = chunks
        assert list(chunk) == ["decision"]
        assert chunk["decision"].answered_by == "coder"
        assert [attempt.error for attempt in chunk["decision"].tried] == [None]
