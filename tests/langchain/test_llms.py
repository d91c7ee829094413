"""`TryageLLM`: text models, in one run."""

import pickle

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.messages import HumanMessage
from langchain_core.prompts import PromptTemplate
from langchain_core.runnables import RunnableLambda

from langchain_tryage import TryageLLM
from langchain_tryage.testing import ScriptedText, ScriptedWholeText
from tryage import Goals
from tryage.errors import DispatchError, LibraryError, PromptError

FLAG = "[Flag: size=2]"


def experts(kind=ScriptedText, **faults):
    return {n: kind(label=n, **faults.get(n, {})) for n in ("coder", "writer", "giant")}


async def every_way(llm, input, config=None, **kwargs):
    return [
        llm.invoke(input, config, **kwargs),
        await llm.ainvoke(input, config, **kwargs),
        *llm.batch([input], config, **kwargs),
        *await llm.abatch([input], config, **kwargs),
        "".join(llm.stream(input, config, **kwargs)),
        "".join([chunk async for chunk in llm.astream(input, config, **kwargs)]),
    ]


async def test_every_way_answers_with_the_chosen_expert(router, kit):
    for kind in (ScriptedText, ScriptedWholeText):
        model = TryageLLM(router, experts(kind))
        assert set(await every_way(model, kit.code)) == {f"coder says {kit.code}"}
        assert set(await every_way(model, kit.code, model="giant")) == {f"giant says {kit.code}"}
        small = {"configurable": {"tryage_goals": {"size": 2}}}
        assert set(await every_way(model, kit.code, small)) == {f"writer says {kit.code}"}
        goals = await every_way(model, kit.code, tryage=Goals(size=2))
        assert set(goals) == {f"writer says {kit.code}"}


async def test_the_next_expert_takes_over(router, kit):
    for kind in (ScriptedText, ScriptedWholeText):
        model = TryageLLM(router, experts(kind, coder={"fault": ValueError("no")}))
        assert set(await every_way(model, kit.code)) == {f"giant says {kit.code}"}
    decision = model.generate([kit.code]).generations[0][0].generation_info["tryage"]
    assert (decision["expert"], decision["answered_by"]) == ("coder", "giant")
    faults = {name: {"fault": ValueError(name)} for name in ("coder", "writer", "giant")}
    with pytest.raises(DispatchError, match="each of the 3"):
        TryageLLM(router, experts(**faults)).invoke(kit.code)
    late = TryageLLM(router, experts(coder={"late": ConnectionError("cut")})).stream(kit.code)
    assert next(late) == "coder"
    with pytest.raises(ConnectionError):
        next(late)


async def test_it_is_one_run_that_names_the_expert(router, kit):
    model = TryageLLM(router, experts())
    events = [event async for event in model.astream_events(kit.code, version="v2")]
    direct = ScriptedText(label="coder").astream_events(kit.code, version="v2")
    assert [e["event"] for e in events] == [event["event"] async for event in direct]
    pieces = [e["data"]["chunk"] for e in events if e["event"] == "on_llm_stream"]
    assert "".join(pieces) == f"coder says {kit.code}"
    assert "expert:coder" in events[0]["tags"]
    assert events[0]["metadata"]["ls_model_name"] == "coder-model"
    assert events[0]["metadata"]["tryage"]["expert"] == "coder"
    starts = []

    class Starts(kit.Recorder):
        def on_llm_start(self, serialized, prompts, **kwargs):
            starts.append(kwargs)

    list(model.stream(kit.code, {"callbacks": [Starts()]}))
    assert "Decision" not in repr(starts)
    assert repr(starts[0]["invocation_params"]["_tryage_plan"]) == "Plan(expert='coder')"


def test_many_prompts_of_one_call(router, kit):
    of_each = experts()
    result = TryageLLM(router, of_each).generate([kit.code, kit.prose, kit.code])
    texts = [row[0].text for row in result.generations]
    assert texts == [f"coder says {kit.code}", f"writer says {kit.prose}", f"coder says {kit.code}"]
    assert result.llm_output["token_usage"]["total_tokens"] == 3
    infos = [row[0].generation_info["tryage"]["expert"] for row in result.generations]
    assert infos == ["coder", "writer", "coder"]


async def test_batches_keep_order_and_errors(router, kit):
    model = TryageLLM(router, experts())
    texts = [kit.code, kit.prose] * 4
    expected = [f"coder says {kit.code}", f"writer says {kit.prose}"] * 4
    assert model.batch(texts, {"max_concurrency": 2}) == expected
    assert await model.abatch(texts) == expected
    assert model.batch([]) == await model.abatch([]) == []
    good, bad = await model.abatch([kit.code, ""], return_exceptions=True)
    assert good == expected[0]
    assert isinstance(bad, PromptError)


def test_flags(router, kit):
    of_each = experts()
    model = TryageLLM(router, of_each, flags_from="last_message")
    assert model.invoke(f"{kit.code} {FLAG}") == f"writer says {kit.code}"
    chain = PromptTemplate.from_template("{text}") | model
    assert chain.invoke({"text": f"{kit.code} {FLAG}"}) == f"writer says {kit.code}"
    assert TryageLLM(router, of_each).invoke(f"{kit.code} {FLAG}").startswith("coder")
    assert model.invoke([HumanMessage(kit.code)]) == f"coder says Human: {kit.code}"


def test_arguments_and_stop_reach_the_expert(router, kit):
    of_each = experts(ScriptedWholeText)
    bound = of_each | {"coder": of_each["coder"].bind(temperature=0.1, top_k=3)}
    assert TryageLLM(router, bound).invoke(kit.code, stop=[" says"], temperature=0.2) == "coder"
    assert of_each["coder"].calls[0]["kwargs"] == {"temperature": 0.2, "top_k": 3}


async def test_a_stop_bound_to_an_expert_holds_unless_the_call_has_one(router, kit):
    for kind in (ScriptedWholeText, ScriptedText):
        expert = kind(label="coder")
        model = TryageLLM(router, {"coder": expert.bind(stop=["total"])})
        for text in await every_way(model, kit.code):
            assert text == expert.invoke(kit.code, stop=["total"])
        assert model.invoke(kit.code, stop=["says"]) == expert.invoke(kit.code, stop=["says"])


def test_the_expert_s_cache_works_and_holds_no_decision(router, kit):
    cache = InMemoryCache()
    of_each = {"coder": ScriptedWholeText(label="coder", cache=cache)}
    model = TryageLLM(router, of_each)
    for _ in range(2):
        result = model.generate([kit.code])
        assert result.generations[0][0].generation_info["tryage"]["expert"] == "coder"
    assert len(of_each["coder"].calls) == 1
    direct = of_each["coder"].generate([kit.code])
    assert len(of_each["coder"].calls) == 1
    assert direct.generations[0][0].generation_info is None
    with pytest.raises(ValueError, match="keeps no cache"):
        TryageLLM(router, of_each, cache=cache)


def test_experts_are_checked(router, kit):
    with pytest.raises(TypeError, match="TryageRouter takes any runnable"):
        TryageLLM(router, {"coder": RunnableLambda(str)})
    with pytest.raises(TypeError, match="ChatTryage takes chat models"):
        TryageLLM(router, kit.experts())
    with pytest.raises(TypeError, match="carries a config"):
        TryageLLM(router, {"coder": ScriptedWholeText(label="x").with_config(run_name="x")})
    with pytest.raises(TypeError, match="carries a config"):
        TryageLLM(router, {"coder": ScriptedWholeText(label="x").with_listeners(on_start=print)})
    with pytest.raises(LibraryError, match="Did you mean 'coder'"):
        TryageLLM(router, {"codr": ScriptedWholeText(label="x")})
    with pytest.raises(ValueError, match="no such key"):
        TryageLLM(router, experts(), flags_from="question")
    assert "coder" in repr(TryageLLM(router, experts()))


def test_a_folder_a_pickle_and_the_name_before_a_decision(router, kit, tmp_path):
    router.save_pretrained(tmp_path / "r")
    model = TryageLLM(str(tmp_path / "r"), experts())
    assert model._get_ls_params()["ls_model_name"] == str(tmp_path / "r")
    assert model.load().library.names == ("coder", "writer", "giant")
    assert pickle.loads(pickle.dumps(model)).invoke(kit.code) == f"coder says {kit.code}"


async def test_experts_left_out_run_the_library_s_own_pipelines(tiny_router):
    model = TryageLLM(tiny_router)
    text = model.invoke("The quiet river follows", max_tokens=5)
    assert text
    assert await model.ainvoke("The quiet river follows", max_tokens=5) == text
    assert "".join(model.stream("The quiet river follows", max_tokens=5)) == text
    assert "[MASK]" not in model.invoke("def alpha([MASK]):\n    return alpha(total)\n")
