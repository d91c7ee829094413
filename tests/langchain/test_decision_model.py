"""`TryageDecisionModel`: Choice questions whose labels are experts, and agents routed by it."""

import asyncio

import numpy as np
import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage

import langchain_tryage
from langchain_tryage import TryageSelector
from tryage import Goals, Router
from tryage.errors import (
    LibraryError,
    NoEligibleExpertError,
    OptionError,
    PromptError,
)

decisions = pytest.importorskip("langchain_core.decisions", reason="needs langchain-core 1.8")
from langchain.agents.middleware import ModelChoice, ModelRouterMiddleware  # noqa: E402

from langchain_tryage import TryageDecisionModel  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning")

NAMES = ("coder", "writer", "giant")


def choice(*labels):
    return decisions.Choice(
        instructions="Who answers?", criteria=dict.fromkeys(labels or NAMES, "good")
    )


def request(state, *labels, **questions):
    return {"state": state, "questions": questions or {"who": choice(*labels)}}


def answer(model, state, *labels, **options):
    return model.invoke(request(state, *labels), **options).choices["who"]


@pytest.fixture
def model(router):
    return TryageDecisionModel(router)


@pytest.fixture
def passes(monkeypatch):
    """Sizes of the batches that the router decided on."""
    sizes = []
    route_batch, route = Router.route_batch, Router.route

    def counted_batch(self, prompts, **kwargs):
        sizes.append(len(prompts))
        return route_batch(self, prompts, **kwargs)

    def counted(self, prompt, **kwargs):
        sizes.append(1)
        return route(self, prompt, **kwargs)

    monkeypatch.setattr(Router, "route_batch", counted_batch)
    monkeypatch.setattr(Router, "route", counted)
    return sizes


def test_it_chooses_what_the_router_chooses(model, router, kit):
    response = model.invoke(request(kit.code))
    assert response.model == router.library.name
    chosen = response.choices["who"]
    assert chosen.choice == router.route(kit.code).expert == "coder"
    assert list(chosen.probabilities) == list(NAMES)
    assert sum(chosen.probabilities.values()) == pytest.approx(1)
    assert chosen.confidence == chosen.probabilities["coder"] == max(chosen.probabilities.values())
    assert chosen.probabilities == pytest.approx(router.route(kit.code).chances())
    assert answer(model, kit.prose).choice == "writer"


async def test_the_same_in_every_way(model, kit):
    expected = model.invoke(request(kit.code))
    assert await model.ainvoke(request(kit.code)) == expected
    requests = [request(kit.code), request(kit.prose)]
    both = [expected, model.invoke(request(kit.prose))]
    for responses in (model.batch(requests), await model.abatch(requests)):
        assert [r.choices["who"].choice for r in responses] == ["coder", "writer"]
        for response, one in zip(responses, both, strict=True):
            own, other = response.choices["who"].probabilities, one.choices["who"].probabilities
            assert own == pytest.approx(other, abs=1e-3)
    assert model.batch([]) == []


STATES = {
    "a message": lambda text: HumanMessage(text),
    "messages": lambda text: [SystemMessage("x"), HumanMessage(text), AIMessage("thanks")],
    "messages as dicts": lambda text: [{"role": "user", "content": text}],
    "a mapping": lambda text: {"number": 7, "text": text, "nothing": None},
    "a nested mapping": lambda text: {"ticket": {"body": [text]}, "urgent": True},
    "messages in a mapping": lambda text: {"a": "irrelevant", "b": {"c": [HumanMessage(text)]}},
}


@pytest.mark.parametrize("state", STATES.values(), ids=STATES)
def test_text_is_found_in_every_state(model, kit, state):
    assert answer(model, state(kit.code)).choice == "coder"
    assert answer(model, state(kit.prose)).choice == "writer"


@pytest.mark.parametrize("state", [{"a": 7}, [], {"a": {"b": None}}])
def test_a_state_without_text_is_an_error(model, state):
    with pytest.raises(PromptError, match=r"no text and no message|nothing to route"):
        answer(model, state)


def test_the_source_of_the_text_is_that_of_every_class(router, kit):
    state = {"draft": kit.prose, "request": {"body": kit.code}}
    assert answer(TryageDecisionModel(router, key="request"), state).choice == "coder"
    assert answer(TryageDecisionModel(router, key="draft"), state).choice == "writer"
    with pytest.raises(PromptError, match=r"no key 'reqest'\. Did you mean 'request'"):
        answer(TryageDecisionModel(router, key="reqest"), state)
    picked = TryageDecisionModel(router, text_from=lambda state: state["draft"])
    assert answer(picked, state).choice == "writer"
    flagged = [HumanMessage(f"{kit.code} [Flag: size=2]")]
    assert answer(TryageDecisionModel(router, flags_from="last_message"), flagged).choice == (
        TryageSelector(router, output="name", flags_from="last_message").invoke(flagged)
    )
    assert (
        answer(TryageDecisionModel(router, flags_from="last_message"), flagged).choice == "writer"
    )


def test_only_labels_may_be_chosen_and_aliases_name_them(router, kit):
    assert answer(TryageDecisionModel(router), kit.code, "writer", "giant").choice == "giant"
    model = TryageDecisionModel(router, aliases={"fast": "writer", "strong": "giant"})
    chosen = answer(model, kit.code, "fast", "strong")
    assert (chosen.choice, set(chosen.probabilities)) == ("strong", {"fast", "strong"})
    assert answer(model, kit.code, "fast").confidence == 1.0


def test_limits_hold(router, kit):
    small = Goals(limits={"parameters": "<=5B"})
    chosen = answer(TryageDecisionModel(router, goals=small), kit.code)
    assert chosen.choice == "writer"
    assert chosen.probabilities == {"coder": 0.0, "writer": 1.0, "giant": 0.0}
    with pytest.raises(NoEligibleExpertError, match="no label stands for it"):
        answer(TryageDecisionModel(router, goals=small), kit.code, "coder", "giant")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (("coder", "writr"), r"label 'writr' is not an expert.*Did you mean 'writer'"),
        (("coder", "zzz"), r"label 'zzz' is not an expert.*It has: coder, writer, giant"),
        (("giant", "big"), "labels 'giant' and 'big' are both 'giant'"),
    ],
)
async def test_unknown_and_double_labels_are_errors(router, kit, labels, message):
    model = TryageDecisionModel(router, aliases={"big": "giant"})
    with pytest.raises(LibraryError, match=message):
        answer(model, kit.code, *labels)
    with pytest.raises(LibraryError, match=message):
        await model.ainvoke(request(kit.code, *labels))


QUESTIONS = [
    decisions.Noul(instructions="Is it urgent?"),
    decisions.Score(instructions="How bad?", criteria=["good", "bad"]),
    decisions.Box(instructions="Where?"),
]


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda q: q.type)
def test_other_questions_are_errors(model, kit, question):
    with pytest.raises(OptionError, match=rf"a {type(question).__name__} question.*Choice"):
        model.invoke(request(kit.code, who=question))


async def test_each_call_has_its_goals(model, kit):
    size = Goals(size=2.0)
    assert answer(model, kit.code, tryage=size).choice == "writer"
    assert (await model.ainvoke(request(kit.code), tryage=size)).choices["who"].choice == "writer"
    config = {"configurable": {"tryage_goals": {"size": 2.0}}}
    assert answer(model, kit.code, config=config).choice == "writer"
    assert answer(model, kit.code).choice == "coder"
    requests = [request(kit.code)] * 3
    for responses in (
        model.batch(requests, [{}, config, {}]),
        await model.abatch(requests, [{}, config, {}]),
    ):
        chosen = [response.choices["who"].choice for response in responses]
        assert chosen == ["coder", "writer", "coder"]
    assert [r.choices["who"].choice for r in model.batch(requests, tryage=size)] == ["writer"] * 3


async def test_a_batch_is_decided_in_one_pass(model, kit, passes):
    requests = [request(kit.code), request(kit.prose), request([HumanMessage(kit.code)])]
    model.batch(requests)
    await model.abatch(requests)
    assert passes == [3, 3]
    passes.clear()
    two = {"who": choice(), "else": choice("writer", "giant")}
    responses = model.batch([request(kit.code, **two), request(kit.prose, **two)])
    assert passes == [2, 2]
    assert [{k: a.choice for k, a in r.answers.items()} for r in responses] == [
        {"who": "coder", "else": "giant"},
        {"who": "writer", "else": "writer"},
    ]


async def test_an_error_of_a_batch_belongs_to_its_request(model, kit):
    requests = [request(kit.code), request(kit.code, "nobody"), request(kit.prose)]
    for results in (
        model.batch(requests, return_exceptions=True),
        await model.abatch(requests, return_exceptions=True),
    ):
        assert [type(result) for result in results[::2]] == [decisions.ClassifierResponse] * 2
        assert isinstance(results[1], LibraryError)
    with pytest.raises(LibraryError):
        model.batch(requests)


async def test_awaiting_uses_no_executor(model, kit, monkeypatch):
    def no_executor(*args, **kwargs):
        raise AssertionError("an executor was used")

    loop = asyncio.get_running_loop()
    monkeypatch.setattr("langchain_core.decisions.base.run_in_executor", no_executor)
    monkeypatch.setattr(loop, "run_in_executor", no_executor)
    async with asyncio.timeout(10):
        response = await model.ainvoke(request(kit.code))
    assert response.choices["who"].choice == "coder"


def agent_of(model, kit, **experts):
    middleware = ModelRouterMiddleware(
        choices={
            name: ModelChoice(model=expert, criteria="?")
            for name, expert in kit.experts(kit.Calling, **experts).items()
        },
        instructions="Who answers?",
        classifier=model,
    )
    return create_agent(kit.Calling(label="default"), [], middleware=[middleware])


async def test_it_routes_an_agent(model, kit):
    agent = agent_of(model, kit)
    for text, name in ((kit.code, "coder"), (kit.prose, "writer")):
        state = agent.invoke({"messages": [HumanMessage(text)]})
        assert state["messages"][-1].content == f"{name} says {text}"
        assert state["model_route"].choice == name
        state = await agent.ainvoke({"messages": [HumanMessage(text)]})
        assert state["messages"][-1].content == f"{name} says {text}"
    config = {"configurable": {"tryage_goals": {"size": 2.0}}}
    state = await agent.ainvoke({"messages": [HumanMessage(kit.code)]}, config)
    assert state["model_route"].choice == "writer"


def test_tracers_see_its_name(model, kit, router):
    runs = []

    class Tracer(kit.Recorder):
        def on_chain_start(self, serialized, inputs, **kwargs):
            runs.append(kwargs["metadata"])

    handler = Tracer()
    handler.on_llm_start = lambda serialized, prompts, **kwargs: runs.append(kwargs["metadata"])
    model.invoke(request(kit.code), {"callbacks": [handler]})
    model.batch([request(kit.code)] * 2, {"callbacks": [handler]})
    assert len(runs) == 3
    for metadata in runs:
        assert metadata["ls_provider"] == "tryage"
        assert metadata["ls_model_name"] == router.library.name


def test_a_router_by_name_and_options(kit):
    model = TryageDecisionModel("open7", model="mine")
    assert model.invoke(request(kit.code, *model.load().library.names[:2])).model == "mine"
    assert TryageDecisionModel("open7").model == "open7"
    for spread in (0, -1, True, "much", float("nan")):
        with pytest.raises(OptionError, match="spread"):
            TryageDecisionModel("open7", spread=spread)
    with pytest.raises(OptionError, match=r"the labels of a question"):
        TryageDecisionModel("open7", experts=["a"])
    with pytest.raises(TypeError, match=r"nonsense"):
        TryageDecisionModel("open7", nonsense=1)


def test_a_higher_spread_is_less_sure(router, kit):
    confidences = [
        answer(TryageDecisionModel(router, spread=spread), kit.code).confidence
        for spread in (1, 10, 100)
    ]
    assert confidences == sorted(confidences, reverse=True)
    assert confidences[-1] < confidences[0]


def test_it_is_calibrated_on_a_table(model, held_out_table):
    calibrated = model.calibrated(held_out_table)
    assert (model.spread, calibrated.router) == (1.0, model.router)
    requests = [request(prompt) for prompt in held_out_table.prompts]
    best = [held_out_table.experts[row.argmin()] for row in held_out_table.losses]

    def surprise(one):
        answers = [response.choices["who"] for response in one.batch(requests)]
        pairs = zip(answers, best, strict=True)
        return -np.mean([np.log(max(a.probabilities[b], 1e-6)) for a, b in pairs])

    assert surprise(calibrated) <= surprise(model) + 1e-9


def test_it_is_exported_where_langchain_has_decision_models(monkeypatch):
    assert "TryageDecisionModel" in langchain_tryage.__all__
    import sys

    monkeypatch.delitem(sys.modules, "langchain_tryage._decision_model")
    monkeypatch.setitem(sys.modules, "langchain_core.decisions", None)
    with pytest.raises(ImportError, match=r"needs langchain-core 1\.8 or newer"):
        _ = langchain_tryage.TryageDecisionModel
