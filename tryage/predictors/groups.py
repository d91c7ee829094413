"""Mean losses of clusters within the table's groups, weighed by how likely each group is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from tryage.encoders import Encoder
from tryage.predictors.clusters import ClustersPredictor, nearest_centres
from tryage.predictors.kmeans import spherical_kmeans
from tryage.predictors.products import by_row
from tryage.predictors.softmax import fit_softmax, softmax
from tryage.predictors.targets import Floats, Vectors
from tryage.scores import ScoreTable

_MOST_GROUPS = 256
_FEWEST_PROMPTS = 5
"""Groups with fewer prompts, and those beyond the most, count as one."""

_MOST_CLUSTERS = 400
"""Clusters of one clustering, beside one for each group."""


class GroupsPredictor(ClustersPredictor):
    """Tells a prompt's group, which need not be named, and averages cluster means within groups.

    The table names the groups of its prompts (tasks, sources, customers), and a multinomial
    logistic regression on the vectors learns to tell them. The prompts of each group are clustered
    by themselves, so there are more cells the more groups and prompts a table has. Cells are shrunk
    as in `clusters`, deviations towards those of the group. A prompt's cells count as much as
    their group is likely. A table without groups counts as one group.

    Args:
        encoder: turns prompts into vectors.
        seed: drives the clusterings.
        size: prompts for each cluster within a group.
        clusterings: how many clusterings are averaged.
    """

    kind: ClassVar[str] = "groups"

    def __init__(
        self,
        encoder: Encoder | None = None,
        *,
        seed: int = 0,
        size: int = 100,
        clusterings: int = 3,
    ) -> None:
        super().__init__(encoder, seed=seed, clusterings=clusterings)
        self.size = size

    def fit_vectors(self, vectors: Vectors, table: ScoreTable) -> Self:
        """Like `fit`, from the prompts' vectors, shape (n_prompts, dim)."""
        self._labels = group_labels(table.groups)
        fitted = super().fit_vectors(vectors, table)
        del self._labels, self._assigned
        return fitted

    def _fit_space(self, vectors: Vectors, losses: Floats) -> None:
        labels = self._labels
        count = int(labels.max()) + 1
        self.coefficients_, self.offsets_ = fit_softmax(
            vectors, labels, count, np.random.default_rng([self.seed, 10])
        )
        size = max(self.size, len(labels) // _MOST_CLUSTERS)
        members = [np.flatnonzero(labels == group) for group in range(count)]
        centres: list[Vectors] = []
        group_of: list[int] = []
        sizes = []
        self._assigned = []
        for number in range(self.clusterings):
            assigned = np.zeros(len(labels), dtype=np.intp)
            cells = 0
            for group, rows in enumerate(members):
                rng = np.random.default_rng([self.seed, 11, number, group])
                own = spherical_kmeans(vectors[rows], max(1, len(rows) // size), rng)
                assigned[rows] = cells + nearest_centres(vectors[rows], own)
                cells += len(own)
                centres.append(own)
                group_of += [group] * len(own)
            sizes.append(cells)
            self._assigned.append(assigned)
        self._set_space(np.array(sizes), np.concatenate(centres))
        self._set_groups(np.array(group_of))

    def _set_groups(self, group_of: NDArray[np.int64]) -> None:
        """Store the group of each cell; a group's cells of one clustering are neighbours."""
        self.group_of_ = group_of
        part = self._clustering * len(self.offsets_) + group_of
        new = np.concatenate([[True], part[1:] != part[:-1]])
        self._parts = np.flatnonzero(new)
        self._part_of = np.cumsum(new) - 1  # of each cell

    def _assignments(
        self, vectors: Vectors
    ) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp], int]]:
        for assigned, cells in zip(self._assigned, self.sizes_.tolist(), strict=True):
            yield assigned, self._labels, cells

    def membership(self, vectors: Vectors) -> Floats:
        """Return how much each cell counts for each vector, (n, cells), rows summing to 1."""
        weight = self._closeness(vectors)
        weight /= np.add.reduceat(weight, self._parts, axis=1)[:, self._part_of]
        likely = softmax(by_row(vectors.astype(np.float64), self.coefficients_) + self.offsets_)
        weight *= likely[:, self.group_of_]
        weight /= len(self.sizes_)
        return weight

    @classmethod
    def _settings(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        return {"size": int(config["size"]), "clusterings": int(config["clusterings"])}

    def _config(self) -> dict[str, Any]:
        return {
            "size": self.size,
            "clusterings": self.clusterings,
            "sizes": self.sizes_.tolist(),
            "group_of": self.group_of_.tolist(),
        }

    def _arrays(self) -> dict[str, NDArray[Any]]:
        return super()._arrays() | {
            "coefficients": self.coefficients_,
            "offsets": self.offsets_,
        }

    def _restore_space(self, config: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        super()._restore_space(config, arrays)
        self.coefficients_ = np.asarray(arrays["coefficients"], dtype=np.float64)
        self.offsets_ = np.asarray(arrays["offsets"], dtype=np.float64)
        self._set_groups(np.array(config["group_of"], dtype=np.int64))


def group_labels(groups: tuple[str | None, ...]) -> NDArray[np.intp]:
    """Number the groups of prompts, (n,); those of few prompts, or beyond the most, count as one.

    Prompts without a group are one too.
    """
    names, place, counts = np.unique(
        [group or "" for group in groups], return_inverse=True, return_counts=True
    )
    order = np.argsort(-counts, kind="stable")
    alone = order[: _MOST_GROUPS - 1]
    alone = np.sort(alone[counts[alone] >= _FEWEST_PROMPTS])
    number = np.full(len(names), len(alone))
    number[alone] = np.arange(len(alone))
    labels: NDArray[np.intp] = np.unique(number[place], return_inverse=True)[1]
    return labels
