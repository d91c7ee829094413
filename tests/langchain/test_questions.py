"""In a chain, a chat model routes as it does on the bare question."""

import importlib.util
from pathlib import Path

import pytest
from langchain.agents import create_agent
from langchain_core.language_models import FakeListChatModel, FakeListLLM
from langchain_core.messages import HumanMessage
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda, RunnablePassthrough

from langchain_tryage import ChatTryage, TryageLLM, TryageMiddleware, TryageRouter, TryageSelector
from tryage.errors import PromptError, TryageWarning

_spec = importlib.util.spec_from_file_location("chains", Path(__file__).parents[1] / "chains.py")
chains = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(chains)

CONTEXT = "The harbour was built in 1840. Ferries leave at nine; a ticket costs 12 euros."
RAG = ChatPromptTemplate.from_messages(
    [
        ("system", "Answer from the context."),
        ("human", "Context:\n{context}\n\nQuestion: {question}"),
    ]
)


@pytest.fixture(scope="module")
def setting():
    router, held_out = chains.fitted()
    return router, {n: FakeListChatModel(responses=[n]) for n in router.library.names}, held_out


def right(runnable, held_out):
    chosen = [(runnable.invoke(q).response_metadata["tryage"], kind) for q, kind in held_out]
    return sum(record["expert"] == chains.RIGHT[kind] for record, kind in chosen)


def rag(model):
    return {"context": lambda _: CONTEXT, "question": RunnablePassthrough()} | RAG | model


@pytest.mark.parametrize("kind", [ChatTryage, TryageRouter])
def test_a_template_changes_no_choice(setting, kind):
    router, experts, held_out = setting
    model = kind(router, experts)
    bare = right(model, held_out)
    assert bare == len(held_out)
    assert right(rag(model), held_out) == bare


def test_the_record_says_which_part_decided(setting):
    router, experts, held_out = setting
    question = held_out[0][0]
    message = rag(ChatTryage(router, experts)).invoke(question)
    record = message.response_metadata["tryage"]
    start, end = record["question"]
    assert f"Context:\n{CONTEXT}\n\nQuestion: {question}"[start:end] == question
    assert record["out_of_distribution"] is False
    assert question not in repr(record)


FLAGGED = f"Context:\n{CONTEXT} [Flag: newest]\n\nQuestion: "


def deciding_part(record, routed):
    """Return the part of a text that a record says has decided."""
    start, end = record["question"]
    return routed[start:end]


async def test_the_record_is_true_in_every_way_of_calling(setting):
    """In batches too, where each prompt has a part of its own, and some none."""
    router, experts, held_out = setting
    questions = [question for question, _ in held_out[:3]]
    routed = [f"Context:\n{CONTEXT}\n\nQuestion: {question}" for question in questions]
    chain = rag(ChatTryage(router, experts))
    stream = [chunk for chunk in chain.stream(questions[2]) if chunk.response_metadata]
    async_stream = [c async for c in chain.astream(questions[2]) if c.response_metadata]
    ways = [
        [chain.invoke(question) for question in questions],
        [await chain.ainvoke(question) for question in questions],
        chain.batch(questions),
        await chain.abatch(questions),
    ]
    for messages in ways:
        records = [message.response_metadata["tryage"] for message in messages]
        parts = [deciding_part(*pair) for pair in zip(records, routed, strict=True)]
        assert parts == questions
    for chunks in (stream, async_stream):
        [record] = [
            c.response_metadata["tryage"] for c in chunks if "tryage" in c.response_metadata
        ]
        assert deciding_part(record, routed[2]) == questions[2]
    mixed = ChatTryage(router, experts).batch([questions[0], routed[1]])
    records = [message.response_metadata["tryage"] for message in mixed]
    assert "question" not in records[0]
    assert deciding_part(records[1], routed[1]) == questions[1]


def test_a_decision_explains_which_part_decided(setting):
    router, experts, held_out = setting
    question = held_out[0][0]
    answers = rag(TryageRouter(router, experts, with_decision=True)).batch([question, question])
    for answer in answers:
        decision = answer["decision"]
        start, end = decision.question
        assert decision.prompt[start:end] == question
        assert f"Routed by characters {start} to {end} of the prompt" in decision.explain()
        assert question not in decision.explain()
    [bare] = TryageSelector(router).batch([question])
    assert bare.question is None
    assert "Routed by characters" not in bare.explain()


def test_the_offsets_are_those_of_what_the_expert_gets(setting):
    """Flags are taken off before, so they move the question."""
    router, _, held_out = setting
    question = held_out[0][0]
    sent = []

    def keep(messages):
        sent.append(messages[-1].text)
        return "kept"

    experts = dict.fromkeys(router.library.names, RunnableLambda(keep))
    routed = TryageRouter(router, experts, with_decision=True, flags_from="last_message")
    decision = routed.invoke([HumanMessage(f"{FLAGGED}{question}")])["decision"]
    assert decision.flags
    assert "[Flag" not in sent[0]
    assert deciding_part(decision.to_dict(), sent[0]) == question


def test_text_models_and_agents_say_which_part_decided(setting):
    router, experts, held_out = setting
    question = held_out[0][0]
    prompt = f"Context:\n{CONTEXT}\n\nQuestion: {question}"
    texts = {name: FakeListLLM(responses=[name]) for name in router.library.names}
    results = TryageLLM(router, texts).generate([prompt, question]).generations
    records = [generations[0].generation_info["tryage"] for generations in results]
    assert deciding_part(records[0], prompt) == question
    assert "question" not in records[1]
    agent = create_agent(experts["calc"], [], middleware=[TryageMiddleware(router, experts)])
    state = agent.invoke({"messages": [("human", prompt)]})
    assert deciding_part(state["tryage"], prompt) == question


@pytest.mark.parametrize("argument", ["text_from", "flags_from"])
def test_a_function_finds_the_question(setting, argument):
    router, experts, held_out = setting
    options = {argument: lambda messages: messages[-1].text.rpartition("Question: ")[2]}
    model = ChatTryage(router, experts, **options)
    assert right(rag(model), held_out) == len(held_out)
    record = rag(model).invoke(held_out[0][0]).response_metadata["tryage"]
    assert "question" not in record


def test_a_function_that_fails_is_named(setting):
    router, experts, _ = setting
    model = ChatTryage(router, experts, text_from=lambda messages: messages[7].text)
    with pytest.raises(PromptError, match="text_from could not read"):
        model.invoke("Spell it.")


def test_two_sources_of_the_routed_text_are_refused(setting):
    router, experts, _ = setting
    with pytest.raises(ValueError, match="give that function as flags_from"):
        ChatTryage(router, experts, text_from=str, flags_from="last_message")


def test_mostly_strange_prompts_are_warned_of_once(setting):
    router, experts, _ = setting
    model = ChatTryage(router, experts)
    strange = "Lorem ipsum dolor sit amet consectetur adipiscing elit sed do eiusmod"
    prompts = [f"{strange} {number}" for number in range(99)]
    model.batch(prompts)  # too few to tell
    with pytest.warns(TryageWarning, match="100 of the last 100 prompts are unlike"):
        model.invoke(strange)
    model.batch(prompts)  # a second warning would be an error here
