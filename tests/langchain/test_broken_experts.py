"""One expert that cannot be made, or cannot tell what it is, keeps no other from answering."""

import pytest
from langchain_core.language_models import FakeListLLM
from langchain_core.messages import HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool

from langchain_tryage import ChatTryage, TryageLLM, TryageRouter
from tryage.errors import ExpertError

ABSENT = "nobody:no-such-model"
"""LangChain cannot make a model of it."""


@tool
def add(a: int) -> int:
    """Add one."""
    return a + 1


class Mute(FakeListLLM):
    """Cannot tell anything of itself."""

    def get_num_tokens(self, text):
        raise ConnectionError("no server")

    def _get_ls_params(self, stop=None, **kwargs):
        raise ConnectionError("no server")


class Counting(FakeListLLM):
    """Counts words."""

    def get_num_tokens(self, text):
        return len(text.split())


def record_of(message):
    return message.response_metadata["tryage"]


async def test_where_it_is_chosen_the_next_one_answers(router, kit):
    experts = {**kit.experts(kit.Calling), "coder": ABSENT}
    model = ChatTryage(router, experts)
    for message in (model.invoke(kit.code), await model.ainvoke(kit.code)):
        assert record_of(message)["answered_by"] == "giant"
        first = record_of(message)["tried"][0]
        assert (first["expert"], "cannot make a chat model" in first["error"]) == ("coder", True)
    assert "".join(chunk.text for chunk in model.stream(kit.code)).startswith("giant says")


async def test_a_call_with_needs_excludes_it_with_its_reason(router, kit):
    model = ChatTryage(router, {**kit.experts(kit.Calling), "writer": ABSENT})
    image = {"type": "image", "url": "https://example.org/a.png"}
    pictured = [HumanMessage([{"type": "text", "text": kit.code}, image])]
    for message in (
        model.bind_tools([add]).invoke(kit.code),
        await model.bind_tools([add]).ainvoke(kit.code),
        model.invoke(pictured),
    ):
        assert record_of(message)["answered_by"] == "coder"
        reasons = {row["expert"]: row.get("reason") for row in record_of(message)["ranking"]}
        assert reasons["writer"].startswith("what it can do is unknown: ExpertError")
        assert reasons["coder"] is None


def test_what_the_others_have_in_common_is_still_known(router, kit):
    profile = {"max_input_tokens": 4000}
    experts = {name: kit.Whole(label=name, profile=profile) for name in ("coder", "giant")}
    model = ChatTryage(router, {**experts, "writer": ABSENT})
    with pytest.raises(ExpertError, match="expert 'writer': LangChain cannot make"):
        model.load()
    model._set_profile()
    assert model.profile == profile
    assert model._get_llm_string() != ChatTryage(router, experts)._get_llm_string()


def test_a_text_model_that_cannot_tell_still_answers(router, kit):
    texts = {name: FakeListLLM(responses=[name]) for name in ("writer", "giant")}
    texts["giant"] = Counting(responses=["giant"])
    model = TryageLLM(router, {**texts, "coder": Mute(responses=["coder"])})
    assert model.invoke(kit.code) == "coder"
    assert model.get_num_tokens("one two three") == 3
    with pytest.raises(ExpertError, match=r"give custom_get_token_ids=. coder: ConnectionError"):
        TryageLLM(router, {"coder": Mute(responses=["coder"])}).get_num_tokens("one")


@pytest.mark.parametrize("member", ["config_specs", "InputType", "OutputType", "get_graph"])
def test_an_expert_that_does_not_describe_itself_leaves_a_runnable_router_whole(
    router, kit, member
):
    def fails(self, *args):
        raise RuntimeError(f"{member} is broken")

    value = fails if member == "get_graph" else property(fails)
    kind = type("Broken", (RunnableLambda,), {member: value})
    experts = kit.experts() | {"writer": kind(lambda text: f"writer: {text}")}
    model = TryageRouter(router, experts)
    assert model.invoke(kit.code).text.startswith("coder")
    assert model.invoke(kit.prose) == f"writer: {kit.prose}"
    assert "tryage_goals" in [spec.id for spec in model.config_specs]
    assert set(kit.experts()) <= set(
        model.get_graph().draw_mermaid().replace("&nbsp;", " ").split()
    )
    assert model.get_input_jsonschema()
    assert model.get_output_jsonschema()
    assert (model | StrOutputParser()).get_graph().nodes
