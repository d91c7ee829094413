"""Fakes and contract suites, for tests of what you write for Tryage and of what you build on it.

`check_predictor`, `check_goal`, `check_encoder` and `check_check` test that your own part keeps
what the router relies on. `FakeOpenAI` is an OpenAI-compatible server on loopback, and `Gate` holds
calls until the test lets them go on. Scripted experts are in `langchain_tryage.testing` and
`llama_index_tryage.testing`.
"""

from tryage.testing.checks import check_check
from tryage.testing.encoders import check_encoder
from tryage.testing.gates import Gate
from tryage.testing.goals import check_goal
from tryage.testing.predictors import check_predictor
from tryage.testing.server import FakeOpenAI

__all__ = [
    "FakeOpenAI",
    "Gate",
    "check_check",
    "check_encoder",
    "check_goal",
    "check_predictor",
]
