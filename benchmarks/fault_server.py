"""A small chat endpoint that fails in every way that endpoints fail, for the soak.

``python benchmarks/fault_server.py`` prints its port and serves until its input ends.
"""

from __future__ import annotations

import random
import sys

from tryage.testing import FakeOpenAI

FAULTS = ("busy", "cut", "drop", "hang", "nonsense")
SHARE = 0.1
HANG = 0.4


class Faulty(FakeOpenAI):
    """Answers chat completions; a tenth of the requests meet a fault."""

    def turn(self, body: dict) -> str:
        """Draw what to do with a request."""
        self.requests.clear()
        return random.choice(FAULTS) if random.random() < SHARE else "answer"


if __name__ == "__main__":
    with Faulty(reply=lambda body: "an answer", patience=HANG) as server:
        print(server.port, flush=True)
        sys.stdin.read()
