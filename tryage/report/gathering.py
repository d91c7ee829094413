"""Gathers what a report shows from a router and a table of measured results."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np

from tryage.assessment import Judged, front_of
from tryage.checks import Check
from tryage.deciding import Decider, Request
from tryage.drawing.beginnings import beginning, fitting
from tryage.errors import TryageError
from tryage.evaluation.doubts import doubts
from tryage.evaluation.goal_cells import GoalCells
from tryage.evaluation.metrics import (
    Measured,
    Outcomes,
    macro_shares,
    mean_over,
    measured_cells,
    outcomes,
)
from tryage.evaluation.pareto import PlacedFront
from tryage.evaluation.references import oracle
from tryage.evaluation.verdict import Verdict
from tryage.fingerprints import seen_among
from tryage.plan_assessment import evaluate_plans, plan_front
from tryage.plans import MAX_ATTEMPTS
from tryage.predictors.targets import LOSS
from tryage.report.latent import draw, latent_map, mean_interval
from tryage.report.values import (
    Array,
    Fallback,
    GroupTable,
    Indices,
    LatentMap,
    PromptRows,
    ReliabilityBins,
    ReportValues,
    TaskValues,
    WorstChoice,
)
from tryage.scores import ScoreTable

GOALS = ("cost", "size")
"""Goals whose fronts are drawn where every expert states them."""

WORST = 100
"""Worst choices that are explained."""

BINS = 10

_ALL_PROMPTS = "(all prompts)"


@dataclass(frozen=True)
class Settings:
    """What a report is made with.

    Attributes:
        train: the table that the router was fitted on, for the fitted reference rows.
        seed: of intervals, reference rows, samples and the map.
        prompts: whether the report may hold beginnings of prompts.
        check: adds what plans with this check attain.
        max_attempts: experts in a plan at most.
    """

    train: ScoreTable | None = None
    seed: int = 0
    prompts: bool = True
    check: Check | None = None
    max_attempts: int = MAX_ATTEMPTS


def gather(
    decider: Decider, table: ScoreTable, settings: Settings, provenance: Mapping[str, Any]
) -> ReportValues:
    """Return everything that a report on a table shows.

    Args:
        decider: of the router.
        table: measured results.
        settings: what to show.
        provenance: the router's.

    Raises:
        ScoreTableError: table and library do not fit.
        NoEligibleExpertError: the policy allows no expert of a task.
        MissingExtraError: the extra `report` is not installed.
    """
    train = settings.train
    trains = train.by_task(decider.library) if train is not None else {}
    tasks = tuple(
        _gather_task(decider, task, part, trains.get(task), settings)
        for task, part in table.by_task(decider.library).items()
    )
    return ReportValues(
        title=f"Router of {decider.library.name!r}: {_count(len(table), 'prompt')}",
        tasks=tasks,
        notes=tuple(_notes(table, provenance, settings)),
        origins=_origins(decider, table, provenance, settings),
    )


def _gather_task(
    decider: Decider, task: str, table: ScoreTable, train: ScoreTable | None, settings: Settings
) -> TaskValues:
    judged = Judged.of(decider, task, table)
    cells, rows = measured_cells(
        judged.open_table, judged.penalties, judged.ranks, judged.open_cells
    )
    choices = judged.choices[rows]
    outcome = outcomes(cells, choices, estimate=False)  # prompts are shown, not means of them
    ood = judged.assessed.predicted.ood[rows]
    groups = cells.names if cells.grouped else (_ALL_PROMPTS,)
    missing: dict[str, str] = {}
    drawn = draw(len(rows), settings.seed)
    latent = _latent(judged, rows, cells, drawn, settings.seed)
    if isinstance(latent, str):
        missing["map"] = latent
    worst = _worst(judged, rows, cells, outcome)
    plans, front = _plans(decider, table, train, settings, missing)
    return TaskValues(
        task=task,
        experts=table_experts(judged),
        groups=groups,
        grouped=cells.grouped,
        evaluation=judged.evaluate(train, settings.seed),
        prompts=PromptRows(
            group=cells.groups,
            chosen=choices,
            best=oracle(cells),
            loss=outcome.loss,
            regret=outcome.regret,
            ood=ood,
            beginning=_beginnings(judged, rows, drawn, worst) if settings.prompts else None,
        ),
        by_group=_by_group(cells, choices),
        reliability=_reliability(judged, cells, rows),
        fronts=tuple(_fronts(judged, missing)),
        latent=None if isinstance(latent, str) else latent,
        worst=worst,
        fallback=_fallback(judged, cells, rows, outcome, ood, settings.seed),
        missing=missing,
        measured=(~np.isnan(table.reorder(table_experts(judged)).losses)).sum(axis=0),
        plans=plans,
        plan_front=front,
    )


def table_experts(judged: Judged) -> tuple[str, ...]:
    """Return the experts of a judged table, in column order."""
    return judged.assessed.table.experts


def _by_group(cells: Measured, choices: Indices) -> GroupTable:
    count, m = len(cells.names), cells.losses.shape[1]
    values = 1.0 - cells.losses if cells.scored else cells.losses
    mean, measured, chosen = np.empty((count, m)), np.empty((count, m), int), np.empty((count, m))
    prompts = np.bincount(cells.groups, minlength=count)
    for group in range(count):
        member = cells.groups == group
        mean[group] = mean_over(values[member], axis=0)
        measured[group] = (~np.isnan(values[member])).sum(axis=0)
        own = choices[member]
        chosen[group] = np.bincount(own[own >= 0], minlength=m) / max(member.sum(), 1)
    return GroupTable(mean, measured.astype(np.intp), chosen, prompts)


def _reliability(judged: Judged, cells: Measured, rows: Indices) -> ReliabilityBins | None:
    predicted = judged.assessed.predicted
    if not predicted.measured:
        return None
    losses = predicted.losses[:, judged.assessed.columns][rows]
    both = ~np.isnan(cells.losses) & ~np.isnan(losses)
    if not both.any():
        return None
    expected, measured = losses[both], cells.losses[both]
    order = np.argsort(expected, kind="stable")
    parts = [part for part in np.array_split(order, min(BINS, len(order))) if len(part)]
    return ReliabilityBins(
        predicted=np.array([expected[part].mean() for part in parts]),
        measured=np.array([measured[part].mean() for part in parts]),
        error=np.array([measured[part].std() / np.sqrt(len(part)) for part in parts]),
        cells=np.array([len(part) for part in parts], dtype=np.intp),
    )


def _fronts(judged: Judged, missing: dict[str, str]) -> Iterator[PlacedFront]:
    assessed = judged.assessed
    for goal in GOALS:
        values = assessed.decider.objective.goal_values(
            assessed.resolved.goal(goal), assessed.realised
        )
        own = np.broadcast_to(values[..., assessed.columns], assessed.table.losses.shape)
        unknown = int(np.isnan(own).all(axis=0).sum())
        if unknown:
            missing[goal] = (
                f"{unknown} of {own.shape[1]} experts have no {goal}, stated or measured"
            )
            continue
        try:
            front = front_of(assessed, [goal])
        except TryageError as error:
            missing[goal] = str(error).splitlines()[0]
            continue
        if front.singles.values.max() <= front.singles.values.min():
            missing[goal] = f"all experts have the same {goal}"
            continue
        cells = GoalCells.of(assessed.table, [goal], [own])
        chosen = judged.choices[cells.rows]
        rows = np.flatnonzero(chosen >= 0)
        if not len(rows):
            missing[goal] = "no measured prompt has a choice"
            continue
        shares = macro_shares([cells.names[cells.groups[row]] for row in rows.tolist()])
        yield PlacedFront(
            front,
            weight=float(assessed.resolved.weights.get(goal, 0.0)),
            loss=float(shares @ cells.losses[rows, chosen[rows]]),
            value=float(shares @ cells.values[rows, chosen[rows], 0]),
        )


def _latent(
    judged: Judged, rows: Indices, cells: Measured, drawn: Indices, seed: int
) -> LatentMap | str:
    assessed = judged.assessed
    prompts = assessed.table.prompts
    return latent_map(
        assessed.decider.predictors[assessed.task],
        [prompts[row] for row in rows[drawn].tolist()],
        drawn,
        assessed.predicted.losses[:, assessed.columns][rows[drawn]],
        cells.groups[drawn] if cells.grouped else None,
        seed,
    )


def _worst(
    judged: Judged, rows: Indices, cells: Measured, outcome: Outcomes
) -> tuple[WorstChoice, ...]:
    places = _worst_places(outcome.regret, cells.groups)
    assessed = judged.assessed
    texts = [assessed.table.prompts[rows[place]] for place in places]
    if not texts:
        return ()
    decisions = assessed.decider.decide(texts, Request(task=assessed.task, flags=False))
    return tuple(
        WorstChoice(place, decision.explain(top=8))
        for place, decision in zip(places, decisions, strict=True)
    )


def _worst_places(regret: Array, groups: Indices) -> list[int]:
    """Return the rows of the highest regret; among equals the groups take turns."""
    order = np.flatnonzero(regret > 0)
    order = order[np.argsort(-regret[order], kind="stable")]
    turns: dict[tuple[float, int], int] = {}
    keys = []
    for row in order.tolist():
        key = (float(regret[row]), int(groups[row]))
        turns[key] = turns.get(key, -1) + 1
        keys.append((-key[0], turns[key], key[1], row))
    return [row for *_, row in sorted(keys)[:WORST]]


def _beginnings(
    judged: Judged, rows: Indices, drawn: Indices, worst: tuple[WorstChoice, ...]
) -> tuple[str, ...]:
    """Return the beginnings of the prompts that are shown, empty for the others."""
    texts = [""] * len(rows)
    places = sorted({*drawn.tolist(), *(choice.row for choice in worst)})
    prompts = judged.assessed.table.prompts
    cut = fitting([beginning(prompts[rows[place]]) for place in places])
    for place, text in zip(places, cut, strict=True):
        texts[place] = text
    return tuple(texts)


def _fallback(
    judged: Judged, cells: Measured, rows: Indices, outcome: Outcomes, ood: Any, seed: int
) -> Fallback | None:
    """Compare the averages' choices with the predictions' on prompts out of distribution."""
    assessed = judged.assessed
    predictor = assessed.decider.predictors[assessed.task]
    strange = np.flatnonzero(ood)
    if not len(strange):
        return None
    texts = [assessed.table.prompts[row] for row in rows[strange].tolist()]
    names = {name: column for column, name in enumerate(predictor.experts_)}
    columns = [names[name] for name in assessed.table.experts]
    predicted = predictor.predict(texts).mean[LOSS][:, columns]
    averages = assessed.predicted.losses[:, assessed.columns][rows[strange]]
    totals = np.full((len(strange), len(assessed.decider.library)), np.inf)
    totals[:, assessed.columns] = judged.totals[rows[strange]] - averages + predicted
    choices = np.full(len(rows), -1)
    choices[strange] = assessed.place(assessed.decider.objective.choose(totals))
    by_prediction = outcomes(cells, choices, estimate=False).regret[strange]
    by_average = outcome.regret[strange]
    both = ~np.isnan(by_prediction + by_average)
    if not both.any():
        return None
    difference = (by_prediction - by_average)[both]
    return Fallback(
        prompts=len(strange),
        averages=float(by_average[both].mean()),
        predictions=float(by_prediction[both].mean()),
        difference=float(difference.mean()),
        ci95=mean_interval(difference, seed),
    )


def _plans(
    decider: Decider,
    table: ScoreTable,
    train: ScoreTable | None,
    settings: Settings,
    missing: dict[str, str],
) -> tuple[Any, Any]:
    if settings.check is None:
        return None, None
    try:
        figures = evaluate_plans(
            decider, table, settings.check, settings.max_attempts, train, settings.seed
        )
        front = plan_front(decider, table, "cost", settings.check, settings.max_attempts, train)
    except TryageError as error:
        missing["plans"] = str(error).splitlines()[0]
        return None, None
    return figures, front


def _notes(table: ScoreTable, provenance: Mapping[str, Any], settings: Settings) -> Iterator[str]:
    for doubt in (seen_among(provenance, table.prompts, table.hash), *doubts(table)):
        if doubt:
            yield f"{doubt[0].upper()}{doubt[1:]}."
    if settings.train is None:
        yield (
            "Without the training table there are no rows for clusters, nearest and shuffled "
            "labels; give it with --train."
        )
    repeated = len(table) - len(set(table.prompts))
    if repeated:
        yield f"{_count(repeated, 'row')} repeat the text of another prompt of the table."


def _origins(
    decider: Decider, table: ScoreTable, provenance: Mapping[str, Any], settings: Settings
) -> dict[str, str]:
    measured = int((~np.isnan(table.losses)).sum())
    origins = {
        "table": f"{_count(len(table), 'prompt')}, {_count(len(table.experts), 'expert')}, "
        f"{measured:,} of {table.losses.size:,} cells measured, in {table.kind}",
        "table, SHA-256": table.hash[:16],
        "library": f"{decider.library.name}, {_count(len(decider.library), 'expert')}",
    }
    kinds = ", ".join(
        f"{predictor.kind} ({task})" for task, predictor in decider.predictors.items()
    )
    origins["router"] = kinds
    if "prompts" in provenance:
        origins["fitted on"] = (
            f"{_count(int(provenance['prompts']), 'prompt')}, seed {provenance.get('seed', 0)}, "
            f"SHA-256 {str(provenance.get('data_sha256', ''))[:16]}"
        )
    for task, stored in provenance.get("verdicts", {}).items():
        origins[f"verdict when it was fitted ({task})"] = Verdict.from_dict(stored).sentence()
    policy = decider.policy.combine(None, None)
    if policy.weights or policy.limits:
        weights = [f"{name}={weight:g}" for name, weight in policy.weights.items()]
        origins["policy"] = ", ".join([*weights, *map(str, policy.limits)])
    origins["seed"] = f"{settings.seed} (bootstrap of 1,000 resamples, samples, map)"
    packages = ("tryage", "numpy", "scikit-learn", "altair")
    origins["versions"] = ", ".join(
        [f"{name} {version(name)}" for name in packages] + [f"Python {platform.python_version()}"]
    )
    return origins


def _count(number: int, word: str) -> str:
    return f"{number:,} {word}{'' if number == 1 else 's'}"
