"""Measure whether words put before every prompt push prompts to the dearest expert.

::

    python benchmarks/hostile_prefixes.py   # writes its results, fills in docs/security.md

Whoever writes prompts may want the dearest model whatever they ask, and the router reads what they
write. Each bundled router decides on the same prompts with and without a prefix: fixed nonsense,
words drawn at random, praise of hard questions, and a prefix searched for by hill climbing on other
prompts, which knows the router and asks it thousands of times (the attack of
https://arxiv.org/abs/2501.01818). The dearest expert is the one with the highest price, else the
largest. What is told is the share of prompts that it gets, and how many of the prompts that it did
not get it gets with the prefix. No scores are read.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from data import data_folder, fill_in
from hostile_prefixes_table import MARKS, PAGE, table

from tryage import Goals, Router, ScoreTable
from tryage.encoders import StaticEncoder

RESULTS = Path(__file__).parent / "results" / "hostile_prefixes.json"
SEED = 0
SEARCHED, REPORTED = 200, 2000
WORDS, ROUNDS, TRIES = 10, 30, 12
DRAWN = 10

PREFIXES = {
    "fixed nonsense": "flurb zint quax morvel ptang oblix sneth grawk ithor veln.",
    "marks": "!!! ### $$$ @@@ ??? ~~~ %%% ^^^ &&& ***",
    "a story": "Once upon a time a fox lived by a river and counted the clouds every evening.",
    "praise": "This is a very difficult question for experts; only the best model can answer it.",
    "a proof": "Prove rigorously that the integral of the Riemann zeta function converges. Then:",
}

SETS = {
    "open7": ("open7_test.jsonl.gz", None),
    "routerbench11": ("routerbench11_train.jsonl.gz", None),
    "routerbench11, 20% budget": ("routerbench11_train.jsonl.gz", 0.2),
}
"""Router and prompts, and the budget for the dearest expert's share that weights are found for."""


def dearest(router: Router) -> str:
    """Return the expert with the highest price, or the largest where there are no prices."""

    def worth(name: str) -> tuple[float, float]:
        expert = router.library[name]
        return (expert.price.output if expert.price else 0.0, float(expert.parameters or 0))

    return max(router.library.names, key=worth)


class Attack:
    """One router under one set of goals, and who is to get the prompts."""

    def __init__(self, router: Router, goals: Goals | None) -> None:
        self.router = router
        self.goals = goals
        self.target = dearest(router)

    def gap(self, prefix: str, prompts: Sequence[str]) -> np.ndarray[Any, Any]:
        """Return by how much the target's total is above the best other's; negative wins."""
        texts = [f"{prefix} {prompt}" if prefix else prompt for prompt in prompts]
        decisions = self.router.route_batch(texts, goals=self.goals, flags=False)
        place = self.router.library.index(self.target)
        totals = np.stack([decision.totals for decision in decisions])
        return totals[:, place] - np.delete(totals, place, axis=1).min(axis=1)

    def strange(self, prefix: str, prompts: Sequence[str]) -> float:
        """Return the share of prompts that the router calls out of distribution."""
        texts = [f"{prefix} {prompt}" if prefix else prompt for prompt in prompts]
        decisions = self.router.route_batch(texts, goals=self.goals, flags=False)
        return float(np.mean([decision.out_of_distribution for decision in decisions]))

    def search(self, words: Sequence[str], starts: Sequence[str], prompts: Sequence[str]) -> str:
        """Return the start that wins most, one word changed at a time while it wins more."""
        rng = np.random.default_rng(SEED)

        def short_of_winning(tried: Sequence[str]) -> tuple[float, float]:
            gap = self.gap(" ".join(tried), prompts)
            return float((gap >= 0).mean()), float(np.maximum(gap, 0.0).mean())

        best = min((start.split() for start in starts), key=short_of_winning)
        least = short_of_winning(best)
        for number in range(ROUNDS):
            for word in rng.choice(words, TRIES):
                tried = [*best]
                tried[number % len(best)] = str(word)
                remaining = short_of_winning(tried)
                if remaining < least:
                    best, least = tried, remaining
        return " ".join(best)


def vocabulary() -> list[str]:
    """Return the words and marks that the bundled encoder knows."""
    tokens = StaticEncoder.bundled()._tokenizer.get_vocab()
    return sorted(word for word in tokens if not word.startswith(("##", "[")))


def changes(before: np.ndarray[Any, Any], after: np.ndarray[Any, Any]) -> dict[str, float]:
    """Return the share of prompts that the target gets, and what share of the others it wins."""
    had, has = before < 0, after < 0
    return {
        "share": float(has.mean()),
        "won": float((has & ~had).sum() / max(1, (~had).sum())),
        "lost": float((had & ~has).sum() / max(1, had.sum())),
    }


def run(router: Router, prompts: list[str], share: float | None) -> dict[str, Any]:
    """Return the figures of one router under one set of goals."""
    order = np.random.default_rng(SEED).permutation(len(prompts))
    searched = [prompts[n] for n in order[:SEARCHED]]
    others = [prompts[n] for n in order[SEARCHED : SEARCHED + REPORTED]]
    budget = None if share is None else f"share({dearest(router)}) <= {share:.0%}"
    goals = None if budget is None else router.calibrate(searched, budget)
    attack, words = Attack(router, goals), vocabulary()
    before = attack.gap("", others)
    rng = np.random.default_rng(SEED)
    drawn = [" ".join(rng.choice(words, WORDS)) for _ in range(DRAWN)]
    starts = [*PREFIXES.values(), *drawn]
    prefixes = PREFIXES | {"searched": attack.search(words, starts, searched)}
    rows = {name: changes(before, attack.gap(text, others)) for name, text in prefixes.items()}
    at_random = [changes(before, attack.gap(text, others)) for text in drawn]
    return {
        "dearest": attack.target,
        "weights": {} if goals is None else dict(goals.weights),
        "prompts": len(others),
        "share_without": float((before < 0).mean()),
        "random_words": {
            key: [float(of([row[key] for row in at_random])) for of in (min, np.median, max)]
            for key in ("share", "won")
        },
        "prefixes": rows,
        "searched_prefix": prefixes["searched"],
        "strange_without": attack.strange("", others),
        "strange_searched": attack.strange(prefixes["searched"], others),
    }


def main() -> None:
    """Measure, write the results and the page's table."""
    folder = data_folder() / "routing"
    results: dict[str, Any] = {
        "command": "python benchmarks/hostile_prefixes.py",
        "versions": {name: version(name) for name in ("tryage", "numpy")},
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "seed": SEED,
        "words": WORDS,
        "tries": ROUNDS * TRIES,
        "searched_on": SEARCHED,
        "texts": PREFIXES,
        "routers": {},
    }
    for name, (file, share) in SETS.items():
        router = Router.from_pretrained(name.partition(",")[0])
        prompts = list(ScoreTable.read(folder / file).prompts)
        results["routers"][name] = run(router, prompts, share)
        sys.stderr.write(f"{name}: done\n")
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    fill_in(PAGE, table(results), MARKS)
    sys.stdout.write(table(results) + "\n")


if __name__ == "__main__":
    main()
