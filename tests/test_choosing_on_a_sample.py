"""Large tables: `auto` chooses on a stated sample, and fits what it chose on all prompts."""

import json
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from tryage import Router, ScoreTable
from tryage.cli import app
from tryage.encoders import StaticEncoder
from tryage.errors import OptionError
from tryage.evaluation.verdict import Verdict
from tryage.predictors import NearestPredictor
from tryage.predictors.features import Inputs, RandomReluFeatures
from tryage.predictors.ridge import PENALTIES, Ridge
from tryage.training import CANDIDATES, CHOOSE_ON, RANDOM_RELU, Candidate, fit_and_validate
from tryage.training.candidates import MORE_CLUSTERS
from tryage.training.encoded import EncodedTable
from tryage.training.network_trial import choose_candidate
from tryage.training.sample import FEWEST_OF_GROUP, FEWEST_RESULTS, draw_sample

TEXTS = ("def f(x): return x + {}", "The court of appeal dismissed claim {}", "Bake for {} minutes")


def table(n=300, *, small_group=0):
    """Three kinds of prompt, each with an expert that is good on it; the last ones may be few."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(n):
        kind = 2 if number >= n - small_group else number % (2 if small_group else 3)
        scores = {
            name: float(rng.random() < (0.9 if j == kind else 0.2 + j / 9))
            for j, name in enumerate("abc")
        }
        group = ("code", "law", "food")[kind]
        rows.append({"prompt": TEXTS[kind].format(number), "group": group, "scores": scores})
    return ScoreTable.from_rows(rows)


@pytest.fixture(scope="module")
def large():
    return table()


@pytest.fixture(scope="module")
def router(large):
    return Router.fit(large, choose_on=150)


def groups_of(data, rows):
    names, counts = np.unique(np.array(data.groups)[rows], return_counts=True)
    return dict(zip(names.tolist(), counts.tolist(), strict=True))


def test_a_sample_has_every_groups_share_and_small_groups_more():
    data = table(1200, small_group=30)
    assert groups_of(data, slice(None)) == {"code": 585, "law": 585, "food": 30}
    rows = draw_sample(data, 300, seed=0)
    # A sixth of the sample at least where there are three groups, so all thirty are in it.
    assert groups_of(data, rows) == {"code": 135, "law": 135, "food": 30}
    assert (np.diff(rows) > 0).all()
    wide = draw_sample(data, 900, seed=0)
    assert groups_of(data, wide)["food"] == 30
    assert len(wide) == 900


def test_a_group_of_thousands_is_not_drawn_whole():
    data = table(3 * FEWEST_OF_GROUP + 2000, small_group=2 * FEWEST_OF_GROUP)
    rows = draw_sample(data, 1000, seed=0)
    assert len(rows) == 1000
    share = 100 * 700 / 2000  # of what is left when every group has given its hundred
    assert groups_of(data, rows)["food"] == pytest.approx(FEWEST_OF_GROUP + share, abs=1)


def test_the_same_seed_draws_the_same_sample_and_another_one_another(large):
    rows = draw_sample(large, 150, seed=3)
    np.testing.assert_array_equal(rows, draw_sample(large, 150, seed=3))
    assert set(rows.tolist()) != set(draw_sample(large, 150, seed=4).tolist())


def test_a_sample_counts_different_prompts_and_takes_all_rows_of_each(large):
    twice = ScoreTable.from_rows(
        [
            {"id": f"{repeat} {prompt}", "prompt": prompt, "group": group, "losses": {"a": 1.0}}
            for repeat in range(2)
            for prompt, group in zip(large.prompts, large.groups, strict=True)
        ]
    )
    rows = draw_sample(twice, 150, seed=0)
    assert len(rows) == 300
    np.testing.assert_array_equal(rows[:150] + 300, rows[150:])
    assert draw_sample(twice, 300, seed=0) is None
    assert draw_sample(large, 300, seed=0) is None
    assert len(draw_sample(large, 299, seed=0)) == 299


def test_a_sample_keeps_enough_results_of_each_expert():
    data = table(2000)
    losses = data.losses.copy()
    losses[np.arange(2000) % 10 != 3, 1] = np.nan  # 200 results
    losses[np.arange(2000) % 50 > 0, 2] = np.nan  # 40 results, fewer than wanted
    rows = draw_sample(replace(data, losses=losses), 300, seed=0)
    counts = (~np.isnan(losses[rows])).sum(axis=0).tolist()
    assert counts[0] >= 300
    assert counts[1] == FEWEST_RESULTS
    assert counts[2] == 40
    assert len(rows) < 300 + FEWEST_RESULTS + 40


def test_auto_chooses_on_the_sample_and_fits_the_chosen_on_all_prompts(large):
    encoder = StaticEncoder.bundled()
    encoded = EncodedTable.encode(large, "auto", encoder)
    rows = draw_sample(large, 150, seed=0)
    on_sample = choose_candidate(encoded.select(rows), 0)
    auto = choose_candidate(encoded, 0, choose_on=150)
    assert auto.candidate == on_sample.candidate
    assert auto.validation == on_sample.validation
    assert auto.choices.shape == (300,)
    np.testing.assert_array_equal(auto.choices[rows], on_sample.choices)
    outside = np.setdiff1d(np.arange(300), rows)
    assert (auto.choices[outside] == -1).all()
    assert auto.record["sample"] == {"prompts": 150, "of": 300}
    fitted = Router.fit(large, choose_on=150).predictors["text-generation"]
    expected = auto.candidate.fit(encoded, 0).state()[1]
    assert expected.keys() == fitted.state()[1].keys()
    for name, array in fitted.state()[1].items():
        np.testing.assert_array_equal(array, expected[name])


def test_a_table_no_larger_than_the_sample_is_chosen_on_as_before(large, router):
    whole, plain = Router.fit(large, choose_on=300), Router.fit(large)
    assert CHOOSE_ON > 5935, "above the tables of the bundled routers"
    for one in (whole, plain):
        assert "sample" not in one.provenance["choice"]["text-generation"]
        assert one.verdict.sampled_from is None
    for key in ("validation", "verdicts", "choice"):
        assert whole.provenance[key] == plain.provenance[key] != router.provenance[key]


def test_verdict_summary_and_card_state_the_sample(large, router, tmp_path):
    verdict = router.verdict
    assert verdict.sampled_from == 300
    assert verdict.prompts == 150
    assert verdict.left_out == 0
    assert "150 held-out prompts (cross-validated, a sample of 300): router" in str(verdict)
    assert "the router's on a sample of the prompts." in verdict.table()
    assert "a sample of 300" in str(router.summary())
    assert router.summary().to_dict()["verdicts"]["text-generation"]["sampled_from"] == 300
    assert Verdict.from_dict(verdict.to_dict()) == verdict
    older = {key: value for key, value in verdict.to_dict().items() if key != "sampled_from"}
    assert Verdict.from_dict(older).sampled_from is None
    router.save_pretrained(tmp_path / "router")
    card = (tmp_path / "router" / "README.md").read_text(encoding="utf-8")
    assert "on a sample of 150 of 300 prompts; regret on outer folds" in card
    assert Router.from_pretrained(tmp_path / "router").verdict == verdict
    assert "sample" not in Router.from_pretrained("open7").verdict.sentence()


def test_a_holdout_is_judged_whole(large):
    router = Router.fit(large, choose_on=150, holdout=0.25)
    assert router.provenance["choice"]["text-generation"]["sample"] == {"prompts": 150, "of": 225}
    assert router.verdict.sampled_from is None
    assert router.verdict.prompts == 75


def test_a_refit_chooses_on_as_many_prompts(large, router):
    assert router.provenance["choose_on"] == 150
    again = router.refit(large)
    assert again.provenance["choice"] == router.provenance["choice"]
    other = router.refit(large, choose_on=200)
    assert other.provenance["choice"]["text-generation"]["sample"] == {"prompts": 200, "of": 300}


def test_the_command_states_the_sample(large, tmp_path):
    large.write(tmp_path / "scores.jsonl")

    def fit(*options):
        names = ["fit", str(tmp_path / "scores.jsonl"), "--out", str(tmp_path / "router")]
        done = CliRunner().invoke(app, [*names, *options])
        assert done.exit_code == 0, done.output
        return done

    shown = fit("--choose-on", "150").stdout
    assert "on 150 of 300 prompts" in shown
    assert "150 held-out prompts (cross-validated, a sample of 300)" in shown
    done = fit("--choose-on", "150", "--json")
    printed = json.loads(done.stdout)
    assert printed["choice"]["sample"] == {"prompts": 150, "of": 300}
    assert printed["verdict"]["sampled_from"] == 300
    printed = json.loads(fit("--predictor", "clusters", "--json").stdout)
    assert printed["choice"] is printed["verdict"]["sampled_from"] is None


def test_too_small_a_sample_is_refused_before_anything_is_read(tmp_path):
    with pytest.raises(OptionError, match=r"choose_on=99: .* give 100 or more"):
        Router.fit(tmp_path / "missing.jsonl", choose_on=99)


def test_on_a_sample_nothing_is_tried_that_takes_too_long_on_the_whole_table(monkeypatch):
    """Random features are a regression for each pattern of missing cells."""
    rng = np.random.default_rng(0)
    rows = [
        {"prompt": f"{n}", "losses": dict(zip("abcdefghij", rng.random(10).tolist(), strict=True))}
        for n in range(2600)
    ]
    data = ScoreTable.from_rows(rows)
    losses = data.losses.copy()
    sample = draw_sample(data, 2100, seed=0)
    others = np.setdiff1d(np.arange(2600), sample)
    for column in range(10):
        losses[others[column], column] = np.nan
    ragged = replace(data, losses=losses)
    np.testing.assert_array_equal(draw_sample(ragged, 2100, seed=0), sample)
    vectors = rng.normal(size=(2600, 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)

    class Encoder:
        name, dim = "rows", 4

        def encode(self, prompts):
            return vectors[[int(prompt) for prompt in prompts]]

    encoded = EncodedTable.encode(ragged, "auto", Encoder())
    # Which are tried is asked, not how they do.
    name = "tryage.training.auto.held_out_choices"
    monkeypatch.setattr(name, lambda part, *_, **__: np.zeros(len(part.table), dtype=int))
    name = "tryage.training.auto.choose"
    monkeypatch.setattr(name, lambda _, test, *__: np.zeros(len(test.table), dtype=int))
    tried = {str(candidate) for candidate in (*CANDIDATES, MORE_CLUSTERS)}
    for data, more in ((encoded, set()), (encoded.select(sample), {str(RANDOM_RELU)})):
        record = choose_candidate(data, 0, choose_on=2100).record
        assert set(record["inner_regret"]) == tried | more


def test_why_no_network_is_tried_tells_of_the_sample(large):
    encoded = EncodedTable.encode(large, "auto", StaticEncoder.bundled())
    trial = choose_candidate(encoded, 0, choose_on=150).record["embedding-bag"]
    assert trial["reason"] == "the sample has 150 prompts, fewer than 2,000"


@pytest.mark.parametrize("count", [0, 8])
def test_a_regression_by_blocks_is_that_of_all_inputs_at_once(monkeypatch, count):
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(500, 6)).astype(np.float32)
    features = RandomReluFeatures.draw(6, count, rng)
    targets = rng.random((500, 3))
    some = rng.integers(500, size=300)
    whole = Inputs(vectors, features)
    expected = Ridge(whole, targets)
    monkeypatch.setattr(Inputs, "WHOLE", 100)
    monkeypatch.setattr(Inputs, "BLOCK", 64)
    parts = Inputs(vectors, features)
    assert (parts.is_whole, whole.is_whole) == (False, True)
    assert [len(block) for _, block in parts.blocks()] == [64] * 7 + [52]
    blocked = Ridge(parts, targets)
    errors = expected.leave_one_out_errors()
    np.testing.assert_allclose(blocked.leave_one_out_errors(), errors, rtol=1e-6)
    for penalty in PENALTIES:
        for ours, theirs in zip(blocked.solve(penalty), expected.solve(penalty), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-9)
    residuals = expected.residuals(PENALTIES[2])
    np.testing.assert_allclose(blocked.residuals(PENALTIES[2]), residuals, rtol=1e-5, atol=1e-9)
    weights = rng.random((6 + count, 3))
    np.testing.assert_allclose(parts.take(some).times(weights), whole.take(some).times(weights))


@pytest.mark.parametrize("kind", ["clusters", "groups", "nearest"])
def test_choices_for_many_held_out_prompts_are_made_in_parts(monkeypatch, large, kind):
    encoded = EncodedTable.encode(large, kind, StaticEncoder.bundled())
    predictor = Candidate(kind).fit(encoded, 0)
    whole = encoded.losses(predictor)
    assert whole.shape == (300, 3)
    sizes = []
    predict = type(predictor).predict_vectors

    def counted(self, vectors):
        sizes.append(len(vectors))
        return predict(self, vectors)

    monkeypatch.setattr(type(predictor), "predict_vectors", counted)
    monkeypatch.setattr(Inputs, "WHOLE", 128)
    monkeypatch.setattr(Inputs, "BLOCK", 128)
    np.testing.assert_allclose(encoded.losses(predictor), whole, atol=1e-9)
    assert sizes == [128, 128, 44]


@pytest.mark.parametrize("kind", ["linear", "hybrid"])
def test_fits_on_blocks_predict_as_fits_on_all_at_once(monkeypatch, large, kind):
    encoder = StaticEncoder.bundled()
    whole = fit_and_validate(large, kind, encoder, 0).predictor.predict(large.prompts)
    monkeypatch.setattr(Inputs, "WHOLE", 100)
    monkeypatch.setattr(Inputs, "BLOCK", 64)
    parts = fit_and_validate(large, kind, encoder, 0).predictor.predict(large.prompts)
    np.testing.assert_allclose(parts.mean["loss"], whole.mean["loss"], atol=1e-5)
    np.testing.assert_allclose(parts.std["loss"], whole.std["loss"], atol=1e-5)


def test_neighbours_in_a_large_table_are_those_of_each_prompt_by_itself(monkeypatch):
    rng = np.random.default_rng(0)
    data = ScoreTable.from_rows(
        [
            {"prompt": f"{n}", "losses": {"a": x, "b": 1 - x}}
            for n, x in enumerate(rng.random(12_000).tolist())
        ]
    )
    vectors = rng.normal(size=(12_000, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    predictor = NearestPredictor(k=80).fit_vectors(vectors, data)
    several = predictor.predict_vectors(vectors[:150])
    for row in (0, 63, 64, 149):
        alone = predictor.predict_vectors(vectors[row : row + 1])
        np.testing.assert_allclose(several.mean["loss"][row], alone.mean["loss"][0], atol=1e-4)
        # By the definition: the eighty greatest cosines, and a vote for the average.
        cosines = vectors @ vectors[row]
        edge = np.sort(cosines)[-80]
        weight = np.clip((cosines - edge) / 1e-3 + 1.0, 0.0, 1.0)
        average = data.losses.mean(axis=0)
        expected = (weight @ data.losses + average) / (weight.sum() + 1.0)
        np.testing.assert_allclose(several.mean["loss"][row], expected, atol=1e-5)
