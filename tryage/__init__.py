"""Send each prompt to the model that will do best on it, under your own limits and goals.

A `Router` decides: its predictor estimates every expert's loss on a prompt, and its objective
weighs that against your goals and limits. The adapters `langchain_tryage` and
`llama_index_tryage` put it into the chain you already have.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tryage.decision import Decision, RankedExpert
    from tryage.errors import TryageError, TryageWarning
    from tryage.experts import Endpoint, Expert, Price, Security
    from tryage.goals import Goal, Goals
    from tryage.library import Library
    from tryage.limits import Limit
    from tryage.policy import Policy
    from tryage.router import Router
    from tryage.scores import ScoreTable

    __version__: str
else:
    _MODULES = {
        "decision": ("Decision", "RankedExpert"),
        "errors": ("TryageError", "TryageWarning"),
        "experts": ("Endpoint", "Expert", "Price", "Security"),
        "goals": ("Goal", "Goals"),
        "library": ("Library",),
        "limits": ("Limit",),
        "policy": ("Policy",),
        "router": ("Router",),
        "scores": ("ScoreTable",),
    }
    _MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

    def __getattr__(name):  # noqa: ANN001, ANN202 - type checkers read the imports above
        """Import a public name on its first use: the command line starts at once."""
        if name == "__version__":
            value = import_module("importlib.metadata").version("tryage")
        elif name in _MODULE_OF:
            value = getattr(import_module(f"tryage.{_MODULE_OF[name]}"), name)
        else:
            raise AttributeError(f"module 'tryage' has no attribute {name!r}")
        globals()[name] = value
        return value

    def __dir__():  # noqa: ANN202
        """List the public names, imported or not."""
        return sorted({*globals(), *__all__, "__version__"})


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
