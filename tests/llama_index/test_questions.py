"""In a query engine, an LLM routes as it does on the bare question."""

import importlib.util
from pathlib import Path

import pytest
from llama_index.core import Document, MockEmbedding, VectorStoreIndex
from llama_index.core.llms import MockLLM

from llama_index_tryage import TryageLLM

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
