"""Structured output: the chosen expert's own way, with every setting that was given."""

import copy
import pickle
from typing import Any

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.output_parsers import JsonOutputParser, PydanticOutputParser
from langchain_core.runnables import RunnableLambda
from pydantic import BaseModel, PrivateAttr

from langchain_tryage import ChatTryage, TryageFeedback
from tryage import Library, Router
from tryage.errors import DispatchError, NoEligibleExpertError


class Count(BaseModel):
    """A count."""

    total: int


SCHEMA = {
    "title": "Count",
    "description": "A count.",
    "type": "object",
    "properties": {"total": {"type": "integer"}},
}


def native(kit, base="Streaming"):
    """A model with a way of its own to structured output, that answers with JSON."""

    class Native(getattr(kit, base)):
        answer: str = '{"total": 27}'
        _ways: list[Any] = PrivateAttr(default_factory=list)

        def with_structured_output(
            self, schema, *, include_raw=False, method="json_schema", strict=None, **kwargs
        ):
            if kwargs:
                raise ValueError(f"unsupported: {kwargs}")
            self._ways.append((method, strict))
            is_class = isinstance(schema, type)
            parser = (
                PydanticOutputParser(pydantic_object=schema) if is_class else JsonOutputParser()
            )
            return self.bind(response_format={"type": method, "strict": strict}) | parser

        def _text(self, messages, stop, kwargs):
            super()._text(messages, stop, kwargs)
            return self.answer

    return Native


async def each_way(structured, text):
    """The last value of every way to call."""
    chunks = [list(structured.stream(text)), [c async for c in structured.astream(text)]]
    return [
        structured.invoke(text),
        await structured.ainvoke(text),
        structured.batch([text])[0],
        *(values[-1] for values in chunks),
    ]


@pytest.mark.parametrize("schema", [Count, SCHEMA])
async def test_settings_reach_the_expert_s_own_way(router, kit, schema):
    value = Count(total=27) if schema is Count else {"total": 27}
    for settings, way in (
        ({}, {"type": "json_schema", "strict": None}),
        ({"method": "json_mode"}, {"type": "json_mode", "strict": None}),
        ({"method": "json_schema", "strict": True}, {"type": "json_schema", "strict": True}),
    ):
        expert = native(kit)(label="coder")
        direct = expert.with_structured_output(schema, **settings)
        structured = ChatTryage(router, {"coder": expert}).with_structured_output(
            schema, **settings
        )
        assert await each_way(structured, kit.code) == [value] * 5
        assert direct.invoke(kit.code) == value
        sent = [call["kwargs"] for call in expert.calls]
        assert sent == [{"response_format": way}] * 6


async def test_each_expert_does_it_in_its_own_way(router, kit):
    experts = {
        "coder": native(kit)(label="coder", fault=ConnectionError("down")),
        "giant": kit.Calling(label="giant"),
        "writer": native(kit)(label="writer"),
    }
    structured = ChatTryage(router, experts).with_structured_output(Count)
    assert await each_way(structured, f"{kit.code} total=3, 7") == [Count(total=3)] * 5
    tools = {call["kwargs"]["tools"][0]["function"]["name"] for call in experts["giant"].calls}
    assert tools == {"Count"}
    assert all("response_format" not in call["kwargs"] for call in experts["giant"].calls)
    assert await each_way(structured, kit.prose) == [Count(total=27)] * 5


async def test_what_does_not_fit_goes_to_the_next_expert(router, kit):
    for answer, words in (
        ('{"total": "secret"}', "coder's answer does not fit Count: total: Input should be"),
        ("secret, no JSON", "coder's answer does not fit Count: "),
    ):
        experts = {name: native(kit)(label=name) for name in ("coder", "giant")}
        experts["coder"].answer = answer
        model = ChatTryage(router, experts).with_structured_output(Count, include_raw=True)
        for result in (model.invoke(kit.code), await model.ainvoke(kit.code)):
            assert (result["parsed"], result["parsing_error"]) == (Count(total=27), None)
            record = result["raw"].response_metadata["tryage"]
            assert record["answered_by"] == "giant"
            assert words in record["tried"][0]["error"]
            assert "secret" not in str(record)


def test_streams_go_out_as_those_of_the_expert_itself(router, kit):
    for answer in ('{"total": 27}', '{"total": "many"}', "no JSON"):
        expert = native(kit)(label="coder", answer=answer)
        model = ChatTryage(router, {"coder": expert})
        for schema in (Count, SCHEMA):
            direct = list(expert.with_structured_output(schema).stream(kit.code))
            assert list(model.with_structured_output(schema).stream(kit.code)) == direct


def test_who_cannot_do_it_is_left_out(table, table_library, kit):
    rows = [e.model_dump() | {"tools": e.name != "coder"} for e in table_library]
    router = Router.fit(table, library=Library.from_dict({"name": "l", "experts": rows}))

    def chosen(settings, **experts):
        model = ChatTryage(router, experts).with_structured_output(
            Count, include_raw=True, **settings
        )
        return model.invoke(f"{kit.code} 3")["raw"].response_metadata["tryage"]["expert"]

    own, tools = native(kit), kit.Calling
    assert chosen({}, coder=own(label="coder"), giant=tools(label="giant")) == "coder"
    by_tool = {"method": "function_calling"}
    assert chosen(by_tool, coder=own(label="coder"), giant=tools(label="giant")) == "giant"
    unable = own(label="coder", profile={"structured_output": False})
    assert chosen({}, coder=unable, giant=tools(label="giant")) == "giant"
    assert chosen({}, coder=tools(label="coder"), giant=tools(label="giant")) == "giant"
    assert chosen({}, writer=kit.Whole(label="writer"), giant=tools(label="giant")) == "giant"
    with pytest.raises(NoEligibleExpertError, match="ScriptedWholeChat has no way to make"):
        chosen({}, writer=kit.Whole(label="writer"))
    with pytest.raises(NoEligibleExpertError, match="structured output, which it does not support"):
        chosen({}, coder=tools(label="coder"))


def test_settings_that_no_expert_takes_are_an_error(router, kit):
    model = ChatTryage(router, {"coder": native(kit)(label="coder")})
    with pytest.raises(DispatchError, match=r"unsupported: \{'metod': 'json_mode'\}"):
        model.with_structured_output(Count, metod="json_mode").invoke(kit.code)

    class Odd(native(kit)):
        def with_structured_output(self, schema, **kwargs):
            return RunnableLambda(lambda _: None)

    with pytest.raises(DispatchError, match="is not a model followed by a parser"):
        ChatTryage(router, {"coder": Odd(label="c")}).with_structured_output(Count).invoke(kit.code)


async def test_a_nested_router_does_it_too(router, kit):
    nested = ChatTryage(router, {"writer": native(kit)(label="writer")})
    model = ChatTryage(router, {"coder": nested})
    assert await each_way(model.with_structured_output(Count), kit.code) == [Count(total=27)] * 5
    record = model.invoke(kit.code).response_metadata["tryage"]
    assert (record["answered_by"], record["inner"]["answered_by"]) == ("coder", "writer")


def test_bound_tools_and_formats_give_way(router, kit):
    expert = native(kit, "Calling")(label="coder")
    other = {"title": "Other", "type": "object", "description": "d", "properties": {}}
    bound = expert.bind_tools([other], tool_choice="Other").bind(response_format="text", top_k=3)
    model = ChatTryage(router, {"coder": bound})
    model.with_structured_output(Count, method="json_mode").invoke(kit.prose)
    (call,) = expert.calls
    way = {"type": "json_mode", "strict": None}
    assert call["kwargs"] == {"response_format": way, "top_k": 3}


def test_caches_tell_schemas_and_settings_apart(router, kit):
    expert = native(kit)(label="coder", cache=False)
    model = ChatTryage(router, {"coder": expert}, cache=InMemoryCache())
    for schema, settings in ((Count, {}), (Count, {}), (Count, {"strict": True}), (SCHEMA, {})):
        model.with_structured_output(schema, **settings).invoke(kit.code)
    assert len(expert.calls) == 3
    model.with_structured_output({**SCHEMA, "title": "Other"}).invoke(kit.code)
    assert len(expert.calls) == 4


class Options(TryageFeedback):
    """Notes the options of the runs that it hears of."""

    def on_chat_model_start(self, *args, **kwargs):
        self.options = kwargs["options"]
        super().on_chat_model_start(*args, **kwargs)


def test_tracers_hear_the_schema_and_feedback_leaves_it_out(scored_router, kit, tmp_path):
    scores = []
    learning = scored_router.with_feedback(tmp_path / "feedback.jsonl", store_prompts=True)
    feedback = Options(learning, lambda prompt, answer: scores.append(answer) or 1.0)
    model = ChatTryage(learning, {"coder": native(kit)(label="coder")})
    config = {"callbacks": [feedback]}
    model.with_structured_output(Count, method="json_mode").invoke(kit.code, config)
    output_format = feedback.options["ls_structured_output_format"]
    assert output_format["kwargs"] == {"method": "json_mode"}
    assert output_format["schema"]["properties"]["total"]["type"] == "integer"
    assert scores == []
    model.invoke(kit.code, config)
    assert scores == ['{"total": 27}']


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda made: pickle.loads(pickle.dumps(made))])
def test_it_can_be_copied(router, kit, copied):
    made = ChatTryage(router, kit.experts(kit.Calling)).with_structured_output(Count)
    assert copied(made).invoke(f"{kit.code} total 3") == Count(total=3)
