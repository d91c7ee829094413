"""`TryageSelector`: it decides, and calls nobody."""

import pytest
from langchain_core.messages import HumanMessage, SystemMessage
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda

from langchain_tryage import TryageSelector
from tryage import Decision, Goals
from tryage.errors import LibraryError, NoEligibleExpertError, PromptError

FLAG = "[Flag: size=2]"


async def test_it_returns_the_decision(router, kit):
    selector = TryageSelector(router)
    own = router.route(kit.code)
    for input in (kit.code, [HumanMessage(kit.code)], [("system", "x"), ("human", kit.code)]):
        decision = selector.invoke(input)
        assert isinstance(decision, Decision)
        assert (decision.expert, decision.prompt) == (own.expert, kit.code)
    assert (await selector.ainvoke(kit.prose)).expert == "writer"
    chain = selector | RunnableLambda(lambda decision: decision.expert) | RunnableLambda(str)
    assert chain.invoke(kit.code) == "coder"
    for last in (selector, RunnableLambda(str) | selector):
        assert last.get_output_jsonschema()["type"] == "object"


async def test_or_the_name(router, kit):
    selector = TryageSelector(router, output="name")
    assert selector.invoke(kit.code) == "coder"
    assert selector.OutputType is str
    assert selector.batch([kit.code, kit.prose, kit.code]) == ["coder", "writer", "coder"]
    assert await selector.abatch([kit.code, kit.prose]) == ["coder", "writer"]
    assert selector.batch([]) == []
    assert list(selector.stream(kit.code)) == ["coder"]


def test_names_are_the_caller_s(router, kit):
    names = {"openai:gpt": "coder", "openai:mini": "writer"}
    selector = TryageSelector(router, names, aliases=names, output="name")
    assert selector.batch([kit.code, kit.prose]) == ["openai:gpt", "openai:mini"]
    assert selector.invoke(kit.code, tryage=Goals(size=2)) == "openai:mini"
    with pytest.raises(LibraryError, match="Did you mean 'coder'"):
        TryageSelector(router, ["codr"])


def test_the_name_configures_a_model(router, kit, monkeypatch):
    from langchain.chat_models import base

    def make(model, *, model_provider=None, **kwargs):
        return kit.Whole(label=model)

    monkeypatch.setattr(base, "_init_chat_model_helper", make)
    model = base.init_chat_model()
    name = TryageSelector(router, output="name").invoke(kit.code)
    answer = model.invoke(kit.code, {"configurable": {"model": name}})
    assert answer.content == f"coder says {kit.code}"


def test_goals_flags_and_text(router, kit):
    selector = TryageSelector(router, flags_from="last_message", output="name")
    assert selector.invoke(f"{kit.code} {FLAG}") == "writer"
    assert TryageSelector(router, output="name").invoke(f"{kit.code} {FLAG}") == "coder"
    config = {"configurable": {"tryage_goals": {"size": 2}}}
    assert selector.invoke(kit.code, config) == "writer"
    assert selector.batch([kit.code, kit.code], [config, {}]) == ["writer", "coder"]
    assert TryageSelector(router, goals=Goals(size=2), output="name").invoke(kit.code) == "writer"
    system = TryageSelector(router, text_from="system_and_last", output="name")
    assert system.invoke([SystemMessage(kit.code * 3), HumanMessage("Go on.")]) == "coder"
    keyed = TryageSelector(router, key="question", output="name")
    assert keyed.invoke({"question": kit.code, "context": kit.prose}) == "coder"
    chain = ChatPromptTemplate.from_template("{text}") | TryageSelector(router, output="name")
    assert chain.invoke({"text": kit.prose}) == "writer"


def test_one_bad_input_does_not_spoil_the_others(router, kit):
    selector = TryageSelector(router, output="name")
    good, bad = selector.batch([kit.code, " "], return_exceptions=True)
    assert good == "coder"
    assert isinstance(bad, PromptError)
    with pytest.raises(PromptError):
        selector.batch([kit.code, " "])
    with pytest.raises(NoEligibleExpertError):
        selector.invoke(kit.code, tryage=Goals(limits={"parameters": "<=1M"}))


def test_a_folder_is_loaded_at_first_use(router, kit, tmp_path):
    router.save_pretrained(tmp_path / "r")
    selector = TryageSelector(tmp_path / "r", output="name")
    assert selector.invoke(kit.code) == "coder"
    assert selector.load().library.names == ("coder", "writer", "giant")
    with pytest.raises(TypeError, match="Did you mean 'experts'"):
        TryageSelector(router, expert=[])
