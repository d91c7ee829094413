"""How good predictions and choices are on made tables, and that shared parts compute what they say.

Tests of quality draw several tables, so that one lucky table decides nothing.
"""

import numpy as np
import pytest

from tryage.predictors import (
    ClustersPredictor,
    HybridPredictor,
    LinearPredictor,
    NearestPredictor,
)
from tryage.predictors.cells import additive_cells
from tryage.predictors.kmeans import unit_rows
from tryage.predictors.novelty import NoveltyTest
from tryage.predictors.ridge import Ridge
from tryage.scores import ScoreTable

SEEDS = range(8)


class Rows:
    """An encoder whose prompts are row numbers of a matrix."""

    name = "rows"

    def __init__(self, vectors):
        self.vectors = np.asarray(vectors, dtype=np.float32)
        self.dim = self.vectors.shape[1]

    def encode(self, prompts):
        return self.vectors[[int(prompt) for prompt in prompts]]


def table_of(losses, **targets):
    n, m = losses.shape
    prompts, empty = tuple(map(str, range(n))), (None,) * n
    experts = tuple(f"e{column}" for column in range(m))
    return ScoreTable(
        prompts, prompts, empty, empty, empty, experts, np.asarray(losses, float), targets=targets
    )


def fit(cls, vectors, losses, **settings):
    table = table_of(losses)
    return cls(Rows(vectors), **settings).fit(table.prompts, table)


def unit(rng, n, dim):
    return unit_rows(rng.normal(size=(n, dim)).astype(np.float32))


def two_camps(rng, n):
    camp = np.arange(n) % 2
    centres = np.array([[1.0, 0, 0], [-1.0, 0, 0]])[camp]
    return unit_rows((centres + 0.05 * rng.normal(size=(n, 3))).astype(np.float32)), camp


def expected_losses(predictor, vectors):
    return predictor.predict_vectors(vectors).mean["loss"]


def test_the_coarser_clustering_lowers_regret_where_kinds_come_in_families():
    """Forty kinds in four families; the best expert depends on the family, labels are few."""
    regret = {1: [], 8: []}
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        family = np.arange(40) % 4
        kinds = unit_rows((unit(rng, 4, 24)[family] + 0.6 * unit(rng, 40, 24)).astype(np.float32))
        kind = rng.integers(40, size=800)
        vectors = unit_rows((kinds[kind] + 0.05 * rng.normal(size=(800, 24))).astype(np.float32))
        chance = np.where(family[kind][:, None] == np.arange(4), 0.35, 0.5)
        losses = (rng.random((800, 4)) < chance).astype(float)
        for coarse, regrets in regret.items():
            predictor = fit(ClustersPredictor, vectors, losses, coarse=coarse)
            choice = expected_losses(predictor, vectors).argmin(axis=1)
            regrets.append((chance[np.arange(800), choice] - 0.35).mean())
    assert np.mean(regret[8]) < 0.9 * np.mean(regret[1])


def test_what_all_labels_of_a_prompt_share_is_not_mistaken_for_noise_between_experts():
    """Difficulties of single prompts cancel between experts, so differences are hardly shrunk."""
    ratios = []
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        fine = rng.integers(10, size=300)
        effect = 0.3 * rng.normal(size=(10, 4))
        effect -= effect.mean(axis=1, keepdims=True)
        residuals = effect[fine] + rng.normal(size=(300, 1)) + 0.2 * rng.normal(size=(300, 4))
        means, _ = additive_cells(fine, np.zeros(300, int), residuals, 10)
        centred = means - means.mean(axis=1, keepdims=True)
        ratios.append((centred * effect).sum() / np.square(effect).sum())
    assert 0.95 < np.mean(ratios) < 1.05


def test_clusters_predict_within_the_measured_losses():
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        vectors, camp = two_camps(rng, 200)
        chance = np.where(camp[:, None] == 0, [0.01, 0.02, 0.03], [0.05, 0.95, 0.9])
        losses = 0.2 + 0.6 * (rng.random((200, 3)) < chance)
        predictor = fit(ClustersPredictor, vectors, losses, k=2)
        cells = predictor.average_loss_ + predictor.fitted_["loss"]["shifts"]
        assert (cells >= losses.min(axis=0) - 1e-12).all()
        assert (cells <= losses.max(axis=0) + 1e-12).all()


def test_a_new_expert_joins_experts_of_which_one_is_free():
    """Costs of an expert that costs nothing cannot be told as multiples of its average."""
    rng = np.random.default_rng(0)
    vectors, camp = two_camps(rng, 200)
    cost = np.column_stack([np.zeros(200), 1.0 + camp, 3.0 + camp])
    table = table_of(rng.random((200, 3)), cost=cost)
    two_experts = table.reorder(["e0", "e1"])
    predictor = ClustersPredictor(Rows(vectors), k=2).fit(table.prompts, two_experts)
    probes = table.select(np.arange(40)).reorder(["e2"])
    grown = predictor.with_expert(probes.prompts, probes)
    mean = grown.predict(table.prompts).mean["cost"]
    assert np.isfinite(mean).all()
    assert abs(mean[:, 2] - cost[:, 2]).mean() < 0.5


def test_a_new_expert_joins_the_only_one():
    rng = np.random.default_rng(1)
    vectors, camp = two_camps(rng, 200)
    losses = np.column_stack([np.full(200, 0.5), np.where(camp == 0, 0.1, 0.9)])
    table = table_of(losses + 0.02 * rng.random((200, 2)))
    predictor = ClustersPredictor(Rows(vectors), k=2).fit(table.prompts, table.reorder(["e0"]))
    probes = table.select(np.arange(40)).reorder(["e1"])
    grown = predictor.with_expert(probes.prompts, probes)
    assert expected_losses(grown, vectors).argmin(axis=1)[:2].tolist() == [1, 0]


def test_the_weight_of_a_neighbour_falls_off_at_the_edge():
    """The third neighbour's cosine is half an edge's width below the second's, so it votes half."""
    cosines = np.array([0.99, 0.98, 0.9795, *[0.0] * 17])
    vectors = np.column_stack([cosines, np.sqrt(1 - cosines**2)])
    losses = np.zeros((20, 1))
    losses[2] = 1.0
    predictor = fit(NearestPredictor, vectors, losses, k=2)
    query = np.array([[1.0, 0.0]], dtype=np.float32)
    expected = (0.5 * 1.0 + losses.mean()) / 3.5  # two votes, half a vote, the average's vote
    assert expected_losses(predictor, query)[0, 0] == pytest.approx(expected, abs=1e-4)


def test_rounding_flags_no_training_prompt():
    vectors = unit(np.random.default_rng(0), 400, 8)
    novelty = NoveltyTest.fit(vectors)
    rounded = vectors * np.float32(1 - 3e-6)
    np.testing.assert_array_equal(novelty.flag(rounded), novelty.flag(vectors))


def test_a_hundred_training_prompts_are_enough_to_flag():
    vectors = unit(np.random.default_rng(0), 100, 8)
    assert np.isfinite(NoveltyTest.fit(vectors).threshold)
    assert not np.isfinite(NoveltyTest.fit(vectors[:99]).threshold)


@pytest.mark.parametrize("penalty", [0.001, 0.1, 10.0])
def test_leave_one_out_residuals_are_those_of_fits_without_the_prompt(penalty):
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(15, 3)) + 2.0
    targets = inputs @ rng.normal(size=(3, 2)) + rng.normal(size=(15, 2))
    ridge = Ridge(inputs, targets)
    centred = inputs - inputs.mean(axis=0)
    absolute = penalty * np.square(centred).sum() / 3  # relative to the mean eigenvalue
    expected = np.empty((15, 2))
    for row in range(15):
        rest = np.arange(15) != row
        x, y = inputs[rest], targets[rest]
        x_mean, y_mean = x.mean(axis=0), y.mean(axis=0)
        gram = (x - x_mean).T @ (x - x_mean) + absolute * np.eye(3)
        weights = np.linalg.solve(gram, (x - x_mean).T @ (y - y_mean))
        expected[row] = targets[row] - (y_mean + (inputs[row] - x_mean) @ weights)
    np.testing.assert_allclose(ridge.residuals(penalty), expected, rtol=1e-6)


def test_leave_one_out_errors_do_not_depend_on_an_experts_unit():
    rng = np.random.default_rng(0)
    inputs, targets = rng.normal(size=(40, 3)), rng.normal(size=(40, 2))
    errors = Ridge(inputs, targets).leave_one_out_errors()
    scaled = Ridge(inputs, targets * [1.0, 1000.0]).leave_one_out_errors()
    np.testing.assert_allclose(scaled, errors)


def test_hybrid_adds_no_residual_where_it_gains_less_than_a_standard_error():
    shares = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        losses = (rng.random((200, 3)) < 0.5).astype(float)
        predictor = fit(HybridPredictor, unit(rng, 200, 5), losses, seed=seed)
        shares.append(predictor.fitted_["loss"]["share"][0])
    assert np.mean(np.array(shares) == 0.0) > 0.9


def test_hybrid_adds_no_residual_that_changes_no_choice():
    """A slope that all experts share fits better and chooses no better."""
    rng = np.random.default_rng(0)
    vectors = unit(rng, 600, 6)
    losses = 2.0 + vectors[:, :1] + [0.0, 0.5, 1.0] + 0.05 * rng.normal(size=(600, 3))
    assert fit(HybridPredictor, vectors, losses, k=2).fitted_["loss"]["share"][0] == 0.0


def test_hybrid_learns_the_whole_residual_from_half_of_the_cells():
    errors = {"hybrid": [], "clusters": []}
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        vectors = unit(rng, 900, 6)
        truth = 2.0 + 0.8 * vectors[:, :1] * [1, -1]
        losses = truth + 0.05 * rng.normal(size=(900, 2))
        losses[rng.random(losses.shape) < 0.5] = np.nan
        for cls in (HybridPredictor, ClustersPredictor):
            mean = expected_losses(fit(cls, vectors, losses, k=2), vectors)
            errors[cls.kind].append(np.abs(mean - truth).mean())
    assert np.mean(errors["hybrid"]) < 0.4 * np.mean(errors["clusters"])


def test_standard_errors_of_linear_are_those_of_least_squares():
    """Noise times (1 / n + leverage), for the expert that every prompt measured."""
    rng = np.random.default_rng(0)
    vectors = unit(rng, 400, 4)
    losses = 5.0 + 2.0 * vectors @ rng.normal(size=(4, 2)) + 0.01 * rng.normal(size=(400, 2))
    losses[100:, 1] = np.nan
    predictor = fit(LinearPredictor, vectors, losses)
    centred = vectors.astype(float) - vectors.mean(axis=0)
    leverage = (centred @ np.linalg.inv(centred.T @ centred) * centred).sum(axis=1)
    noise = predictor.fitted_["loss"]["noise"]
    std = predictor.predict_vectors(vectors).std["loss"]
    np.testing.assert_allclose(std[:, 0], np.sqrt(noise[0] * (1 / 400 + leverage)), rtol=0.01)
    np.testing.assert_allclose(std[:, 1], np.sqrt(noise[1] * (1 / 400 + leverage) * 4), rtol=0.01)
