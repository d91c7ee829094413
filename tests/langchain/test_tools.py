"""Tools, structured output and content beyond text: who can do it is settled before deciding."""

import pickle

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from pydantic import BaseModel

from langchain_tryage import ChatTryage, TryageRouter
from tryage import Library, Router
from tryage.errors import DispatchError, NoEligibleExpertError

IMAGE = {"type": "image", "url": "https://example.org/cat.png"}


@tool
def alpha_count(number: int) -> int:
    """Count alphas."""
    return number + 1


class Joke(BaseModel):
    """A joke."""

    setup: str


def call(kit, **extra):
    return [HumanMessage(f"alpha_count(7)\n{kit.code}", **extra)]


def of_kinds(kit, **kinds):
    return {name: getattr(kit, kind)(label=name) for name, kind in kinds.items()}


def test_the_chosen_expert_converts_the_tools_itself(router, kit):
    calls = []

    class Own(kit.Calling):
        def bind_tools(self, tools, *, tool_choice=None, **kwargs):
            calls.append((tools, tool_choice, kwargs))
            return super().bind_tools(tools, tool_choice=tool_choice)

    experts = {"coder": Own(label="coder"), "giant": kit.Calling(label="giant")}
    model = ChatTryage(router, experts).bind_tools([alpha_count], tool_choice="any", strict=True)
    assert model.kwargs["tools"][0]["function"]["name"] == "alpha_count"
    message = model.invoke(call(kit))
    assert message.tool_calls[0]["name"] == "alpha_count"
    assert message.response_metadata["tryage"]["answered_by"] == "coder"
    assert calls == [([alpha_count], "any", {"strict": True})]
    assert experts["coder"].calls[0]["kwargs"]["tools"][0]["type"] == "function"


async def test_tools_in_every_way(router, kit):
    model = ChatTryage(router, of_kinds(kit, coder="Calling", giant="Calling"))
    bound = model.bind_tools([alpha_count])
    chunks = [chunk async for chunk in bound.astream(call(kit))]
    for message in (
        bound.invoke(call(kit)),
        await bound.ainvoke(call(kit)),
        sum(chunks[1:], chunks[0]),
    ):
        (made,) = message.tool_calls
        assert made["args"] == {"number": 7}
        result = alpha_count.invoke(made)
        assert isinstance(result, ToolMessage)
        answer = bound.invoke([*call(kit), message, result])
        assert answer.content == "coder says 8"


def test_experts_without_tools_are_not_eligible_for_tools(router, kit):
    model = ChatTryage(router, of_kinds(kit, coder="Whole", writer="Whole", giant="Calling"))
    decision = model.bind_tools([alpha_count]).invoke(call(kit)).response_metadata["tryage"]
    assert decision["expert"] == decision["answered_by"] == "giant"
    assert decision["tried"] == [
        {"expert": "giant", "error": None} | {"seconds": decision["tried"][0]["seconds"]}
    ]
    why = {row["expert"]: row.get("reason") for row in decision["ranking"]}
    assert why["coder"] == "the call has tools, and ScriptedWholeChat cannot bind any"
    # Without tools the same model sends the same text to the better expert.
    assert model.invoke(call(kit)).response_metadata["tryage"]["expert"] == "coder"
    assert model.bind_tools([]).invoke(call(kit)).response_metadata["tryage"]["expert"] == "coder"


def test_no_expert_with_tools_is_one_clear_error(router, kit):
    model = ChatTryage(router, of_kinds(kit, coder="Whole", giant="Whole"))
    with pytest.raises(
        NoEligibleExpertError, match="coder: the call asks for structured output"
    ) as caught:
        model.with_structured_output(Joke).invoke(kit.code)
    assert set(caught.value.reasons) == {"coder", "giant", "writer"}


def test_library_and_profile_say_who_has_tools(table, table_library, kit):
    rows = [e.model_dump() | {"tools": e.name != "coder"} for e in table_library]
    router = Router.fit(table, library=Library.from_dict({"name": "l", "experts": rows}))
    model = ChatTryage(router, kit.experts(kit.Calling)).bind_tools([alpha_count])
    assert model.invoke(call(kit)).response_metadata["tryage"]["expert"] == "giant"
    profiles = {"giant": {"profile": {"tool_calling": True, "tool_choice": False}}}
    model = ChatTryage(router, kit.experts(kit.Calling, **profiles))
    free, forced = (
        model.bind_tools([alpha_count]),
        model.bind_tools([alpha_count], tool_choice="any"),
    )
    assert free.invoke(call(kit)).response_metadata["tryage"]["expert"] == "giant"
    assert forced.invoke(call(kit)).response_metadata["tryage"]["expert"] == "writer"


def test_structured_output_and_json_mode(router, kit):
    model = ChatTryage(router, of_kinds(kit, coder="Calling", giant="Whole"))
    for method in ("function_calling", "json_schema", "json_mode"):
        made = model.with_structured_output(Joke, method=method).invoke("Say 'why?' please")
        assert made == Joke(setup="why?")
    result = model.with_structured_output(Joke, include_raw=True).invoke("Say 'why?'")
    assert result["parsed"] == Joke(setup="why?")
    assert result["raw"].response_metadata["tryage"]["answered_by"] == "coder"


def test_the_next_expert_with_tools_takes_over(router, kit):
    faults = {"coder": {"fault": ConnectionError("down")}}
    model = ChatTryage(router, kit.experts(kit.Calling, **faults)).bind_tools([alpha_count])
    message = model.invoke(call(kit))
    assert message.tool_calls
    assert message.response_metadata["tryage"]["answered_by"] == "giant"


def test_images_go_to_experts_that_read_them(router, kit):
    blind = {name: {"profile": {"image_inputs": name == "writer"}} for name in ("coder", "writer")}
    model = ChatTryage(router, kit.experts(**blind, giant={"profile": {"image_inputs": False}}))
    shown = [HumanMessage([{"type": "text", "text": kit.code}, IMAGE])]
    decision = model.invoke(shown).response_metadata["tryage"]
    assert decision["expert"] == "writer"
    why = {row["expert"]: row.get("reason") for row in decision["ranking"]}
    assert why["coder"] == "the call holds image content, which it does not read"
    assert model.invoke(kit.code).response_metadata["tryage"]["expert"] == "coder"


@pytest.mark.parametrize("kind", [ChatTryage, TryageRouter])
def test_an_image_alone_is_routed_by_what_was_written_before(router, kit, kind):
    picture = HumanMessage([{"type": "image_url", "image_url": {"url": "data:image/png;base64,"}}])
    model = kind(router, kit.experts())
    for text, name in ((kit.code, "coder"), (kit.prose, "writer")):
        message = model.invoke([HumanMessage(text), AIMessage("I see."), picture])
        assert message.response_metadata["tryage"]["expert"] == name


async def test_pipelines_refuse_tools_and_images_before_they_are_loaded(tiny_router):
    model = ChatTryage(tiny_router)
    assert model.profile["tool_calling"] is False
    with pytest.raises(NoEligibleExpertError, match="the call has tools"):
        model.bind_tools([alpha_count]).invoke("The river")
    with pytest.raises(NoEligibleExpertError, match="image content"):
        await model.ainvoke([HumanMessage([{"type": "text", "text": "The river"}, IMAGE])])


def test_the_profile_is_what_all_have(router, kit):
    ours = {"max_input_tokens": 8000, "tool_calling": True, "image_inputs": True, "name": "A"}
    theirs = {"max_input_tokens": 4000, "tool_calling": True, "image_inputs": False}
    profiles = {
        "coder": {"profile": ours},
        "giant": {"profile": theirs},
        "writer": {"profile": ours},
    }
    model = ChatTryage(router, kit.experts(**profiles))
    assert model.profile == {"max_input_tokens": 4000, "tool_calling": True, "image_inputs": False}
    assert ChatTryage(router, kit.experts(), profile={"tool_calling": True}).profile == {
        "tool_calling": True
    }
    assert ChatTryage(router, kit.experts(coder={"profile": ours})).profile is None
    by_name = ChatTryage(
        "open7", {"meta-llama/Meta-Llama-3-8B": kit.Whole(label="a", profile=ours)}
    )
    assert by_name.profile == {key: value for key, value in ours.items() if key != "name"}
    assert by_name._binding._router is None
    levels = [{"reasoning_effort_levels": ["low", "high"]}, {"reasoning_effort_levels": ["high"]}]
    assert profile_of(router, kit, *levels) == {"reasoning_effort_levels": ["high"]}
    assert profile_of(router, kit, {"text_inputs": True}, {"tool_calling": True}) is None


def profile_of(router, kit, *profiles):
    """The profile of a model whose experts have these."""
    experts = {
        name: kit.Whole(label=name, profile=profile)
        for name, profile in zip(("coder", "giant"), profiles, strict=True)
    }
    return ChatTryage(router, experts).profile


def test_bound_tools_survive_copies(router, kit):
    tools_bound = []

    class Own(kit.Calling):
        def bind_tools(self, tools, **kwargs):
            tools_bound.append(tools)
            return super().bind_tools(tools, **kwargs)

    model = ChatTryage(router, {"coder": Own(label="coder")})
    search = {"type": "web_search_20250305", "name": "web_search"}
    bound = model.bind_tools([alpha_count, Joke, search])
    kinds = [tool["type"] for tool in bound.kwargs["tools"]]
    assert kinds[:2] == ["function", "function"]
    assert kinds[2] in ("function", "web_search_20250305")  # by LangChain's release
    again = model.bind_tools(bound.kwargs["tools"])
    assert again.kwargs["tools"] == bound.kwargs["tools"]
    copied = pickle.loads(pickle.dumps(model.bind_tools([Joke]).kwargs))
    for kwargs in (model.bind_tools([Joke]).kwargs, copied):
        model.invoke(call(kit), **kwargs)
    assert tools_bound == [[Joke], [Joke]]
    with pytest.raises(ValueError, match="Unsupported"):
        model.bind_tools([17])


def test_tracers_see_tools_as_json(router, kit):
    recorder = kit.Recorder()
    model = ChatTryage(router, kit.experts(kit.Calling)).bind_tools([alpha_count])
    model.invoke(call(kit), {"callbacks": [recorder]})
    (start,) = recorder.starts
    assert start["invocation_params"]["tools"][0]["function"]["name"] == "alpha_count"
    assert isinstance(recorder.ends[0].generations[0][0].message, AIMessage)


def test_tools_that_no_expert_can_convert_open_no_circuit(router, kit):
    class Strict(kit.Calling):
        def bind_tools(self, tools, **kwargs):
            raise ValueError("a tool without a name")

    model = ChatTryage(router, {"coder": Strict(label="coder")}, breaker=True)
    for _ in range(6):
        with pytest.raises(DispatchError, match="a tool without a name"):
            model.bind_tools([{"no": "tool"}]).invoke(call(kit))
    assert model._binding.health.state("coder") == "closed"
