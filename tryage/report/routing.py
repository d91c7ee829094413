"""What a file of decisions comes to: shares, predicted costs, drift, kinds of prompts."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tryage.drawing.beginnings import beginning
from tryage.encoders import StaticEncoder
from tryage.kinds import find_kinds
from tryage.report.decision_rows import DecisionRow
from tryage.scores import ScoreTable

PERIODS = 24
"""Parts of time at most."""

MOST_PROMPTS = 10_000
"""Prompts that are clustered at most; of more, as many at random."""

_STRANGE = "(out of distribution)"


@dataclass(frozen=True)
class ExpertShare:
    """One expert among the decisions.

    Attributes:
        expert: its name.
        count: decisions that chose it.
        share: of all decisions.
        loss: mean predicted loss where it was chosen; None where it is not known.
        cost: mean predicted USD where it was chosen; None where it is not known.
        answered: decisions that it answered; None where no line says who did.
    """

    expert: str
    count: int
    share: float
    loss: float | None
    cost: float | None
    answered: int | None


@dataclass(frozen=True)
class Alone:
    """What always asking one expert would have come to, by the predictions.

    Attributes:
        expert: its name.
        compared: decisions whose line holds predictions of it.
        loss: mean predicted loss of what was chosen minus the expert's; below 0 the router is
            better. None where it is not known.
        saved: mean predicted USD of the expert minus that of what was chosen. None likewise.
        saved_share: the same, as a share of the expert's cost.
    """

    expert: str
    compared: int
    loss: float | None
    saved: float | None
    saved_share: float | None


@dataclass(frozen=True)
class Period:
    """A part of the time, or of the lines where they have no times.

    Attributes:
        name: when it begins, or which lines it holds.
        decisions: how many.
        shares: expert → share of them.
        strange: share out of distribution.
        strange_ci95: its interval (Wilson).
        cost: mean predicted USD; None where it is not known.
    """

    name: str
    decisions: int
    shares: Mapping[str, float]
    strange: float
    strange_ci95: tuple[float, float]
    cost: float | None


@dataclass(frozen=True)
class RoutedKind:
    """A cluster of similar prompts.

    Attributes:
        words: typical words, each in five different prompts at least.
        prompts: different prompts in it.
        share: of all different prompts.
        chosen: expert → share of its prompts, the most frequent first.
        strange: share out of distribution.
    """

    words: tuple[str, ...] = field(repr=False)
    prompts: int
    share: float
    chosen: Mapping[str, float]
    strange: float


@dataclass(frozen=True)
class RoutingValues:
    """What a report on decisions shows.

    Attributes:
        source: where they come from.
        decisions: how many.
        span: first and last time; None without times.
        experts: the chosen experts, most first.
        alone: every expert that rankings name, in the order of the difference in cost, then loss.
        periods: in order.
        strange: share out of distribution.
        drift: change of that share from the first half to the second, and its interval; None
            where there are fewer than 20 decisions.
        kinds: None where the lines hold no prompts, or they may not be shown.
        weights: goal → share of the decisions it was weighed in.
        flagged: share of the decisions whose prompts held flags.
        planned: share of the decisions with a plan.
        other_answered: share that another expert than the chosen one answered; None where no line
            says who answered.
    """

    source: str
    decisions: int
    span: tuple[datetime.datetime, datetime.datetime] | None
    experts: tuple[ExpertShare, ...]
    alone: tuple[Alone, ...]
    periods: tuple[Period, ...]
    strange: float
    drift: tuple[float, tuple[float, float]] | None
    kinds: tuple[RoutedKind, ...] | None
    weights: Mapping[str, float]
    flagged: float
    planned: float
    other_answered: float | None


def gather_routing(
    rows: Sequence[DecisionRow], source: str, *, prompts: bool = True, seed: int = 0
) -> RoutingValues:
    """Return what decisions come to.

    Args:
        rows: at least one.
        source: what the report calls the file.
        prompts: whether typical words of the prompts may be shown.
        seed: of clusters and samples.
    """
    rows = sorted(
        rows, key=lambda row: row.time or datetime.datetime.min.replace(tzinfo=datetime.UTC)
    )
    times = [row.time for row in rows if row.time is not None]
    answered = [row for row in rows if row.answered_by is not None]
    others = [row for row in answered if row.answered_by != row.expert]
    weights = Counter(name for row in rows for name in row.weights)
    return RoutingValues(
        source=source,
        decisions=len(rows),
        span=(times[0], times[-1]) if times else None,
        experts=_experts(rows),
        alone=_alone(rows),
        periods=_periods(rows),
        strange=_share(rows, lambda row: row.out_of_distribution),
        drift=_drift(rows),
        kinds=_kinds(rows, seed) if prompts else None,
        weights={name: count / len(rows) for name, count in weights.most_common()},
        flagged=_share(rows, lambda row: row.flags > 0),
        planned=_share(rows, lambda row: row.planned > 0),
        other_answered=len(others) / len(answered) if answered else None,
    )


def _share(rows: Sequence[DecisionRow], holds: Callable[[DecisionRow], bool]) -> float:
    return sum(map(holds, rows)) / len(rows)


def _mean(values: Any) -> float | None:
    numbers = [value for value in values if value is not None]
    return float(np.mean(numbers)) if numbers else None


def _experts(rows: Sequence[DecisionRow]) -> tuple[ExpertShare, ...]:
    counts = Counter(row.expert for row in rows)
    answered = Counter(row.answered_by for row in rows if row.answered_by is not None)
    names = sorted({*counts, *answered}, key=lambda name: (-counts[name], name))
    return tuple(
        ExpertShare(
            expert=name,
            count=counts[name],
            share=counts[name] / len(rows),
            loss=_mean(row.loss for row in rows if row.expert == name),
            cost=_mean(row.cost for row in rows if row.expert == name),
            answered=answered[name] if answered else None,
        )
        for name in names
    )


def _alone(rows: Sequence[DecisionRow]) -> tuple[Alone, ...]:
    """Compare what was chosen with every expert, on the decisions that rank it."""
    names = sorted({name for row in rows for name in row.alternatives})
    compared = []
    for name in names:
        pairs = [(row, row.alternatives[name]) for row in rows if name in row.alternatives]
        losses = [
            row.loss - other.loss
            for row, other in pairs
            if row.loss is not None and other.loss is not None
        ]
        costs = [
            (row.cost, other.cost)
            for row, other in pairs
            if row.cost is not None and other.cost is not None
        ]
        theirs = sum(cost for _, cost in costs)
        saved = theirs - sum(cost for cost, _ in costs)
        compared.append(
            Alone(
                expert=name,
                compared=len(pairs),
                loss=_mean(losses),
                saved=saved / len(costs) if costs else None,
                saved_share=saved / theirs if theirs > 0 else None,
            )
        )
    return tuple(sorted(compared, key=lambda one: (-(one.saved or 0.0), one.loss or 0.0)))


def _periods(rows: Sequence[DecisionRow]) -> tuple[Period, ...]:
    if rows[0].time is None or rows[-1].time == rows[0].time:
        size = -(-len(rows) // min(PERIODS, max(1, len(rows) // 10)))
        starts = range(0, len(rows), size)
        return tuple(
            _period(
                f"{start + 1:,} to {min(start + size, len(rows)):,}", rows[start : start + size]
            )
            for start in starts
        )
    step, written = _step(rows)
    parts: dict[datetime.datetime, list[DecisionRow]] = {}
    zero = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
    for row in rows:
        if row.time is not None:
            parts.setdefault(zero + (row.time - zero) // step * step, []).append(row)
    return tuple(_period(start.strftime(written), part) for start, part in sorted(parts.items()))


def _step(rows: Sequence[DecisionRow]) -> tuple[datetime.timedelta, str]:
    """Return the shortest usual length of a period with which there are few, and its format."""
    times = [row.time for row in rows if row.time is not None]
    span = times[-1] - times[0]
    day, hour = datetime.timedelta(days=1), datetime.timedelta(hours=1)
    for step in (hour / 60, hour / 6, hour, 6 * hour, day, 7 * day, 28 * day):
        if span / step <= PERIODS:
            return step, "%Y-%m-%d" if step >= day else "%Y-%m-%d %H:%M"
    return span / PERIODS, "%Y-%m-%d"


def _period(name: str, rows: Sequence[DecisionRow]) -> Period:
    counts = Counter(row.expert for row in rows)
    strange = sum(row.out_of_distribution for row in rows)
    return Period(
        name=name,
        decisions=len(rows),
        shares={expert: count / len(rows) for expert, count in counts.items()},
        strange=strange / len(rows),
        strange_ci95=_wilson(strange, len(rows)),
        cost=_mean(row.cost for row in rows),
    )


def _wilson(count: int, of: int) -> tuple[float, float]:
    """Return the 95 % interval of a share (Wilson, 1927)."""
    z = 1.959964
    share, weight = count / of, z * z / of
    middle = (share + weight / 2) / (1 + weight)
    half = z * np.sqrt(share * (1 - share) / of + weight / of / 4) / (1 + weight)
    return float(max(middle - half, 0.0)), float(min(middle + half, 1.0))


def _drift(rows: Sequence[DecisionRow]) -> tuple[float, tuple[float, float]] | None:
    """Return how much the share out of distribution rose from the first half to the second."""
    if len(rows) < 20:
        return None
    half = len(rows) // 2
    counts = [
        (sum(row.out_of_distribution for row in part), len(part))
        for part in (rows[:half], rows[half:])
    ]
    (before, (low, high)), (after, (least, most)) = [
        (count / of, _wilson(count, of)) for count, of in counts
    ]
    change = after - before
    # Newcombe (1998), method 10: Wilson's intervals of both shares, combined.
    down = np.hypot(after - least, high - before)
    up = np.hypot(most - after, before - low)
    return change, (float(change - down), float(change + up))


def _kinds(rows: Sequence[DecisionRow], seed: int) -> tuple[RoutedKind, ...] | None:
    """Cluster the prompts that the lines hold; None where they hold none."""
    with_prompts = [row for row in rows if row.prompt is not None and row.prompt.strip()]
    if not with_prompts:
        return None
    if len(with_prompts) > MOST_PROMPTS:
        drawn = np.random.default_rng([seed, 10]).permutation(len(with_prompts))[:MOST_PROMPTS]
        with_prompts = [with_prompts[place] for place in np.sort(drawn).tolist()]
    names = sorted({row.expert for row in with_prompts})
    columns = (*names, _STRANGE)
    scores = np.zeros((len(with_prompts), len(columns)))
    for place, row in enumerate(with_prompts):
        scores[place, names.index(row.expert)] = 1.0
        scores[place, -1] = row.out_of_distribution
    nothing = (None,) * len(with_prompts)
    prompts = tuple(row.prompt or "" for row in with_prompts)
    table = ScoreTable(
        prompts,
        tuple(map(str, range(len(with_prompts)))),
        nothing,
        nothing,
        nothing,
        columns,
        1.0 - scores,
        "scores",
    )
    vectors = StaticEncoder.bundled().encode(prompts)
    return tuple(
        RoutedKind(
            words=tuple(beginning(word, 40) for word in kind.words),
            prompts=kind.prompts,
            share=kind.share,
            chosen={
                name: 1.0 - loss
                for name, loss in sorted(kind.losses.items(), key=lambda item: item[1])
                if name != _STRANGE and loss < 1.0
            },
            strange=1.0 - kind.losses[_STRANGE],
        )
        for kind in find_kinds(table, vectors, seed=seed, words=True)
    )
