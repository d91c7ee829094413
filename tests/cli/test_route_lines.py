"""The lines of a block are those of single decisions, to the last byte."""

import json
import math
import random
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tryage import Expert, Goal, Goals, Library, Policy, Price, Router, ScoreTable, Security
from tryage.cli import route_lines
from tryage.cli.route_lines import Order, number_texts
from tryage.cli.summary import Tally
from tryage.goals.builtin import Latency
from tryage.predictors import ClustersPredictor, HybridPredictor, LinearPredictor
from tryage.prompts import read_prompts

NAMES = ('50% "off"', "großer\tübersetzer", "plain", "no-price")
SUBJECTS = ["the river", "a garden", "x ** 2", "Naïve Bayes", "为什么？", "JSON [1, 2]", "teacher"]
VERBS = ["Describe", "def f(x): return", "Translate", "Solve:", "why is"]


def texts(count, seed=0):
    rng = random.Random(seed)
    return [
        f"{rng.choice(VERBS)} {rng.choice(SUBJECTS)} {' '.join(rng.sample(SUBJECTS, 3))} {n}"
        for n in range(count)
    ]


def library(*, contexts=(2_000, 400, 100_000, 2_000)):
    return Library(
        [
            Expert(
                name=name,
                model=f"m/{number}",
                parameters=10 ** (9 + number),
                released=f"2024-0{number + 1}-11" if number else None,
                context_length=context,
                price=None
                if name == "no-price"
                else Price(input=0.1 * 3**number, output=0.7 * 3**number),
                security=Security(vendor="v"),
            )
            for number, (name, context) in enumerate(zip(NAMES, contexts, strict=True))
        ]
    )


def table(prompts, names=NAMES, *, costs=False):
    rng = np.random.default_rng(0)
    rows = []
    for number, prompt in enumerate(prompts):
        scores = rng.random(len(names)) * (0.5 + 0.5 * (np.arange(len(names)) == number % 3))
        row = {"prompt": prompt, "scores": dict(zip(names, scores.tolist(), strict=True))}
        if costs:
            spent = (rng.random(len(names)) * 10.0 ** -np.arange(2, 2 + len(names))).tolist()
            row["costs"] = dict(zip(names, spent, strict=True))
            row["response_chars"] = dict.fromkeys(names, 100 + number)
        rows.append(row)
    return ScoreTable.from_rows(rows)


PREDICTORS = {"clusters": ClustersPredictor, "hybrid": HybridPredictor, "linear": LinearPredictor}


@pytest.fixture(scope="module")
def routers():
    measured = table(texts(400))
    made = {kind: Router.fit(measured, library=library(), predictor=kind) for kind in PREDICTORS}
    made["costs"] = Router.fit(
        table(texts(400), costs=True), library=library(), predictor="clusters"
    )
    made["unmeasured"] = Router.from_library(library())
    return made


def check(router, records, *, goals=None, task=None, top=5, ascii=False):
    """Compare lines and tally of a block with decisions made one by one; return the lines."""
    records = list(read_prompts(records))
    lines, tally = Order(goals, task, top, ascii).lines(router, records)
    alone = [
        router.route(record.prompt, goals=goals, task=record.task or task) for record in records
    ]
    expected = [
        json.dumps({"id": record.id, **decision.to_dict(top)}, ensure_ascii=ascii)
        for record, decision in zip(records, alone, strict=True)
    ]
    assert lines.splitlines() == expected
    assert lines.endswith("\n")
    counted, one_by_one = tally.to_dict(), Tally.of(alone).to_dict()
    assert counted.keys() == one_by_one.keys()
    for name, value in counted.items():
        assert value == pytest.approx(one_by_one[name], nan_ok=True, rel=1e-12), name
    return [json.loads(line) for line in expected]


@pytest.mark.parametrize("kind", ["clusters", "hybrid", "linear", "costs", "unmeasured"])
@pytest.mark.parametrize(
    ("goals", "top"),
    [
        (None, 5),
        (Goals(size=0.3, recency=0.2), 5),
        (Goals(latency=0.4), 2),
        (Goals(limits=["size<=20B"]), 5),
        (Goals(limits=["latency<=4.0"]), 4),
    ],
)
def test_lines_are_those_of_single_decisions(routers, kind, goals, top):
    check(routers[kind], texts(150, seed=1), goals=goals, top=top)


def test_real_prompts_of_all_kinds():
    prompts = [
        *texts(60, seed=2),
        "Answer from the context.\n\nContext: rivers are wide.\n\nQuestion: what is 3 + 4?",
        "Translate. [Flag: smallest model]",
        "Prove it [flag: size=0.4]",
        "ไม่มีใครรู้ว่าทำไม",
        "x" * 30_000,
        "the end \x1f of [SEP] it",
    ]
    for name in ("open7", "routerbench11", "coding34"):
        lines = check(Router.from_pretrained(name), prompts)
        assert sum(bool(line["flags"]) for line in lines) == 2
        if name == "open7":
            assert {line["out_of_distribution"] for line in lines} == {True, False}
            assert any("question" in line for line in lines)


def test_prompts_that_exclude_experts_give_their_own_reasons(routers):
    prompts = ["short", "wide " * 500, "wider " * 1_000, "widest " * 5_000]
    prompts.append("narrow [Flag: size <= 20B] " + "word " * 500)
    lines = check(routers["clusters"], prompts)
    reasons = [[row["reason"] for row in line["ranking"] if "reason" in row] for line in lines]
    assert [len(one) for one in reasons] == [0, 1, 1, 3, 3]
    assert "the prompt has about 625 tokens" in " ".join(reasons[1])
    assert any("parameters" in reason for reason in reasons[4])
    limited = check(routers["costs"], prompts, goals=Goals(limits=["cost<=0.006"]))
    assert len({str(line["ranking"]) for line in limited}) == len(prompts)


def test_excluded_experts_and_characters_are_written_as_json_writes_them(routers):
    router = routers["costs"].excluding({NAMES[1]: 'away: 100% "full"'})
    for ascii in (False, True):
        lines = check(router, texts(20), ascii=ascii)
        assert {row["expert"] for row in lines[0]["ranking"]} == set(NAMES)
        assert lines[0]["ranking"][-1]["reason"] == 'away: 100% "full"'


def test_every_flag_acts_on_its_own_line(routers):
    flags = ["[Flag: smallest model]", "[Flag: newest]", "[Flag: size=0.7; newest]", ""]
    prompts = [f"{text} {flags[n % 4]}" for n, text in enumerate(texts(80))]
    lines = check(routers["costs"], prompts, goals=Goals(latency=0.1))
    assert len({str(line["weights"]) for line in lines}) == 4
    allowed = routers["costs"].with_policy(Policy(flags=["recency"], weights={"size": 0.2}))
    lines = check(allowed, prompts)
    assert any("size: not allowed by the policy" in line["flags"] for line in lines)


class Words(Goal):
    """The words of a prompt, and more where there are other prompts."""

    name, unit = "words", "words"

    def values(self, library, inputs):
        words = np.repeat(inputs.prompt_tokens[:, None] + len(inputs.prompt_tokens), 4, axis=1)
        return words * np.arange(1, 5) ** len(inputs.prompt_tokens)


def test_goals_that_look_at_other_prompts_see_one_at_a_time(routers):
    policy = Policy(goals=[Words(0.3)])
    check(routers["clusters"].with_policy(policy), texts(30))


def test_costs_that_are_not_known(routers):
    # A weight needs the price of every expert that may answer.
    router = routers["costs"].excluding({"no-price": "not for this"})
    check(router, texts(50), goals=Goals(cost=0.5, verbosity=0.2, readability=0.1))


def test_a_value_that_is_not_known_is_the_worst_of_its_own_prompt(routers, monkeypatch):
    long = "a garden, a river " * 40
    whole = Latency.values

    def unknown_of_one(self, library, inputs):
        values = whole(self, library, inputs) * np.maximum(1, inputs.prompt_tokens / 9)[:, None]
        values[:, 0] = np.nan
        return values

    monkeypatch.setattr(Latency, "values", unknown_of_one)
    check(routers["clusters"], [*texts(20), long], goals=Goals(latency=0.4))


def test_every_line_has_its_own_task():
    rows = [
        {
            "prompt": text,
            "task": task,
            "scores": {f"{task}-{n}": 0.1 * (n + number % 3) for n in (1, 2)},
        }
        for task in ("summarization", "fill-mask", "text-generation")
        for number, text in enumerate(texts(60))
    ]
    experts = [
        Expert(name=f"{task}-{n}", model=f"m/{task}{n}", task=task)
        for task in ("summarization", "fill-mask", "text-generation")
        for n in (1, 2)
    ]
    router = Router.fit(ScoreTable.from_rows(rows), library=Library(experts), predictor="clusters")
    records = [
        {"prompt": text, "id": n} | ({"task": "summarization"} if n % 3 == 0 else {})
        for n, text in enumerate(texts(30))
    ]
    records.append({"prompt": "I [MASK] it [flag: newest]", "id": "mask"})
    lines = check(router, records)
    assert {line["expert"].rsplit("-", 1)[0] for line in lines} == {
        "summarization", "fill-mask", "text-generation"
    }  # fmt: skip
    check(router, records, task="fill-mask", top=1)


def test_a_wide_library(monkeypatch):
    names = [f"e{number:04}" for number in range(700)]
    experts = [
        Expert(
            name=name,
            model=f"m/{name}",
            parameters=10**6 * (number + 1),
            context_length=100 + number,
        )
        for number, name in enumerate(names)
    ]
    router = Router.fit(table(texts(200), names), library=Library(experts), predictor="clusters")
    monkeypatch.setattr(route_lines, "_MOST_CELLS", 700 * 7)
    prompts = [*texts(30, seed=3), "a longer prompt " * 40, "the longest " * 210]
    lines = check(router, prompts)
    assert len(lines[-1]["ranking"]) == 5
    check(router, prompts, goals=Goals(size=0.2, limits=["size>=697M"]))


@given(st.lists(st.floats(), min_size=1))
def test_numbers_are_written_as_json_writes_them(numbers):
    expected = [json.dumps(one) if math.isfinite(one) else "null" for one in numbers]
    assert number_texts(np.array(numbers)) == expected


def test_numbers_of_all_sizes():
    rng = np.random.default_rng(0)
    powers = np.array([2.0**k for k in range(-60, 70)] + [10.0**k for k in range(-20, 20)])
    bits = [struct.unpack("d", rng.bytes(8))[0] for _ in range(2_000)]
    spread = rng.random(20_000) * 10.0 ** rng.integers(-6, 18, 20_000)
    numbers = np.concatenate([powers, np.nextafter(powers, 0), -powers, bits, spread])
    expected = [json.dumps(one) if math.isfinite(one) else "null" for one in numbers.tolist()]
    assert number_texts(numbers) == expected


def test_the_first_prompt_without_a_decision_is_named(routers):
    records = list(read_prompts([*texts(5), "x [Flag: fluffy]", "y [Flag: woolly]"]))
    with pytest.raises(Exception, match=r"prompt 6.*fluffy"):
        Order(None, None, 5).lines(routers["clusters"], records)
    records = list(read_prompts(["short", "z [flag: size<=1M]"]))
    with pytest.raises(Exception, match="prompt 2: no expert") as error:
        Order(None, None, 5).lines(routers["clusters"], records)
    assert set(error.value.reasons) == set(NAMES)


def test_a_block_is_one_call_of_the_router_while_spans_are_made(routers, monkeypatch):
    monkeypatch.setattr(route_lines, "is_tracing", lambda: True)
    calls = []
    whole = Router.route_batch
    monkeypatch.setattr(
        Router,
        "route_batch",
        lambda self, prompts, **more: calls.append(len(prompts)) or whole(self, prompts, **more),
    )
    check(routers["costs"], texts(20))
    assert calls == [20]
