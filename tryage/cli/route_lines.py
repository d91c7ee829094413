"""Lines of decisions for blocks of prompts: the arrays of a block at once, no object per prompt.

A line is that of `Decision.to_dict`, to the last byte. Where a number could depend on the other
prompts of a block, the prompts are decided one by one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from tryage.cli.summary import Tally
from tryage.deciding import read_prompt
from tryage.errors import NoEligibleExpertError, PromptError, TryageError
from tryage.experts import task_of_prompt
from tryage.flags import Flags
from tryage.forecast import Forecast
from tryage.goals import GoalInputs, Goals
from tryage.policy import ResolvedGoals
from tryage.prompts import PromptRecord
from tryage.ranking import excluded_columns, name_order, ranked_columns
from tryage.router import Router
from tryage.tokens import count_tokens
from tryage.tracing import is_tracing

Array = NDArray[np.float64]
Columns = NDArray[np.intp]
Block = list[PromptRecord]

TOP = 5
"""Experts of a ranking on each line, where `--top` does not say otherwise."""

_MOST_CELLS = 2**20
"""Prompts times experts that are decided at once: an array of them takes 8 MB."""

_WIDE = 512
"""Experts from which a few are picked from each row, instead of sorting whole rows together."""

_SMALLEST, _LARGEST = 1e-4, 1e16
"""Numbers between these are written without an exponent, alike by every correct writer."""

_ELIGIBLE = '"eligible": true}'

_write_numbers = TypeAdapter(list[float]).dump_json


@dataclass(frozen=True)
class Order:
    """Goals and task of every prompt, and how its line is written.

    Attributes:
        goals: weights and limits.
        task: of lines that name none.
        top: experts of each ranking.
        ascii: whether characters beyond ASCII are escaped.
    """

    goals: Goals | None
    task: str | None
    top: int
    ascii: bool = False

    def lines(self, router: Router, block: Block) -> tuple[str, Tally]:
        """Return a line of JSON for every prompt, and the tally of the decisions.

        Raises:
            TryageError: of the first prompt without a decision; names its file and line.
        """
        most = max(1, _MOST_CELLS // len(router.library))
        parts = [block[start : start + most] for start in range(0, len(block), most)]
        try:
            written = [_Part(router, self, part).write() for part in parts]
        except TryageError as error:
            raise _located(error, router, block, self) from error
        tally = written[0][1]
        for _, more in written[1:]:
            tally = tally.plus(more)
        return "".join(text for text, _ in written), tally


@dataclass(frozen=True)
class _Group:
    """Rows of a part that have the same task, weights and limits."""

    task: str
    resolved: ResolvedGoals
    rows: list[int]


class _Part:
    """Some prompts that are predicted together.

    Args:
        router: decides.
        order: goals and task of every prompt, and the form of its line.
        block: n prompts, at least one.
    """

    def __init__(self, router: Router, order: Order, block: Sequence[PromptRecord]) -> None:
        self._router = router
        self._order = order
        self._block = block
        self._lines = [""] * len(block)
        self._encode = json.JSONEncoder(ensure_ascii=order.ascii).encode
        self._tallies: list[Tally] = []

    def write(self) -> tuple[str, Tally]:
        """Return the lines, and the tally of the decisions.

        Raises:
            TryageError: some prompt has no decision.
        """
        if is_tracing():
            self._one_by_one(range(len(self._block)))
        else:
            self._together()
        tally = self._tallies[0]
        for more in self._tallies[1:]:
            tally = tally.plus(more)
        return "".join(self._lines), tally

    def _together(self) -> None:
        parsed = [read_prompt(record.prompt, True) for record in self._block]
        rows_of: dict[str, list[int]] = {}
        for row, record in enumerate(self._block):
            task = record.task or self._order.task or task_of_prompt(parsed[row].prompt)
            rows_of.setdefault(task, []).append(row)
        for task, rows in rows_of.items():
            texts = [parsed[row].prompt for row in rows]
            predicted = self._router.forecast(texts, task=task)
            tokens = np.array([count_tokens(text) for text in texts], dtype=np.float64)
            for group in self._groups(task, rows, parsed):
                if len(group.rows) == len(rows):
                    self._group(group, predicted, tokens)
                else:
                    places = np.searchsorted(rows, group.rows)
                    self._group(group, _rows_of(predicted, places), tokens[places])

    def _groups(self, task: str, rows: Sequence[int], parsed: Sequence[Flags]) -> Iterable[_Group]:
        policy, goals = self._router.policy, self._order.goals
        plain = policy.combine(goals, None)
        groups: dict[object, _Group] = {}
        for row in rows:
            resolved = policy.combine(goals, parsed[row]) if parsed[row].found else plain
            key = None
            if resolved is not plain:
                key = (tuple(resolved.weights.items()), resolved.limits, resolved.flags)
            group = groups.get(key)
            if group is None:
                groups[key] = _Group(task, resolved, [row])
            else:
                group.rows.append(row)
        return groups.values()

    def _one_by_one(self, rows: Iterable[int]) -> None:
        """Decide for rows as `Router.route_batch` does, an object for each."""
        rows_of: dict[str | None, list[int]] = {}
        for row in rows:
            rows_of.setdefault(self._block[row].task or self._order.task, []).append(row)
        for task, own in rows_of.items():
            prompts = [self._block[row].prompt for row in own]
            decisions = self._router.route_batch(prompts, goals=self._order.goals, task=task)
            for row, decision in zip(own, decisions, strict=True):
                line = {"id": self._block[row].id, **decision.to_dict(self._order.top)}
                self._lines[row] = f"{self._encode(line)}\n"
            self._tallies.append(Tally.of(decisions))

    def _group(self, group: _Group, predicted: Forecast, tokens: Array) -> None:
        """Decide for the n rows of a group, from their forecast and their tokens (n,)."""
        objective = self._router.objective
        inputs = objective.goal_inputs(tokens, predicted.targets)
        values = objective.shown(group.resolved, inputs)
        mask = objective.eligibility(group.task, group.resolved.limits).mask
        if not _is_row_by_row(group.resolved, values, mask):
            self._one_by_one(group.rows)
            return
        totals = objective.totals(predicted.losses, group.task, group.resolved, inputs, values)
        chosen = objective.choose(totals)
        if chosen.min() < 0:
            raise NoEligibleExpertError("no expert may answer:", {})
        self._tallies.append(Tally.of_rows(chosen, predicted, totals, values.get("cost")))
        columns = _ranked(totals, self._router.library.names, chosen, self._order.top)
        rankings = self._rankings(group, columns, predicted, inputs, values, totals)
        self._write_rows(group, chosen, rankings, predicted)

    def _write_rows(
        self, group: _Group, chosen: Columns, rankings: Sequence[str], predicted: Forecast
    ) -> None:
        encode, names = self._encode, self._router.library.names
        heads = {
            column: f', "expert": {encode(names[column])}, "ranking": ['
            for column in np.unique(chosen).tolist()
        }
        acted = (
            f'], "weights": {encode(dict(group.resolved.weights))}, '
            f'"flags": {encode(list(group.resolved.flags))}, "out_of_distribution": '
        )
        ends = (f"{acted}false", f"{acted}true")
        questions = predicted.questions or (None,) * len(group.rows)
        parts = zip(
            group.rows, chosen.tolist(), rankings, predicted.ood.tolist(), questions, strict=True
        )
        for row, column, ranking, is_strange, question in parts:
            part = "" if question is None else f', "question": {encode(list(question))}'
            self._lines[row] = (
                f'{{"id": {encode(self._block[row].id)}{heads[column]}{ranking}'
                f"{ends[is_strange]}{part}}}\n"
            )

    def _rankings(
        self,
        group: _Group,
        columns: Columns,
        predicted: Forecast,
        inputs: GoalInputs,
        values: Mapping[str, Array],
        totals: Array,
    ) -> list[str]:
        """Return the ranked experts of every row as JSON, without the brackets around them.

        Args:
            group: of n rows.
            columns: (n, top) of the experts, in order.
            predicted: of the n prompts.
            inputs: of the goals.
            values: goal → (m,) or (n, m), shown for every expert.
            totals: (n, m), inf where not eligible.
        """
        numbers = [predicted.losses, predicted.std] if predicted.measured else []
        numbers += [totals, *(array for array in values.values() if array.ndim == 2)]
        ranked = [np.take_along_axis(array, columns, axis=1) for array in numbers]
        texts = zip(*map(number_texts, ranked), strict=True)
        names = self._router.library.names
        forms = _Forms(names, values, self._encode, measured=predicted.measured)
        flat = columns.ravel().tolist()
        cells = [forms[column] % text for column, text in zip(flat, texts, strict=True)]
        top = columns.shape[1]
        is_out = ~(np.take_along_axis(totals, columns, axis=1) < np.inf)
        for row in np.flatnonzero(is_out.any(axis=1)).tolist():
            reasons = self._reasons(group, columns[row][is_out[row]], inputs.row(row))
            for place in np.flatnonzero(is_out[row]).tolist():
                reason = reasons.get(names[columns[row, place]])
                more = "" if reason is None else f', "reason": {self._encode(reason)}'
                cell = cells[row * top + place].removesuffix("true}")
                cells[row * top + place] = f"{cell}false{more}}}"
        return [", ".join(cells[start : start + top]) for start in range(0, len(cells), top)]

    def _reasons(self, group: _Group, out: Columns, inputs: GoalInputs) -> Mapping[str, str]:
        """Return why some experts may not answer a prompt: name → reason.

        Args:
            group: the prompt's.
            out: columns of the experts.
            inputs: of the prompt.
        """
        objective, resolved = self._router.objective, group.resolved
        eligibility = objective.eligibility(group.task, resolved.limits)
        if not eligibility.mask[out].any():
            return eligibility.reasons  # of every prompt alike
        return objective.reasons(group.task, resolved, inputs)


class _Forms(dict[int, str]):
    """Column → an expert's JSON in a ranking, with ``%s`` for numbers that differ by prompt.

    Args:
        names: of the experts.
        values: goal → (m,) or (n, m).
        encode: writes JSON.
        measured: whether losses were measured.
    """

    def __init__(
        self,
        names: Sequence[str],
        values: Mapping[str, Array],
        encode: Callable[[Any], str],
        *,
        measured: bool,
    ) -> None:
        self._names = names
        self._values = values
        self._encode = encode
        self._loss = "%s" if measured else "null"

    def __missing__(self, column: int) -> str:
        shown = [
            f"{self._literal(goal)}: "
            + ("%s" if array.ndim == 2 else number_texts(array[column : column + 1])[0])
            for goal, array in self._values.items()
        ]
        self[column] = (
            f'{{"expert": {self._literal(self._names[column])}, "loss": {self._loss}, '
            f'"std": {self._loss}, "total": %s, "values": {{{", ".join(shown)}}}, {_ELIGIBLE}'
        )
        return self[column]

    def _literal(self, text: str) -> str:
        return self._encode(text).replace("%", "%%")


def number_texts(values: Array) -> list[str]:
    """Return numbers as `json.dumps` writes them, in order; ``null`` where not finite."""
    flat = values.ravel()
    size = np.abs(flat)
    with_exponent = ((size < _SMALLEST) & (size > 0)) | ((size >= _LARGEST) & (size < np.inf))
    texts = _write_numbers(flat.tolist()).decode()[1:-1].split(",")
    for place in np.flatnonzero(with_exponent).tolist():
        texts[place] = repr(float(flat[place]))
    return texts


def _is_row_by_row(
    resolved: ResolvedGoals, values: Mapping[str, Array], eligible: NDArray[np.bool_]
) -> bool:
    """Tell whether no prompt's penalties depend on the other prompts.

    The worst of several prompts stands for a value that is not known, and goals of your own may
    do as they like.

    Args:
        resolved: the weights.
        values: goal → (m,) or (n, m).
        eligible: (m,).
    """
    weighed = (values[name] for name in resolved.weights)
    return not resolved.goals and not any(
        array.ndim == 2 and np.isnan(array[:, eligible]).any() for array in weighed
    )


def _ranked(totals: Array, names: tuple[str, ...], chosen: Columns, top: int) -> Columns:
    """Return the first columns of every ranking, (n, top or m if that is less).

    Args:
        totals: (n, m), inf where not eligible.
        names: of the experts.
        chosen: (n,), the column that comes first.
        top: columns at most.
    """
    if len(names) >= _WIDE:
        rows = []
        for row, column in zip(totals, chosen.tolist(), strict=True):
            first = ranked_columns(row, names, names[column], top)
            rows.append(first + excluded_columns(row, names, top - len(first)))
        return np.array(rows, dtype=np.intp)
    by_name = np.array(name_order(names).columns, dtype=np.intp)
    keys = np.where(totals < np.inf, totals, np.inf)
    keys[np.arange(len(keys)), chosen] = -np.inf
    return by_name[np.argsort(keys[:, by_name], axis=1, kind="stable")[:, :top]]


def _rows_of(predicted: Forecast, places: Columns) -> Forecast:
    """Return the forecast of some prompts."""
    return Forecast(
        predicted.losses[places],
        predicted.std[places],
        predicted.ood[places],
        {name: values[places] for name, values in predicted.targets.items()},
        predicted.measured,
        tuple(predicted.questions[place] for place in places) if predicted.questions else (),
    )


def _located(
    error: TryageError, router: Router, records: Iterable[PromptRecord], order: Order
) -> TryageError:
    """Return the error of the first prompt without a decision, with its file and line."""
    for record in records:
        try:
            router.route(record.prompt, goals=order.goals, task=record.task or order.task)
        except NoEligibleExpertError as reason:
            return NoEligibleExpertError(f"{record.where}: {reason.summary}", reason.reasons)
        except TryageError as reason:
            return PromptError(f"{record.where}: {reason}")
    return error
