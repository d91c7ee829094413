"""Decisions, goals and policies in pydantic's models: states of graphs, events, arguments."""

import json

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from tryage import Decision, Goals, Policy
from tryage.checks import Check
from tryage.dispatch import DispatchedDecision, dispatch, record
from tryage.errors import DecisionError, PromptError
from tryage.goals import Goal

CODE = "def alpha_count(total, count=3):\n    return total\n"
MARK = "XYZZYMARK"


class Model(BaseModel):
    """Holds one of each."""

    decision: Decision
    goals: Goals
    policy: Policy | None = None


class Typed(TypedDict):
    """The same kind in a typed dictionary."""

    decision: Decision


def made(router, **options):
    """A decision with everything that one can hold."""
    prompt = f"Context: {MARK}\n\nQuestion: {CODE} [Flag: small model]"
    return router.route(prompt, goals=Goals(limits={"parameters": "<=1B"}), flags=True, **options)


def assert_same(restored, decision):
    """Nothing but the prompt is lost."""
    assert restored.to_dict() == decision.to_dict()
    assert restored.explain() == decision.explain()
    assert (restored.order, restored.task) == (decision.order, decision.task)
    assert (restored.limits, restored.flags) == (decision.limits, decision.flags)
    assert (restored.names, restored.question) == (decision.names, decision.question)
    assert restored.plan == decision.plan
    assert restored.totals.tolist() == decision.totals.tolist()


@pytest.mark.parametrize("check", [None, Check(lambda p, a: True, accepts_wrong=0.0)])
def test_a_decision_comes_back_from_json_without_its_prompt(scored_router, check):
    decision = made(scored_router, check=check)
    assert decision.reasons
    assert (decision.plan is None) == (check is None)
    adapter = TypeAdapter(Decision)
    written = adapter.dump_json(decision)
    assert MARK.encode() not in written
    assert json.loads(written)["expert"] == decision.expert
    for restored in (
        adapter.validate_json(written),
        adapter.validate_python(adapter.dump_python(decision, mode="json")),
        Decision.from_dict(json.loads(written)),
    ):
        assert type(restored) is Decision
        assert_same(restored, decision)
        with pytest.raises(PromptError, match="holds no prompt; give the prompt beside it"):
            _ = restored.prompt
        assert "no text" in repr(restored.text)


def test_a_decision_stays_itself_where_nothing_is_dumped(router):
    decision = made(router)
    assert TypeAdapter(Decision).validate_python(decision) is decision
    model = Model(decision=decision, goals=Goals(size=0.3))
    assert model.decision is decision
    assert model.model_dump()["decision"] == TypeAdapter(Decision).dump_python(decision)
    assert_same(Model(**model.model_dump()).decision, decision)
    assert MARK not in str(model.model_dump())
    assert TypeAdapter(Typed).validate_python({"decision": decision})["decision"] is decision
    assert MARK not in repr(model)


def test_models_with_fields_of_tryage_come_back_from_json(router):
    decision = made(router)
    goals = Goals(size=0.25, cost=1, limits={"parameters": "<=3.7B", "license": ["mit"]})
    policy = Policy(limits={"parameters": "<=8B"}, max_weights={"size": 0.5})
    model = Model(decision=decision, goals=goals, policy=policy)
    again = Model.model_validate_json(model.model_dump_json())
    assert_same(again.decision, decision)
    assert (again.goals, again.policy) == (goals, policy)
    typed = TypeAdapter(Typed)
    assert_same(typed.validate_json(typed.dump_json({"decision": decision}))["decision"], decision)
    assert Model(decision=decision, goals={"size": 0.25, "limits": {}}).goals == Goals(size=0.25)


def test_the_record_of_the_calls_comes_back_too(router):
    decision = router.route(CODE)
    outcome = dispatch(decision, lambda name: 1 // (name != decision.expert))
    dispatched = record(decision, outcome)
    adapter = TypeAdapter(DispatchedDecision)
    restored = adapter.validate_json(adapter.dump_json(dispatched))
    assert_same(restored, dispatched)
    assert (restored.tried, restored.answered_by) == (dispatched.tried, dispatched.answered_by)
    assert len(restored.tried) == 2
    within = TypeAdapter(Decision)
    assert within.validate_python(dispatched) is dispatched
    assert json.loads(within.dump_json(dispatched))["answered_by"] == dispatched.answered_by


@pytest.mark.parametrize("kind", [Decision, DispatchedDecision, Goals, Policy, Model])
@pytest.mark.parametrize("mode", ["validation", "serialization"])
def test_each_has_a_schema(kind, mode):
    schema = TypeAdapter(kind).json_schema(mode=mode)
    assert (schema["type"], schema["title"]) == ("object", kind.__name__)


def test_the_schema_names_what_is_written(router):
    properties = TypeAdapter(Decision).json_schema()["properties"]
    written = TypeAdapter(Decision).dump_python(router.route(CODE), mode="json")
    assert properties.keys() == written.keys()


@pytest.mark.parametrize(
    ("kind", "value", "words"),
    [
        (Decision, 5, "found 5; give a Decision or a mapping"),
        (Decision, {}, "no decision in JSON, as pydantic writes it: KeyError"),
        (Decision, {"ranking": 3}, "no decision in JSON"),
        (DispatchedDecision, {}, "with the record of its calls: KeyError: 'tried'"),
        (Goals, {"sizee": 1}, "unknown goal 'sizee'. Did you mean 'size'"),
        (Goals, "size", "give a Goals or a mapping"),
        (Policy, {"limit": 1}, "unknown key 'limit' in a policy"),
    ],
)
def test_what_is_none_of_them_is_refused(kind, value, words):
    with pytest.raises(ValidationError, match=words):
        TypeAdapter(kind).validate_python(value)


def test_a_decision_whose_expert_is_none_of_its_names_is_refused(router):
    data = TypeAdapter(Decision).dump_python(router.route(CODE), mode="json")
    with pytest.raises(DecisionError, match="'nobody' is not among names"):
        Decision.from_dict({**data, "expert": "nobody"})


class Hops(Goal):
    """A goal of one's own."""

    name, unit = "hops", "network hops"

    def value(self, expert):
        return 1.0


def test_goals_of_your_own_are_not_left_out_silently():
    with pytest.raises(ValueError, match="goals of your own are code"):
        TypeAdapter(Goals).dump_json(Goals(custom=[Hops(0.2)]))
