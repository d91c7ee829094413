"""The latent map: the router's view of prompts in two dimensions, and how far kinds separate."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np

from tryage.errors import missing_extra
from tryage.predictors import Predictor
from tryage.report.values import Array, Indices, Interval, LatentMap, Separation

MOST = 1500
"""Prompts on a map at most: more take long to place, and hide each other."""

_FEW = 30
"""Prompts up to which principal components are drawn as they are."""

_DIMENSIONS = 30
_RESAMPLES = 500
_SHUFFLES = 40


def draw(rows: int, seed: int) -> Indices:
    """Return the rows of a table that are drawn: all of them, or `MOST` at random, in order."""
    if rows <= MOST:
        return np.arange(rows)
    return np.sort(np.random.default_rng([seed, 5]).permutation(rows)[:MOST])


def latent_map(
    predictor: Predictor,
    prompts: Sequence[str],
    rows: Indices,
    predicted: Array,
    groups: Indices | None,
    seed: int,
) -> LatentMap | str:
    """Place prompts by the vectors that the router's encoder makes of them.

    Args:
        predictor: of the router.
        prompts: k texts that are drawn.
        rows: (k,) their rows, which the map names.
        predicted: (k, m) their predicted losses.
        groups: (k,) the group of each; None where there are none.
        seed: of the placing, of clusters, resamples and shuffles.

    Returns:
        The map, or why there is none.

    Raises:
        MissingExtraError: scikit-learn is not installed.
    """
    if predictor.encoder is None:
        return f"the predictor {predictor.kind!r} does not look at prompts"
    vectors = np.asarray(predictor.encoder.encode(prompts), dtype=np.float64)
    if len(np.unique(vectors, axis=0)) < 3:
        return "there are fewer than three prompts that the router can tell apart"
    places, method = _placed(vectors, seed)
    view = f"vectors of the encoder {predictor.encoder.name!r}, {vectors.shape[1]} dimensions"
    separation = () if groups is None else _separation(vectors, groups, seed)
    return LatentMap(rows, places, predicted, method, view, separation)


def _placed(vectors: Array, seed: int) -> tuple[Array, str]:
    """Return coordinates, (k, 2), and how they came about."""
    try:
        from sklearn.decomposition import PCA
        from sklearn.manifold import TSNE
    except ImportError as error:
        raise missing_extra("report", "drawing the latent map") from error
    count = min(_DIMENSIONS, *vectors.shape)
    components = PCA(count, svd_solver="full").fit_transform(vectors)
    if len(vectors) <= _FEW or count < 2:
        wide = np.zeros((len(vectors), 2))
        wide[:, : min(2, count)] = components[:, :2]
        return wide, "principal components"
    start = components[:, :2] / np.std(components[:, 0]) * 1e-4
    perplexity = min(30.0, (len(vectors) - 1) / 3)
    placed = TSNE(2, init=start.astype(np.float32), perplexity=perplexity, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of prompts with the same vector
        places = placed.fit_transform(components)
    name = f"t-SNE of {count} principal components, perplexity {perplexity:.0f}"
    return np.asarray(places, dtype=np.float64), name


def _separation(vectors: Array, groups: Indices, seed: int) -> tuple[Separation, ...]:
    """Return cluster purity and silhouette of the groups, with intervals and shuffled controls."""
    _, groups = np.unique(groups, return_inverse=True)
    count = int(groups.max()) + 1
    if count < 2 or len(groups) <= count:
        return ()
    from sklearn.cluster import KMeans
    from sklearn.metrics import pairwise_distances, silhouette_samples

    clusters = KMeans(count, n_init=4, random_state=seed).fit_predict(vectors)
    distances = np.maximum(pairwise_distances(vectors, metric="cosine"), 0.0)
    np.fill_diagonal(distances, 0.0)

    def purity(rows: Indices, labels: Indices) -> float:
        counts = np.bincount(clusters[rows] * count + labels[rows], minlength=count * count)
        return float(counts.reshape(count, count).max(axis=1).sum() / len(rows))

    widths: Array = silhouette_samples(distances, groups, metric="precomputed")
    rng = np.random.default_rng([seed, 6])
    everyone = np.arange(len(groups))
    resampled = [rng.integers(0, len(groups), len(groups)) for _ in range(_RESAMPLES)]
    shuffled = [rng.permutation(groups) for _ in range(_SHUFFLES)]
    return (
        _compared(
            "purity",
            purity(everyone, groups),
            [purity(rows, groups) for rows in resampled],
            [purity(everyone, labels) for labels in shuffled],
        ),
        _compared(
            "silhouette",
            float(widths.mean()),
            [float(widths[rows].mean()) for rows in resampled],
            [
                float(silhouette_samples(distances, labels, metric="precomputed").mean())
                for labels in shuffled
            ],
        ),
    )


def _compared(
    measure: str, value: float, resampled: list[float], shuffled: list[float]
) -> Separation:
    return Separation(
        measure, value, central(resampled), float(np.mean(shuffled)), central(shuffled)
    )


def central(values: Sequence[float] | Array) -> Interval:
    """Return the central 95 % of some values."""
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def mean_interval(values: Array, seed: int) -> Interval:
    """Return the bootstrap interval of the mean of some values, (n,) without NaN."""
    rng = np.random.default_rng([seed, 7])
    return central([float(rng.choice(values, len(values)).mean()) for _ in range(_RESAMPLES)])
