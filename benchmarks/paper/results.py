"""Judge every way of choosing on the test prompts: by group and domain, with intervals."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from paper.choosing import fit_auto, fit_transformer, mean_regret, prompted, rivals
from paper.plan import DOMAINS, GROUPS, Plan
from paper.table import Split, read_split
from tryage import Goals, Library, Router, ScoreTable
from tryage.evaluation import references
from tryage.evaluation.intervals import bootstrap_intervals
from tryage.evaluation.metrics import (
    Measured,
    Outcomes,
    group_means,
    macro_mean,
    measured_cells,
    outcomes,
    random_outcomes,
)
from tryage.evaluation.reliability import prediction_quality
from tryage.experts import FILL_MASK
from tryage.report import plots

logger = logging.getLogger("paper")

RESAMPLES = 1000
TEST_RUNS = 2
"""How often any way of choosing was judged on the test prompts."""

GIVEN_UP = (0.01, 0.05, 0.10)
"""Shares of the loss that are given up for size."""

RIVALS = ("domain_classifier", "domain_classifier_of_prompts")
"""Ways that every other is compared with, prompt by prompt."""

FLAGS = ("[Flag: small model]", "[Flag: smallest model]")

TRANSFORMER = {"max_tokens": 128, "rate": 1e-4, "batch": 16}
"""Settings of the fine-tuned predictor. Its regret on `valid` was 0.051 with them, and 0.058 with
64 tokens and five rounds, which were tried before."""

Ways = Mapping[str, Any]
"""Way of choosing → (n,) chosen columns."""


def run(
    plan: Plan,
    results: Path,
    corpora: Path,
    work: Path,
    *,
    encoder: str | None,
    llms: Sequence[str],
    figure: Path | None = None,
) -> dict[str, Any]:
    """Fit on `train`, fix on `valid`, judge once on `test`; return what the results file holds."""
    path = results / "paper_scores.jsonl.gz"
    train, valid, test = (read_split(path, corpora, split) for split in ("train", "valid", "test"))
    library = Library.read(results / "paper_library.yaml")
    routers, fits = _routers(plan, train.table, valid.table, library, encoder, work)
    rival_ways, compared = rivals(plan, train, valid.table, corpora, encoder)
    prompts = test.table.prompts
    predicted = {name: router.predict(prompts, task=FILL_MASK) for name, router in routers.items()}
    ways: dict[str, Any] = {
        name: np.array([test.table.experts.index(d.expert) for d in _decide(router, prompts)])
        for name, router in routers.items()
    }
    ways |= {name: choose(prompts) for name, choose in rival_ways.items()}
    best = int(train.table.losses.mean(axis=0).argmin())
    unreadable = {}
    for model in llms:
        name = f"prompted:{Path(model).name}"
        ways[name], unreadable[name] = prompted(plan, model, prompts, best)
    ways["best_single_of_train"] = np.full(len(prompts), best)
    return {
        "seeds": {"experts": 0, "predictors": 0, "bootstrap": 0},
        "test_runs": TEST_RUNS,
        "prompts": {s: counts(part) for s, part in _named(train, valid, test)},
        "fits": fits,
        "compared_on_valid": compared,
        "unreadable_answers": unreadable,
        "groups": {group: judge(test, group, ways, predicted) for group in GROUPS},
        "size": {
            # The picture is the first router's.
            name: _size(router, valid, test, figure if number == 0 else None)
            for number, (name, router) in enumerate(routers.items())
        },
    }


def _named(*splits: Split) -> list[tuple[str, Split]]:
    return list(zip(("train", "valid", "test"), splits, strict=True))


def counts(split: Split) -> dict[str, int]:
    """Return group → number of its prompts."""
    return {group: sum(name == group for name in split.table.groups) for group in GROUPS}


def _routers(
    plan: Plan,
    train: ScoreTable,
    valid: ScoreTable,
    library: Library,
    encoder: str | None,
    work: Path,
) -> tuple[dict[str, Router], dict[str, Any]]:
    """The routers, the first seed's of each kind, and what is known of their fits."""
    routers: dict[str, Router] = {}
    fits: dict[str, Any] = {}
    if encoder:
        routers["transformer"], history = fit_transformer(
            train,
            library,
            encoder,
            0,
            work / "transformer",
            {**TRANSFORMER, "epochs": plan.epochs},
        )
        fits["transformer"] = {
            "settings": {**TRANSFORMER, "epochs": plan.epochs},
            "held_out_objective": history,
            "regret_on_valid": mean_regret(valid, _columns(routers["transformer"], valid)),
        }
    regrets = []
    for seed in plan.seeds:
        router, choice = fit_auto(train, library, seed)
        routers.setdefault("auto", router)
        fits.setdefault("auto", choice)
        regrets.append(mean_regret(valid, _columns(router, valid)))
    fits["auto"]["regret_on_valid_by_seed"] = regrets
    return routers, fits


def _decide(router: Router, prompts: Sequence[str], goals: Goals | None = None) -> list[Any]:
    return router.route_batch(prompts, task=FILL_MASK, flags=False, goals=goals)


def _columns(router: Router, table: ScoreTable, goals: Goals | None = None) -> Any:
    return np.array([table.experts.index(d.expert) for d in _decide(router, table.prompts, goals)])


def judge(test: Split, group: str, ways: Ways, predicted: Ways) -> dict[str, Any]:
    """Return everything about one group of prompts; means over domains of the domain's mean.

    Args:
        test: n prompts of all groups, m experts, drawn twice.
        group: the one that is judged.
        ways: way of choosing → (n,) columns; the `RIVALS` must be among them.
        predicted: router → (n, m) predicted losses.
    """
    rows = np.array([name == group for name in test.table.groups])
    part = test.part(group)
    cells, _ = measured_cells(part.table, None)
    chosen = {name: columns[rows] for name, columns in ways.items()}
    chosen["best_single"] = references.best_single(cells)
    chosen["group_best"] = references.group_best(cells)
    chosen["oracle"] = references.oracle(cells)
    if part.second is None:
        raise SystemExit("the test prompts were measured on one draw alone; measure them again")
    again = (part.second.argmin(axis=1) == part.table.losses.argmin(axis=1)).astype(float)
    made = {name: outcomes(cells, columns) for name, columns in chosen.items()}
    accuracy = {
        name: part.accuracy[np.arange(len(columns)), columns] for name, columns in chosen.items()
    }
    made["random"], accuracy["random"] = random_outcomes(cells), part.accuracy.mean(axis=1)
    singles = {name: np.full(len(part.table), i) for i, name in enumerate(part.table.experts)}
    return {
        "prompts": int(rows.sum()),
        "ceiling": _figure(again, cells),
        "ways": {
            name: _row(way, accuracy[name], {rival: made[rival] for rival in RIVALS}, cells)
            for name, way in made.items()
        },
        "share_of_ceiling": {
            name: macro_mean(way.hit, cells) / macro_mean(again, cells)
            for name, way in made.items()
        },
        "single_experts": {
            name: {
                "loss": _figure(outcomes(cells, columns).loss, cells),
                "accuracy": _figure(part.accuracy[:, columns[0]], cells),
                "best_on": float((part.table.losses.argmin(axis=1) == columns[0]).mean()),
            }
            for name, columns in singles.items()
        },
        "matrix": {
            name: _matrix(part, chosen[name]) for name in (*predicted, "oracle") if name in chosen
        },
        "prediction": {
            name: prediction_quality(cells, losses[rows])
            | _deciles(losses[rows], part.table.losses)
            for name, losses in predicted.items()
        },
    }


def _figure(values: Any, cells: Measured) -> dict[str, Any]:
    """A mean over domains of the domain's mean, its 95 % interval, and the domains."""
    [interval] = bootstrap_intervals([values], cells, resamples=RESAMPLES, seed=0)
    means = group_means(values, cells.groups, len(cells.names))
    return {
        "mean": macro_mean(values, cells),
        "ci95": interval and list(interval),
        "domains": dict(zip(cells.names, (round(float(v), 5) for v in means), strict=True)),
    }


def _row(
    way: Outcomes, accuracy: Any, rivals: Mapping[str, Outcomes], cells: Measured
) -> dict[str, Any]:
    gains = [rival.regret - way.regret for rival in rivals.values()]
    intervals = bootstrap_intervals(gains, cells, resamples=RESAMPLES, seed=0)
    return {
        "selection_accuracy": _figure(way.hit, cells),
        "strict_selection_accuracy": _figure(way.strict, cells),
        "regret": _figure(way.regret, cells),
        "loss": _figure(way.loss, cells),
        "accuracy": _figure(accuracy, cells),
        "regret_below": {
            name: {"difference": macro_mean(gain, cells), "ci95": interval and list(interval)}
            for name, gain, interval in zip(rivals, gains, intervals, strict=True)
        },
    }


def _matrix(part: Split, columns: Any) -> dict[str, dict[str, int]]:
    """Domain → expert → how often it was chosen, never left out."""
    names, groups = part.table.experts, np.array(part.table.groups)
    return {
        domain: {
            name: count
            for i, name in enumerate(names)
            if (count := int(((columns == i) & (groups == domain)).sum()))
        }
        for domain in DOMAINS
    }


def _deciles(predicted: Any, measured: Any) -> dict[str, Any]:
    """Mean predicted and measured loss over tenths of the cells, by predicted loss."""
    order = np.argsort(predicted, axis=None)
    parts = np.array_split(order, 10)
    pairs = [
        [float(predicted.ravel()[rows].mean()), float(measured.ravel()[rows].mean())]
        for rows in parts
    ]
    gap = np.mean([abs(a - b) for a, b in pairs])
    return {"deciles": pairs, "decile_gap": float(gap)}


def _size(router: Router, valid: Split, test: Split, figure: Path | None = None) -> dict[str, Any]:
    """Loss against size: the front on the test prompts, flags, and what giving up loss saves.

    The weights that give up a share of the loss are found on `valid` and judged on `test`.
    """
    table = test.table
    sizes = np.array([router.library[name].parameters for name in table.experts], dtype=float)
    free = _loss_and_size(table, _columns(router, table), sizes)
    front = router.pareto(table, "size")
    if figure is not None:
        plots.write(front.plot(), figure)
    points = router.pareto(valid.table, "size").to_dict()["points"]
    weights = [point["weight"] for point in points]
    fine = np.unique(np.concatenate([weights, np.geomspace(1e-4, 2.0, 60)]))

    def weighted(part: ScoreTable, weight: float) -> tuple[float, float]:
        return _loss_and_size(part, _columns(router, part, Goals(size=weight)), sizes)

    tried = [weighted(valid.table, float(weight)) for weight in fine]
    free_valid = weighted(valid.table, 0.0)
    saved = {}
    for share in GIVEN_UP:
        allowed = [
            (size, weight)
            for weight, (loss, size) in zip(fine, tried, strict=True)
            if loss <= (1 + share) * free_valid[0]
        ]
        weight = min(allowed)[1] if allowed else 0.0
        loss, size = weighted(table, float(weight))
        saved[f"{100 * share:g} %"] = {
            "weight": float(weight),
            "loss_given_up": loss / free[0] - 1,
            "size": size,
            "times_smaller": free[1] / size,
        }
    flags = {}
    for flag in FLAGS:
        decisions = router.route_batch([f"{p} {flag}" for p in table.prompts], task=FILL_MASK)
        columns = np.array([table.experts.index(d.expert) for d in decisions])
        loss, size = _loss_and_size(table, columns, sizes)
        flags[flag] = {"loss": loss, "size": size}
    return {
        "without_flag": {"loss": free[0], "size": free[1]},
        "front": _thinned(front.to_dict()),
        "flags": flags,
        "given_up": saved,
    }


def _loss_and_size(table: ScoreTable, columns: Any, sizes: Any) -> tuple[float, float]:
    """Mean loss and mean parameters of choices: macro averages over groups."""
    cells, _ = measured_cells(table, None)
    loss = macro_mean(outcomes(cells, columns).loss, cells)
    return loss, macro_mean(sizes[columns], cells)


def _thinned(front: dict[str, Any], most: int = 60) -> dict[str, Any]:
    """A front with at most so many of its points, evenly taken."""
    points = front["points"]
    if len(points) > most:
        places = np.unique(np.linspace(0, len(points) - 1, most).astype(int))
        points = [points[i] for i in places.tolist()]
    return front | {"points": points}
