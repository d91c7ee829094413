"""Arguments of constructors, of experts and of calls: each acts or is refused, the nearest wins."""

import pytest
from langchain.agents import create_agent
from langchain_core.tools import tool

from langchain_tryage import ChatTryage, TryageLLM, TryageMiddleware
from langchain_tryage.pipelines import ChatTryagePipeline, TryagePipeline
from llama_index_tryage.pipelines import TryagePipeline as LlamaIndexPipeline
from tryage import Expert, Library, Router
from tryage.runtime import Runtime

TEXT = "The quiet river follows the"


@tool
def add(number: int) -> int:
    """Add one."""
    return number + 1


@tool
def search(words: str) -> str:
    """Search."""
    return words


@pytest.fixture(scope="module")
def runtime(tiny_library):
    return Runtime(Library.read(tiny_library))


@pytest.mark.parametrize("kind", [ChatTryagePipeline, TryagePipeline])
def test_a_pipeline_s_own_settings_act_until_a_call_has_others(runtime, kind):
    def text(answer):
        return getattr(answer, "text", answer)

    whole = text(kind(runtime=runtime, expert="prose-gpt", max_new_tokens=9).invoke(TEXT))
    short = kind(runtime=runtime, expert="prose-gpt", max_tokens=3)
    assert (short.max_new_tokens, text(short.invoke(TEXT))) == (3, text(short.invoke(TEXT)))
    assert whole.startswith(text(short.invoke(TEXT)))
    assert len(text(short.invoke(TEXT))) < len(whole)
    mark, later = whole[4:6], whole[7:9]
    cut = kind(runtime=runtime, expert="prose-gpt", max_tokens=9, stop=[mark])
    assert text(cut.invoke(TEXT)) == whole.partition(mark)[0]
    assert "".join(map(text, cut.stream(TEXT))) == whole.partition(mark)[0]
    assert text(cut.invoke(TEXT, stop=[later])) == whole.partition(later)[0]
    assert text(cut.invoke(TEXT, stop=[])) == whole
    assert text(cut.invoke(TEXT, stop=later)) == whole.partition(later)[0]
    alone = kind(runtime=runtime, expert="prose-gpt", max_tokens=9, stop=mark)
    assert text(alone.invoke(TEXT)) == text(cut.invoke(TEXT))


@pytest.mark.parametrize("kind", [ChatTryagePipeline, TryagePipeline, LlamaIndexPipeline])
def test_what_a_pipeline_does_not_know_is_refused_in_the_same_words(runtime, kind):
    made = kind(runtime=runtime, expert="prose-gpt")
    call = getattr(made, "invoke", None) or made.complete
    for name, hint in (("max_new_tokenz", " Did you mean 'max_new_tokens'?"), ("top_p", "")):
        words = f"got an unexpected keyword argument '{name}'.{hint}"
        for act in (
            lambda name=name: kind(runtime=runtime, expert="prose-gpt", **{name: 1}),
            lambda name=name: call(TEXT, **{name: 1}),
        ):
            with pytest.raises(TypeError) as caught:
                act()
            assert words in str(caught.value)


def test_settings_of_the_router_reach_whichever_expert_answers(router, kit):
    experts = kit.experts(kit.Whole)
    bound = experts | {"coder": experts["coder"].bind(temperature=0.5)}
    model = ChatTryage(router, bound, stop=["def"], temperature=0.1, max_tokens=3)
    assert (
        model.invoke(kit.prose, stop=["garden"]).text
        == (f"writer says {kit.prose}".partition("garden")[0])
    )
    assert model.invoke(kit.code).text == "coder says "
    model.invoke(kit.code, temperature=0.9)
    sent = [(call["stop"], call["kwargs"]) for name in experts for call in experts[name].calls]
    assert sent == [
        (["def"], {"temperature": 0.5, "max_tokens": 3}),
        (["def"], {"temperature": 0.9, "max_tokens": 3}),
        (["garden"], {"temperature": 0.1, "max_tokens": 3}),
    ]
    model.temperature = 0.7
    model.invoke(kit.prose)
    assert experts["writer"].calls[-1]["kwargs"]["temperature"] == 0.7
    assert model._identifying_params["temperature"] == 0.7


def test_tracers_are_told_of_a_bounded_number_of_experts(kit):
    names = [f"e{number:03}" for number in range(120)]
    library = Library([Expert(name=name, model="m") for name in names])
    model = ChatTryage(
        Router.from_library(library), dict.fromkeys(names, kit.experts(kit.Whole)["coder"])
    )
    assert model._identifying_params["experts"] == [*names[:100], "and 20 more"]


async def test_settings_reach_text_models_and_streams(router, kit):
    experts = kit.experts(kit.WholeText)
    model = TryageLLM(router, experts, stop=["x"], temperature=0.2)
    model.invoke(kit.code)
    await model.ainvoke(kit.code, stop=["y"])
    calls = experts["coder"].calls
    assert [call["stop"] for call in calls] == [["x"], ["y"]]
    assert [call["kwargs"]["temperature"] for call in calls] == [0.2, 0.2]
    chats = kit.experts()
    chat = ChatTryage(router, chats, max_tokens=7)
    assert [chunk async for chunk in chat.astream(kit.code)]
    assert list(chat.stream(kit.code))
    assert [call["kwargs"]["max_tokens"] for call in chats["coder"].calls] == [7, 7]


def test_streaming_lets_callbacks_hear_the_tokens_of_an_invoke(router, kit):
    heard = {}
    for streaming in (False, True):
        recorder = kit.Recorder()
        model = ChatTryage(router, kit.experts(), streaming=streaming)
        model.invoke(kit.code, {"callbacks": [recorder]})
        heard[streaming] = "".join(recorder.tokens)
    assert heard == {False: "", True: f"coder says {kit.code}"}


@pytest.mark.parametrize("kind", [ChatTryage, TryageLLM])
def test_what_is_the_experts_own_is_refused_with_the_way_out(router, kind):
    for name in ("api_key", "max_retries"):
        with pytest.raises(TypeError, match=f"takes no '{name}'; give it to the experts"):
            kind(router, {"coder": kind}, **{name: "x"})
    with pytest.raises(TypeError, match="unexpected keyword argument 'top_p'"):
        kind(router, {"coder": kind}, top_p=1)


def names_of(call):
    return [tool["function"]["name"] for tool in call["kwargs"].get("tools", ())]


def test_tools_bound_to_an_expert_come_on_top_of_a_call_s(router, kit):
    expert = kit.Calling(label="coder")
    model = ChatTryage(router, {"coder": expert.bind_tools([search], tool_choice="search")})
    model.invoke("Say nothing.")
    model.bind_tools([add]).invoke("Say nothing.")
    model.bind_tools([add, search]).invoke("Say nothing.")
    model.bind_tools([add], tool_choice="any").invoke("Say nothing.")
    assert [names_of(call) for call in expert.calls] == [
        ["search"],
        ["add", "search"],
        ["add", "search"],
        ["add"],
    ]
    choices = [call["kwargs"].get("tool_choice") for call in expert.calls]
    assert choices == ["search", None, None, "any"]


def test_tools_and_settings_bound_to_an_expert_act_in_an_agent(router, kit):
    expert = kit.Calling(label="coder")
    bound = expert.bind_tools([search], tool_choice="none").bind(temperature=0.5, top_k=1)
    middleware = TryageMiddleware(router, {"coder": bound})
    for tools in ([], [add]):
        agent = create_agent(kit.Calling(label="own"), tools, middleware=[middleware])
        agent.invoke({"messages": [("human", "Say nothing.")]})
    assert [names_of(call) for call in expert.calls] == [["search"], ["add", "search"]]
    assert [call["kwargs"].get("tool_choice") for call in expert.calls] == ["none", None]
    assert {call["kwargs"]["temperature"] for call in expert.calls} == {0.5}
