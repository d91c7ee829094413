"""The selectors in LlamaIndex's router engines and retrievers: real indices over real text."""

import asyncio

import pytest
from llama_index.core import SummaryIndex, VectorStoreIndex
from llama_index.core.llms import MockLLM
from llama_index.core.objects import ObjectIndex
from llama_index.core.query_engine import (
    CustomQueryEngine,
    RouterQueryEngine,
    ToolRetrieverRouterQueryEngine,
)
from llama_index.core.retrievers import RouterRetriever
from llama_index.core.tools import QueryEngineTool, RetrieverTool, ToolMetadata

from llama_index_tryage import TryageLLM, TryageMultiSelector, TryageSelector

NAMES = ("giant", "writer", "coder")
ABOUT = {
    "heaps": "Heaps, priority queues and sorting of items",
    "money": "Decimal arithmetic: exact numbers, rounding and precision",
    "dates": "Dates, times, differences of times and time zones",
}
QUESTIONS = {
    "heaps": "How does a heap keep the smallest item first?",
    "money": "How is a decimal number rounded?",
    "dates": "What is the difference between two dates?",
}


@pytest.fixture(scope="module")
def indices(shelves, kit):
    embedding = kit.Embedding()
    return {
        subject: VectorStoreIndex.from_documents([text], embed_model=embedding)
        for subject, text in shelves.items()
    }


@pytest.fixture
def llm(router, kit):
    return TryageLLM(router, kit.experts())


def query_tools(indices, llm, names):
    return [
        QueryEngineTool.from_defaults(
            index.as_query_engine(llm=llm, similarity_top_k=1),
            name=name,
            description=ABOUT[subject],
        )
        for (subject, index), name in zip(indices.items(), names, strict=True)
    ]


def retriever_tools(indices, names):
    return [
        RetrieverTool.from_defaults(
            index.as_retriever(similarity_top_k=1), name=name, description=ABOUT[subject]
        )
        for (subject, index), name in zip(indices.items(), names, strict=True)
    ]


async def test_a_query_engine_for_each_expert(router, kit, indices, llm):
    tools = query_tools(indices, llm, NAMES)
    engine = RouterQueryEngine(TryageSelector(router), tools, llm=llm)
    for text, place in ((kit.code, 2), (kit.prose, 1)):
        for response in (engine.query(text), await engine.aquery(text)):
            result = response.metadata["selector_result"]
            assert result.ind == place
            assert result.decision["expert"] == NAMES[place]
            assert " says " in str(response)
            assert response.source_nodes


async def test_query_engines_by_description(router, indices, llm, shelves):
    tools = query_tools(indices, llm, ["query_engine_tool"] * 3)
    engine = RouterQueryEngine.from_defaults(tools, llm=llm, selector=TryageSelector(router))
    for place, (subject, question) in enumerate(QUESTIONS.items()):
        for response in (engine.query(question), await engine.aquery(question)):
            assert response.metadata["selector_result"].ind == place
            passage = response.source_nodes[0].node.get_content()
            assert passage[:200] in shelves[subject].text
            assert question in str(response)


async def test_several_query_engines_are_summarised(router, kit, indices, llm):
    tools = query_tools(indices, llm, NAMES)
    engine = RouterQueryEngine(TryageMultiSelector(router, margin=0.2), tools, llm=llm)
    for response in (engine.query(kit.code), await engine.aquery(kit.code)):
        assert response.metadata["selector_result"].inds == [2, 0]
        assert len(response.source_nodes) == 2
        assert " says " in str(response)


async def test_a_query_engine_and_a_summary_of_one_document(router, shelves, kit, llm):
    summary = SummaryIndex.from_documents([shelves["money"]])
    index = VectorStoreIndex.from_documents([shelves["money"]], embed_model=kit.Embedding())
    tools = [
        QueryEngineTool.from_defaults(
            summary.as_query_engine(llm=llm, response_mode="tree_summarize"),
            description="Useful to summarize the whole document",
        ),
        QueryEngineTool.from_defaults(
            index.as_query_engine(llm=llm),
            description="Useful to look up how a function rounds a number",
        ),
    ]
    engine = RouterQueryEngine(TryageSelector(router), tools, llm=llm)
    questions = ("Summarize the document", "Which function rounds a number half up?")
    for place, question in enumerate(questions):
        assert engine.query(question).metadata["selector_result"].ind == place
        assert (await engine.aquery(question)).metadata["selector_result"].ind == place


async def test_streaming_query_engines(router, kit, indices, llm):
    tools = [
        QueryEngineTool.from_defaults(
            index.as_query_engine(llm=llm, streaming=True), name=name, description="An engine."
        )
        for index, name in zip(indices.values(), NAMES, strict=True)
    ]
    engine = RouterQueryEngine(TryageSelector(router), tools, llm=llm)
    assert " says " in "".join(engine.query(kit.code).response_gen)
    response = await engine.aquery(kit.code)
    assert " says " in "".join([piece async for piece in response.response_gen])


async def test_retrievers(router, kit, indices, shelves):
    retriever = RouterRetriever(
        TryageSelector(router), retriever_tools(indices, NAMES), llm=MockLLM()
    )
    for nodes in (retriever.retrieve(kit.prose), await retriever.aretrieve(kit.prose)):
        (node,) = nodes
        assert node.node.get_content()[:200] in shelves["money"].text
    by_description = RouterRetriever.from_defaults(
        retriever_tools(indices, ["retriever_tool"] * 3),
        llm=MockLLM(),
        selector=TryageSelector(router),
    )
    for subject, question in QUESTIONS.items():
        for nodes in (
            by_description.retrieve(question),
            await by_description.aretrieve(question),
        ):
            assert nodes[0].node.get_content()[:200] in shelves[subject].text
    several = RouterRetriever(
        TryageMultiSelector(router, top_k=3, margin=1),
        retriever_tools(indices, NAMES),
        llm=MockLLM(),
    )
    for nodes in (several.retrieve(kit.code), await several.aretrieve(kit.code)):
        assert len(nodes) == 3


# What LlamaIndex's own tests of selectors and router engines ask of any selector.

FRUIT = ["apple", "pear", "peach"]


class Silent(MockLLM):
    """An LLM that must not be asked: a selector of Tryage needs none."""

    def complete(self, *args, **kwargs):
        raise AssertionError("the selector asked an LLM")


def test_a_single_selector_picks_one_of_plain_strings(router, settings):
    settings.llm = Silent()
    result = TryageSelector(router).select(choices=FRUIT, query="what is the best fruit?")
    assert result.ind in range(3)
    assert result.inds == [result.ind]
    assert result.reasons == [result.reason] != [""]


def test_a_multi_selector_picks_all_or_at_most_some(router, settings):
    settings.llm = Silent()
    query = "what is the best fruit?"
    every = TryageMultiSelector(router, top_k=3, margin=2).select(FRUIT, query)
    assert sorted(every.inds) == [0, 1, 2]
    with pytest.raises(ValueError, match=r"use \.inds"):
        _ = every.ind
    some = TryageMultiSelector(router, top_k=2, margin=2).select(FRUIT, query)
    assert some.inds == every.inds[:2]


async def test_an_async_selection_is_counted_from_zero_as_well(router):
    for selector in (TryageSelector(router), TryageMultiSelector(router, top_k=1)):
        result = await selector.aselect(["apples", "writing of Python code"], "Python code")
        assert result.inds == [1]


def test_a_selector_has_no_prompts_to_change(router, indices, llm):
    engine = RouterQueryEngine(TryageSelector(router), query_tools(indices, llm, NAMES), llm=llm)
    prompts = engine.get_prompts()
    assert all(name.startswith("summarizer") for name in prompts)
    engine.update_prompts(prompts)


class Meeting(CustomQueryEngine):
    """A query engine that answers once another one has been asked too."""

    name: str
    barrier: asyncio.Barrier

    def custom_query(self, query_str):
        raise AssertionError("the asynchronous way was not taken")

    async def acustom_query(self, query_str):
        await self.barrier.wait()
        return f"{self.name} answers"


class Joining:
    """A summarizer that joins what it is given."""

    async def aget_response(self, query_str, text_chunks, **kwargs):
        return " and ".join(text_chunks)


async def test_engines_of_a_multi_selection_run_side_by_side(router, kit):
    barrier = asyncio.Barrier(2)
    tools = [
        QueryEngineTool.from_defaults(
            Meeting(name=name, barrier=barrier), name=name, description="An engine."
        )
        for name in NAMES
    ]
    engine = RouterQueryEngine(
        TryageMultiSelector(router, margin=0.2), tools, llm=MockLLM(), summarizer=Joining()
    )
    assert str(await engine.aquery(kit.code)) == "coder answers and giant answers"


async def test_tools_that_were_retrieved_first(router, kit, indices, llm):
    tools = query_tools(indices, llm, NAMES)
    objects = ObjectIndex.from_objects(
        tools, index_cls=VectorStoreIndex, embed_model=kit.Embedding()
    )
    engine = ToolRetrieverRouterQueryEngine(objects.as_retriever(similarity_top_k=1), llm=llm)
    assert QUESTIONS["dates"] in str(engine.query(QUESTIONS["dates"]))
    assert QUESTIONS["dates"] in str(await engine.aquery(QUESTIONS["dates"]))


def test_metadata_without_a_name_is_a_choice(router):
    choices = [ToolMetadata(description="about rivers"), "about programming in Python"]
    assert TryageSelector(router).select(choices, "programming in Python").ind == 1
