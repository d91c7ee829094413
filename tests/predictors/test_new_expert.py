"""A new expert's cells from few probes, against closed forms in another way of writing them."""

import numpy as np
import pytest

from tryage.predictors import ClustersPredictor
from tryage.predictors.cells import new_expert_cells
from tryage.predictors.kmeans import unit_rows
from tryage.predictors.new_expert import CellPrior, ProbeResiduals, posterior_cells
from tryage.scores import ScoreTable

PRIOR_PROBES = 10


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
    return ScoreTable(prompts, prompts, empty, empty, empty, experts, losses, targets=targets)


def kinds(rng, n, experts):
    """Return vectors of six kinds of prompt, and each expert's chance of a wrong answer."""
    kind = np.arange(n) % 6
    vectors = unit_rows((np.eye(6)[kind] + 0.05 * rng.normal(size=(n, 6))).astype(np.float32))
    chance = np.clip(rng.uniform(0.2, 0.6, (6, 1)) + 0.12 * rng.normal(size=(6, experts)), 0, 1)
    return vectors, chance[kind]


def nothing(n):
    return ProbeResiduals.of(np.full((n, 2), np.nan))


def in_weight_space(prior, member, values, expected, shared):
    """Return the posterior of a Bayesian linear regression, its noise by plain EM (Bishop, 9.3).

    `shared` has the columns of features whose weights are standard normal.
    """
    cells, n = len(prior.mean), len(values)
    inputs = np.hstack([member, shared])
    precision = np.eye(inputs.shape[1])
    precision[:cells, :cells] = np.linalg.inv(prior.covariance)
    difference, factor = values - member @ prior.mean, 1.0
    for _ in range(30):
        noise = factor * expected
        covariance = np.linalg.inv(precision + inputs.T @ (inputs / noise[:, None]))
        weights = covariance @ inputs.T @ (difference / noise)
        left = np.square(difference - inputs @ weights)
        left += (inputs @ covariance * inputs).sum(axis=1)
        factor = ((left / expected).sum() + PRIOR_PROBES) / (n + PRIOR_PROBES)
    noise = factor * expected
    covariance = np.linalg.inv(precision + inputs.T @ (inputs / noise[:, None]))
    weights = covariance @ inputs.T @ (difference / noise)
    return prior.mean + weights[:cells], np.sqrt(np.diag(covariance)[:cells])


@pytest.mark.parametrize("n", [1, 8, 200])
def test_the_posterior_is_that_of_a_bayesian_regression(n):
    rng = np.random.default_rng(n)
    root = rng.normal(size=(4, 4))
    prior = CellPrior(rng.normal(size=4), root @ root.T + 0.1 * np.eye(4))
    member = rng.dirichlet(np.ones(4), size=n)
    values = member @ prior.mean + rng.normal(size=n)
    shared, expected = rng.normal(size=(n, 2)), rng.uniform(0.5, 2.0, n)
    residuals = ProbeResiduals(np.zeros(n), shared @ shared.T, expected)
    means, errors = posterior_cells(prior, member, values, residuals)
    by_regression = in_weight_space(prior, member, values, expected, shared)
    np.testing.assert_allclose(means, by_regression[0], rtol=1e-6)
    np.testing.assert_allclose(errors, by_regression[1], rtol=1e-6)


def test_without_probes_the_posterior_is_the_prior():
    prior = CellPrior(np.array([0.2, 0.5]), np.array([[0.04, 0.01], [0.01, 0.09]]))
    means, errors = posterior_cells(prior, np.empty((0, 2)), np.empty(0), nothing(0))
    np.testing.assert_array_equal(means, prior.mean)
    np.testing.assert_allclose(errors, [0.2, 0.3])


def test_with_many_probes_the_posterior_is_their_means():
    rng = np.random.default_rng(0)
    prior = CellPrior(np.array([0.2, 0.5]), 0.04 * np.eye(2))
    cell = np.arange(800) % 2
    values = np.array([0.9, 0.1])[cell] + 0.3 * rng.normal(size=800)
    means, errors = posterior_cells(prior, np.eye(2)[cell], values, nothing(800))
    np.testing.assert_allclose(means, [values[::2].mean(), values[1::2].mean()], atol=4e-3)
    np.testing.assert_allclose(errors, 0.3 / np.sqrt(400), rtol=0.06)


def test_a_single_probe_is_worth_no_more_than_the_prior():
    """No noise can be seen in it, so it moves its cell half of the way."""
    prior = CellPrior(np.array([0.5]), np.array([[0.04]]))
    means, errors = posterior_cells(prior, np.ones((1, 1)), np.array([0.3]), nothing(1))
    assert means[0] == pytest.approx(0.4, abs=0.01)
    assert errors[0] == pytest.approx(np.sqrt(0.02), rel=0.05)


def test_the_prior_has_the_mean_and_variance_of_the_other_experts():
    cells = np.array([[0.1, 0.3, 0.5], [0.6, 0.6, 0.9]])
    centres = np.array([[1.0, 0.0], [0.6, 0.8]])
    prior = CellPrior.learn(cells, centres)
    np.testing.assert_allclose(prior.mean, [0.3, 0.7])
    covariance = np.cov(cells)
    variance = (0.04 + 0.03) / 2
    near = np.exp(-0.4 / 0.3)
    expected = 0.7 * covariance + 0.3 * variance * np.array([[1.0, near], [near, 1.0]])
    np.testing.assert_allclose(prior.covariance, expected)


def test_difficulty_counts_as_much_as_the_results_of_others_tell_of_it():
    """The mean of one random effect given some of its measurements: c r / (1 + (c - 1) r)."""
    rng = np.random.default_rng(1)
    difficulty = rng.normal(size=4000)
    residuals = difficulty[:, None] + rng.normal(size=(4000, 4))  # r = 1 / 2
    residuals[:1000, 1:] = np.nan
    residuals[1000:1100] = np.nan
    parts = ProbeResiduals.of(residuals)
    np.testing.assert_allclose(parts.mean[:1000], 0.5 * residuals[:1000, 0], atol=0.06)
    np.testing.assert_array_equal(parts.mean[1000:1100], 0.0)
    complete = residuals[1100:].mean(axis=1)
    np.testing.assert_allclose(parts.mean[1100:], 0.8 * complete, atol=0.06)
    left = [parts.variance[rows].mean() for rows in (slice(1000), slice(1000, 1100))]
    np.testing.assert_allclose(left, [1.5, 2.0], rtol=0.06)  # its own deviation, and difficulty


def test_probes_on_which_the_others_agree_leave_less_noise():
    residuals = np.array([[0.2, 0.2, 0.2], [0.5, -0.5, 0.0], [-0.3, -0.3, -0.3]])
    variance = ProbeResiduals.of(residuals).variance
    assert variance[0] == pytest.approx(variance[2])
    assert variance[1] > 1.5 * variance[0]


def test_results_of_the_others_on_the_same_probes_halve_the_error():
    """Hard prompts are hard for all, so 40 results beside others' tell more than 40 alone."""
    errors = {"alone": [], "beside": []}
    for seed in range(12):
        rng = np.random.default_rng(seed)
        vectors, chance = kinds(rng, 600, 6)
        losses = 5.0 + chance + 0.3 * rng.normal(size=(600, 1)) + 0.1 * rng.normal(size=(600, 6))
        table = table_of(losses)
        rest = ClustersPredictor(Rows(vectors), k=6).fit(
            table.prompts, table.reorder(list(table.experts[:5]))
        )
        probes = table.select(rng.choice(600, 40, replace=False))
        for name, columns in (("alone", ["e5"]), ("beside", list(table.experts))):
            grown = rest.with_expert(probes.prompts, probes.reorder(columns))
            mean = grown.predict(table.prompts).mean["loss"]
            apart, truth = (a[:, 5] - a[:, :5].mean(axis=1) for a in (mean, chance))
            errors[name].append(np.sqrt(np.square(apart - truth).mean()))
    assert np.mean(errors["beside"]) < 0.5 * np.mean(errors["alone"])


def test_standard_errors_grow_with_fewer_probes_and_cover_the_truth():
    inside, widths = [], []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        vectors, chance = kinds(rng, 900, 8)
        table = table_of((rng.random(chance.shape) < chance).astype(float))
        rest = ClustersPredictor(Rows(vectors), k=6).fit(
            table.prompts, table.reorder(list(table.experts[:7]))
        )
        order, row = rng.permutation(900), []
        for count in (4, 30, 300):
            probes = table.select(order[:count])
            prediction = rest.with_expert(probes.prompts, probes).predict(table.prompts)
            std = prediction.std["loss"][:, -1]
            row.append(std.mean())
            if count == 30:
                left = np.abs(prediction.mean["loss"][:, -1] - chance[:, -1])
                inside.append((left < 1.645 * std).mean())
        widths.append(row)
    assert (np.diff(widths, axis=1) < 0).all()
    assert 0.75 < np.mean(inside) <= 1.0


def test_incomplete_probes_with_costs_join_alike_each_time():
    rng = np.random.default_rng(3)
    vectors, chance = kinds(rng, 300, 5)
    losses = (rng.random(chance.shape) < chance).astype(float)
    cost = np.array([1.0, 10.0, 3.0, 0.5, 30.0]) * rng.uniform(0.8, 1.2, (300, 5))
    table = table_of(losses, cost=cost)
    rest = ClustersPredictor(Rows(vectors), k=6).fit(
        table.prompts, table.reorder(["e0", "e1", "e2", "e3"])
    )
    losses[:40, :4][rng.random((40, 4)) < 0.5] = np.nan
    cost[:40][rng.random((40, 5)) < 0.5] = np.nan
    probes = table_of(losses, cost=cost).select(np.arange(40))
    grown = rest.with_expert(probes.prompts, probes).predict(table.prompts)
    again = type(rest).from_state(*rest.state(), rest.encoder)
    again = again.with_expert(probes.prompts, probes).predict(table.prompts)
    for target in ("loss", "cost"):
        np.testing.assert_array_equal(grown.mean[target], again.mean[target])
        assert np.isfinite(grown.std[target]).all()
    assert grown.mean["cost"][:, -1].mean() == pytest.approx(30.0, rel=0.1)


def test_beside_two_experts_the_covariance_of_cells_is_not_learned_anew():
    """Two experts differ in one direction; a new one is estimated as before."""
    rng = np.random.default_rng(4)
    vectors, chance = kinds(rng, 240, 3)
    table = table_of((rng.random(chance.shape) < chance).astype(float))
    rest = ClustersPredictor(Rows(vectors), k=6).fit(table.prompts, table.reorder(["e0", "e1"]))
    probes = table.select(np.arange(30))
    grown = rest.with_expert(probes.prompts, probes)
    cells = rest.average_loss_ + rest.fitted_["loss"]["shifts"]
    member = rest.membership(vectors[:30])
    expected, _ = new_expert_cells(
        cells, member, probes.losses[:, 2], probes.losses[:, :2], len(rest.sizes_)
    )
    actual = grown.average_loss_[2] + grown.fitted_["loss"]["shifts"][:, 2]
    np.testing.assert_allclose(actual, expected)
