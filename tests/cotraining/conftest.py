"""Prompts that the tiny models of the tests can learn something from."""

import random

import pytest


@pytest.fixture(scope="module")
def prompts():
    """Texts of two kinds that no tiny model has learned."""
    draw = random.Random(5)
    rows = []
    for n in range(50):
        a, b, c = (draw.randint(0, 99) for _ in range(3))
        what = draw.choice(["disk", "cable", "fan"])
        log = f"[{a:02d}:{b:02d}] WARN node-{c}: {what} failed; retry {b} of {a}"
        dish = (
            f"Peel {a} onions, add {b} grams of {draw.choice(['salt', 'rice'])} and stir {c} times."
        )
        rows += [{"prompt": log, "id": f"log-{n}", "group": "log"}]
        rows += [{"prompt": dish, "id": f"dish-{n}", "group": "dish"}]
    return rows
