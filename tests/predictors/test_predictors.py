"""What every predictor must do, whatever its kind."""

import functools
import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save

from tryage.encoders import StaticEncoder
from tryage.errors import NotFittedError, PredictorError, PromptError
from tryage.predictors import PREDICTORS, make_predictor
from tryage.scores import ScoreTable

KINDS = sorted(kind for kind in PREDICTORS if not PREDICTORS[kind].slow)
SEEING = ["clusters", "groups", "hybrid", "linear", "nearest"]
ODD = ["\x00\x01", "\ud800", "日本語のテスト", "Привет", "👩‍🚀" * 40, "x" * 50_000, " "]

FRUIT = [
    "{} apples and {} pears: how many fruits are there in the basket?",
    "{} children share {} sweets. How many sweets does each child get?",
]
CODE = [
    "def f{}(x):\n    return x + {}\n",
    "for i in range({}):\n    print(i * {})\n",
]


def prompts_of(n, seed=0):
    rng = np.random.default_rng(seed)
    kinds = (FRUIT, CODE)
    texts = [kinds[i % 2][rng.integers(2)].format(i, rng.integers(99)) for i in range(n)]
    return texts, np.arange(n) % 2


def table_of(prompts, losses, **targets):
    losses = np.asarray(losses, dtype=float)
    n, m = losses.shape
    nothing = (None,) * n
    return ScoreTable(
        tuple(prompts),
        tuple(f"p{i}" for i in range(n)),
        nothing,
        nothing,
        nothing,
        tuple(f"e{j}" for j in range(m)),
        losses,
        targets=targets,
    )


def measured(n=200, m=4, seed=0, missing=0.0):
    """Experts 0, 2, .. are good at fruit, the others at code."""
    prompts, kind = prompts_of(n, seed)
    rng = np.random.default_rng(seed)
    losses = 1.0 + (kind[:, None] != np.arange(m) % 2) + rng.random((n, m)) * 0.2
    holes = rng.random((n, m)) < missing
    holes[0] = holes[1] = False
    losses[holes] = np.nan
    return prompts, table_of(prompts, losses)


def fitted(kind, prompts, table, seed=0):
    return make_predictor(kind, StaticEncoder.bundled(), seed).fit(prompts, table)


@functools.cache
def ready(kind):
    return fitted(kind, *measured(missing=0.2))


def check(prediction, n, m):
    mean, std = prediction.mean["loss"], prediction.std["loss"]
    assert mean.shape == std.shape == (n, m)
    assert np.isfinite(mean).all()
    assert np.isfinite(std).all()
    assert (std >= 0).all()
    assert prediction.ood.shape == (n,)
    assert prediction.ood.dtype == bool


@pytest.mark.parametrize("kind", KINDS)
def test_shapes_and_fitted_attributes(kind):
    prompts, table = measured()
    predictor = fitted(kind, prompts, table)
    check(predictor.predict(prompts[:7]), 7, 4)
    check(predictor.predict([]), 0, 4)
    assert predictor.experts_ == table.experts
    np.testing.assert_allclose(predictor.average_loss_, table.losses.mean(axis=0))


@pytest.mark.parametrize("kind", SEEING)
@pytest.mark.parametrize("missing", [0.0, 0.6])
def test_unseen_prompts_go_to_the_right_kind_of_expert(kind, missing):
    predictor = fitted(kind, *measured(missing=missing))
    prompts, kinds = prompts_of(60, seed=1)
    prediction = predictor.predict(prompts)
    chosen = prediction.mean["loss"].argmin(axis=1)
    assert (chosen % 2 == kinds).mean() > 0.95
    assert prediction.std["loss"].mean() < 0.3


@pytest.mark.parametrize("kind", KINDS)
def test_equal_for_a_seed(kind):
    prompts, table = measured(missing=0.3)
    first = fitted(kind, prompts, table, seed=3).predict(prompts)
    second = fitted(kind, prompts, table, seed=3).predict(prompts)
    np.testing.assert_array_equal(first.mean["loss"], second.mean["loss"])
    np.testing.assert_array_equal(first.std["loss"], second.std["loss"])
    np.testing.assert_array_equal(first.ood, second.ood)


@pytest.mark.parametrize("kind", KINDS)
def test_a_state_that_went_through_files_predicts_the_same(kind):
    prompts, table = measured(missing=0.3)
    before = fitted(kind, prompts, table, seed=2)
    config, arrays = before.state()
    stored = load(save({name: np.ascontiguousarray(value) for name, value in arrays.items()}))
    after = PREDICTORS[kind].from_state(json.loads(json.dumps(config)), stored, before.encoder)
    first, second = before.predict(prompts), after.predict(prompts)
    np.testing.assert_array_equal(first.mean["loss"], second.mean["loss"])
    np.testing.assert_array_equal(first.std["loss"], second.std["loss"])
    np.testing.assert_array_equal(first.ood, second.ood)
    assert (after.experts_, after.seed) == (before.experts_, before.seed)
    np.testing.assert_array_equal(after.average_loss_, before.average_loss_)


def with_targets(n=200, m=4):
    """Losses of `measured`, costs that grow with code, lengths of three experts in four."""
    prompts, table = measured(n, m)
    kind = np.arange(n) % 2
    cost = 1e-4 * (1 + kind[:, None] * np.arange(1, m + 1))
    cost[2::3, 1] = np.nan
    chars = np.full((n, m), 80.0)
    chars[:, 3] = np.nan
    return prompts, table_of(prompts, table.losses, cost=cost, response_chars=chars)


@pytest.mark.parametrize("kind", KINDS)
def test_every_target_measured_for_all_experts_is_predicted(kind):
    prompts, table = with_targets()
    predictor = fitted(kind, prompts, table)
    prediction = predictor.predict(prompts)
    assert predictor.targets_ == tuple(prediction.mean) == tuple(prediction.std) == ("loss", "cost")
    assert tuple(predictor.averages_) == predictor.targets_
    np.testing.assert_allclose(
        predictor.averages_["cost"], np.nanmean(table.targets["cost"], axis=0)
    )
    for target in predictor.targets_:
        assert prediction.mean[target].shape == prediction.std[target].shape == (200, 4)
        assert np.isfinite(prediction.mean[target]).all()
        assert (prediction.std[target] >= 0).all()
    alone = fitted(kind, *measured()).predict(prompts)
    if kind != "random":
        np.testing.assert_array_equal(prediction.mean["loss"], alone.mean["loss"])
    if kind in SEEING:
        error = np.nanmean(np.abs(prediction.mean["cost"] - table.targets["cost"]), axis=0)
        assert (error < 0.1 * predictor.averages_["cost"]).all()


@pytest.mark.parametrize("kind", KINDS)
def test_all_targets_go_through_files(kind):
    prompts, table = with_targets()
    before = fitted(kind, prompts, table)
    config, arrays = before.state()
    stored = load(save({name: np.ascontiguousarray(value) for name, value in arrays.items()}))
    after = PREDICTORS[kind].from_state(json.loads(json.dumps(config)), stored, before.encoder)
    assert after.targets_ == before.targets_
    first, second = before.predict(prompts), after.predict(prompts)
    for target in before.targets_:
        np.testing.assert_array_equal(first.mean[target], second.mean[target])
        np.testing.assert_array_equal(first.std[target], second.std[target])


@pytest.mark.parametrize("kind", KINDS)
def test_a_state_from_before_there_were_several_targets_is_read(kind):
    prompts, table = measured(n=50)
    before = fitted(kind, prompts, table)
    config, arrays = before.state()
    del config["targets"]
    if kind == "random":
        config["spread"] = config.pop("spreads")["loss"]
    after = PREDICTORS[kind].from_state(config, arrays, before.encoder)
    first, second = before.predict(prompts), after.predict(prompts)
    np.testing.assert_array_equal(first.mean["loss"], second.mean["loss"])


@pytest.mark.parametrize("kind", KINDS)
def test_a_state_of_another_kind_or_with_holes_is_refused(kind):
    prompts, table = measured(n=20)
    config, arrays = fitted(kind, prompts, table).state()
    with pytest.raises(PredictorError, match="expected the state"):
        PREDICTORS[kind].from_state(config | {"kind": "other"}, arrays, StaticEncoder.bundled())
    with pytest.raises(PredictorError, match=r"loss\.average"):
        PREDICTORS[kind].from_state(config, {}, StaticEncoder.bundled())


@pytest.mark.parametrize("kind", KINDS)
def test_before_fit_it_is_a_named_error(kind):
    predictor = make_predictor(kind, StaticEncoder.bundled())
    with pytest.raises(NotFittedError, match="fit"):
        predictor.predict(["a"])
    with pytest.raises(AttributeError):
        predictor.state()


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25, deadline=None)
@given(batch=st.lists(st.text(min_size=1, max_size=60), min_size=1, max_size=8))
def test_a_prompt_gets_the_same_numbers_alone_and_in_any_batch(kind, batch):
    predictor = ready(kind)
    together = predictor.predict(batch)
    for row, prompt in enumerate(batch):
        alone = predictor.predict([prompt])
        for target in ("mean", "std"):
            a, b = getattr(alone, target)["loss"][0], getattr(together, target)["loss"][row]
            np.testing.assert_allclose(a, b, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_any_table_gives_finite_numbers_within_reach(kind, data):
    n = data.draw(st.integers(1, 25))
    m = data.draw(st.integers(1, 4))
    cell = st.one_of(st.none(), st.floats(0, 10), st.sampled_from([0.0, 1.0]))
    rows = data.draw(st.lists(st.lists(cell, min_size=m, max_size=m), min_size=n, max_size=n))
    prompts = data.draw(st.lists(st.sampled_from([*ODD, *FRUIT, *CODE]), min_size=n, max_size=n))
    losses = np.array(rows, dtype=float)
    losses[0] = np.where(np.isnan(losses[0]), 1.0, losses[0])
    predictor = fitted(kind, prompts, table_of(prompts, losses))
    prediction = predictor.predict([*prompts, *ODD])
    check(prediction, n + len(ODD), m)
    if kind != "random":
        assert (prediction.mean["loss"] >= np.nanmin(losses) - 1e-6).all()
        assert (prediction.mean["loss"] <= np.nanmax(losses) + 1e-6).all()


@pytest.mark.parametrize("kind", KINDS)
def test_one_prompt_and_one_expert(kind):
    predictor = fitted(kind, ["a"], table_of(["a"], [[0.25]]))
    check(predictor.predict(["a", "b c"]), 2, 1)
    if kind != "random":
        np.testing.assert_allclose(predictor.predict(["a"]).mean["loss"], 0.25)


@pytest.mark.parametrize("kind", KINDS)
def test_a_constant_column(kind):
    prompts, table = measured(n=120)
    losses = table.losses.copy()
    losses[:, 1] = 0.7
    prediction = fitted(kind, prompts, table_of(prompts, losses)).predict(prompts)
    check(prediction, 120, 4)
    if kind != "random":
        np.testing.assert_allclose(prediction.mean["loss"][:, 1], 0.7, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_duplicates_with_different_labels_share_their_prediction(kind):
    prompts = ["Is it true?"] * 30
    losses = np.arange(60).reshape(30, 2) % 7 / 7
    prediction = fitted(kind, prompts, table_of(prompts, losses)).predict(prompts)
    check(prediction, 30, 2)
    assert np.ptp(prediction.mean["loss"], axis=0).max() < 1e-9
    if kind != "random":
        np.testing.assert_allclose(prediction.mean["loss"][0], losses.mean(axis=0), atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_an_expert_that_was_never_measured_is_named(kind):
    prompts, table = measured(n=20)
    losses = table.losses.copy()
    losses[:, 2] = np.nan
    with pytest.raises(PredictorError, match="'e2'"):
        fitted(kind, prompts, table_of(prompts, losses))


@pytest.mark.parametrize("kind", KINDS)
def test_prompts_and_rows_must_match(kind):
    prompts, table = measured(n=20)
    with pytest.raises(PredictorError, match="19 prompts but 20 rows"):
        fitted(kind, prompts[:19], table)


@pytest.mark.parametrize("kind", KINDS)
def test_no_prompts_is_a_named_error(kind):
    with pytest.raises(PredictorError, match="nothing to fit on"):
        fitted(kind, [], table_of([], np.empty((0, 2))))


@pytest.mark.parametrize("kind", KINDS)
def test_a_loss_too_large_to_learn_from_is_named(kind):
    with pytest.raises(PredictorError, match=r"'e1' has the loss 1e\+300 on prompt 2"):
        fitted(kind, ["a", "b"], table_of(["a", "b"], [[1, 1], [1, 1e300]]))
    with pytest.raises(PredictorError, match=r"'e0' has the cost 1e\+200 on prompt 1"):
        fitted(kind, ["a"], table_of(["a"], [[1, 1]], cost=[[1e200, 1]]))


@pytest.mark.parametrize("kind", SEEING)
def test_the_kinds_that_look_at_prompts_need_an_encoder_and_text(kind):
    prompts, table = measured(n=20)
    with pytest.raises(PredictorError, match="encoder"):
        make_predictor(kind, None).fit(prompts, table)
    with pytest.raises(PromptError):
        fitted(kind, prompts, table).predict([b"bytes"])


@pytest.mark.parametrize("kind", SEEING)
def test_text_unlike_training_is_flagged(kind):
    prompts, table = measured(n=300)
    predictor = fitted(kind, prompts, table)
    assert predictor.predict(prompts).ood.mean() < 0.05
    strange = ["变压器温度最高的部分是", "The licensee shall indemnify the licensor", ""]
    assert predictor.predict(strange).ood.all()


@pytest.mark.parametrize("kind", SEEING)
def test_a_small_table_never_flags(kind):
    predictor = fitted(kind, *measured(n=99))
    assert not predictor.predict(["变压器温度最高的部分是", ""]).ood.any()


def test_unknown_kinds_are_refused():
    with pytest.raises(PredictorError, match="Did you mean 'clusters'"):
        make_predictor("cluster", None)
    with pytest.raises(PredictorError, match=r"call Router\.fit"):
        make_predictor("auto", None)


@pytest.mark.parametrize("kind", KINDS)
def test_an_expert_joins_without_changing_the_others(kind):
    prompts, table = with_targets()
    table = replace(table, targets={"cost": table.targets["cost"]})
    whole = fitted(kind, prompts, table)
    rest = fitted(kind, prompts, table.reorder(table.experts[:3]))
    probes = np.arange(100)
    joined = rest.with_expert(
        [prompts[row] for row in probes], table.reorder(["e3"]).select(probes)
    )
    assert joined.experts_ == whole.experts_
    assert rest.experts_ == table.experts[:3]
    before, after = rest.predict(prompts), joined.predict(prompts)
    check(after, 200, 4)
    if kind != "random":
        for target in rest.targets_:
            np.testing.assert_allclose(after.mean[target][:, :3], before.mean[target], atol=1e-12)
    if kind in SEEING:
        chosen = after.mean["loss"].argmin(axis=1) % 2
        assert (chosen == whole.predict(prompts).mean["loss"].argmin(axis=1) % 2).mean() > 0.95
    config, arrays = joined.state()
    again = PREDICTORS[kind].from_state(config, arrays, rest.encoder).predict(prompts)
    np.testing.assert_array_equal(again.mean["loss"], after.mean["loss"])


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "random"])
def test_an_expert_leaves_without_changing_the_others(kind):
    prompts, table = with_targets()
    whole = fitted(kind, prompts, table)
    left = whole.without_expert("e1")
    assert left.experts_ == ("e0", "e2", "e3")
    before, after = whole.predict(prompts), left.predict(prompts)
    for target in whole.targets_:
        others = before.mean[target][:, [0, 2, 3]]
        np.testing.assert_allclose(after.mean[target], others, atol=1e-12)


def test_who_cannot_join_or_leave_is_named():
    prompts, table = with_targets()
    predictor = fitted("clusters", prompts, table)
    with pytest.raises(PredictorError, match="one new expert at a time"):
        predictor.with_expert(prompts, table.reorder(["e1"]))
    stranger = ScoreTable.from_rows([{"prompt": "x", "losses": {"new": 1.0}}])
    with pytest.raises(PredictorError, match="do not measure cost of 'new'"):
        predictor.with_expert(stranger.prompts, stranger)
    with pytest.raises(PredictorError, match="'new'"):
        predictor.without_expert("new")


@pytest.mark.parametrize("kind", ["clusters", "hybrid"])
def test_thousands_of_experts_get_what_few_would(kind):
    """Many columns are stored in blocks and in single precision; the numbers stay the same."""
    prompts, table = measured(n=120, m=700, missing=0.1)
    costs = np.where(np.isnan(table.losses), np.nan, table.losses * 0.01 + 0.001)
    table = replace(table, targets={"cost": costs})
    wide = make_predictor(kind, StaticEncoder.bundled()).fit(prompts, table)
    config, arrays = wide.state()
    assert arrays["loss.shifts"].dtype == np.float32
    for part in (slice(100), slice(400, 500), slice(600, 700)):
        some = {
            name: array if array.shape[-1] != 700 else array[..., part]
            for name, array in arrays.items()
        }
        few = type(wide).from_state(
            {**config, "experts": config["experts"][part]}, some, wide.encoder
        )
        narrow, all_of_them = few.predict(prompts[:7]), wide.predict(prompts[:7])
        for target in ("loss", "cost"):
            mean, std = all_of_them.mean[target][:, part], all_of_them.std[target][:, part]
            np.testing.assert_allclose(mean, narrow.mean[target], atol=1e-6)
            np.testing.assert_allclose(std, narrow.std[target], atol=1e-4)
    assert all_of_them.std["loss"].max() > 0.01
    loaded = type(wide).from_state(config, arrays, wide.encoder)
    assert loaded.state()[1]["loss.errors"].dtype == np.float32
    again = loaded.predict(prompts[:7])
    assert again.mean["loss"].tolist() == all_of_them.mean["loss"].tolist()
    assert again.std["cost"].tolist() == all_of_them.std["cost"].tolist()


def test_a_library_that_shrinks_and_grows_past_the_border_predicts_alike():
    prompts, table = measured(n=120, m=501, missing=0.1)
    wide = make_predictor("clusters", StaticEncoder.bundled()).fit(prompts, table)
    names = table.experts
    narrow = wide.without_expert(names[3]).without_expert(names[5])
    before, after = wide.predict(prompts[:9]), narrow.predict(prompts[:9])
    rest = [column for column in range(501) if column not in (3, 5)]
    np.testing.assert_allclose(after.mean["loss"], before.mean["loss"][:, rest], atol=1e-6)
    np.testing.assert_allclose(after.std["loss"], before.std["loss"][:, rest], atol=1e-4)
    grown = narrow.with_expert(prompts, table.reorder([names[5]])).predict(prompts[:9])
    np.testing.assert_allclose(grown.mean["loss"][:, :-1], after.mean["loss"], atol=1e-6)
    np.testing.assert_allclose(grown.std["loss"][:, :-1], after.std["loss"], atol=1e-4)


def test_losses_too_large_for_single_precision_are_predicted_in_double():
    prompts, table = measured(n=60, m=600, missing=0.0)
    table = replace(table, losses=table.losses * 1e40)
    predictor = make_predictor("clusters", StaticEncoder.bundled()).fit(prompts, table)
    mean = predictor.predict(prompts[:5]).mean["loss"]
    assert np.isfinite(mean).all()
    assert 1e39 < mean.max() < 1e41
