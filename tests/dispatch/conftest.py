"""A decision over made-up experts."""

import numpy as np
import pytest

from tryage.decision import Decision


def make_decision(*order: str) -> Decision:
    losses = np.arange(len(order), dtype=float)
    return Decision(
        expert=order[0],
        task="text-generation",
        prompt="text",
        names=order,
        losses=losses,
        std=np.zeros(len(order)),
        totals=losses,
        values={},
        reasons={},
        weights={},
        limits=(),
        flags=(),
        out_of_distribution=False,
    )


@pytest.fixture
def decide():
    """A function: expert names, best first → a decision."""
    return make_decision
