"""Scores of answers: any callable ``(answer, reference) -> score``, and a few under a name."""

from __future__ import annotations

import inspect
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from tryage.dispatch import describe_error
from tryage.errors import OptionError, did_you_mean
from tryage.labeling.record import Measurement
from tryage.prompts import short
from tryage.scores.grades import readability

Metric = Callable[[str, str | None], float | None]
"""Answer and reference → score in [0, 1], higher is better; None where it cannot read the answer.

It may raise; the cell has failed then, and the reason is what it raised.
"""

_NUMBER = re.compile(r"[-+]?\d[\d,]*(?:\.\d+)?|[-+]?\.\d+")
_WORD = re.compile(r"\w+")


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
    """Return the metric of a name; a callable is its own.

    Raises:
        OptionError: there is none of that name, or it cannot be called like a metric: better said
            before a model has answered than after.
    """
    if not isinstance(metric, str):
        _check_callable(metric)
        return metric
    if metric not in METRICS:
        known = ", ".join(METRICS)
        hint = did_you_mean(metric, list(METRICS))
        raise OptionError(f"unknown metric {metric!r}; known are {known}.{hint}")
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
        return  # what is written in C does not always tell
    try:
        signature.bind("answer", None)
    except TypeError as error:
        raise OptionError(
            f"{what}; {metric_name(metric)} takes other arguments: {error}"
        ) from error


def metric_name(metric: str | Callable[..., Any]) -> str:
    """Return what a store calls a metric, to tell whether two runs measured the same."""
    if isinstance(metric, str):
        return metric
    for name, known in METRICS.items():
        if known is metric:
            return name
    named = metric if hasattr(metric, "__qualname__") else type(metric)
    return f"{named.__module__}.{named.__qualname__}"


def scored(answer: str, reference: str | None, metric: Metric, /, **told: Any) -> Measurement:
    """Return the measurement of an answer: its score as a loss, and what can be seen of it.

    Args:
        answer: what the expert wrote.
        reference: what the metric compares it with; None where there is none.
        metric: scores it.
        **told: further fields of `Measurement`, such as `latency` and `cost`.
    """
    try:
        score = metric(answer, reference)
    except Exception as error:  # noqa: BLE001 - a metric is the user's own and may raise anything
        reason = f"the metric failed: {describe_error(error)}"
        return answered(answer, math.nan, error=reason, **told)
    if score is None:
        reason = "the metric could not read the answer"
        return answered(answer, math.nan, error=reason, parse_failure=True, **told)
    value = _as_number(score)
    if not 0.0 <= value <= 1.0:
        reason = f"the metric gave {short(score)}, which is no number in [0, 1]"
        return answered(answer, math.nan, error=reason, **told)
    return answered(answer, 1.0 - value, **told)


def answered(answer: str, loss: float, /, **told: Any) -> Measurement:
    """Return the measurement of an answer whose loss is known.

    Args:
        answer: what the expert wrote.
        loss: 1 − score, or NaN where there is no score; then `error` says why.
        **told: further fields of `Measurement`.
    """
    return Measurement(
        loss,
        response_chars=float(len(answer)),
        readability=readability(answer),
        empty=not answer.strip(),
        **told,
    )


def _as_number(score: Any) -> float:
    try:
        return float(score)
    except (TypeError, ValueError):
        return math.nan


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold())


def _last_number(text: str) -> float | None:
    found = _NUMBER.findall(text)
    return float(found[-1].replace(",", "")) if found else None


def _given(reference: str | None) -> str:
    if reference is None:
        raise ValueError("the prompt has no reference")
    return reference
