"""The fine-tuned embedding bag: trained with torch, decided with numpy."""

import subprocess
import sys

import numpy as np
import pytest

from tryage import Expert, Library, Router, ScoreTable
from tryage.encoders import StaticEncoder
from tryage.errors import PredictorError
from tryage.predictors import EmbeddingBagPredictor, make_predictor
from tryage.predictors.finetuning import Recipe
from tryage.predictors.token_bag import CHARACTERS, PAIRS, common_features, feature_ids, quantized
from tryage.testing import check_predictor

pytest.importorskip("torch")

SETTINGS = {"dim": 8, "hidden": 16, "epochs": 8, "batch": 16}
RIVER, GLACIER = "แม่น้ำ", "ธารน้ำแข็ง"


def made(texts, good, n=160, costs=False):
    """Expert `good[kind]` is right on the prompts of a kind."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(n):
        kind = number % len(texts)
        losses = {name: float(name != good[kind]) for name in sorted(set(good))}
        row = {"prompt": texts[kind].format(rng.integers(10_000)), "losses": losses}
        if costs:
            row["costs"] = {name: 0.001 * (1 + kind) for name in losses}
        rows.append(row)
    return ScoreTable.from_rows(rows)


def fit(table, **more):
    predictor = EmbeddingBagPredictor(StaticEncoder.bundled(), **{**SETTINGS, **more})
    return predictor.fit(table.prompts, table)


def choices(predictor, prompts):
    columns = predictor.predict(prompts).mean["loss"].argmin(axis=1)
    return [predictor.experts_[column] for column in columns]


@pytest.fixture(scope="module")
def table():
    return made(["Add {} apples to the basket.", "def f{}(x):\n    return x\n"], "ab", costs=True)


@pytest.fixture(scope="module")
def fitted(table):
    return fit(table)


def test_it_keeps_every_contract_of_predictors():
    check_predictor(EmbeddingBagPredictor(StaticEncoder.bundled(), **SETTINGS | {"epochs": 2}))


def test_it_learns_losses_and_the_other_targets(fitted, table):
    assert choices(fitted, table.prompts) == ["a", "b"] * 80
    cost = fitted.predict(table.prompts).mean["cost"]
    np.testing.assert_allclose(cost, np.tile([[0.001, 0.001], [0.002, 0.002]], (80, 1)), atol=2e-4)
    assert all(1 <= len(epochs) <= 8 for epochs in fitted.history_)
    assert len(fitted.history_) == 2


def test_the_order_of_words_tells_prompts_apart():
    """Both kinds hold the same words, so only pairs of them differ."""
    kinds = ["dog bites man and cat {}", "man bites dog and cat {}"]
    predictor = fit(made(kinds, "ab"), epochs=20)
    assert choices(predictor, [kind.format(5) for kind in kinds]) == ["a", "b"]
    plain = make_predictor("linear", StaticEncoder.bundled())
    table = made(kinds, "ab")
    assert len(set(choices(plain.fit(table.prompts, table), [k.format(5) for k in kinds]))) == 1


def test_words_of_a_script_that_the_tokenizer_lacks_tell_prompts_apart():
    kinds = [f"{RIVER} {{}}", f"{GLACIER} {{}}"]
    encoder = StaticEncoder.bundled()
    np.testing.assert_allclose(*encoder.encode([RIVER, GLACIER]), atol=1e-6)
    predictor = fit(made(kinds, "ab"), epochs=20)
    assert choices(predictor, [kind.format(7) for kind in kinds]) == ["a", "b"]


def test_features_are_tokens_pairs_and_runs_of_characters():
    ids = feature_ids("x y x", [7, 9, 7], 100)
    assert ids[:3].tolist() == [7, 9, 7]
    pairs = ids[3:].tolist()
    assert len(pairs) == 2
    assert all(100 <= pair < 100 + PAIRS for pair in pairs)
    assert pairs[0] != pairs[1], "the order counts"
    assert feature_ids("é “x”", [7], 100).tolist() == [7], "Latin and punctuation are read"
    runs = feature_ids("нет", [7], 100)[1:]
    assert len(runs) == 3 + 2 + 1, "one, two and three characters"
    assert runs.min() >= 100 + PAIRS
    assert runs.max() < 100 + PAIRS + CHARACTERS
    assert feature_ids("", [], 100).size == 0
    assert len(feature_ids("語" * 50_000, [7], 100)) == 1 + 4096


def test_features_of_three_prompts_have_vectors(monkeypatch):
    texts = [np.array([5, 5, 8]), np.array([5, 8]), np.array([5, 8, 9]), np.array([9, 9])]
    assert common_features(texts).tolist() == [5, 8], "9 occurs three times, in two prompts"
    texts.append(np.array([5]))
    monkeypatch.setattr("tryage.predictors.token_bag.MOST_ROWS", 1)
    assert common_features(texts).tolist() == [5], "the most frequent"


def test_quantized_vectors_stay_close():
    vectors = np.random.default_rng(0).standard_normal((30, 2, 8)).astype(np.float32)
    vectors[3] = 0.0
    table, scales = quantized(vectors)
    assert table.dtype == np.int8
    worst = np.abs(vectors).max(axis=2, keepdims=True) / 254 + 1e-6
    assert (np.abs(table * scales[:, :, None] - vectors) <= worst).all()


def test_out_of_distribution_is_decided_on_the_static_vectors(fitted, table):
    linear = make_predictor("linear", StaticEncoder.bundled()).fit(table.prompts, table)
    prompts = [*table.prompts[:3], "Beschreibe die Quantenverschränkung.", "SELECT 1;", ""]
    ours, theirs = fitted.predict(prompts), linear.predict(prompts)
    np.testing.assert_allclose(ours.likeness, theirs.likeness, atol=1e-6)
    assert ours.ood.tolist() == theirs.ood.tolist()
    assert ours.ood[4]
    assert not ours.ood[:3].any()


def test_missing_cells_are_no_zeros():
    rows = []
    for number in range(150):
        losses = {"a": 0.9, "b": 0.8} | ({"c": 0.5} if number % 3 == 0 else {})
        rows.append({"prompt": f"Tell me more about number {number}.", "losses": losses})
    table = ScoreTable.from_rows(rows)
    losses = fit(table).predict(table.prompts).mean["loss"]
    np.testing.assert_allclose(losses, np.tile([0.9, 0.8, 0.5], (150, 1)), atol=0.03)


def test_a_router_on_it_is_small_and_decides_without_torch(fitted, table, tmp_path):
    library = Library(tuple(Expert(name=name, model=name) for name in "ab"), name="t")
    router = Router.fit(table, library=library, predictor="embedding-bag")
    assert router.predictors["text-generation"].kind == "embedding-bag"
    assert 0.1 < router.provenance["validation"]["text-generation"]["measured"] < 0.3
    router.save_pretrained(tmp_path / "r")
    assert sum(f.stat().st_size for f in (tmp_path / "r").iterdir()) < 8e6
    code = (
        "import sys, tryage; d = tryage.Router.from_pretrained(sys.argv[1]).route(sys.argv[2]); "
        "print(d.expert); assert 'torch' not in sys.modules"
    )
    arguments = [sys.executable, "-c", code, str(tmp_path / "r"), table.prompts[1]]
    done = subprocess.run(arguments, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "b"


@pytest.mark.parametrize("name", ["keys", "table", "scales", "bag_weights", "offsets"])
def test_stored_arrays_that_do_not_fit_together_are_refused(fitted, name):
    config, arrays = fitted.state()
    arrays[f"bag.{name}"] = arrays[f"bag.{name}"][:-1]
    with pytest.raises((ValueError, IndexError)):
        EmbeddingBagPredictor.from_state(config, arrays, StaticEncoder.bundled())
    del arrays[f"bag.{name}"]
    with pytest.raises(PredictorError, match=f"lacks 'bag.{name}'"):
        EmbeddingBagPredictor.from_state(config, arrays, StaticEncoder.bundled())


def test_what_is_wrong_is_named(table, tiny_masked):
    from tryage.encoders import SentenceEncoder

    with pytest.raises(PredictorError, match="the encoder is none; name the bundled one"):
        EmbeddingBagPredictor().fit(table.prompts, table)
    with pytest.raises(PredictorError, match="static encoder, and the encoder is '"):
        EmbeddingBagPredictor(SentenceEncoder(tiny_masked)).fit(table.prompts, table)
    with pytest.raises(PredictorError, match="unknown setting of predictor 'embedding-bag'"):
        fit(table, speed=3)
    assert set(EmbeddingBagPredictor.RECIPE) <= set(Recipe.__dataclass_fields__)
