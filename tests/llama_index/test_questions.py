"""In a query engine, an LLM routes as it does on the bare question."""

import importlib.util
from pathlib import Path

import pytest
from llama_index.core import Document, MockEmbedding, VectorStoreIndex
from llama_index.core.llms import ChatMessage, MockLLM

from llama_index_tryage import TryageFlags, TryageLLM

_spec = importlib.util.spec_from_file_location("chains", Path(__file__).parents[1] / "chains.py")
chains = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(chains)

TEXT = "The harbour was built in 1840. Ferries leave at nine; a ticket costs 12 euros."


@pytest.fixture(scope="module")
def setting():
    router, held_out = chains.fitted()
    return router, {name: MockLLM() for name in router.library.names}, held_out


def engine(llm):
    documents = [Document(text=TEXT)]
    index = VectorStoreIndex.from_documents(documents, embed_model=MockEmbedding(embed_dim=8))
    return index.as_query_engine(llm=llm, similarity_top_k=1)


def right(ask, heard, held_out):
    count = 0
    for question, kind in held_out:
        heard.clear()
        ask(question)
        decisions = [e.decision for e in heard if type(e).__name__ == "TryageDecisionEvent"]
        count += decisions[-1]["expert"] == chains.RIGHT[kind]
    return count


def test_a_query_engine_changes_no_choice(setting, heard):
    router, experts, held_out = setting
    llm = TryageLLM(router, experts)
    assert right(llm.complete, heard, held_out) == len(held_out)
    assert right(engine(llm).query, heard, held_out) == len(held_out)
    assert right(TryageFlags(engine(llm)).query, heard, held_out) == len(held_out)


TEMPLATE = "Context information is below.\n-----\n{c}\n-----\nAnswer it.\nQuery: {q}\nAnswer: "


async def test_the_record_is_true_in_every_way_of_calling(setting):
    router, experts, held_out = setting
    llm = TryageLLM(router, experts)
    for number, (question, _) in enumerate(held_out[:3]):
        prompt = TEMPLATE.format(c=TEXT * (number + 1), q=question)
        messages = [ChatMessage("Hello."), ChatMessage(prompt)]
        last = [
            list(llm.stream_complete(prompt))[-1],
            list(llm.stream_chat(messages))[-1],
            [chunk async for chunk in await llm.astream_complete(prompt)][-1],
            [chunk async for chunk in await llm.astream_chat(messages)][-1],
        ]
        answers = [
            llm.complete(prompt),
            llm.chat(messages),
            await llm.acomplete(prompt),
            await llm.achat(messages),
            *last,
        ]
        for answer in answers:
            record = answer.additional_kwargs["tryage"]
            start, end = record["question"]
            assert prompt[start:end] == question
            assert question not in repr(record)
    assert "question" not in llm.complete(held_out[0][0]).additional_kwargs["tryage"]


def test_the_offsets_are_those_of_what_the_expert_gets(setting):
    """Flags are taken off before, so they move the question."""
    router, experts, held_out = setting
    question = held_out[0][0]
    prompt = TEMPLATE.format(c=f"{TEXT} [Flag: newest]", q=question)
    response = TryageLLM(router, experts, flags_from="last_message").complete(prompt)
    record = response.additional_kwargs["tryage"]
    start, end = record["question"]
    assert record["flags"]
    assert "[Flag" not in response.text  # the expert repeats what it gets
    assert response.text[start:end] == question


def test_the_event_says_which_part_decided(setting, heard):
    router, experts, held_out = setting
    question = held_out[0][0]
    prompt = TEMPLATE.format(c=TEXT, q=question)
    TryageLLM(router, experts).complete(prompt)
    [event] = [e for e in heard if type(e).__name__ == "TryageDecisionEvent"]
    start, end = event.decision["question"]
    assert prompt[start:end] == question


def test_a_function_finds_the_question(setting, heard):
    router, experts, held_out = setting

    def question(prompt):
        text = prompt if isinstance(prompt, str) else prompt[-1].content
        return text.rpartition("Query: ")[2].partition("\n")[0]

    llm = TryageLLM(router, experts, text_from=question)
    assert right(engine(llm).query, heard, held_out) == len(held_out)


def test_what_is_no_function_is_refused(setting):
    router, experts, _ = setting
    with pytest.raises(TypeError, match="text_from is 'last'; it is a function"):
        TryageLLM(router, experts, text_from="last")
