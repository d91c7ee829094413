"""Metrics: any callable ``(answer, reference) -> score``, and a few under a name."""

from __future__ import annotations

import inspect
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tryage.errors import OptionError, PromptError, did_you_mean
from tryage.labeling.rows import Row
from tryage.prompts import short

Metric = Callable[[str, str | None], float | None]
"""Answer and reference → score in [0, 1], higher is better; None if it cannot read the answer.

It may raise; then the cell has failed, with the exception as its reason.
"""

_NUMBER = re.compile(r"[-+]?\d[\d,]*(?:\.\d+)?|[-+]?\.\d+")
_WORD = re.compile(r"\w+")


# Label folders hold fingerprints of these functions: a change, if only of a local name, makes
# every older folder warn that its metric has changed.


def exact(answer: str, reference: str | None) -> float:
    """1 if the answer is the reference, up to case, punctuation and white space."""
    return float(_words(answer) == _words(_given(reference)))


def contains(answer: str, reference: str | None) -> float:
    """1 if the reference's words stand in the answer, one after another."""
    wanted, found = _words(_given(reference)), _words(answer)
    return float(f" {' '.join(wanted)} " in f" {' '.join(found)} ")


def f1(answer: str, reference: str | None) -> float:
    """Harmonic mean of precision and recall over words, as in SQuAD (Rajpurkar et al., 2016)."""
    found, wanted = Counter(_words(answer)), Counter(_words(_given(reference)))
    if not found or not wanted:
        return float(found == wanted)
    return 2.0 * (found & wanted).total() / (found.total() + wanted.total())


def number(answer: str, reference: str | None) -> float | None:
    """1 if the last number of the answer is the last of the reference; None without a number."""
    wanted = _last_number(_given(reference))
    if wanted is None:
        raise ValueError(f"the reference {reference!r} holds no number")
    found = _last_number(answer)
    return None if found is None else float(math.isclose(found, wanted, rel_tol=1e-9))


METRICS: Mapping[str, Metric] = {"contains": contains, "exact": exact, "f1": f1, "number": number}
"""Metrics by name; each needs a reference."""


def find_metric(metric: str | Metric) -> Metric:
    """Return the metric of a name; a callable is returned as it is.

    Raises:
        OptionError: no metric has that name, or the callable has another signature: better told
            before a model has answered than after.
    """
    if not isinstance(metric, str):
        _check_callable(metric)
        return metric
    if metric not in METRICS:
        names = ", ".join(METRICS)
        hint = did_you_mean(metric, list(METRICS))
        raise OptionError(f"unknown metric {metric!r}; known are {names}.{hint}")
    return METRICS[metric]


def _check_callable(metric: Any) -> None:
    what = "a metric is the name of one, or a function (answer, reference) -> score in [0, 1]"
    if not callable(metric):
        raise OptionError(f"{what}, not {short(metric)}")
    if inspect.iscoroutinefunction(metric):
        raise OptionError(f"{what}; {metric_name(metric)} is a coroutine function")
    try:
        signature = inspect.signature(metric)
    except (TypeError, ValueError):
        return  # functions written in C do not always have a signature
    try:
        signature.bind("answer", None)
    except TypeError as error:
        raise OptionError(
            f"{what}; {metric_name(metric)} takes other arguments: {error}"
        ) from error


def check_references(metric: str | Metric, rows: Sequence[Row]) -> None:
    """Refuse rows without the reference that a named metric needs.

    Raises:
        PromptError: names the prompt and the metric.
    """
    if find_metric(metric) not in METRICS.values():
        return
    for row in rows:
        if row.reference is None:
            raise PromptError(
                f"prompt {row.id!r}: reference: missing; the metric {metric_name(metric)!r} "
                "compares answers with it"
            )


def metric_name(metric: str | Callable[..., Any]) -> str:
    """Return a metric's name in the label file, by which runs are compared."""
    if isinstance(metric, str):
        return metric
    for name, function in METRICS.items():
        if function is metric:
            return name
    named = metric if hasattr(metric, "__qualname__") else type(metric)
    return f"{named.__module__}.{named.__qualname__}"


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold())


def _last_number(text: str) -> float | None:
    numbers = _NUMBER.findall(text)
    return float(numbers[-1].replace(",", "")) if numbers else None


def _given(reference: str | None) -> str:
    if reference is None:
        raise ValueError("the prompt has no reference")
    return reference
