"""In a chain, a chat model routes as it does on the bare question."""

import importlib.util
from pathlib import Path

import pytest
from langchain_core.language_models import FakeListChatModel
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnablePassthrough

from langchain_tryage import ChatTryage, TryageRouter
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


def test_a_function_finds_the_question(setting):
    router, experts, held_out = setting
    model = ChatTryage(
        router, experts, text_from=lambda messages: messages[-1].text.rpartition("Question: ")[2]
    )
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
