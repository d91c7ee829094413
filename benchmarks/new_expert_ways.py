"""Ways to estimate a left-out expert from probes, and what `new_expert.py` compares them by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tryage import ScoreTable
from tryage.encoders import CachedEncoder, StaticEncoder
from tryage.predictors import ClustersPredictor
from tryage.predictors.cells import new_expert_cells
from tryage.predictors.new_expert import CellPrior, ProbeResiduals, posterior_cells

Floats = NDArray[Any]

POOL = 300
"""Random training prompts among which probes are chosen one by one."""


class Part(NamedTuple):
    """One target (loss, or cost) of a left-out expert and of the others."""

    weight: float
    cells: Floats  # (cells, m - 1), of the others
    others: Floats  # (n, m - 1), measured on the training prompts
    new: Floats  # (n,)
    prior: CellPrior  # learned from the others, in units of their averages for cost


@dataclass(frozen=True)
class LeftOut:
    """One expert, left out of a router.

    Attributes:
        table: name of the table.
        column: the expert's.
        centres: of the router's cells, (cells, dim).
        member: how much each cell counts for each training prompt, (n, cells).
        shown: the same for the test prompts, (n_test, cells).
        parts: by target.
        least: lowest expected total of the other experts, (n_test,).
        without: realised total of the router without the expert, (n_test,).
        own: realised total of the expert, (n_test,).
        refit: gain of a full refit, (n_test,).
    """

    table: str
    column: int
    centres: Floats
    member: Floats
    shown: Floats
    parts: dict[str, Part]
    least: Floats
    without: Floats
    own: Floats
    refit: Floats

    def gain(self, way: Way, count: int, seed: list[int]) -> Floats:
        """Return the gain per test prompt of adding the expert from so many probes."""
        rows = way.probes(self, min(count, len(self.member)), np.random.default_rng(seed))
        total = sum(
            part.weight * (self.shown @ way.cells(self, target, rows))
            for target, part in self.parts.items()
        )
        gain: Floats = np.where(total < self.least, self.without - self.own, 0.0)
        return gain


def measured_on_all(table: ScoreTable) -> ScoreTable:
    """Return the prompts on which every expert's loss and cost were measured."""
    costs = table.targets.get("cost")
    complete = ~np.isnan(table.losses).any(axis=1)
    if costs is not None:
        complete &= ~np.isnan(costs).any(axis=1)
    targets = {} if costs is None else {"cost": costs}
    return replace(table, targets=targets).select(complete)


def realised(table: ScoreTable, per_usd: float) -> Floats:
    """Return loss plus weighted cost of every expert, (n, m)."""
    return table.losses + (per_usd * table.targets["cost"] if per_usd else 0.0)


def left_out(name: str, train: ScoreTable, test: ScoreTable, per_usd: float) -> list[LeftOut]:
    """Leave each expert out of `clusters` on the bundled encoder in turn."""
    encoder = CachedEncoder(StaticEncoder.bundled(), [*train.prompts, *test.prompts])
    vectors, shown = encoder.encode(train.prompts), encoder.encode(test.prompts)
    weights = {"loss": 1.0} | ({"cost": per_usd} if per_usd else {})
    values = {"loss": train.losses} | train.targets
    actual, row = realised(test, per_usd), np.arange(len(test))

    def expected(predictor: ClustersPredictor) -> Floats:
        means = predictor.predict_vectors(shown).mean
        total: Floats = sum(weight * means[target] for target, weight in weights.items())
        return total

    full = ClustersPredictor(encoder).fit_vectors(vectors, train)
    refitted = actual[row, expected(full).argmin(axis=1)]
    material = []
    for column in range(len(train.experts)):
        rest = np.delete(np.arange(len(train.experts)), column)
        others = train.reorder([train.experts[other] for other in rest])
        predictor = ClustersPredictor(encoder).fit_vectors(vectors, others)
        totals = expected(predictor)
        without = actual[row, rest[totals.argmin(axis=1)]]
        parts = {
            target: Part(
                weight,
                predictor.averages_[target] + predictor.fitted_[target]["shifts"],
                values[target][:, rest],
                values[target][:, column],
                CellPrior.learn(
                    (predictor.averages_[target] + predictor.fitted_[target]["shifts"])
                    / (values[target][:, rest].mean(axis=0) if target == "cost" else 1.0),
                    predictor.centres_,
                ),
            )
            for target, weight in weights.items()
        }
        material.append(
            LeftOut(
                name,
                column,
                predictor.centres_,
                predictor.membership(vectors),
                predictor.membership(shown),
                parts,
                totals.min(axis=1),
                without,
                actual[:, column],
                without - refitted,
            )
        )
    return material


def at_random(case: LeftOut, count: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Draw probes from the training prompts."""
    return rng.permutation(len(case.member))[:count]


def by_cluster(case: LeftOut, count: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Draw as many probes from each cluster of one clustering as from any other."""
    order = rng.permutation(len(case.member))
    cluster = case.member[order, : case.member.shape[1] // 5].argmax(axis=1)
    turn = np.array([(cluster[:place] == one).sum() for place, one in enumerate(cluster)])
    return order[np.argsort(turn, kind="stable")[:count]]


def by_information(by_regret: bool) -> Callable[..., NDArray[np.intp]]:
    """Return a choice of the probes that lower the variance of the new expert's cells most.

    Greedy, from a random pool. `by_regret` weighs a cell by the density of a tie between the new
    expert and the best other one there; else every cell counts as much as its prompts.
    """

    def choose(case: LeftOut, count: int, rng: np.random.Generator) -> NDArray[np.intp]:
        part = case.parts["loss"]
        prior = part.prior
        pool = rng.permutation(len(case.member))[:POOL]
        cross = case.member[pool] @ prior.covariance
        joint = cross @ case.member[pool].T
        deviation = np.sqrt(np.diag(prior.covariance))
        weight = case.member.mean(axis=0)
        if by_regret:
            weight = np.exp(-np.square((prior.mean - part.cells.min(axis=1)) / deviation) / 2.0)
        noise = float(np.square(part.others - case.member @ part.cells).mean()) / 2.0
        chosen = np.zeros(len(pool), dtype=bool)
        for _ in range(count):
            worth = (np.square(cross) @ weight) / (np.diag(joint) + noise)
            best = int(np.where(chosen, -1.0, worth).argmax())
            chosen[best] = True
            along, size = joint[best].copy(), joint[best, best] + noise
            cross -= np.outer(along, cross[best].copy()) / size
            joint -= np.outer(along, along) / size
        return pool[chosen]

    return choose


def unchanged(case: LeftOut, target: str, prior: CellPrior) -> CellPrior:
    """Return the prior as it is."""
    return prior


@dataclass(frozen=True)
class Way:
    """A way to choose probes, and to estimate cells from them.

    Attributes:
        prior: changes the prior learned from the other experts.
        beside: the other experts' results on the probes are used.
        probes: chooses training prompts.
        earlier: the estimate of earlier versions instead.
    """

    prior: Callable[[LeftOut, str, CellPrior], CellPrior] = unchanged
    beside: bool = True
    probes: Callable[..., NDArray[np.intp]] = at_random
    earlier: bool = False

    def cells(self, case: LeftOut, target: str, rows: NDArray[np.intp]) -> Floats:
        """Return the new expert's expected values of the cells, (cells,)."""
        _, cells, others, new, learned = case.parts[target]
        units, unit, values = np.ones(cells.shape[1]), 1.0, new[rows]
        if target != "loss":
            units, unit = others.mean(axis=0), float(values.mean())
        cells, others, values = cells / units, others[rows] / units, values / unit
        member = case.member[rows]
        if self.earlier:
            return unit * new_expert_cells(cells, member, values, others, 5)[0]
        prior = self.prior(case, target, learned)
        residuals = others - member @ cells if self.beside else np.full_like(others, np.nan)
        means, _ = posterior_cells(prior, member, values, ProbeResiduals.of(residuals))
        lowest, highest = min(values.min(), cells.min()), max(values.max(), cells.max())
        clipped: Floats = unit * np.clip(means, lowest, highest)
        return clipped


def wider(case: LeftOut, target: str, prior: CellPrior) -> CellPrior:
    """Add the variance between the experts' averages once more, the same in all cells."""
    averages = (case.parts[target].cells / case.parts[target].others.mean(axis=0)).mean(axis=0)
    if target == "loss":
        averages = case.parts[target].cells.mean(axis=0)
    return replace(prior, covariance=prior.covariance + averages.var(ddof=1))


def narrower(case: LeftOut, target: str, prior: CellPrior) -> CellPrior:
    """Halve the prior variance."""
    return replace(prior, covariance=prior.covariance / 2.0)


NONE = float("nan")
SIZES = {
    "open7": [7, 7, 7, 7, 7, 8, 8],
    "routerbench11": [NONE, NONE, NONE, NONE, NONE, 70, 47, 34, 13, 34, 7],
}
"""Billions of parameters, where they are public."""

DATES = {
    "open7": [23.75, 23.95, 24.3, 23.8, 23.95, 24.3, 24.3],
    "routerbench11": [23.9, 23.2, 23.2, 23.5, 23.85, 23.5, 23.95, 23.9, 23.5, 23.65, 23.75],
}
"""Years of release since 2000."""


def from_attributes(*names: str) -> Callable[[LeftOut, str, CellPrior], CellPrior]:
    """Return a prior whose mean is shifted by a ridge regression on standardized attributes."""

    def shifted(case: LeftOut, target: str, prior: CellPrior) -> CellPrior:
        if target != "loss":
            return prior
        rest = np.delete(np.arange(len(DATES[case.table])), case.column)
        features = []
        for name in names:
            if name == "cost":
                if "cost" not in case.parts:
                    continue
                means = case.parts["cost"].others.mean(axis=0)
                values = np.log(np.insert(means, case.column, case.parts["cost"].new.mean()))
            else:
                values = np.log(SIZES[case.table]) if name == "size" else DATES[case.table]
            values = np.asarray(values) - np.nanmean(np.asarray(values)[rest])
            values = np.nan_to_num(values)  # where unknown, as the others are on average
            features.append(values / max(float(values[rest].std()), 1e-9))
        if not features:
            return prior
        inputs = np.array(features).T  # (m, attributes)
        averages = case.parts["loss"].cells.mean(axis=0)
        gram = inputs[rest].T @ inputs[rest] + 3.0 * np.eye(len(features))
        slopes = np.linalg.solve(gram, inputs[rest].T @ (averages - averages.mean()))
        return replace(prior, mean=prior.mean + inputs[case.column] @ slopes)

    return shifted


def from_tables(tables: dict[str, ScoreTable], share: float) -> Callable[..., CellPrior]:
    """Return a prior with a share of the covariance that experts of other tables have.

    Their routers are asked for the losses at this router's centres, so that the cells are shared.
    """
    routers = {
        name: ClustersPredictor(StaticEncoder.bundled()).fit(table.prompts, table)
        for name, table in tables.items()
    }

    def mixed(case: LeftOut, target: str, prior: CellPrior) -> CellPrior:
        if target != "loss":
            return prior
        total = np.zeros_like(prior.covariance)
        for name, router in routers.items():
            if name != case.table:
                losses = router.predict_vectors(case.centres).mean["loss"]
                total += np.cov(losses - losses.mean(axis=1, keepdims=True))
        scaled = total * np.diag(prior.covariance).mean() / np.diag(total).mean()
        return replace(prior, covariance=(1.0 - share) * prior.covariance + share * scaled)

    return mixed


def ways(tables: dict[str, ScoreTable]) -> dict[str, Way]:
    """Return every try by name; the first is the product's, the second that of earlier versions."""
    return {
        "learned prior, others' results on the probes (`Router.add_expert`)": Way(),
        "earlier version": Way(earlier=True),
        "learned prior, others not measured on the probes": Way(beside=False),
        "a wider prior of the new expert's average": Way(prior=wider),
        "half of the prior variance": Way(prior=narrower),
        "prior mean from the date": Way(prior=from_attributes("date")),
        "prior mean from the size": Way(prior=from_attributes("size")),
        "prior mean from date, size and cost": Way(prior=from_attributes("date", "size", "cost")),
        "a third of the covariance from other tables": Way(prior=from_tables(tables, 1 / 3)),
        "all of the covariance from other tables": Way(prior=from_tables(tables, 1.0)),
        "probes spread over clusters": Way(probes=by_cluster),
        "probes by expected variance": Way(probes=by_information(by_regret=False)),
        "probes by expected regret": Way(probes=by_information(by_regret=True)),
    }
