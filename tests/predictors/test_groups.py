"""The predictor `groups` and the logistic regression by which it tells groups."""

import json
from dataclasses import replace

import numpy as np
from safetensors.numpy import load, save

from tryage.predictors import ClustersPredictor, GroupsPredictor, softmax
from tryage.predictors.groups import group_labels
from tryage.predictors.kmeans import unit_rows
from tryage.predictors.softmax import fit_softmax
from tryage.scores import ScoreTable

EXPERTS = 4


class Numbered:
    """An encoder whose prompts are numbers of rows of a matrix."""

    name = "numbered"

    def __init__(self, vectors):
        self.vectors, self.dim = vectors, vectors.shape[1]

    def encode(self, prompts):
        return self.vectors[[int(prompt) for prompt in prompts]]


def table_of(losses, groups):
    names = tuple(str(row) for row in range(len(losses)))
    nothing = (None,) * len(names)
    experts = tuple(f"e{column}" for column in range(losses.shape[1]))
    return ScoreTable(names, names, tuple(groups), nothing, nothing, experts, losses)


def subjects_and_requests(n=1500, requests=6):
    """Vectors that vary most by subject, which does not matter, and little by request, which does.

    Returns:
        Vectors, the request of each, and a table whose groups are the requests.
    """
    rng = np.random.default_rng(0)
    request = np.arange(n) % requests
    subject = rng.normal(size=(30, 20))[rng.integers(30, size=n)]
    little = 0.8 * rng.normal(size=(requests, 8))[request] + 0.2 * rng.normal(size=(n, 8))
    vectors = unit_rows(np.hstack([subject, little]).astype(np.float32))
    best = request % EXPERTS
    losses = np.where(best[:, None] == np.arange(EXPERTS), 0.2, 0.6)
    losses = (rng.random(losses.shape) < losses).astype(float)
    return vectors, request, table_of(losses, [f"request {one}" for one in request])


def fit(cls, vectors, table, **settings):
    return cls(Numbered(vectors), **settings).fit(table.prompts, table)


def share_right(predictor, rows, request):
    mean = predictor.predict([str(row) for row in rows]).mean["loss"]
    return (mean.argmin(axis=1) == request[rows] % EXPERTS).mean()


def test_groups_are_told_where_clusters_see_only_the_subject():
    vectors, request, table = subjects_and_requests()
    train, test = np.arange(1000), np.arange(1000, 1500)
    groups = fit(GroupsPredictor, vectors, table.select(train))
    assert share_right(groups, test, request) > 0.97
    assert share_right(fit(ClustersPredictor, vectors, table.select(train)), test, request) < 0.8


def test_a_table_without_groups_is_one_group():
    vectors, request, table = subjects_and_requests()
    nameless = replace(table, groups=(None,) * len(table))
    predictor = fit(GroupsPredictor, vectors, nameless)
    assert len(predictor.offsets_) == 1
    np.testing.assert_array_equal(predictor.sizes_, [15] * 3)
    assert share_right(predictor, np.arange(1500), request) < 0.8


def test_clusters_within_groups_grow_with_their_prompts():
    vectors, _, table = subjects_and_requests(n=1200, requests=2)
    coarse = fit(GroupsPredictor, vectors, table, size=300)
    np.testing.assert_array_equal(coarse.sizes_, [4] * 3)
    assert coarse.group_of_.tolist() == [0, 0, 1, 1] * 3
    fine = fit(GroupsPredictor, vectors, table, size=20, clusterings=1)
    assert fine.group_of_.tolist() == [0] * 30 + [1] * 30


def test_a_prompt_between_two_groups_is_given_the_mean_of_both_with_more_doubt():
    camp = np.arange(400) % 2
    noise = 0.3 * np.random.default_rng(1).normal(size=(400, 2))
    poles = np.array([[1.0, 0.0, 1.0], [-1.0, 0.0, 1.0]])[camp]
    vectors = unit_rows((poles + np.hstack([noise, np.zeros((400, 1))])).astype(np.float32))
    between = np.array([[0.0, 0.0, 1.0]], dtype=np.float32)
    losses = np.where(camp[:, None] == [0, 1], 0.1, 0.9) + 0.02 * np.random.default_rng(2).random(
        (400, 2)
    )
    table = table_of(losses, [f"camp {one}" for one in camp])
    predictor = fit(GroupsPredictor, vectors, table)
    poles = unit_rows(np.array([[1, 0, 1], [-1, 0, 1]], dtype=np.float32))
    ends, middle = predictor.predict_vectors(poles), predictor.predict_vectors(between)
    np.testing.assert_allclose(ends.mean["loss"], [[0.11, 0.91], [0.91, 0.11]], atol=0.03)
    np.testing.assert_allclose(middle.mean["loss"], [[0.51, 0.51]], atol=0.15)
    assert (middle.std["loss"] > 5 * ends.std["loss"].max()).all()


def test_a_group_counts_as_much_as_it_is_likely_however_near_its_clusters_are():
    vectors, request, table = subjects_and_requests(n=900, requests=2)
    constant = replace(table, losses=np.where(request[:, None] == [0, 1, 0, 1], 0.1, 0.9))
    predictor = fit(GroupsPredictor, vectors, constant, size=20)
    between = unit_rows(vectors[0:400:2] + vectors[1:401:2])
    logits = between.astype(float) @ predictor.coefficients_ + predictor.offsets_
    likely = softmax.softmax(logits)[:, 0]
    assert ((likely > 0.1) & (likely < 0.9)).sum() > 50
    mean = predictor.predict_vectors(between).mean["loss"]
    np.testing.assert_allclose(mean[:, 0], 0.9 - 0.8 * likely, atol=0.02)


def test_a_stored_predictor_tells_groups_as_before():
    vectors, _, table = subjects_and_requests(n=300)
    before = fit(GroupsPredictor, vectors, table, size=30)
    config, arrays = before.state()
    stored = load(save({name: np.ascontiguousarray(value) for name, value in arrays.items()}))
    after = GroupsPredictor.from_state(json.loads(json.dumps(config)), stored, before.encoder)
    first, second = before.predict(table.prompts), after.predict(table.prompts)
    np.testing.assert_array_equal(first.mean["loss"], second.mean["loss"])
    np.testing.assert_array_equal(first.std["loss"], second.std["loss"])
    assert (after.size, after.clusterings) == (30, 3)


def test_a_prompt_is_given_the_same_alone_and_among_others():
    vectors, _, table = subjects_and_requests(n=600)
    predictor = fit(GroupsPredictor, vectors, table)
    together = predictor.predict(table.prompts)
    alone = predictor.predict(["7"])
    np.testing.assert_array_equal(alone.mean["loss"][0], together.mean["loss"][7])
    np.testing.assert_array_equal(alone.std["loss"][0], together.std["loss"][7])


def test_small_groups_and_prompts_without_one_are_put_together():
    groups = ("a",) * 5 + ("b",) * 4 + (None,) * 3 + ("c",) * 6
    labels = group_labels(groups)
    assert labels.tolist() == [0] * 5 + [2] * 7 + [1] * 6
    assert group_labels((None,) * 8).tolist() == [0] * 8
    assert group_labels(("a", "b", "c")).tolist() == [0] * 3


def test_no_more_groups_than_the_most_are_told_apart():
    groups = tuple(f"{number:03d}" for number in range(300) for _ in range(5))
    labels = group_labels(groups)
    assert labels.max() + 1 == 256
    assert np.bincount(labels)[-1] == 5 * (300 - 255)


def classes(n=(900, 90, 10)):
    """Vectors of three overlapping classes of different sizes, and their labels."""
    rng = np.random.default_rng(3)
    labels = np.repeat(np.arange(len(n)), n)
    angle = labels * 0.9 + 0.5 * rng.normal(size=len(labels))
    vectors = np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)
    return vectors, labels


def chances(vectors, labels):
    coefficients, offsets = fit_softmax(vectors, labels, 3, np.random.default_rng(0))
    return softmax.softmax(vectors.astype(float) @ coefficients + offsets)


def test_probabilities_of_classes_are_their_frequencies():
    """At the optimum the mean probability of a class is its share, because offsets are free."""
    vectors, labels = classes()
    chance = chances(vectors, labels)
    np.testing.assert_allclose(chance.sum(axis=1), 1.0)
    np.testing.assert_allclose(chance.mean(axis=0), [0.9, 0.09, 0.01], atol=0.004)
    likely = chance[:, 1] > 0.5
    assert (labels[likely] == 1).mean() > 0.5
    assert likely.sum() > 20


def test_classes_that_are_sampled_keep_their_frequencies(monkeypatch):
    vectors, labels = classes((6000, 600, 60))
    whole = chances(vectors, labels)
    monkeypatch.setattr(softmax, "_SAMPLE", 900)
    sampled = chances(vectors, labels)
    np.testing.assert_allclose(sampled.mean(axis=0), whole.mean(axis=0), atol=0.02)
    assert np.abs(sampled - whole).max() > 1e-6
    assert np.abs(sampled - whole).mean() < 0.03
