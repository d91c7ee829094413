"""Conversations that stay with an expert, and those that do not: switches, cost, loss.

Made-up conversations of several subjects, some turns with tools, go through `ChatTryage` over
scripted experts; what each call costs is counted with prompt caches as vendors keep them: an expert
reads from its cache what it read or wrote in this conversation, if that was within the last
`KEEPS` calls and is `CACHED_FROM` tokens or more. Prices and scores are made up, too.

``python benchmarks/sticky.py`` writes ``benchmarks/results/sticky.json`` and the table of
``docs/conversations.md``.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from sticky_table import write

from langchain_tryage import ChatTryage
from langchain_tryage.testing import ScriptedChat
from tryage import Goals, Library, Router, ScoreTable
from tryage.binding.staying import CACHED_FROM
from tryage.tokens import count_tokens

RESULT = Path(__file__).parent / "results" / "sticky.json"
CONVERSATIONS, TURNS, KEEPS = 60, 10, 5
STAYS_ON_SUBJECT = 0.75
WITH_TOOLS = 0.3
WEIGHTS = (0.05, 0.2, 0.5)
STICKY: dict[str, Any] = {
    "False": False,
    "True": True,
    "0.05": 0.05,
    "0.2": 0.2,
    "'price'": "price",
}

SUBJECTS = {
    "code": ("Write a Python function that {} a list of {} numbers.", ("sorts", "halves", "sums")),
    "law": ("May a court {} claim {} without a hearing?", ("dismiss", "delay", "refer")),
    "food": ("How do I {} {} loaves of rye bread?", ("bake", "slice", "freeze")),
}
SCORES = {
    "coder": {"code": 0.92, "law": 0.55, "food": 0.6},
    "jurist": {"code": 0.5, "law": 0.9, "food": 0.65},
    "small": {"code": 0.55, "law": 0.6, "food": 0.8},
    "large": {"code": 0.88, "law": 0.86, "food": 0.88},
}
"""Expected score of each expert on each subject."""

PRICES = {
    "coder": {"input": 1.0, "output": 4.0, "cached_input": 0.1},
    "jurist": {"input": 1.2, "output": 4.8, "cached_input": 0.3},
    "small": {"input": 0.15, "output": 0.6, "cached_input": 0.075},
    "large": {"input": 2.5, "output": 10.0, "cached_input": 0.25},
}
"""USD per million tokens."""

RULES = "You help the staff of a town hall. " + "Answer politely, name your sources. " * 160
ANSWER = "This is what I would do, step by step, and why. " * 40
DOCUMENT = "The minutes of the meeting say the following about the matter. " * 60


def question(subject: str, rng: random.Random) -> str:
    """Return a question on a subject."""
    template, verbs = SUBJECTS[subject]
    return template.format(rng.choice(verbs), rng.randint(2, 999))


def made_router(seed: int = 0) -> Router:
    """Return a router fitted on 240 made-up questions."""
    rng = random.Random(seed)
    rows = []
    for number in range(240):
        subject = list(SUBJECTS)[number % len(SUBJECTS)]
        scores = {
            name: min(1.0, max(0.0, expected[subject] + rng.gauss(0, 0.1)))
            for name, expected in SCORES.items()
        }
        rows.append({"prompt": question(subject, rng), "group": subject, "scores": scores})
    experts = [{"name": n, "model": f"made-up/{n}", "price": p} for n, p in PRICES.items()]
    library = Library.from_dict({"name": "town-hall", "experts": experts})
    return Router.fit(ScoreTable.from_rows(rows), library=library, predictor="clusters", seed=seed)


def conversation(rng: random.Random) -> list[tuple[str, str, int]]:
    """Return the turns of a conversation: subject, the user's text, calls of tools."""
    turns, subject = [], rng.choice(list(SUBJECTS))
    for _ in range(TURNS):
        if rng.random() > STAYS_ON_SUBJECT:
            subject = rng.choice([other for other in SUBJECTS if other != subject])
        text = question(subject, rng)
        calls = rng.randint(1, 3) if rng.random() < WITH_TOOLS else 0
        turns.append((subject, text, calls))
    return turns


class Meter:
    """Counts what a conversation costs, and how well it is answered."""

    def __init__(self) -> None:
        self.usd = self.loss = 0.0
        self.calls = self.switches = self.inside_tools = 0
        self._cached: dict[str, tuple[int, float]] = {}
        self._last: str | None = None

    def call(self, expert: str, subject: str, messages: list[BaseMessage], in_loop: bool) -> None:
        """Count one call, whose messages end with its answer."""
        price = PRICES[expert]
        *sent, answer = messages
        read, written = _tokens(sent), _tokens([answer])
        at, prefix = self._cached.get(expert, (-KEEPS - 1, 0.0))
        cached = prefix if self.calls - at <= KEEPS and prefix >= CACHED_FROM else 0.0
        usd = cached * price["cached_input"] + (read - cached) * price["input"]
        self.usd += (usd + written * price["output"]) / 1e6
        self.loss += 1 - SCORES[expert][subject]
        if self._last is not None and self._last != expert:
            self.switches += 1
            self.inside_tools += in_loop
        self._cached[expert] = (self.calls, read + written)
        self._last = expert
        self.calls += 1


def _tokens(messages: list[BaseMessage]) -> float:
    return sum(count_tokens(message.text) for message in messages)


def run(chat: ChatTryage, turns: list[tuple[str, str, int]], meter: Meter) -> None:
    """Hold a conversation: tools are called by the answers that the simulation puts in."""
    messages: list[BaseMessage] = [SystemMessage(RULES)]
    for number, (subject, text, calls) in enumerate(turns):
        messages.append(HumanMessage(text))
        for call in range(calls + 1):
            answer = chat.invoke(messages)
            expert = answer.response_metadata["tryage"]["answered_by"]
            if call < calls:
                tool = {"name": "minutes", "args": {"page": call}, "id": f"{number}-{call}"}
                record = answer.response_metadata
                answer = AIMessage("", tool_calls=[tool], response_metadata=record)
            messages.append(answer)
            meter.call(expert, subject, messages, in_loop=call > 0)
            if call < calls:
                messages.append(ToolMessage(DOCUMENT, tool_call_id=f"{number}-{call}"))


def simulate(router: Router, sticky: Any, weight: float) -> dict[str, float]:
    """Return figures of all conversations under one way to stay."""
    experts = {name: ScriptedChat(label=name, answer=ANSWER) for name in PRICES}
    chat = ChatTryage(router, experts, sticky=sticky, goals=Goals(cost=weight))
    meters = []
    for seed in range(CONVERSATIONS):
        meter = Meter()
        run(chat, conversation(random.Random(seed)), meter)
        meters.append(meter)
    calls = sum(meter.calls for meter in meters)
    scale = router.objective.scales["cost"]
    per_usd = router.objective.spreads["text-generation"] / (scale.high - scale.low)
    usd, loss = sum(m.usd for m in meters), sum(m.loss for m in meters)
    return {
        "switches": round(sum(m.switches for m in meters) / len(meters), 2),
        "inside_tools": round(sum(m.inside_tools for m in meters) / len(meters), 2),
        "usd_per_conversation": round(usd / len(meters), 5),
        "score": round(1 - loss / calls, 4),
        "loss_and_weighted_cost": round((loss + weight * per_usd * usd) / calls, 4),
    }


if __name__ == "__main__":
    fitted = made_router()
    results = {
        "conversations": CONVERSATIONS,
        "turns": TURNS,
        "rows": {
            str(weight): {name: simulate(fitted, sticky, weight) for name, sticky in STICKY.items()}
            for weight in WEIGHTS
        },
    }
    RESULT.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    write(results)
