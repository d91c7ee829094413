"""What is particular to one kind of predictor."""

from dataclasses import replace

import numpy as np
import pytest

from tryage.errors import PredictorError
from tryage.predictors import (
    BestSinglePredictor,
    ClustersPredictor,
    HybridPredictor,
    LinearPredictor,
    NearestPredictor,
    RandomPredictor,
)
from tryage.predictors.kmeans import spherical_kmeans, unit_rows
from tryage.predictors.novelty import NoveltyTest
from tryage.scores import ScoreTable


class Lookup:
    """An encoder whose prompts are numbers: the row of a matrix."""

    name = "lookup"

    def __init__(self, vectors):
        self.vectors = np.asarray(vectors, dtype=np.float32)
        self.dim = self.vectors.shape[1]

    def encode(self, prompts):
        return self.vectors[[int(prompt) for prompt in prompts]]


def table_of(losses):
    losses = np.asarray(losses, dtype=float)
    n, m = losses.shape
    names = tuple(str(i) for i in range(n))
    nothing = (None,) * n
    return ScoreTable(
        names, names, nothing, nothing, nothing, tuple(f"e{j}" for j in range(m)), losses
    )


def directions(n, dim, seed=0):
    rng = np.random.default_rng(seed)
    return unit_rows(rng.normal(size=(n, dim)).astype(np.float32))


def rows(n):
    return [str(row) for row in range(n)]


def fit(cls, vectors, losses, **settings):
    table = table_of(losses)
    return cls(Lookup(vectors), **settings).fit(table.prompts, table)


def two_camps(n=200):
    """Vectors near two opposite poles, and which pole."""
    rng = np.random.default_rng(0)
    camp = np.arange(n) % 2
    centre = np.array([[1.0, 0, 0], [-1.0, 0, 0]])[camp]
    vectors = unit_rows((centre + 0.05 * rng.normal(size=(n, 3))).astype(np.float32))
    return vectors, camp


def test_kmeans_finds_the_camps():
    vectors, camp = two_camps()
    centres = spherical_kmeans(vectors, 2, np.random.default_rng(0))
    assigned = (vectors @ centres.T).argmax(axis=1)
    assert len({*zip(assigned, camp, strict=True)}) == 2
    np.testing.assert_allclose(np.linalg.norm(centres, axis=1), 1.0, atol=1e-6)


def test_kmeans_gives_no_more_centres_than_distinct_vectors():
    vectors = np.repeat(directions(3, 4), 10, axis=0)
    assert len(spherical_kmeans(vectors, 8, np.random.default_rng(0))) == 3
    assert len(spherical_kmeans(np.zeros((5, 4), np.float32), 3, np.random.default_rng(0))) == 1


def test_clusters_predict_the_means_of_the_camps():
    vectors, camp = two_camps()
    losses = np.where(camp[:, None] == [0, 1], 0.1, 0.9)
    predictor = fit(ClustersPredictor, vectors, losses, k=2)
    prediction = predictor.predict(["0", "1"])
    np.testing.assert_allclose(prediction.mean["loss"], [[0.1, 0.9], [0.9, 0.1]], atol=0.01)


def test_clusters_shrink_cells_with_few_labels_towards_the_average():
    vectors, camp = two_camps()
    rng = np.random.default_rng(1)
    losses = np.where(camp == 0, 0.3, 0.7)[:, None] + rng.normal(0, 0.3, (200, 1)).clip(-0.3, 0.3)
    losses[(camp == 1) & (np.arange(200) > 1)] = np.nan
    losses[1] = 1.0
    predictor = fit(ClustersPredictor, vectors, losses, k=2)
    few, many = predictor.predict(["1", "0"]).mean["loss"][:, 0]
    assert predictor.average_loss_[0] < few < 1.0
    assert many == pytest.approx(0.3, abs=0.1)


def test_clusters_know_less_where_labels_are_few():
    vectors, camp = two_camps()
    losses = np.random.default_rng(2).random((200, 1)) + camp[:, None]
    losses[(camp == 1) & (np.arange(200) > 20)] = np.nan
    std = fit(ClustersPredictor, vectors, losses, k=2).predict(["1", "0"]).std["loss"][:, 0]
    assert std[0] > 1.5 * std[1]


@pytest.mark.parametrize("camps", [40, 2])
def test_clusters_tell_many_kinds_of_prompt_apart_and_few(camps):
    rng = np.random.default_rng(8)
    camp = np.arange(2400) % camps
    vectors = unit_rows(
        (directions(camps, 24)[camp] + 0.05 * rng.normal(size=(2400, 24))).astype(np.float32)
    )
    best = rng.integers(4, size=camps)[camp]
    good = best[:, None] == np.arange(4)
    losses = np.where(good, 0.2, 0.6) + 0.1 * rng.random((2400, 4))
    predictor = fit(ClustersPredictor, vectors, losses)
    assert (predictor.predict(rows(2400)).mean["loss"].argmin(axis=1) == best).mean() > 0.98


@pytest.mark.parametrize(("prompts", "k"), [(900, 40), (2400, 96), (9000, 320)])
def test_the_number_of_clusters_can_grow_with_the_table(prompts, k):
    vectors, losses = directions(prompts, 12), np.random.default_rng(0).random((prompts, 2))
    predictor = fit(ClustersPredictor, vectors, losses, prompts_per_cluster=25, clusterings=1)
    assert predictor.sizes_.tolist() == [k]
    config, arrays = predictor.state()
    stored = ClustersPredictor.from_state(config, arrays, predictor.encoder)
    assert (stored.k, stored.prompts_per_cluster) == (40, 25)
    np.testing.assert_array_equal(
        stored.predict(["0", "5"]).mean["loss"], predictor.predict(["0", "5"]).mean["loss"]
    )


def test_what_is_hard_for_all_tells_no_experts_apart():
    """Forty kinds of very different difficulty, four experts that hardly differ.

    One shrinkage for both would believe the noise of every cell.
    """
    rng = np.random.default_rng(9)
    camp = np.arange(2000) % 40
    vectors = unit_rows(
        (directions(40, 24)[camp] + 0.05 * rng.normal(size=(2000, 24))).astype(np.float32)
    )
    level = rng.uniform(0.1, 0.9, size=40)[camp][:, None]
    chance = np.clip(level + np.array([-0.04, 0.0, 0.0, 0.0]), 0.0, 1.0)
    losses = (rng.random((2000, 4)) < chance).astype(float)
    mean = fit(ClustersPredictor, vectors, losses).predict(rows(2000)).mean["loss"]
    assert np.corrcoef(mean.mean(axis=1), level[:, 0])[0, 1] > 0.95
    apart = mean - mean.mean(axis=1, keepdims=True)
    assert (apart - apart.mean(axis=0)).std() < 0.03


def test_labels_of_one_expert_a_prompt_still_tell_experts_apart():
    """As a log of answers has them: no prompt says which of its answers is the better one."""
    vectors, camp = two_camps(400)
    losses = np.where(camp[:, None] == [0, 1], 0.1, 0.9)
    losses[np.arange(400), (np.arange(400) // 2) % 2] = np.nan
    mean = fit(ClustersPredictor, vectors, losses, k=2).predict(["0", "1"]).mean["loss"]
    np.testing.assert_allclose(mean, [[0.1, 0.9], [0.9, 0.1]], atol=0.1)


def test_clusters_count_even_where_folds_measure_no_expert():
    losses = np.full((200, 2), np.nan)
    losses[7] = 1.0
    assert len(fit(ClustersPredictor, directions(200, 4), losses).sizes_) == 5


def sloped(n=900):
    """Losses that cross along one direction inside each camp, and noise."""
    rng = np.random.default_rng(9)
    vectors = directions(n, 6, seed=9)
    slope = 0.5 + 0.4 * vectors[:, :1] * [1, -1] + 0.05 * rng.normal(size=(n, 2))
    return vectors, slope


def test_hybrid_learns_what_clusters_leave_over():
    vectors, losses = sloped()
    errors = {}
    for cls in (ClustersPredictor, HybridPredictor):
        predictor = fit(cls, vectors[:600], losses[:600], **({"k": 2}))
        predictor.encoder = Lookup(vectors)
        mean = predictor.predict(rows(900)[600:]).mean["loss"]
        errors[cls] = np.abs(mean - losses[600:]).mean()
    assert errors[HybridPredictor] < 0.6 * errors[ClustersPredictor]


def test_hybrid_makes_up_for_labels_that_are_missing():
    vectors, losses = sloped()
    holes = losses.copy()
    holes[np.random.default_rng(10).random(losses.shape) < 0.5] = np.nan
    predictor = fit(HybridPredictor, vectors, holes, k=2)
    mean = predictor.predict(rows(900)).mean["loss"]
    assert (mean.argmin(axis=1) == losses.argmin(axis=1)).mean() > 0.8


def test_hybrid_is_clusters_where_nothing_is_left_over():
    losses = (np.random.default_rng(11).random((400, 3)) < 0.5).astype(float)
    vectors = directions(400, 5)
    hybrid, clusters = (fit(cls, vectors, losses) for cls in (HybridPredictor, ClustersPredictor))
    assert hybrid.fitted_["loss"]["share"][0] == 0.0
    ours, theirs = (p.predict(rows(400)) for p in (hybrid, clusters))
    np.testing.assert_array_equal(ours.mean["loss"], theirs.mean["loss"])
    np.testing.assert_array_equal(ours.std["loss"], theirs.std["loss"])


def test_the_disagreement_of_the_ensemble_is_uncertainty():
    vectors, losses = sloped()
    hybrid = fit(HybridPredictor, vectors, losses, k=2)
    clusters = fit(ClustersPredictor, vectors, losses, k=2)
    assert hybrid.fitted_["loss"]["share"][0] > 0
    ours, theirs = (p.predict(rows(900)).std["loss"] for p in (hybrid, clusters))
    assert (ours > theirs).all()


def test_standard_errors_fall_with_the_number_of_prompts():
    for cls in (ClustersPredictor, NearestPredictor, LinearPredictor, BestSinglePredictor):
        errors = []
        for n in (60, 6000):
            losses = np.random.default_rng(3).random((n, 2))
            settings = {"k": n // 10} if cls is NearestPredictor else {}
            predictor = fit(cls, directions(n, 4), losses, **settings)
            errors.append(predictor.predict(["0", "1", "2"]))
        small, large = (prediction.std["loss"].mean() for prediction in errors)
        assert large < small / 2, cls.kind


@pytest.mark.parametrize("cls", [ClustersPredictor, HybridPredictor, NearestPredictor])
def test_an_expert_that_never_varied_has_no_standard_error(cls):
    vectors, camp = two_camps(100)
    losses = np.column_stack([np.full(100, 0.5), np.random.default_rng(0).random(100) + camp])
    std = fit(cls, vectors, losses).predict(rows(100)).std["loss"]
    np.testing.assert_allclose(std[:, 0], 0.0, atol=1e-12)
    assert (std[:, 1] > 0.01).all()


def test_intervals_of_cell_means_cover_the_truth():
    rng = np.random.default_rng(4)
    vectors, camp = two_camps(400)
    inside = []
    for _ in range(60):
        losses = (rng.random((400, 2)) < np.where(camp[:, None] == 0, 0.3, 0.6)).astype(float)
        prediction = fit(ClustersPredictor, vectors, losses, k=2).predict(["0", "1"])
        error = np.abs(prediction.mean["loss"] - [[0.3, 0.3], [0.6, 0.6]])
        inside.append(error < 1.645 * prediction.std["loss"])
    assert 0.8 < np.mean(inside) < 0.98


def test_nearest_averages_the_k_nearest():
    vectors = unit_rows(np.array([[1, t] for t in np.linspace(0, 1, 40)], dtype=np.float32))
    losses = np.linspace(0, 1, 40)[:, None]
    predictor = fit(NearestPredictor, vectors, losses, k=3)
    average = losses.mean()
    expected = (losses[:3].sum() + average) / 4  # three neighbours and the average's one vote
    assert predictor.predict(["0"]).mean["loss"][0, 0] == pytest.approx(expected, abs=0.02)


def test_nearest_counts_all_of_equal_distance():
    vectors = np.repeat(directions(1, 4), 10, axis=0)
    losses = np.arange(10)[:, None] / 10
    predictor = fit(NearestPredictor, vectors, losses, k=2)
    assert predictor.predict(["0"]).mean["loss"][0, 0] == pytest.approx(0.45)


def test_linear_finds_a_linear_law():
    vectors = directions(400, 5)
    weights = np.random.default_rng(5).normal(size=(5, 3)) * 0.1
    losses = 1.0 + vectors @ weights
    predictor = fit(LinearPredictor, vectors[:300], losses[:300])
    predictor.encoder = Lookup(vectors)
    mean = predictor.predict(rows(400)[300:]).mean["loss"]
    np.testing.assert_allclose(mean, losses[300:], atol=0.02)


def test_linear_penalises_what_is_noise():
    losses = np.random.default_rng(6).random((200, 2))
    predictor = fit(LinearPredictor, directions(200, 50), losses)
    assert predictor.predict(rows(200)).mean["loss"].std() < 0.1


def test_linear_fits_each_expert_on_its_own_prompts():
    vectors = directions(300, 4)
    losses = 1.0 + vectors @ np.random.default_rng(7).normal(size=(4, 2)) * 0.1
    holes = losses.copy()
    holes[::3, 1] = np.nan
    whole = fit(LinearPredictor, vectors, losses).predict(rows(300)).mean["loss"]
    part = fit(LinearPredictor, vectors, holes).predict(rows(300)).mean["loss"]
    # Apart by what keeping within the losses measured takes off the ends.
    np.testing.assert_allclose(part, whole, atol=0.03)
    assert np.abs(part - whole).mean() < 1e-3


def curved(n, noise=0.0):
    """Losses that rise to both sides of a plane, which no line can follow."""
    vectors = directions(n, 4)
    rng = np.random.default_rng(8)
    truth = 2.0 + np.abs(vectors @ rng.normal(size=(4, 2))) * 0.3
    return vectors, truth, truth + noise * rng.normal(size=truth.shape)


def test_random_relu_features_make_linear_non_linear():
    vectors, truth, _ = curved(900)
    errors = []
    for features in (0, 256):
        predictor = fit(LinearPredictor, vectors[:600], truth[:600], features=features)
        predictor.encoder = Lookup(vectors)
        left = predictor.predict(rows(900)[600:]).mean["loss"] - truth[600:]
        errors.append(np.abs(left).mean())
    linear, non_linear = errors
    assert non_linear < linear / 4


def test_features_are_stored_and_new_experts_take_them():
    vectors, truth, _ = curved(300)
    predictor = fit(LinearPredictor, vectors, truth, features=256)
    stored = LinearPredictor.from_state(*predictor.state(), predictor.encoder)
    expected = predictor.predict(rows(300))
    prediction = stored.predict(rows(300))
    np.testing.assert_array_equal(prediction.mean["loss"], expected.mean["loss"])
    np.testing.assert_array_equal(prediction.std["loss"], expected.std["loss"])
    probes = replace(table_of(5.0 - truth[:, :1]), experts=("new",))
    grown = stored.with_expert(probes.prompts, probes)
    mean = grown.predict(rows(300)).mean["loss"]
    np.testing.assert_allclose(mean[:, :2], expected.mean["loss"], rtol=1e-12)
    assert np.abs(mean[:, 2] - (5 - truth[:, 0])).mean() < 0.02


def test_linear_from_before_there_were_features_is_read():
    vectors, truth, _ = curved(60)
    predictor = fit(LinearPredictor, vectors, truth)
    config, arrays = predictor.state()
    del config["features"]
    assert "directions" not in arrays
    old = LinearPredictor.from_state(config, arrays, predictor.encoder)
    np.testing.assert_array_equal(
        old.predict(rows(60)).mean["loss"], predictor.predict(rows(60)).mean["loss"]
    )


@pytest.mark.parametrize("n", [1, 2, 40])
def test_fewer_prompts_than_features_predict_within_what_was_measured(n):
    vectors, truth, _ = curved(n)
    if n == 40:
        truth[::3, 1] = np.nan
    prediction = fit(LinearPredictor, vectors, truth, features=128).predict(rows(n))
    assert np.isfinite(prediction.std["loss"]).all()
    assert (prediction.mean["loss"] >= np.nanmin(truth, axis=0) - 1e-12).all()
    assert (prediction.mean["loss"] <= np.nanmax(truth, axis=0) + 1e-12).all()


def test_standard_errors_with_features_cover_the_truth():
    vectors, truth, losses = curved(1200, noise=0.3)
    predictor = fit(LinearPredictor, vectors[:800], losses[:800], features=512)
    predictor.encoder = Lookup(vectors)
    prediction = predictor.predict(rows(1200)[800:])
    inside = np.abs(prediction.mean["loss"] - truth[800:]) < 1.645 * prediction.std["loss"]
    assert 0.75 < inside.mean() < 0.98


def test_best_single_has_the_standard_error_of_a_mean():
    losses = np.array([[0.0, 1.0], [1.0, np.nan], [0.0, 1.0], [1.0, 1.0]])
    prediction = fit(BestSinglePredictor, np.zeros((4, 1)), losses).predict(["x"])
    np.testing.assert_allclose(prediction.mean["loss"], [[0.5, 1.0]])
    np.testing.assert_allclose(prediction.std["loss"], [[0.25, 0.0]])


def test_random_spreads_its_choices_evenly():
    predictor = fit(RandomPredictor, np.zeros((4, 1)), [[0.1, 0.2, 0.3, 0.4]] * 4)
    chosen = predictor.predict([f"prompt {i}" for i in range(4000)]).mean["loss"].argmin(axis=1)
    np.testing.assert_allclose(np.bincount(chosen) / 4000, 0.25, atol=0.03)


def test_random_depends_on_the_seed():
    losses = [[0.1, 0.2, 0.3, 0.4]] * 4
    first, second = (fit(RandomPredictor, np.zeros((4, 1)), losses, seed=s) for s in (0, 1))
    assert (first.predict(["a"]).mean["loss"] != second.predict(["a"]).mean["loss"]).all()


def test_the_novelty_test_flags_one_per_cent_of_its_own_kind():
    vectors = directions(8000, 16)
    flagged = NoveltyTest.fit(vectors[:4000]).flag(vectors[4000:]).mean()
    assert 0.002 < flagged < 0.025


def test_vectors_of_another_encoder_are_refused():
    from tryage.encoders import StaticEncoder

    config, arrays = fit(ClustersPredictor, directions(20, 3), np.ones((20, 2))).state()
    with pytest.raises(PredictorError, match="length 3"):
        ClustersPredictor.from_state(config, arrays, StaticEncoder.bundled())


def test_a_new_expert_of_few_probes_is_not_chosen_for_its_luck():
    """Four experts alike, and a fifth like them: twenty lucky answers must not send it prompts."""
    rng = np.random.default_rng(12)
    vectors, camp = two_camps(400)
    chance = np.where(camp[:, None] == 0, 0.3, 0.6) + 0.02 * np.arange(4)
    predictor = fit(ClustersPredictor, vectors, (rng.random((400, 4)) < chance).astype(float), k=2)
    lucky = table_of((rng.random((20, 1)) < 0.05).astype(float))
    probes = ScoreTable(
        lucky.prompts,
        lucky.ids,
        lucky.groups,
        lucky.tasks,
        lucky.references,
        ("new",),
        lucky.losses,
    )
    grown = predictor.with_expert(probes.prompts, probes)
    easy, hard = grown.predict(["0", "1"]).mean["loss"]
    assert easy[-1] > 0.15
    assert hard[-1] > easy[-1] + 0.15
    assert grown.average_loss_[-1] > lucky.losses.mean()


def test_results_of_known_experts_on_the_probes_tell_hard_probes_from_a_bad_new_expert():
    """Probes that happened to be hard, answered by everyone: the new expert is no worse for it."""
    rng = np.random.default_rng(13)
    vectors, _ = two_camps(400)
    hard = rng.random((400, 1))
    losses = np.clip(hard + rng.normal(0, 0.1, (400, 5)) + 0.05 * np.arange(5), 0.0, 1.0)
    predictor = fit(ClustersPredictor, vectors, losses[:, :4], k=2)
    probes = table_of(losses).select(np.flatnonzero(hard[:, 0] > 0.6)[:30])
    alone = predictor.with_expert(probes.prompts, probes.reorder(["e4"]))
    beside = predictor.with_expert(probes.prompts, probes.reorder(["e4", "e0", "e1", "e2"]))
    true = losses[:, 4].mean()
    means = [grown.predict(rows(400)).mean["loss"][:, -1].mean() for grown in (alone, beside)]
    assert abs(means[1] - true) < 0.5 * abs(means[0] - true)


def test_one_lucky_probe_does_not_bound_what_is_expected_of_a_new_expert():
    """Losses that the residual helps with, so that `hybrid` bounds what it adds."""
    vectors = directions(600, 6)
    line = vectors @ np.array([3.0, -2.0, 0.0, 0.0, 0.0, 0.0])
    losses = 5.0 + np.column_stack([line, -line, 0.5 * line])
    predictor = fit(HybridPredictor, vectors, losses, k=2)
    assert predictor.fitted_["loss"]["share"][0] > 0
    lucky = table_of(np.column_stack([losses[:1], [[0.0]]])).reorder(["e3"])
    grown = predictor.with_expert(lucky.prompts, lucky)
    assert grown.predict(rows(600)).mean["loss"][:, -1].min() > 0.5


def test_clusters_saved_before_there_was_a_coarser_clustering_predict_as_they_did():
    vectors, camp = two_camps()
    losses = np.where(camp[:, None] == [0, 1], 0.1, 0.9)
    predictor = fit(ClustersPredictor, vectors, losses)
    config, arrays = predictor.state()
    del config["coarse"]
    old = ClustersPredictor.from_state(config | {"k": None}, arrays, predictor.encoder)
    assert (old.k, old.coarse) == (20, 1)
    before, after = predictor.predict(rows(10)), old.predict(rows(10))
    np.testing.assert_array_equal(before.mean["loss"], after.mean["loss"])
