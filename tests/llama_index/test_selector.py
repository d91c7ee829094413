"""`TryageSelector`: tools are experts by name, description or place; in router engines, offline."""

import pytest
from llama_index.core import QueryBundle
from llama_index.core.llms import MockLLM
from llama_index.core.query_engine import CustomQueryEngine, RouterQueryEngine
from llama_index.core.retrievers import BaseRetriever, RouterRetriever
from llama_index.core.schema import NodeWithScore, TextNode
from llama_index.core.tools import QueryEngineTool, RetrieverTool, ToolMetadata

from llama_index_tryage import TryageSelector
from tryage import Goals, Policy, TryageWarning
from tryage.errors import (
    LibraryError,
    NoEligibleExpertError,
    PromptError,
    RouterNotFoundError,
)

FLAG = "[Flag: size=2]"
NAMES = ("giant", "writer", "coder")
TOOLS = [ToolMetadata(name=name, description=f"Answers as {name}.") for name in NAMES]


async def test_picks_the_tool_of_the_chosen_expert(router, kit):
    selector = TryageSelector(router)
    for text, name in ((kit.code, "coder"), (kit.prose, "writer")):
        for result in (selector.select(TOOLS, text), await selector.aselect(TOOLS, text)):
            assert result.ind == NAMES.index(name)
            assert name in result.reason
            assert "predicted loss" in result.reason


def test_only_experts_with_a_tool_are_eligible(router, kit):
    result = TryageSelector(router).select(TOOLS[:2], kit.code)
    assert NAMES[result.ind] == "giant"


def test_tools_are_experts_by_name_description_or_place(router, kit):
    selector = TryageSelector(router)
    assert selector.select(["writer", "coder"], kit.code).ind == 1
    odd = [ToolMetadata(name="tool", description=name) for name in NAMES]
    assert selector.select(odd, kit.code).ind == 2
    unnamed = ["about anything", "about code"]
    by_place = TryageSelector(router, experts=["writer", "coder"])
    assert by_place.select(unnamed, kit.code).ind == 1
    aliased = TryageSelector(router, aliases={"about code": "coder", "about anything": "giant"})
    assert aliased.select(unnamed, kit.code).ind == 1


def test_choices_that_are_no_experts(router, kit):
    selector = TryageSelector(router)
    with pytest.raises(LibraryError, match=r"choice 1, 'codr'.* Did you mean 'coder'\?"):
        selector.select(["writer", "codr"], kit.code)
    with pytest.raises(LibraryError, match="choices 0 and 1 are both 'coder'"):
        selector.select(["coder", "coder"], kit.code)
    with pytest.raises(LibraryError, match="no choices"):
        selector.select([], kit.code)
    with pytest.raises(LibraryError, match="names 1, but there are 2 choices"):
        TryageSelector(router, experts=["coder"]).select(["a", "b"], kit.code)
    with pytest.raises(LibraryError, match=r"'codr'\. Did you mean"):
        TryageSelector(router, experts=["codr"]).select(["a"], kit.code)
    with pytest.raises(PromptError):
        selector.select(TOOLS, "  ")


def test_flags_act_only_where_the_query_is_the_user_s_own(router, kit):
    text = f"{kit.code} {FLAG}"
    assert NAMES[TryageSelector(router).select(TOOLS, text).ind] == "coder"
    own = TryageSelector(router, flags_from="last_message")
    query = QueryBundle(text)
    assert NAMES[own.select(TOOLS, query).ind] == "writer"
    assert query.query_str == text
    read = TryageSelector(router, flags_from=lambda bundle: bundle.custom_embedding_strs[0])
    given = QueryBundle("rewritten", custom_embedding_strs=[text])
    assert NAMES[read.select(TOOLS, given).ind] == "writer"
    with pytest.warns(TryageWarning, match="shiniest"):
        own.select(TOOLS, f"{kit.code} [Flag: shiniest]")
    with pytest.raises(ValueError, match="no such key"):
        TryageSelector(router, flags_from="question")


def test_goals_and_policy(router, kit):
    assert NAMES[TryageSelector(router, goals=Goals(size=2)).select(TOOLS, kit.code).ind] == (
        "writer"
    )
    policy = Policy(limits={"parameters": "<=1M"})
    with pytest.raises(NoEligibleExpertError):
        TryageSelector(router, policy=policy).select(TOOLS, kit.code)


def test_a_folder_is_looked_for_at_once_and_loaded_at_first_use(router, kit, tmp_path):
    with pytest.raises(RouterNotFoundError):
        TryageSelector("no/such/folder")
    router.save_pretrained(tmp_path / "r")
    selector = TryageSelector(tmp_path / "r")
    assert selector.select(TOOLS, kit.code).ind == 2
    assert selector.load() is selector.load()


class Named(CustomQueryEngine):
    name: str

    def custom_query(self, query_str):
        return f"{self.name} answers {query_str}"


async def test_in_a_router_query_engine(router, kit):
    tools = [
        QueryEngineTool.from_defaults(Named(name=name), name=name, description="An engine.")
        for name in NAMES
    ]
    engine = RouterQueryEngine(TryageSelector(router), tools, llm=MockLLM())
    for response in (engine.query(kit.code), await engine.aquery(kit.code)):
        assert str(response) == f"coder answers {kit.code}"
        assert response.metadata["selector_result"].ind == 2


class Retriever(BaseRetriever):
    def __init__(self, name):
        self._name = name
        super().__init__()

    def _retrieve(self, query_bundle):
        return [NodeWithScore(node=TextNode(text=f"{self._name} found it"))]


async def test_in_a_router_retriever(router, kit):
    tools = [
        RetrieverTool.from_defaults(Retriever(name), name=name, description="A retriever.")
        for name in NAMES
    ]
    retriever = RouterRetriever(TryageSelector(router), tools, llm=MockLLM())
    for nodes in (retriever.retrieve(kit.prose), await retriever.aretrieve(kit.prose)):
        assert nodes[0].text == "writer found it"
