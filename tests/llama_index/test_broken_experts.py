"""One expert whose server is down, so that it cannot even tell its metadata."""

import pytest
from llama_index.core import Document, SummaryIndex
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.prompts import PromptTemplate
from llama_index.core.tools import FunctionTool

from llama_index_tryage import TryageFunctionCallingLLM, TryageLLM
from tryage.errors import ExpertError


def down(kind):
    """A kind of expert that asks its server for everything, in vain."""

    class Down(kind):
        @property
        def metadata(self):
            raise ConnectionError("no server at 127.0.0.1:11434")

    return Down(label="down", fault=ConnectionError("no server"))


@pytest.mark.parametrize(("broken", "answers"), [("coder", "giant"), ("writer", "coder")])
def test_the_others_answer(router, kit, broken, answers):
    llm = TryageLLM(router, {**kit.experts(), broken: down(kit.Scripted)})
    assert llm.metadata.context_window == TryageLLM(router, kit.experts()).metadata.context_window
    response = llm.chat([ChatMessage(kit.code)])
    assert response.additional_kwargs["tryage"]["answered_by"] == answers
    assert llm.predict(PromptTemplate("{q}"), q=kit.code).startswith(answers)
    engine = SummaryIndex.from_documents([Document(text="x y")]).as_query_engine(llm=llm)
    assert " says " in str(engine.query(kit.code))


def test_a_call_with_tools_excludes_it_with_its_reason(router, kit):
    def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    experts = {**kit.experts(kit.Caller), "writer": down(kit.Caller)}
    llm = TryageFunctionCallingLLM(router, experts)
    assert llm.metadata.is_function_calling_model
    response = llm.chat_with_tools([FunctionTool.from_defaults(add)], f"{kit.code} add 1 and 2")
    record = response.additional_kwargs["tryage"]
    reasons = {row["expert"]: row.get("reason") for row in record["ranking"]}
    assert reasons["writer"].startswith("whether it takes tools is unknown: ConnectionError")
    assert record["answered_by"] == "coder"


def test_where_nobody_tells_that_is_the_error(router, kit):
    experts = {name: down(kit.Scripted) for name in kit.experts()}
    with pytest.raises(
        ExpertError, match=r"no expert states its metadata: .*coder: ConnectionError"
    ):
        TryageLLM(router, experts).metadata  # noqa: B018
