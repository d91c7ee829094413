"""Summary of many decisions: experts, predicted loss and cost, against each expert alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from tryage.decision import Decision
from tryage.evaluation.choices import Choices
from tryage.forecast import Forecast

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Tally:
    """Counts and sums over decisions of one router, from which their summary is written.

    Arrays are in library order, (m,). Sums of losses and of costs (USD per prompt) are NaN where
    a summand is unknown.

    Attributes:
        prompts: how many decisions.
        strange: how many of them were out of distribution.
        measured: whether losses were ever measured.
        priced: whether some cost is known.
        chosen: decisions for each expert.
        always_eligible: 1 where an expert might have answered every prompt, else 0.
        own_losses: predicted losses of the prompts that an expert gets.
        own_costs: predicted costs of these.
        all_losses: predicted losses of all prompts were an expert alone.
        all_costs: predicted costs of these.
    """

    prompts: int
    strange: int
    measured: bool
    priced: bool
    chosen: Array
    always_eligible: Array
    own_losses: Array
    own_costs: Array
    all_losses: Array
    all_costs: Array

    @classmethod
    def of(cls, decisions: Sequence[Decision]) -> Self:
        """Count decisions, at least one."""
        names = decisions[0].names
        columns = {name: column for column, name in enumerate(names)}
        chosen = np.array([columns[decision.expert] for decision in decisions])
        unknown = np.full(len(names), np.nan)
        forecast = Forecast(
            losses=np.stack([decision.losses for decision in decisions]),
            std=np.stack([decision.std for decision in decisions]),
            ood=np.array([decision.out_of_distribution for decision in decisions]),
            measured=all(decision.measured for decision in decisions),
        )
        totals = np.stack([decision.totals for decision in decisions])
        costs = np.stack([decision.values.get("cost", unknown) for decision in decisions])
        return cls.of_rows(chosen, forecast, totals, costs)

    @classmethod
    def of_rows(
        cls, chosen: NDArray[np.intp], forecast: Forecast, totals: Array, costs: Array | None
    ) -> Self:
        """Count decisions for n prompts, at least one.

        Args:
            chosen: (n,) columns of the experts.
            forecast: of the prompts.
            totals: (n, m), inf where an expert is not eligible.
            costs: (m,) or (n, m), USD per prompt, NaN where not known; None where nowhere.
        """
        losses = forecast.losses
        costs = np.broadcast_to(np.nan if costs is None else costs, losses.shape)
        is_own = chosen[:, None] == np.arange(losses.shape[1])
        return cls(
            prompts=len(losses),
            strange=int(forecast.ood.sum()),
            measured=forecast.measured,
            priced=bool(not np.isnan(costs).all()),
            chosen=is_own.sum(axis=0).astype(np.float64),
            always_eligible=np.asarray((totals < np.inf).all(axis=0), dtype=np.float64),
            own_losses=np.where(is_own, losses, 0.0).sum(axis=0),
            own_costs=np.where(is_own, costs, 0.0).sum(axis=0),
            all_losses=losses.sum(axis=0),
            all_costs=costs.sum(axis=0),
        )

    def plus(self, more: Tally) -> Tally:
        """Return the tally of these decisions and of others."""
        return Tally(
            self.prompts + more.prompts,
            self.strange + more.strange,
            self.measured and more.measured,
            self.priced or more.priced,
            self.chosen + more.chosen,
            self.always_eligible * more.always_eligible,
            self.own_losses + more.own_losses,
            self.own_costs + more.own_costs,
            self.all_losses + more.all_losses,
            self.all_costs + more.all_costs,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return JSON types."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {
            name: value.tolist() if isinstance(value, np.ndarray) else value
            for name, value in values.items()
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Rebuild a tally from what `to_dict` returned."""
        values: dict[str, Any] = {
            name: np.array(value, dtype=np.float64) if isinstance(value, list) else value
            for name, value in data.items()
        }
        return cls(**values)

    def summary(
        self,
        names: Sequence[str],
        *,
        scored: bool,
        among_best: Mapping[str, float] | None = None,
    ) -> str:
        """Return a table of the decisions as plain text.

        Args:
            names: the experts, in library order.
            scored: whether losses are 1 - score.
            among_best: expert → share of the training prompts on which none was better, where
                known.
        """
        shown = [_Figure("score" if scored else "loss", ".4f", self.own_losses, self.all_losses)]
        shown = shown if self.measured else []
        if scored:
            shown = [
                one._replace(own=self.chosen - one.own, alone=self.prompts - one.alone)
                for one in shown
            ]
        if self.priced:
            costs = (1000.0 * self.own_costs, 1000.0 * self.all_costs)
            shown.append(_Figure("USD/1000", ".4g", *costs))
        heads = [one.name for one in shown]
        rows = [["", "share", *heads, *(f"alone {name}" for name in heads)]]
        for column in sorted(range(len(names)), key=lambda c: (-self.chosen[c], names[c])):
            count = self.chosen[column]
            own = [one.written(one.own[column], count) for one in shown]
            allowed = self.prompts if self.always_eligible[column] else 0
            alone = [one.written(one.alone[column], allowed) for one in shown]
            rows.append([names[column], f"{count / self.prompts:.1%}", *own, *alone])
        routed = [one.written(float(one.own.sum()), self.prompts) for one in shown]
        rows.append(["routed", "100.0%", *routed])
        if not self.measured:
            unmeasured = "Nothing is measured yet: goals and limits alone decided."
            return "\n".join([*_aligned(rows), unmeasured])
        spread = Choices.of_counts(names, self.chosen, among_best or {})
        caption = (
            f"{self.prompts} prompts. Predicted means: of the prompts that an expert gets, and of "
            "all prompts were it alone (- where it may not answer them all)."
        )
        familiarity = (
            f"Out of distribution: {self.strange / self.prompts:.1%} of the prompts, unlike all "
            "training prompts, so routed by the experts' averages."
        )
        evenness = f"Evenness of the shares (entropy, 0 to 1): {spread.entropy:.2f}."
        return "\n".join([*_aligned(rows), caption, familiarity, evenness, *spread.warning()])


class _Figure(NamedTuple):
    """One figure of a summary: sums over an expert's own prompts, and over all, (m,) each."""

    name: str
    how: str
    own: Array
    alone: Array

    def written(self, total: float, count: float) -> str:
        """Return a mean as text, "-" over no prompts."""
        return format(total / count, self.how) if count else "-"


def _aligned(rows: list[list[str]]) -> list[str]:
    widths = [
        max(len(row[place]) for row in rows if place < len(row)) for place in range(len(rows[0]))
    ]
    return [
        "  ".join(
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=False))
        ).rstrip()
        for row in rows
    ]
