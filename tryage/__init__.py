"""Send each prompt to the model that will do best on it, under your own limits and goals.

A `Router` decides: its predictor estimates every expert's loss on a prompt, and its objective
weighs that against your goals and limits. The adapters `langchain_tryage` and
`llama_index_tryage` put it into the chain you already have.
"""

from importlib.metadata import version

from tryage.decision import Decision, RankedExpert
from tryage.errors import TryageError, TryageWarning
from tryage.experts import Endpoint, Expert, Price, Security
from tryage.goals import Goal, Goals
from tryage.library import Library
from tryage.limits import Limit
from tryage.policy import Policy
from tryage.router import Router
from tryage.scores import ScoreTable

__version__ = version("tryage")

__all__ = [
    "Decision",
    "Endpoint",
    "Expert",
    "Goal",
    "Goals",
    "Library",
    "Limit",
    "Policy",
    "Price",
    "RankedExpert",
    "Router",
    "ScoreTable",
    "Security",
    "TryageError",
    "TryageWarning",
]
