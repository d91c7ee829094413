"""LangChain's own way to save runnables, as far as their parts allow it."""

import pytest
from langchain_core.load import dumps, loads
from langchain_core.prompts import PromptTemplate
from langchain_core.runnables import RunnablePassthrough, RunnableSequence

from langchain_tryage import TryageFlags, TryageRouter, TryageSelector
from tryage import Goals

pytestmark = pytest.mark.filterwarnings("ignore:The function `loads` is in beta")

OWN = [TryageFlags, TryageRouter, TryageSelector]
ALLOWED = [*OWN, PromptTemplate, RunnablePassthrough, RunnableSequence]
"""LangChain makes nothing of a saved text but what its reader allows."""


def again(runnable):
    return loads(dumps(runnable), allowed_objects=ALLOWED, valid_namespaces=["langchain_tryage"])


@pytest.fixture
def folder(router, tmp_path):
    router.save_pretrained(tmp_path / "router")
    return tmp_path / "router"


def test_a_router_by_folder_is_saved_with_its_experts(folder, kit):
    experts = {
        "coder": PromptTemplate.from_template("code: {x}"),
        "writer": PromptTemplate.from_template("prose: {x}") | RunnablePassthrough(),
    }
    runnable = TryageRouter(folder, experts, key="x", max_attempts=1, with_decision=True)
    loaded = again(runnable)
    assert loaded.key == "x"
    assert loaded.max_attempts == 1
    for text in (kit.code, kit.prose):
        one, two = runnable.invoke({"x": text}), loaded.invoke({"x": text})
        assert one["output"] == two["output"]
        assert one["decision"].answered_by == two["decision"].answered_by


def test_it_is_saved_as_a_part_of_a_chain(folder, kit):
    chain = PromptTemplate.from_template("{x}") | TryageSelector(str(folder), output="name")
    assert again(chain).invoke({"x": kit.code}) == "coder"
    again(TryageRouter("open7", {"meta-llama/Meta-Llama-3-8B": RunnablePassthrough()}))


@pytest.mark.parametrize(
    "change",
    [
        {"experts": {"coder": str.upper}},
        {"goals": Goals(size=1)},
        {"flags_from": str},
        {"errors": (ValueError,)},
    ],
)
def test_what_cannot_be_saved_is_said_so(folder, change):
    arguments = {"router": folder, "experts": {"coder": RunnablePassthrough()}} | change
    dumped = dumps(TryageRouter(**arguments))
    assert '"not_implemented"' in dumped
    with pytest.raises(NotImplementedError):
        loads(dumped, allowed_objects=ALLOWED, valid_namespaces=["langchain_tryage"])


def test_a_router_in_memory_is_named_and_not_saved(router, kit):
    dumped = dumps(TryageRouter(router, {"coder": kit.Whole(label="secret")}))
    assert '"not_implemented"' in dumped
    assert "secret" not in dumped


def test_flags_are_saved_with_their_chain(folder, kit):
    chain = TryageFlags(TryageRouter(folder, {"coder": RunnablePassthrough()}))
    assert again(chain).invoke(f"{kit.code} [Flag: smallest model]").strip() == kit.code.strip()
