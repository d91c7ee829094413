"""Configurable fields make a model anew for each call; what it loaded and learned must go on."""

import warnings

import pytest
from langchain_core.load import dumpd
from langchain_core.runnables import ConfigurableField

from langchain_tryage import ChatTryage, TryageRouter, TryageSelector
from llama_index_tryage import TryageLLM as LlamaIndexLLM
from tryage import Goals, Router
from tryage.dispatch import Breaker

FIELDS = {"goals": ConfigurableField(id="goals"), "breaker": ConfigurableField(id="breaker")}


def with_goals(number):
    """A config of one call, whose goals differ from every other's."""
    return {"configurable": {"goals": Goals(recency=number * 1e-6)}}


@pytest.mark.parametrize("kind", [ChatTryage, TryageRouter])
async def test_a_breaker_opens_over_calls_that_set_fields(router, kit, kind):
    experts = kit.experts(kit.Whole, coder={"fault": ConnectionError("down")})
    breaker = Breaker(failures=2, seconds=600)
    model = kind(router, experts, breaker=breaker).configurable_fields(**FIELDS)
    for number in range(3):
        model.invoke(kit.code, with_goals(number))
        await model.ainvoke(kit.code, with_goals(number + 10))
    assert len(experts["coder"].calls) == 2
    record = model.invoke(kit.code, with_goals(7)).response_metadata["tryage"]
    assert record["answered_by"] == "giant"
    assert record["tried"][0]["error"].startswith("left alone: it failed 2 times in a row")
    # The model itself knows it too, and a call with a breaker of its own begins anew.
    assert model.invoke(kit.code).response_metadata["tryage"]["answered_by"] == "giant"
    assert len(experts["coder"].calls) == 2
    model.invoke(kit.code, {"configurable": {"breaker": Breaker(failures=9)}})
    assert len(experts["coder"].calls) == 3


def test_assigned_options_keep_what_was_learned_of_the_same_experts(router, kit):
    experts = kit.experts(kit.Whole, coder={"fault": ConnectionError("down")})
    model = ChatTryage(router, experts, breaker=Breaker(failures=1, seconds=600))
    model.invoke(kit.code)
    small = model.model_copy(update={"max_attempts": 2})
    model.goals = Goals(recency=1e-6)
    for one in (model, small):
        assert one.invoke(kit.code).response_metadata["tryage"]["answered_by"] == "giant"
    assert len(experts["coder"].calls) == 1
    others = {name: kit.Whole(label=name) for name in experts}
    model.experts = others
    assert model.invoke(kit.code).text.startswith("coder")
    apart = ChatTryage(router, experts, breaker=Breaker(failures=1, seconds=600))
    apart.invoke(kit.code)
    assert len(experts["coder"].calls) == 2


def test_a_router_in_a_folder_is_read_once(router, kit, tmp_path, monkeypatch):
    router.save_pretrained(tmp_path / "r")
    reads = []
    read = Router.from_pretrained

    def counted(folder, **options):
        reads.append(folder)
        return read(folder, **options)

    monkeypatch.setattr(Router, "from_pretrained", counted)
    model = ChatTryage(tmp_path / "r", kit.experts()).configurable_fields(**FIELDS)
    selector = TryageSelector(tmp_path / "r").configurable_fields(goals=FIELDS["goals"])
    for number in range(3):
        assert model.invoke(kit.code, with_goals(number)).text.startswith("coder")
        assert selector.invoke(kit.code, with_goals(number)).expert == "coder"
    assert len(reads) == 2


def test_pipelines_stay_loaded(tiny_router):
    fields = {"temperature": ConfigurableField(id="t"), "goals": FIELDS["goals"]}
    model = ChatTryage(tiny_router, max_tokens=4).configurable_fields(**fields)
    runtimes = set()
    for number in range(2):
        config = {"configurable": {"t": 0.1 * number, "goals": Goals(recency=number * 1e-6)}}
        made, _ = model.prepare(config)
        made.invoke("The quiet river follows the")
        expert = made._binding.experts["prose-gpt"]
        runtimes.add(id(expert.model.runtime))
        assert expert.kwargs["temperature"] == 0.1 * number
        assert expert.model.runtime is model.default._binding.experts["prose-gpt"].model.runtime
    assert len(runtimes) == 1


def test_llamaindex_s_copies_share_it_too(router):
    from llama_index.core.llms import MockLLM

    experts = {name: MockLLM() for name in ("coder", "writer", "giant")}
    llm = LlamaIndexLLM(router, experts, breaker=True)
    copied = llm.model_copy(update={"goals": Goals(recency=1e-6)})
    assert copied._binding.health is llm._binding.health
    assert copied._binding is not llm._binding


def test_the_warning_of_strange_prompts_comes_once(router, kit):
    model = TryageSelector(router).configurable_fields(goals=FIELDS["goals"])
    strange = "Στο χωριό μας οι γάτες τραγουδούν κάθε βράδυ"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for number in range(210):
            model.invoke(f"{strange} {number}", with_goals(number))
    warned = [w for w in caught if "unlike those the router was fitted on" in str(w.message)]
    assert len(warned) == 1


def test_it_is_saved_as_any_other(router, tmp_path, kit):
    router.save_pretrained(tmp_path / "r")
    made = TryageSelector(str(tmp_path / "r")).configurable_fields(task=ConfigurableField(id="t"))
    assert dumpd(made)["id"][-1] == "RunnableConfigurableFields"
