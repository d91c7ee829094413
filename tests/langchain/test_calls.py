"""What one call may say: goals, limits, the routed text, the expert to stay with."""

import asyncio
import pickle
import subprocess
import sys

import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_core.runnables import ConfigurableField

from langchain_tryage import ChatTryage, TryageSelector
from tryage import Goals
from tryage.errors import (
    ExpertError,
    GoalError,
    LibraryError,
    MissingExtraError,
    NoEligibleExpertError,
)

FLAG = "[Flag: size=2]"


def expert_of(message):
    return message.response_metadata["tryage"]["answered_by"]


async def test_goals_of_one_call(router, kit):
    model = ChatTryage(router, kit.experts())
    small = {"configurable": {"tryage_goals": {"size": 2.0}}}
    for message in (
        model.invoke(kit.code, tryage=Goals(size=2.0)),
        model.bind(tryage=Goals(size=2.0)).invoke(kit.code),
        model.invoke(kit.code, tryage={"size": 2.0}),
        model.invoke(kit.code, small),
        model.with_config(small).invoke(kit.code),
        await model.ainvoke(kit.code, small),
        *model.batch([kit.code], small),
        *[m async for m in model.astream(kit.code, small) if m.response_metadata],
    ):
        if "tryage" in message.response_metadata:
            assert expert_of(message) == "writer"
            assert message.response_metadata["tryage"]["weights"] == {"size": 2.0}
    assert expert_of(model.invoke(kit.code)) == "coder"
    assert [spec.id for spec in model.config_specs] == ["tryage_goals"]


@pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning")
async def test_event_streams_of_every_version_heed_the_goals_of_a_call(router, kit):
    model = ChatTryage(router, kit.experts())
    small = {"configurable": {"tryage_goals": {"size": 2.0}}}
    for version in ("v2", "v3"):
        heard = kit.Recorder()
        config = small | {"callbacks": [heard]}
        if version == "v2":
            async for event in model.astream_events(kit.code, config, version="v2"):
                last = event
            messages = [last["data"]["output"]]
        else:
            events = await model.astream_events(kit.code, config, version="v3")
            async for _ in events:
                pass
            messages = [await events.output]
            await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()})
            messages.append(model.stream_events(kit.code, config, version="v3").output)
            messages.append(
                model.stream_events(kit.prose, config, version="v3", model="writer").output
            )
        assert [expert_of(message) for message in messages] == ["writer"] * len(messages)
        assert len(heard.starts) == len(messages)
        for start in heard.starts:
            assert start["tags"] == ["expert:writer"]
            assert start["metadata"]["ls_model_name"] == "writer-model"
            assert start["metadata"]["tryage"]["weights"] == {"size": 2.0}


def test_limits_of_all_sources_hold_together(router, kit):
    own = Goals(limits={"parameters": "<=10B"}, size=0.1)
    model = ChatTryage(router, kit.experts(), goals=own)
    config = {"configurable": {"tryage_goals": {"limits": {"parameters": ">=2B"}}}}
    decision = model.invoke(kit.prose, config).response_metadata["tryage"]
    assert decision["answered_by"] == "coder"
    assert decision["weights"] == {"size": 0.1}
    with pytest.raises(NoEligibleExpertError):
        model.invoke(kit.prose, config, tryage=Goals(limits={"parameters": "<=1B"}))
    with pytest.raises(GoalError, match="Did you mean 'size'"):
        model.invoke(kit.prose, tryage={"sise": 1})
    with pytest.raises(GoalError, match="found int"):
        model.invoke(kit.prose, tryage=3)


def test_goals_are_a_configurable_field_too(router, kit):
    field = ConfigurableField(id="wanted")
    model = ChatTryage(router, kit.experts()).configurable_fields(goals=field)
    assert expert_of(model.invoke(kit.code)) == "coder"
    small = {"configurable": {"wanted": Goals(size=2.0)}}
    assert expert_of(model.invoke(kit.code, small)) == "writer"


def conversation(kit):
    return [
        SystemMessage("Be brief."),
        HumanMessage("first"),
        AIMessage("second"),
        HumanMessage("third"),
        AIMessage("fourth"),
        HumanMessage("fifth"),
        AIMessage("after"),
    ]


def test_which_text_is_routed(router, kit):
    read = {
        text_from: TryageSelector(router, text_from=text_from).invoke(conversation(kit)).prompt
        for text_from in ("last_message", "system_and_last", 1, 2, 3, 9)
    }
    assert read["last_message"] == read[1] == "fifth"
    assert read["system_and_last"] == "Be brief.\n\nfifth"
    assert read[2] == "fourth\n\nfifth"
    assert read[3] == "third\n\nfourth\n\nfifth"
    assert read[9] == "first\n\nsecond\n\nthird\n\nfourth\n\nfifth"
    for wrong in ("all", 0, 1.5):
        with pytest.raises(ValueError, match="text_from is"):
            TryageSelector(router, text_from=wrong)
    with pytest.raises(ValueError, match="flags_from is a function"):
        TryageSelector(router, flags_from=str, text_from=2)


def test_only_the_flags_of_the_last_message_act(router, kit):
    model = ChatTryage(router, kit.experts(), flags_from="last_message", text_from=3)
    before = [HumanMessage(f"{kit.code} {FLAG}"), AIMessage("Yes.")]
    assert expert_of(model.invoke([*before, HumanMessage(kit.code)])) == "coder"
    answer = model.invoke([*before, HumanMessage(f"{kit.code} {FLAG}")])
    assert expert_of(answer) == "writer"
    assert answer.content == f"writer says {kit.code}"


def test_the_system_message_counts_where_asked(router, kit):
    experts = kit.experts()
    messages = [SystemMessage(kit.code * 3), HumanMessage("Go on.")]
    answer = ChatTryage(router, experts, text_from="system_and_last").invoke(messages)
    assert expert_of(answer) == "coder"


def test_a_conversation_can_stay_with_its_expert(router, kit):
    experts = kit.experts()
    model = ChatTryage(router, experts, sticky=True)
    first = model.invoke(kit.code)
    talk = [HumanMessage(kit.code), first, HumanMessage(kit.prose)]
    stayed = model.invoke(talk)
    assert (expert_of(first), expert_of(stayed)) == ("coder", "coder")
    # The ranking shows what staying costs: the chosen total, beside the lowest.
    ranking = stayed.response_metadata["tryage"]["ranking"]
    cost = ranking[0]["total"] - ranking[1]["total"]
    assert (ranking[0]["expert"], ranking[1]["expert"]) == ("coder", "writer")
    assert cost > 0.5
    assert expert_of(ChatTryage(router, experts).invoke(talk)) == "writer"
    assert expert_of(ChatTryage(router, experts, sticky=cost + 0.01).invoke(talk)) == "coder"
    assert expert_of(ChatTryage(router, experts, sticky=cost - 0.01).invoke(talk)) == "writer"
    # An expert that may not answer is left, and a forced one is taken.
    small = Goals(limits={"parameters": "<=2B"})
    assert expert_of(model.invoke(talk, tryage=small)) == "writer"
    assert expert_of(model.invoke(talk, model="giant")) == "giant"
    assert model.invoke(talk, tryage=small).content == f"writer says {kit.prose}"


def test_a_string_is_made_into_a_model_at_first_use(router, kit, monkeypatch):
    from langchain import chat_models

    made = []

    def make(name):
        made.append(name)
        return kit.Calling(label=name.partition(":")[2], profile={"tool_calling": True})

    monkeypatch.setattr(chat_models, "init_chat_model", make)
    model = ChatTryage(router, {"coder": "vendor:one", "giant": "vendor:two"})
    assert (made, model.profile) == ([], None)
    assert model.invoke(kit.code).content == f"one says {kit.code}"
    assert made == ["vendor:one"]
    model.load()
    assert made == ["vendor:one", "vendor:two"]
    assert model.profile == {"tool_calling": True}


def test_a_string_that_makes_no_model_is_one_clear_error(router, kit):
    model = ChatTryage(router, {"coder": "mistralai:small"})
    with pytest.raises(MissingExtraError, match=r"'coder'.*'mistralai:small'.*langchain-mistralai"):
        model.invoke(kit.code)
    with pytest.raises(ExpertError, match=r"'coder'.*'nobody:small'"):
        ChatTryage(router, {"coder": "nobody:small"}).load()


CODE = """
import sys
sys.modules["langchain"] = None
from langchain_tryage import ChatTryage
try:
    ChatTryage("open7", {"meta-llama/Meta-Llama-3-8B": "openai:x"}).invoke("text")
except ImportError as error:
    print(type(error).__name__, error)
"""


def test_without_langchain_a_string_names_the_pip_line():
    run = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert run.stdout.startswith("MissingExtraError")
    assert 'pip install "tryage[langchain]"' in run.stdout


def test_a_pickled_model_answers_the_same(router, kit):
    model = ChatTryage(router, kit.experts())
    model.invoke(kit.code)
    again = pickle.loads(pickle.dumps(model))
    assert again.invoke(kit.code).content == f"coder says {kit.code}"
    assert again.invoke(kit.prose).content == f"writer says {kit.prose}"
    with pytest.raises(LibraryError):
        again.invoke(kit.code, model="nobody")
