"""A decision: the expert chosen for one prompt, the ranking, and why."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from tryage.chances import chance_of_lowest
from tryage.decision_json import DECISION_PROPERTIES, decision_fields
from tryage.deferred import Deferring
from tryage.drawing.notebook import MOST_ROWS, html_table
from tryage.errors import PromptError
from tryage.flags import Flags
from tryage.goals import Goal, find_goal
from tryage.plans import Plan
from tryage.pydantic_forms import object_schema
from tryage.ranking import excluded_columns, first_columns, is_wide, name_order, ranked_columns

Array = NDArray[np.float64]

_ALWAYS_SHOWN = ("size", "recency", "cost")
"""Goals that `Decision.explain` shows even if they have no weight; `ranking` has all."""


@dataclass(init=False, repr=False, eq=False)
class HiddenText:
    """A text that neither `repr` nor a serializer of dataclasses shows.

    Its method is named as in pydantic's `SecretStr`: serializers that must restore a value, such as
    LangGraph's for checkpoints, call it.

    Attributes:
        characters: how many there are, which is all that serializers such as `orjson` write.
    """

    __slots__ = ("_text", "characters")

    characters: int

    def __init__(self, text: str) -> None:
        self._text = text
        self.characters = len(text)

    def get_secret_value(self) -> str:
        """Return the text."""
        return self._text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, HiddenText) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __repr__(self) -> str:
        return f"<text of {self.characters} characters>"


class AbsentText(HiddenText):
    """The text of a decision that was read from JSON, which holds none."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__("")

    def get_secret_value(self) -> str:
        """Raise `PromptError`."""
        raise PromptError(
            "a decision that was read from JSON holds no prompt; give the prompt beside it"
        )

    def __repr__(self) -> str:
        return "<no text>"


@dataclass(frozen=True, slots=True)
class RankedExpert:
    """One expert's place in a ranking.

    Attributes:
        expert: its name.
        loss: predicted loss, lower is better; None for an expert of another task, and where
            nothing is measured yet.
        std: standard deviation of the predicted loss.
        total: loss plus weighted goals; None where not eligible.
        values: goal → value in the goal's unit; None where not stated.
        eligible: whether it may answer.
        reason: why it may not, or None.
    """

    expert: str
    loss: float | None
    std: float | None
    total: float | None
    values: Mapping[str, float | None]
    eligible: bool
    reason: str | None

    def to_dict(self) -> dict[str, Any]:
        """Return JSON types; `reason` only where there is one."""
        row: dict[str, Any] = {
            "expert": self.expert,
            "loss": self.loss,
            "std": self.std,
            "total": self.total,
            "values": dict(self.values),
            "eligible": self.eligible,
        }
        return row if self.reason is None else row | {"reason": self.reason}


@dataclass(frozen=True, slots=True, eq=False)
class Decision(Deferring):
    """Which expert a prompt goes to, and why. Arrays are in library order, (m,).

    Attributes:
        expert: name of the chosen expert.
        task: what the prompt asks for.
        text: holds `prompt` and hides it, so that a decision that is logged, traced or dumped as
            JSON contains no user text. A str is converted.
        names: experts in library order.
        losses: predicted loss, lower is better, NaN for experts of another task.
        std: standard deviation of the predicted loss.
        totals: loss plus weighted goals, inf where not eligible.
        values: goal → value in the goal's unit, NaN where not stated; of every goal that experts
            state values of, that something is predicted for, or that was weighed or limited.
        reasons: expert → why it is not eligible.
        weights: goal → λ that acted.
        limits: limits that acted, as text.
        flags: each directive of the prompt, as it was understood.
        out_of_distribution: the prompt is unlike all training prompts; `losses` are then the
            experts' averages.
        goals: custom goals among `values`, which format their own values.
        measured: whether losses were ever measured; if not, goals and limits alone decided, and
            `losses` are 0 where they would be.
        plan: the experts to try until a check accepts an answer; None without a check.
        question: start and end (exclusive) of the part of `prompt` that was routed, where a chain
            has built the prompt around it; None where all of it was.
        directives: the prompt's flags without its text, as routers obey them that the chosen expert
            calls; None where there were none, or they came from outside.
    """

    expert: str
    task: str
    text: HiddenText = field(repr=False)
    names: tuple[str, ...] = field(repr=False)
    losses: Array = field(repr=False)
    std: Array = field(repr=False)
    totals: Array = field(repr=False)
    values: Mapping[str, Array] = field(repr=False)
    reasons: Mapping[str, str] = field(repr=False)
    weights: Mapping[str, float]
    limits: tuple[str, ...]
    flags: tuple[str, ...]
    out_of_distribution: bool
    goals: Mapping[str, Goal] = field(default_factory=dict, repr=False, kw_only=True)
    measured: bool = field(default=True, kw_only=True)
    plan: Plan | None = field(default=None, kw_only=True)
    question: tuple[int, int] | None = field(default=None, kw_only=True)
    directives: Flags | None = field(default=None, repr=False, kw_only=True)

    def __post_init__(self) -> None:
        if isinstance(self.text, HiddenText) and isinstance(self.names, tuple):
            return
        # Serializers make strings of texts and lists of tuples, e.g. LangGraph's in a checkpoint.
        if isinstance(self.text, str):
            object.__setattr__(self, "text", HiddenText(self.text))
        for name in ("names", "limits", "flags", "question"):
            if isinstance(value := getattr(self, name), list):
                object.__setattr__(self, name, tuple(value))

    @property
    def prompt(self) -> str:
        """The prompt without its flags, as the expert gets it."""
        return self.text.get_secret_value()

    @property
    def predicted_loss(self) -> float:
        """Predicted loss of the chosen expert, lower is better; NaN where nothing is measured."""
        if not self.measured:
            return math.nan
        column = name_order(self.names).column_of[self.expert]
        return float(self._some("losses", [column])[0])

    @property
    def order(self) -> tuple[str, ...]:
        """Eligible experts in the order of calls: the plan's first, then by total."""
        columns = ranked_columns(self.totals, self.names, self.expert)
        ranked = tuple(self.names[column] for column in columns)
        if self.plan is None:
            return ranked
        planned = self.plan.experts
        return (*planned, *(name for name in ranked if name not in planned))

    def calls(self) -> Iterator[str]:
        """Yield the names in `order`; of thousands, each is computed only when it is reached."""
        deferred = self.deferred if is_wide(self.names) else None
        first = () if deferred is None else deferred.first
        yield from (self.names[column] for column in first)
        if deferred is None or not deferred.complete:
            yield from self.order[len(first) :]

    @property
    def ranking(self) -> tuple[RankedExpert, ...]:
        """Every expert: the eligible by total, then the others by name."""
        return self._ranked(None)

    def chances(self, spread: float = 1.0) -> dict[str, float]:
        """Return each expert's chance to have the lowest total, by its predicted standard error.

        Weighted goals count as they are; 0 for an expert that is not eligible. See
        `tryage.chances` for the formula.

        Args:
            spread: factor on the standard errors.
        """
        chances = chance_of_lowest(self.totals, self.std, spread)
        return dict(zip(self.names, chances.tolist(), strict=True))

    def to_dict(self, top: int | None = None) -> dict[str, Any]:
        """Return JSON types, with the keys of ``tryage route --json``.

        Args:
            top: how many experts of the ranking to keep; None keeps all.
        """
        record: dict[str, Any] = {
            "expert": self.expert,
            "ranking": self._rows(top),
            "weights": dict(self.weights),
            "flags": list(self.flags),
            "out_of_distribution": self.out_of_distribution,
        }
        if self.question is not None:
            record["question"] = list(self.question)
        return record if self.plan is None else record | {"plan": self.plan.to_dict()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Return a decision from what pydantic wrote of it as JSON; it holds no prompt.

        Goals of your own are code, so `explain` writes their values without their units.

        Raises:
            DecisionError: something is missing.
        """
        return cls(text=AbsentText(), **decision_fields(data))

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        """Let pydantic's models hold a decision; in JSON it is `to_dict`, its task and limits."""
        return object_schema(cls, cls.from_dict, cls._to_json, DECISION_PROPERTIES)

    def _to_json(self) -> dict[str, Any]:
        more = {"limits": list(self.limits), "measured": self.measured, "names": list(self.names)}
        return {**self.to_dict(), "task": self.task, **more}

    def explain(self, top: int | None = None) -> str:
        """Return the decision as printable text: one line for the choice, one per expert.

        Args:
            top: how many experts of the ranking to show; None shows all.
        """
        lines = [f"{self.expert} — {self._reason()}"]
        if self.out_of_distribution:
            lines.append("The prompt is unlike the training prompts: average losses were used.")
        if self.question is not None:
            start, end = self.question
            lines.append(
                f"Routed by characters {start} to {end} of the prompt: the question in what a "
                "chain has built around it."
            )
        if not self.measured:
            lines.append("Nothing is measured yet: goals and limits alone decided.")
        if self.plan is not None:
            lines += self.plan.explain()
        lines += [f"Flag: {flag}" for flag in self.flags]
        lines += [f"Limit: {limit}" for limit in self.limits]
        width = max(len(name) for name in self.names)
        goals = self._shown_goals()
        lines += [self._line(ranked, width, goals) for ranked in self._ranked(top)]
        return "\n".join(lines)

    def plot(self) -> Any:
        """Draw the ranking as an Altair chart: predicted losses, and what goals add to them.

        Raises:
            MissingExtraError: the extra `report` is not installed.
        """
        from tryage.drawing.rankings import ranking

        place = {name: column for column, name in enumerate(self.names)}
        columns = [place[ranked.expert] for ranked in self.ranking]
        losses = self.losses if self.measured else np.full(len(self.names), np.nan)
        return ranking(self.names, losses, self.std, self.totals, columns)

    def _repr_html_(self) -> str:
        first, *lines = self.explain(top=0).splitlines()
        goals = self._shown_goals()
        rows = [
            (
                ranked.expert,
                "–" if ranked.total is None else f"{ranked.total:.4f}",
                f"{ranked.loss:.4f} ± {ranked.std:.4f}" if ranked.loss is not None else "–",
                *(self._written(goal, ranked.values[goal]) for goal in goals),
                ranked.reason or "",
            )
            for ranked in self._ranked(MOST_ROWS)
        ]
        head = ["expert", "total", "predicted loss", *goals, "not eligible"]
        return html_table("\n".join([first, *lines]), head, rows)

    def _shown_goals(self) -> list[str]:
        return [name for name in self.values if name in self.weights or name in _ALWAYS_SHOWN]

    def _reason(self) -> str:
        if self.plan is not None:
            return "the first attempt of the plan with the least expected objective"
        eligible = int(np.isfinite(self.totals).sum())
        if eligible == 1:
            return "the only eligible expert"
        if not self.measured and not self.weights:
            return f"first by price and name of {eligible} eligible experts"
        if not self.weights:
            return f"lowest predicted loss of {eligible} eligible experts"
        weights = ", ".join(f"{goal}={weight:g}" for goal, weight in self.weights.items())
        return f"lowest total of {eligible} eligible experts, with weights {weights}"

    def _line(self, ranked: RankedExpert, width: int, goals: list[str]) -> str:
        if not ranked.eligible:
            return f"  {ranked.expert:<{width}}  not eligible: {ranked.reason}"
        values = "  ".join(f"{name} {self._written(name, ranked.values[name])}" for name in goals)
        loss = f"loss {ranked.loss:.4f} ± {ranked.std:.4f}  " if self.measured else ""
        total = f"total {ranked.total:.4f}  " if self.measured or self.weights else ""
        return f"  {ranked.expert:<{width}}  {total}{loss}{values}".rstrip()

    def _written(self, name: str, value: float | None) -> str:
        if value is None:
            return "not stated, counts as worst"
        goal = self.goals.get(name) or find_goal(name)
        return f"{value:.4g}" if goal is None else goal.format(value)

    def _some(self, name: str, columns: list[int]) -> Array:
        """Return the values of an array in some columns."""
        if is_wide(self.names):
            return self.some_of(name, columns)
        values: Array = getattr(self, name)[columns]
        return values

    def _columns(self, top: int | None) -> list[int]:
        """Return the columns of the first `top` of the ranking."""
        if top is not None and is_wide(self.names) and self.deferred is not None:
            first = first_columns(self.deferred, self.names, top)
            if first is not None:
                return first
        columns = ranked_columns(self.totals, self.names, self.expert, top)
        if top is None or len(columns) < top:
            rest = None if top is None else top - len(columns)
            columns += excluded_columns(self.totals, self.names, rest)
        return columns

    def _ranked(self, top: int | None) -> tuple[RankedExpert, ...]:
        return tuple(RankedExpert(**{"reason": None, **row}) for row in self._rows(top))

    def _rows(self, top: int | None) -> list[dict[str, Any]]:
        """Return the first `top` of the ranking, as `RankedExpert.to_dict` does."""
        columns = self._columns(top)
        nothing: list[float | None] = [None] * len(columns)
        losses = _numbers(self._some("losses", columns)) if self.measured else nothing
        std = _numbers(self._some("std", columns)) if self.measured else nothing
        totals = _numbers(self._some("totals", columns))
        values = {goal: _numbers(array[columns]) for goal, array in self.values.items()}
        rows = []
        for place, column in enumerate(columns):
            row: dict[str, Any] = {
                "expert": self.names[column],
                "loss": losses[place],
                "std": std[place],
                "total": totals[place],
                "values": {goal: numbers[place] for goal, numbers in values.items()},
                "eligible": totals[place] is not None,
            }
            if not row["eligible"] and self.names[column] in self.reasons:
                row["reason"] = self.reasons[self.names[column]]
            rows.append(row)
        return rows


def _numbers(values: Array) -> list[float | None]:
    """Return values, None where not finite."""
    numbers = values.tolist()
    return [number if math.isfinite(number) else None for number in numbers]
