"""Names that a router's library lacks: both adapters say how one gets a router for own models."""

import pytest
from langchain_core.language_models import FakeListChatModel, FakeListLLM
from llama_index.core.llms import MockLLM

import langchain_tryage
import llama_index_tryage
from tryage import Router
from tryage.errors import LibraryError, RouterNotFoundError

KINDS = {
    langchain_tryage.ChatTryage: lambda: FakeListChatModel(responses=["yes"]),
    langchain_tryage.TryageRouter: lambda: FakeListChatModel(responses=["yes"]),
    langchain_tryage.TryageLLM: lambda: FakeListLLM(responses=["yes"]),
    llama_index_tryage.TryageLLM: MockLLM,
    llama_index_tryage.TryageFunctionCallingLLM: MockLLM,
}


def ask(model):
    return (getattr(model, "invoke", None) or model.complete)("Prove that 7 is prime.")


@pytest.fixture(params=KINDS, ids=lambda kind: f"{kind.__module__.split('.')[0]}.{kind.__name__}")
def kind(request):
    return request.param


@pytest.mark.parametrize("is_loaded", [False, True], ids=["by name", "loaded"])
def test_models_that_the_library_lacks(kind, is_loaded):
    router = Router.from_pretrained("open7") if is_loaded else "open7"
    experts = {name: KINDS[kind]() for name in ("gpt-4o", "claude")}
    with pytest.raises(LibraryError) as caught:
        ask(kind(router, experts))
    message = str(caught.value)
    for part in (
        "'gpt-4o', 'claude'",
        "It has: mistralai/Mistral-7B-v0.1",
        "Router.fit(table)",
        "tryage fit",
        "Router.from_library(Library([Expert(",
        "aliases=",
    ):
        assert part in message


def test_another_name_of_a_known_model_goes_by_aliases(kind):
    experts = {"mine": KINDS[kind]()}
    model = kind("open7", experts, aliases={"mine": "mistralai/Mistral-7B-v0.1"})
    assert ask(model)


def test_a_near_miss_is_named(kind):
    experts = {"mistralai/Mistral-7B-v0.2": KINDS[kind]()}
    with pytest.raises(LibraryError, match=r"Did you mean 'mistralai/Mistral-7B-v0\.1'"):
        ask(kind("open7", experts))


def test_a_router_that_is_not_there(kind):
    with pytest.raises(RouterNotFoundError, match=r"Router\.fit make one for models of your own"):
        kind("gpt-4o", {"gpt-4o": KINDS[kind]()})
