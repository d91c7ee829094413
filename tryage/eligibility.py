"""Which experts may answer a prompt, and the reason why each other one may not."""

from __future__ import annotations

import datetime
import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tryage.errors import GoalError
from tryage.experts import Expert
from tryage.goals import GoalInputs, answer_tokens
from tryage.library import Library
from tryage.limits import ON_GOALS, Limit
from tryage.policy import ResolvedGoals

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]


MANY = 256
"""Experts from which attributes are looked at by column, and reasons written when read."""


@dataclass(frozen=True, slots=True)
class Eligibility:
    """Which experts may answer: `mask` (m,), and for each other one the reason."""

    mask: Mask
    reasons: Mapping[str, str]


class Reasons(Mapping[str, str]):
    """Reasons that are written when they are first read: a prompt may exclude thousands.

    Args:
        make: returns them, name → reason.
        one: returns the reason of one expert without the others', None where there is none.
    """

    def __init__(
        self, make: Callable[[], dict[str, str]], one: Callable[[str], str | None] | None = None
    ) -> None:
        self._make = make
        self._one = one
        self._made: dict[str, str] | None = None

    def _reasons(self) -> dict[str, str]:
        if self._made is None:
            self._made = self._make()
        return self._made

    def __getitem__(self, name: str) -> str:
        if self._one is None or self._made is not None:
            return self._reasons()[name]
        reason = self._one(name)
        if reason is None:
            raise KeyError(name)
        return reason

    def __iter__(self) -> Iterator[str]:
        return iter(self._reasons())

    def __len__(self) -> int:
        return len(self._reasons())

    def __repr__(self) -> str:
        return repr(self._reasons())

    def __reduce__(self) -> tuple[type, tuple[Any, ...]]:
        """Copy and pickle as a plain dict."""
        return dict, (dict(self._reasons()),)


def of_library(
    library: Library, unavailable: Mapping[str, str], task: str, limits: tuple[Limit, ...]
) -> Eligibility:
    """Return the experts that do a task, are available and keep limits on stated attributes.

    Raises:
        GoalError: an expert of the task does not state an attribute that a limit is on.
    """
    limits = tuple(limit for limit in limits if limit.attribute not in ON_GOALS)
    if len(library) >= MANY:
        return _of_many(library, unavailable, task, limits)
    reasons: dict[str, str] = {}
    for expert in library:
        reason = _reason(expert, unavailable, task, limits)
        if reason is not None:
            reasons[expert.name] = reason
    mask = np.array([name not in reasons for name in library.names])
    return Eligibility(mask, reasons)


def _of_many(
    library: Library, unavailable: Mapping[str, str], task: str, limits: tuple[Limit, ...]
) -> Eligibility:
    """Do what `of_library` does, by columns; reasons are written when they are read."""
    codes, tasks = library.distinct("task", operator.attrgetter("task"))
    mask = np.array([one == task for one in tasks])[codes]
    mask[[library.index(name) for name in unavailable if name in library]] = False
    of_limits = [limit.of(library) for limit in limits]
    unstated = np.logical_or.reduce([mask & out for _, out in of_limits], initial=False)
    for column in np.flatnonzero(unstated)[:1].tolist():
        _reason(library.experts[column], unavailable, task, limits)  # raises
    for holds, _ in of_limits:
        mask &= holds

    def one(name: str) -> str | None:
        return _reason(library[name], unavailable, task, limits) if name in library else None

    def every() -> dict[str, str]:
        experts = (library.experts[column] for column in np.flatnonzero(~mask).tolist())
        return {expert.name: _reason(expert, unavailable, task, limits) or "" for expert in experts}

    return Eligibility(mask, Reasons(every, one))


def _reason(
    expert: Expert, unavailable: Mapping[str, str], task: str, limits: tuple[Limit, ...]
) -> str | None:
    """Return why an expert may not answer, whatever the prompt, or None if it may.

    Raises:
        GoalError: it does not state an attribute that a limit is on.
    """
    if expert.task != task:
        return f"its task is {expert.task}, the prompt asks for {task}"
    if expert.name in unavailable:
        return unavailable[expert.name]
    broken = (limit.reason_against(expert) for limit in limits)
    return "; ".join(reason for reason in broken if reason is not None) or None


def excluded_by_prompt(
    library: Library,
    eligible: Mask,
    resolved: ResolvedGoals,
    inputs: GoalInputs,
    values: Mapping[str, Array],
) -> Mask | None:
    """Mask of experts that a prompt excludes: a goal limit is broken or the context is too small.

    Args:
        library: m experts.
        eligible: (m,) experts that stated attributes allow.
        resolved: the limits.
        inputs: of n prompts.
        values: goal → (m,) or (n, m), for the goals that are limited.

    Returns:
        (n, m), or None if no prompt can exclude any expert.

    Raises:
        GoalError: an eligible expert has no value of a goal that is limited.
    """
    out: Mask | None = None
    if inputs.longest > library.fits_everywhere:
        prompt, answer = _tokens_needed(library, inputs)
        out = prompt + answer > library.context_lengths
    for limit in resolved.limits:
        if limit.attribute in ON_GOALS:
            broken = ~limit.holds_for(_limited(library, limit, eligible, values))
            out = broken if out is None else out | broken
    if out is not None and out.ndim == 1:
        out = np.broadcast_to(out, (len(inputs.prompt_tokens), len(out)))
    return out


def too_long(library: Library, inputs: GoalInputs, columns: NDArray[np.intp]) -> Mask:
    """Mask of some experts, any shape, whose contexts are too small for the one prompt."""
    prompt, answer = _tokens_needed(library, inputs, columns)
    long: Mask = prompt[0] + answer[0] > library.context_lengths[columns]
    return long


def reasons_for_row(
    library: Library,
    eligible: Mask,
    resolved: ResolvedGoals,
    inputs: GoalInputs,
    values: Mapping[str, Array],
    name: str | None = None,
) -> dict[str, str]:
    """Return why eligible experts, or the one of a name, may not answer one prompt."""
    if name is not None:
        eligible = eligible & (np.arange(len(library)) == library.index(name))
    by_column: dict[int, list[str]] = {}
    prompt, answer = (tokens[0] for tokens in _tokens_needed(library, inputs))
    for column in np.flatnonzero(eligible & (prompt + answer > library.context_lengths)).tolist():
        reason = _too_long(library, column, prompt[column], answer[column])
        by_column.setdefault(column, []).append(reason)
    for limit in resolved.limits:
        if limit.attribute not in ON_GOALS:
            continue
        limited = _limited(library, limit, eligible, values)
        row = limited if limited.ndim == 1 else limited[0]
        for column in np.flatnonzero(eligible & ~limit.holds_for(row)).tolist():
            by_column.setdefault(column, []).append(limit.reason(row[column]))
    return {library.names[column]: "; ".join(reasons) for column, reasons in by_column.items()}


def overflow(library: Library, column: int, tokens: float) -> str | None:
    """Return why a prompt of so many tokens leaves one expert no room for an answer, or None."""
    prompt, answer = _tokens_needed(library, GoalInputs(datetime.date.min, np.array([tokens])))
    if prompt[0, column] + answer[0, column] <= library.context_lengths[column]:
        return None
    return _too_long(library, column, prompt[0, column], answer[0, column])


def _tokens_needed(
    library: Library, inputs: GoalInputs, columns: NDArray[np.intp] | slice = slice(None)
) -> tuple[Array, Array]:
    """Return the tokens of prompts and of the room for their answers, (n, m) each.

    The room is the expected length of an answer, and at most an eighth of the context, so that
    experts of small contexts answer briefly rather than never.
    """
    factors, answer = library.token_factors[columns], answer_tokens(inputs)
    if answer.shape[1] > 1:
        answer = answer[:, columns]
    prompt = inputs.prompt_tokens[:, None] * factors
    answer = np.minimum(answer * factors, library.most_room[columns])
    return prompt, np.broadcast_to(answer, prompt.shape)


def _too_long(library: Library, column: int, prompt: float, answer: float) -> str:
    reason = (
        f"context_length is {library.context_lengths[column]:.0f}, the prompt has about "
        f"{prompt:.0f} tokens"
    )
    return f"{reason} and its answer needs about {answer:.0f}" if answer else reason


def _limited(library: Library, limit: Limit, eligible: Mask, values: Mapping[str, Array]) -> Array:
    limited = values[limit.attribute]
    if np.isnan(limited).any():
        unknown = np.isnan(limited).reshape(-1, len(eligible)).any(axis=0) & eligible
        if unknown.any():
            name = library.names[int(np.flatnonzero(unknown)[0])]
            raise GoalError(
                f"the limit '{limit}' cannot be checked: the {limit.attribute} of expert "
                f"{name!r} is unknown. State or measure it, or drop the limit."
            )
    return limited
