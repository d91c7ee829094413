from dataclasses import replace

import numpy as np
import pytest

from tryage.encoders import CachedEncoder, StaticEncoder
from tryage.errors import PredictorError
from tryage.predictors import PREDICTORS
from tryage.scores import ScoreTable
from tryage.steps import Steps
from tryage.training import (
    CANDIDATES,
    GROUPS,
    MORE_CLUSTERS,
    RANDOM_RELU,
    Candidate,
    auto,
    candidates,
    fit_and_validate,
    fit_predictor,
    split_folds,
    validate,
)
from tryage.training.candidates import candidates_for
from tryage.training.encoded import EncodedTable
from tryage.training.folds import held_out_choices


class CountingEncoder:
    """The bundled encoder, counting the prompts it reads."""

    name = "counting"
    dim = StaticEncoder.bundled().dim

    def __init__(self):
        self.read = 0

    def encode(self, prompts):
        self.read += len(prompts)
        return StaticEncoder.bundled().encode(prompts)

    def save(self, folder):
        return {"kind": "counting"}


TEXTS = ("def f(x): return x + {}", "The court of appeal dismissed claim {}", "Bake for {} minutes")


def table(n=90, *, texts=TEXTS, seed=0):
    """Each kind of prompt has an expert that is good on it and bad on the others."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(n):
        kind = number % len(texts)
        losses = {
            f"expert {j}": rng.uniform(0, 0.3) + (j != kind) + 0.05 * j for j in range(len(texts))
        }
        prompt = texts[kind].format(number)
        rows.append({"prompt": prompt, "group": f"group {kind}", "losses": losses})
    return ScoreTable.from_rows(rows)


@pytest.fixture(scope="module")
def encoder():
    return StaticEncoder.bundled()


QUICK = sorted(kind for kind in PREDICTORS if not PREDICTORS[kind].slow)


@pytest.mark.parametrize("kind", ["auto", *QUICK])
def test_every_kind_is_fitted_and_validated_reproducibly(kind, encoder):
    data = table()
    predictor = fit_predictor(data, kind, encoder, 0)
    assert predictor.predict(data.prompts).mean["loss"].shape == (90, 3)
    row = validate(data, kind, encoder, 0)
    assert row == validate(data, kind, encoder, 0)
    assert row["measured"] == 1.0
    assert row["regret_ci95"][0] <= row["regret"] <= row["regret_ci95"][1]
    looks = kind not in ("best-single", "random")
    assert (row["selection_accuracy"] > 0.9) == looks


def test_validation_holds_out_what_it_judges(encoder):
    """With losses that nothing can foretell, no kind does better than chance."""
    rng = np.random.default_rng(0)
    rows = [
        {"prompt": f"What is {i} times {i + 1}?", "losses": {"a": x, "b": 1 - x}}
        for i, x in enumerate(rng.integers(0, 2, 300).astype(float).tolist())
    ]
    for kind in ("clusters", "hybrid", "linear", "nearest"):
        assert validate(ScoreTable.from_rows(rows), kind, encoder, 0)["loss"] > 0.4


def test_each_prompt_is_encoded_once_for_the_fit_and_all_folds():
    counting = CountingEncoder()
    data = table()
    fit = fit_and_validate(data, "clusters", counting, 0)
    predictor, row = fit.predictor, fit.validation
    assert counting.read == len(data)
    assert predictor.encoder is counting
    assert fit.choice is None
    alone = fit_predictor(data, "clusters", counting, 0)
    expected = alone.predict(data.prompts).mean["loss"]
    np.testing.assert_array_equal(predictor.predict(data.prompts).mean["loss"], expected)
    assert row == validate(data, "clusters", counting, 0)


def test_kinds_that_do_not_look_at_prompts_encode_none():
    counting = CountingEncoder()
    fit_and_validate(table(), "best-single", counting, 0)
    assert counting.read == 0
    assert fit_and_validate(table(), "best-single", None, 0).validation["measured"] == 1.0


def test_a_cached_encoder_is_the_encoder_behind_it(encoder, tmp_path):
    cached = CachedEncoder(encoder, ["one", "two", "one"])
    assert cached.behind is encoder
    assert (cached.name, cached.dim) == (encoder.name, encoder.dim)
    for prompts in (["two", "one"], ["two", "three"], []):
        np.testing.assert_array_equal(cached.encode(prompts), encoder.encode(prompts))
    assert cached.save(tmp_path / "a") == encoder.save(tmp_path / "b")


def test_folds_share_every_group_evenly_and_keep_equal_prompts_together():
    data = table(60)
    twice = ScoreTable.from_rows(
        [
            {"prompt": prompt, "group": group, "losses": {"a": 1.0}}
            for prompt, group in zip(data.prompts * 2, data.groups * 2, strict=True)
        ]
    )
    fold_of = split_folds(twice, 5, seed=0)
    assert np.bincount(fold_of).tolist() == [24] * 5
    np.testing.assert_array_equal(fold_of[:60], fold_of[60:])
    for group in set(twice.groups):
        member = np.array(twice.groups) == group
        assert np.bincount(fold_of[member]).tolist() == [8] * 5
    assert (split_folds(twice, 5, seed=1) != fold_of).any()


@pytest.mark.parametrize("n", [2, 3, 4])
def test_fewer_prompts_than_folds_are_held_out_one_by_one(encoder, n):
    assert sorted(split_folds(table(n), 5, seed=0)) == list(range(n))
    assert validate(table(n), "clusters", encoder, 0)["measured"] == 1.0


def test_with_a_single_prompt_nothing_can_be_held_out(encoder):
    data = table(1)
    assert fit_predictor(data, "clusters", encoder, 0).experts_ == data.experts
    row = validate(data, "clusters", encoder, 0)
    assert row["loss"] is row["regret"] is None
    assert row["measured"] == 0.0


def test_an_expert_that_only_the_held_out_fold_measures_is_not_chosen_there(encoder):
    rows = [{"prompt": f"prompt {i}", "losses": {"a": 1.0}} for i in range(10)]
    rows[3]["losses"]["rare"] = 0.0
    row = validate(ScoreTable.from_rows(rows), "clusters", encoder, 0)
    assert row["measured"] < 1.0
    assert row["loss"] == 1.0


def test_a_fold_that_leaves_nothing_measured_to_learn_from_is_left_out(encoder):
    rows = [{"prompt": "only one", "losses": {"a": 1.0}}, {"prompt": "nothing", "losses": {}}]
    row = validate(ScoreTable.from_rows(rows), "clusters", encoder, 0)
    assert row["measured"] == 0.0


def test_an_unknown_kind_is_named():
    with pytest.raises(PredictorError, match="unknown predictor 'cluster'"):
        fit_predictor(table(3), "cluster", None, 0)
    with pytest.raises(PredictorError, match="Did you mean 'auto'"):
        validate(table(3), "aut", None, 0)


def test_auto_encodes_each_prompt_once_and_says_what_it_chose():
    counting = CountingEncoder()
    data = table()
    fit = fit_and_validate(data, "auto", counting, 0)
    assert counting.read == len(data)
    assert fit.predictor.encoder is counting
    assert fit.choice["chosen"] == "clusters"
    tried = {str(candidate) for candidate in (*CANDIDATES, GROUPS)}
    assert set(fit.choice["inner_regret"]) == tried
    outer = fit.choice["outer_regret"]
    assert fit.validation["regret"] == outer["auto"]
    assert fit_and_validate(data, "auto", counting, 0).choice == fit.choice


class Rows:
    """An encoder of prompts that are numbers of rows of a matrix."""

    name = "rows"

    def __init__(self, vectors):
        self.vectors, self.dim = vectors, vectors.shape[1]

    def encode(self, prompts):
        return self.vectors[[int(prompt) for prompt in prompts]]


def crossing(n, experts=4):
    """Vectors, and losses that fall to both sides of a plane of each expert's own."""
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(n, 12)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    losses = 9.0 - np.abs(vectors @ rng.normal(size=(12, experts))) + rng.random((n, experts)) / 9
    named = [{f"e{j}": float(loss) for j, loss in enumerate(row)} for row in losses]
    rows = [{"prompt": str(number), "losses": row} for number, row in enumerate(named)]
    return Rows(vectors), rows


def test_auto_takes_random_relu_features_where_a_large_table_asks_for_it():
    encoder, rows = crossing(2600)
    fit = fit_and_validate(ScoreTable.from_rows(rows), "auto", encoder, 0)
    assert fit.choice["chosen"] == str(RANDOM_RELU)
    assert fit.predictor.features == RANDOM_RELU.settings["features"]
    assert fit.choice["outer_regret"]["auto"] < 0.8 * fit.choice["outer_regret"]["clusters"]


def test_auto_does_not_try_random_relu_features_on_small_or_ragged_tables():
    _, rows = crossing(2000, experts=9)
    ragged = [
        {
            "prompt": row["prompt"],
            "losses": {
                name: loss
                for column, (name, loss) in enumerate(row["losses"].items())
                if (number + column) % 10
            },
        }
        for number, row in enumerate(rows)
    ]
    whole = candidates_for(ScoreTable.from_rows(rows))
    assert whole == (*CANDIDATES, MORE_CLUSTERS, RANDOM_RELU)
    assert candidates_for(ScoreTable.from_rows(rows[:1999])) == CANDIDATES
    assert candidates_for(ScoreTable.from_rows(ragged)) == (*CANDIDATES, MORE_CLUSTERS)


def test_groups_are_tried_where_a_table_names_several():
    named = table(30)
    assert candidates_for(named) == (*CANDIDATES, GROUPS)
    for groups in ((None,) * 30, ("all",) * 30):
        assert candidates_for(replace(named, groups=groups)) == CANDIDATES


def test_more_clusters_are_tried_on_large_tables():
    large = ScoreTable.from_rows(
        [{"prompt": str(row), "losses": {"a": 1.0}} for row in range(2000)]
    )
    assert MORE_CLUSTERS in candidates_for(large)
    assert MORE_CLUSTERS not in candidates_for(large.select(range(1999)))
    assert MORE_CLUSTERS not in candidates_for(large, 1999)


def many_kinds(kinds, n):
    """Vectors of many kinds of prompt, and rows: one of four experts is best at each kind."""
    rng = np.random.default_rng(5)
    kind = np.arange(n) % kinds
    vectors = rng.normal(size=(kinds, 24))[kind] + 0.2 * rng.normal(size=(n, 24))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    good = rng.integers(4, size=kinds)[kind][:, None] == np.arange(4)
    losses = (rng.random((n, 4)) < np.where(good, 0.2, 0.6)).astype(float)
    names = [{f"e{j}": loss for j, loss in enumerate(row)} for row in losses.tolist()]
    return Rows(vectors), [{"prompt": str(i), "losses": row} for i, row in enumerate(names)], kind


def test_candidates_are_compared_on_every_prompt_where_results_are_missing(encoder):
    """Half of the prompts were given to two experts, half to two others that are all better."""
    rows = []
    for number in range(120):
        scale, names = (0.1, "ab") if number % 2 else (1.0, "cd")
        losses = {name: scale * (1 + place) for place, name in enumerate(names)}
        rows.append({"prompt": f"Question {number}?", "losses": losses})
    encoded = EncodedTable.encode(ScoreTable.from_rows(rows), "auto", encoder)
    row = np.arange(120)
    losses = encoded.table.losses
    anywhere = held_out_choices(encoded, CANDIDATES[0], 0, 3)
    assert np.isnan(losses[row, anywhere]).sum() > 40
    choices = held_out_choices(encoded, CANDIDATES[0], 0, 3, among_measured=True)
    np.testing.assert_array_equal(losses[row, choices], np.nanmin(losses, axis=1))
    assert set(auto.best_candidate(encoded, 0, Steps())[1].values()) == {0.0}


@pytest.fixture
def few_candidates(monkeypatch):
    """Leave out the candidates that a test is not about."""
    monkeypatch.setattr(candidates, "CANDIDATES", CANDIDATES[:2])
    monkeypatch.setattr(candidates, "_RANDOM_RELU_PROMPTS", 10**9)


@pytest.mark.usefixtures("few_candidates")
def test_auto_takes_more_clusters_where_a_table_has_more_kinds_than_clusters():
    encoder, rows, _ = many_kinds(100, 3200)
    encoded = EncodedTable.encode(ScoreTable.from_rows(rows), "auto", encoder)
    best, regrets = auto.best_candidate(encoded, 0, Steps())
    assert best == MORE_CLUSTERS
    assert regrets[str(best)] < 0.8 * regrets["clusters"]


@pytest.mark.usefixtures("few_candidates")
def test_auto_takes_groups_where_a_table_names_many_kinds_of_few_prompts():
    encoder, rows, kind = many_kinds(80, 1200)
    named = [{**row, "group": f"kind {one}"} for row, one in zip(rows, kind.tolist(), strict=True)]
    encoded = EncodedTable.encode(ScoreTable.from_rows(named), "auto", encoder)
    best, regrets = auto.best_candidate(encoded, 0, Steps())
    assert best == GROUPS
    assert regrets["groups"] < 0.8 * min(regrets["clusters"], regrets["nearest"])


WORDS = (
    *("integral", "garden", "court", "python", "violin", "kidney"),
    *("market", "planet", "bread", "river", "poem", "engine"),
)


def sloped(n=600):
    """Which expert is good changes along a line through many kinds of prompt."""
    rng = np.random.default_rng(0)
    rows = []
    for _ in range(n):
        counts = rng.integers(0, 4, len(WORDS))
        text = " ".join(np.repeat(WORDS, counts))
        slope = float(np.clip(0.5 + (counts[::2].sum() - counts[1::2].sum()) / 20, 0, 1))
        rows.append({"prompt": text or "nothing", "losses": {"a": slope, "b": 1 - slope}})
    return ScoreTable.from_rows(rows)


def test_auto_leaves_clusters_where_another_kind_does_better(encoder):
    data = sloped()
    fit = fit_and_validate(data, "auto", encoder, 0)
    assert fit.predictor.kind != "clusters"
    outer = fit.choice["outer_regret"]
    assert outer["auto"] <= min(outer["clusters"], outer["nearest"])


@pytest.mark.parametrize("better", ["clusters", "nearest"])
def test_auto_gives_way_to_a_plain_kind_that_beats_it_on_the_outer_folds(
    encoder, monkeypatch, better
):
    data = table()
    worst = Candidate("random")
    monkeypatch.setattr(auto, "best_candidate", lambda *_: (worst, {}))
    if better == "nearest":
        monkeypatch.setattr(auto, "CLUSTERS", Candidate("best-single"))
    fit = fit_and_validate(data, "auto", encoder, 0)
    assert fit.choice["outer_regret"]["auto"] > fit.validation["regret"]
    plain = auto.CLUSTERS if better == "clusters" else auto.NEAREST
    assert fit.predictor.kind == plain.kind


def test_auto_takes_clusters_where_nothing_can_be_held_out(encoder):
    fit = fit_and_validate(table(1), "auto", encoder, 0)
    assert fit.predictor.kind == "clusters"
    assert fit.validation["regret"] is None


def ordered(n):
    """The same words in two orders, which quick kinds cannot tell apart; b is good at one."""
    rng = np.random.default_rng(0)
    texts = ("the dog bites man number {}", "man bites the dog number {}")
    kinds = rng.integers(2, size=n).tolist()
    return ScoreTable.from_rows(
        [
            {"prompt": texts[kind].format(number), "losses": {"a": 0.2 + kind * 0.5, "b": 0.4}}
            for number, kind in enumerate(kinds)
        ]
    )


def test_auto_takes_a_network_that_is_better_and_judges_it_on_other_prompts(monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.setattr("tryage.training.network_trial.FEWEST_PROMPTS", 300)
    data = ordered(300)
    fit = fit_and_validate(data, "auto", StaticEncoder.bundled(), 0)
    assert fit.choice["chosen"] == fit.predictor.kind == "embedding-bag"
    trial = fit.choice["embedding-bag"]
    assert trial["regret"] < 0.02 < trial["quick_regret"]
    judged = fit.choices >= 0
    fold_of = split_folds(data, 5, 0)
    assert (judged == (fold_of == 1)).all(), "the fold that it was chosen on is the first"
    assert fit.validation["regret"] < 0.02
    assert fit.validation["measured"] == pytest.approx(0.2, abs=0.01)


def test_auto_keeps_a_quick_kind_where_a_network_is_no_better(monkeypatch, encoder):
    pytest.importorskip("torch")
    monkeypatch.setattr("tryage.training.network_trial.FEWEST_PROMPTS", 90)
    fit = fit_and_validate(table(), "auto", StaticEncoder.bundled(), 0)
    assert fit.choice["chosen"] == fit.predictor.kind == "clusters"
    assert fit.choice["embedding-bag"]["tried"] is True
    assert (fit.choices >= 0).all()


def test_auto_says_why_it_tried_no_network(monkeypatch, encoder):
    def reason(data, encoder):
        trial = fit_and_validate(data, "auto", encoder, 0).choice["embedding-bag"]
        assert trial["tried"] is False
        return trial["reason"]

    static = StaticEncoder.bundled()
    assert reason(table(), static) == "the table has 90 prompts, fewer than 2,000"
    monkeypatch.setattr("tryage.training.network_trial.FEWEST_PROMPTS", 90)
    assert reason(table(), CountingEncoder()) == (
        "it starts from a static encoder, and the router has another one"
    )
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert reason(table(), static) == 'torch is not installed; pip install "tryage[hf]"'
