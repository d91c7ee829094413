"""Every error of Tryage, in one tree.

::

    TryageError
    ├── LibraryError (ValueError)            an expert or a library is wrong
    ├── ScoreTableError (ValueError)         a score table is wrong: file, line, field
    ├── FeedbackError (ValueError)           feedback is off, or a score is none
    ├── GoalError (ValueError)               a goal, weight, limit or unit is wrong
    ├── FlagError (ValueError)               a flag holds words that mean nothing
    ├── PromptError (ValueError)             a prompt is empty or not text
    ├── DecisionError (ValueError)           JSON that is read as a decision is none
    ├── CheckError (ValueError)              a check is wrong, or has no meaning here
    ├── OptionError (ValueError)             an option is unknown or out of range
    ├── PredictorError (ValueError)          a predictor is unknown or cannot be fitted
    │   └── NotFittedError (AttributeError)  it was used before `fit`
    ├── EncoderError (ValueError)            an encoder is unknown or does not fit
    ├── RouterFolderError (ValueError)       a router folder cannot be read
    │   ├── RouterNotFoundError (FileNotFoundError)
    │   ├── FormatVersionError               it was written by a newer Tryage
    │   └── DamagedFileError                 a file of it was cut or changed
    ├── ExpertError (RuntimeError)           an expert could not be loaded or run
    │   ├── ModelNotFoundError (FileNotFoundError)
    │   ├── TaskError (ValueError)           nothing here runs this task
    │   ├── GatedModelError (PermissionError) its weights are behind terms nobody accepted yet
    │   ├── MemoryBudgetError (MemoryError)  it does not fit into memory
    │   ├── RefusedRequestError (ValueError) a server refused what it was sent
    │   └── ExpertTimeoutError (TimeoutError) it did not answer in time
    ├── DispatchError (RuntimeError)         every expert that was tried failed
    ├── RejectedError (RuntimeError)         a check rejected every answer
    ├── NoEligibleExpertError (LookupError)  limits exclude every expert
    ├── ConsentError (PermissionError)       a file asks for what the operator did not allow
    ├── HubAccessError (ConnectionError)     the Hub refused, failed or cannot be reached
    ├── OutputFolderError (FileExistsError)  the output folder holds something else
    ├── ContractError (AssertionError)       a part of your own breaks what Tryage relies on
    └── MissingExtraError (ImportError)      an optional dependency is not installed

The leaves also inherit the built-in error they resemble, so code that knows nothing of
Tryage can catch them.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


class TryageError(Exception):
    """Base of every error that Tryage raises on purpose."""


class TryageWarning(UserWarning):
    """Something was ignored or replaced; the message says what and why."""


class LibraryError(TryageError, ValueError):
    """An expert or a library is wrong."""


class ScoreTableError(TryageError, ValueError):
    """A score table is wrong; the message names file, line and field."""


class FeedbackError(TryageError, ValueError):
    """Feedback is off, or what was given is no score of an answer."""


class GoalError(TryageError, ValueError):
    """A goal, a weight, a limit or a unit is wrong."""


class FlagError(TryageError, ValueError):
    """A flag holds words that mean nothing to Tryage.

    Attributes:
        unknown: the words, as written.
    """

    def __init__(self, message: str, unknown: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.unknown = tuple(unknown)


class PromptError(TryageError, ValueError):
    """A prompt is empty or not text."""


class DecisionError(TryageError, ValueError):
    """JSON that is read as a decision is none."""


class CheckError(TryageError, ValueError):
    """A check or its rates are wrong, or checking answers has no meaning here."""


class RejectedError(TryageError, RuntimeError):
    """A check rejected every answer, and the caller asked for an error then.

    Attributes:
        answers: expert → its answer, in the order in which they were tried.
        tried: the attempts, in order (`tryage.dispatch.Attempt`).
    """

    def __init__(self, message: str, answers: Mapping[str, Any], tried: Sequence[Any] = ()) -> None:
        super().__init__(message)
        self.answers = dict(answers)
        self.tried = tuple(tried)


class OptionError(TryageError, ValueError):
    """An option is unknown or out of range."""


class PredictorError(TryageError, ValueError):
    """A predictor is unknown, or cannot be fitted on the table given."""


class NotFittedError(PredictorError, AttributeError):
    """A predictor was asked to predict before it was fitted."""


class EncoderError(TryageError, ValueError):
    """An encoder is unknown, or its files do not fit together."""


class RouterFolderError(TryageError, ValueError):
    """A router folder cannot be read."""


class RouterNotFoundError(RouterFolderError, FileNotFoundError):
    """There is no router under that name or path."""


class FormatVersionError(RouterFolderError):
    """A router folder was written by a newer version of Tryage."""


class DamagedFileError(RouterFolderError):
    """A file of a router folder was cut or changed after it was saved."""


class ExpertError(TryageError, RuntimeError):
    """An expert could not be loaded or run."""


class ModelNotFoundError(ExpertError, FileNotFoundError):
    """A model folder does not exist, or a Hub model is not in the local cache."""


class TaskError(ExpertError, ValueError):
    """Nothing here runs the task asked for."""


class GatedModelError(ExpertError, PermissionError):
    """A Hub model's weights are only given to accounts that accepted its terms."""


class MemoryBudgetError(ExpertError, MemoryError):
    """A model does not fit into the memory that there is, or that it was allowed."""


class RefusedRequestError(ExpertError, ValueError):
    """A server refused the request: its form, its length, its tools, or what it says.

    The expert may do well on another request, so the error does not count against it.
    """


class ExpertTimeoutError(ExpertError, TimeoutError):
    """An expert did not answer in the time it was given."""


class DispatchError(TryageError, RuntimeError):
    """Every expert that was tried failed.

    Attributes:
        tried: the attempts, in order (`tryage.dispatch.Attempt`).
    """

    def __init__(self, message: str, tried: Sequence[Any] = ()) -> None:
        super().__init__(message)
        self.tried = tuple(tried)


_MOST_REASONS = 100
"""Reasons in a message; a library may have thousands of experts."""


class NoEligibleExpertError(TryageError, LookupError):
    """No expert of the library may answer the prompt.

    Attributes:
        reasons: expert name → the limit or fact that excludes it.
    """

    def __init__(self, message: str, reasons: Mapping[str, str]) -> None:
        self.summary = message
        self.reasons = dict(reasons)
        shown = list(self.reasons.items())[:_MOST_REASONS]
        lines = [f"\n  {name}: {reason}" for name, reason in shown]
        if len(self.reasons) > len(shown):
            lines.append(f"\n  and {len(self.reasons) - len(shown):,} more")
        super().__init__(message + "".join(lines))


class ConsentError(TryageError, PermissionError):
    """A library or router asks for a key or a folder that the operator did not allow."""


class HubAccessError(TryageError, ConnectionError):
    """The Hugging Face Hub refused, failed, or cannot be reached."""


class OutputFolderError(TryageError, FileExistsError):
    """The output folder holds something that this command did not make."""


class ContractError(TryageError, AssertionError):
    """A part of your own breaks what Tryage relies on; `tryage.testing` raises it.

    Attributes:
        contract: the contract's name.
    """

    def __init__(self, message: str, contract: str | None = None) -> None:
        super().__init__(message)
        self.contract = contract


class MissingExtraError(TryageError, ImportError):
    """An optional dependency is not installed; the message names the pip line."""


def missing_extra(extra: str, what: str) -> MissingExtraError:
    """Build the error for an absent optional dependency; raise it `from` the ImportError."""
    return MissingExtraError(
        f"{what} needs packages that are not installed. Install them with: "
        f'pip install "tryage[{extra}]"'
    )


_LONGEST_WORD = 100
"""Characters of a word for which a near one is looked for; the time grows with their square."""


def did_you_mean(word: str, candidates: Iterable[str]) -> str:
    """Return a hint such as ``" Did you mean 'size'?"``, or an empty string."""
    if len(word) > _LONGEST_WORD:
        return ""
    close = difflib.get_close_matches(
        word, [other for other in candidates if len(other) <= _LONGEST_WORD], n=1, cutoff=0.6
    )
    return f" Did you mean {close[0]!r}?" if close else ""


_CONTROL_FLOW = (
    ("langgraph.errors", "GraphBubbleUp"),
    ("workflows.runtime.types.results", "WaitingForEvent"),
)
"""Module and name of exceptions that are control flow of frameworks, such as an interrupt."""


def is_control_flow(error: BaseException) -> bool:
    """Return whether an exception is control flow of a framework; unloaded ones raised none."""
    loaded = ((sys.modules.get(module), name) for module, name in _CONTROL_FLOW)
    kinds = tuple(getattr(module, name) for module, name in loaded if hasattr(module, name))
    return isinstance(error, kinds)
