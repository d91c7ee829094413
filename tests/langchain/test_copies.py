"""Fields that are assigned, copies and pickles: a model is what its fields say now."""

import copy
import pickle

import pytest
from langchain_core.caches import InMemoryCache

from langchain_tryage import ChatTryage, TryageRouter
from langchain_tryage.pipelines import ChatTryagePipeline, TryagePipeline
from tryage import Goals, Library
from tryage.errors import LibraryError
from tryage.runtime import Runtime

KINDS = pytest.mark.parametrize("kind", [ChatTryage, TryageRouter])
SMALL = Goals(size=2.0)


@KINDS
def test_assigned_fields_act(router, kit, kind):
    model = kind(router, kit.experts())
    assert model.invoke(kit.code).content.startswith("coder")
    binding = model._binding
    assert model._binding is binding
    model.goals = SMALL
    assert model.invoke(kit.code).content.startswith("writer")
    model.experts = {"coder": kit.Whole(label="other")}
    assert model.invoke(kit.code).content.startswith("other")
    model.flags_from = "last_message"
    model.goals = None
    assert model.invoke(f"{kit.code} [Flag: size=2]").content == f"other says {kit.code}"
    model.experts = {"codr": kit.Whole(label="other")}
    with pytest.raises(LibraryError, match="codr"):
        model.invoke(kit.code)


@KINDS
def test_updates_of_a_copy_act_in_the_copy_alone(router, kit, kind):
    model = kind(router, kit.experts())
    small = model.model_copy(update={"goals": SMALL})
    for _ in range(2):
        assert small.invoke(kit.code).content.startswith("writer")
        assert model.invoke(kit.code).content.startswith("coder")


@KINDS
@pytest.mark.parametrize("called", [False, True])
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_models_can_be_copied_and_pickled(router, kit, kind, called, copied):
    model = kind(router, kit.experts(kit.Whole), goals=SMALL)
    if called:
        model.invoke(kit.code)
    again = copied(model)
    for one in (again, model):
        message = one.invoke(kit.code)
        assert message.content.startswith("writer")
        assert message.response_metadata["tryage"]["weights"] == {"size": 2.0}


def test_a_loaded_model_of_the_library_s_own_pipelines_can_be_pickled(tiny_router, tmp_path):
    tiny_router.save_pretrained(tmp_path / "r")
    model = ChatTryage(str(tmp_path / "r"))
    model.load()
    assert pickle.loads(pickle.dumps(model)).load().library.names == tiny_router.library.names


@pytest.mark.parametrize(
    "copied",
    [
        copy.deepcopy,
        lambda model: pickle.loads(pickle.dumps(model)),
        lambda model: model.model_copy(deep=True),
    ],
)
def test_pipelines_and_models_over_them_can_be_copied_and_pickled(
    tiny_library, tiny_router, copied
):
    runtime = Runtime(Library.read(tiny_library), memory_budget="1GB")
    one = ChatTryagePipeline(runtime=runtime, expert="prose-gpt", max_new_tokens=4)
    text = TryagePipeline(runtime=runtime, expert="prose-gpt", max_new_tokens=4)
    chats = {name: ChatTryagePipeline(runtime=runtime, expert=name) for name in ("prose-gpt",)}
    question = "The quiet river follows the"
    answers = [one.invoke(question).text, text.invoke(question)]
    assert [copied(one).invoke(question).text, copied(text).invoke(question)] == answers
    again = copied(ChatTryage(tiny_router, chats, max_tokens=4))
    assert again.invoke(question).text == answers[0]
    assert again.experts["prose-gpt"].runtime is not runtime
    assert again.experts["prose-gpt"].runtime.memory_budget == runtime.memory_budget


async def test_a_log_holds_the_decision(router, kit):
    model = TryageRouter(router, kit.experts(), with_decision=True)
    with pytest.warns(match="astream_log is deprecated"):
        patches = [patch async for patch in model.astream_log(kit.code)]
    state = sum(patches[1:], patches[0]).state
    assert state["final_output"]["decision"].answered_by == "coder"
    assert state["final_output"]["output"].content == f"coder says {kit.code}"


def test_a_cache_follows_assigned_fields(router, kit):
    experts = {name: kit.Whole(label=name, cache=False) for name in ("coder", "writer")}
    model = ChatTryage(router, experts, cache=InMemoryCache())
    assert model.invoke(kit.code).content.startswith("coder")
    model.goals = SMALL
    assert model.invoke(kit.code).content.startswith("writer")
