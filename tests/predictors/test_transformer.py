"""The fine-tuned predictor, on a small real model trained by the tests themselves."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from tryage import Expert, Library, Router, ScoreTable
from tryage.encoders import SentenceEncoder, StaticEncoder
from tryage.errors import EncoderError, PredictorError
from tryage.predictors import TransformerPredictor, make_predictor
from tryage.predictors.finetuning import STATE_FILE

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

FRUIT = "The quiet teacher follows the garden {}, and the winter remembers {}."
CODE = "def total_{}(x):\n    return x + {}\n"


def made(n=120):
    """Expert a is good on prose, b on code, c never; some cells and all costs of c are missing."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(n):
        kind = number % 2
        prompt = (FRUIT, CODE)[kind].format(number, rng.integers(99))
        losses = {"a": float(kind), "b": 1.0 - kind, "c": 0.9}
        if number % 5 == 3:
            del losses["a"]
        costs = {name: 0.001 * (1 + kind) for name in losses}
        rows.append({"prompt": prompt, "losses": losses, "costs": costs})
    return ScoreTable.from_rows(rows)


SETTINGS = {"epochs": 3, "rate": 1e-3, "head_rate": 3e-2, "patience": 3, "batch": 16}


@pytest.fixture(scope="module")
def start(tiny_masked):
    return SentenceEncoder(tiny_masked)


@pytest.fixture(scope="module")
def table():
    return made()


@pytest.fixture(scope="module")
def fitted(start, table):
    return TransformerPredictor(start, **SETTINGS).fit(table.prompts, table)


def test_it_learns_which_expert_is_good_at_what(fitted, table):
    prediction = fitted.predict(table.prompts)
    chosen = prediction.mean["loss"].argmin(axis=1)
    assert (chosen == np.arange(len(table)) % 2).mean() > 0.95
    assert np.isfinite(prediction.std["loss"]).all()
    assert (prediction.std["loss"] >= 0).all()
    cost = prediction.mean["cost"][:, 2]
    assert cost[1::2].mean() > cost[::2].mean()
    assert 1 <= len(fitted.history_) <= 3


def test_a_prompt_gets_in_a_batch_what_it_gets_alone(fitted, table):
    prompts = [*table.prompts[:3], "x" * 3000, "", "\ud800", "日本語"]
    together = fitted.predict(prompts).mean["loss"]
    alone = np.concatenate([fitted.predict([prompt]).mean["loss"] for prompt in prompts])
    np.testing.assert_allclose(together, alone, atol=1e-4)


def test_it_is_equal_for_a_seed_and_leaves_the_start_as_it_was(start, fitted, table):
    again = TransformerPredictor(start, **SETTINGS).fit(table.prompts, table)
    first, second = fitted.predict(table.prompts), again.predict(table.prompts)
    np.testing.assert_array_equal(first.mean["loss"], second.mean["loss"])
    assert again.history_ == fitted.history_


def test_training_cut_short_goes_on_where_it_was(start, fitted, table, tmp_path, monkeypatch):
    from tryage.predictors import finetuning

    def cut_short(self, epoch):
        if epoch == 2:
            raise KeyboardInterrupt
        return whole(self, epoch)

    whole = finetuning.FineTuning._train_epoch
    settings = SETTINGS | {"checkpoints": tmp_path / "rounds"}
    monkeypatch.setattr(finetuning.FineTuning, "_train_epoch", cut_short)
    with pytest.raises(KeyboardInterrupt):
        TransformerPredictor(start, **settings).fit(table.prompts, table)
    state = json.loads((tmp_path / "rounds" / STATE_FILE).read_text(encoding="utf-8"))
    assert state["epoch"] == 2
    monkeypatch.undo()
    resumed = TransformerPredictor(start, **settings).fit(table.prompts, table)
    assert resumed.history_ == fitted.history_
    ours, theirs = resumed.predict(table.prompts), fitted.predict(table.prompts)
    np.testing.assert_array_equal(ours.mean["loss"], theirs.mean["loss"])
    with pytest.raises(PredictorError, match="another training"):
        TransformerPredictor(start, **settings, seed=1).fit(table.prompts, table)


def test_learning_rates_rise_over_a_tenth_of_the_steps_and_then_fall(start, table, monkeypatch):
    rates = []
    step = torch.optim.AdamW.step

    def recording_step(optimizer, *args, **kwargs):
        rates.append([group["lr"] for group in optimizer.param_groups])
        return step(optimizer, *args, **kwargs)

    monkeypatch.setattr(torch.optim.AdamW, "step", recording_step)
    TransformerPredictor(start, **SETTINGS).fit(table.prompts, table)
    network, head = np.array(rates).T
    steps = len(rates)
    assert steps % SETTINGS["epochs"] == 0
    rise = np.arange(1, steps + 1) / (0.1 * steps)
    fall = 1.0 - np.arange(steps) / steps
    np.testing.assert_allclose(network, SETTINGS["rate"] * np.minimum(rise, fall))
    np.testing.assert_allclose(head, SETTINGS["head_rate"] * np.minimum(rise, fall))


def test_it_stops_when_held_out_prompts_gain_nothing(start, table):
    settings = SETTINGS | {"rate": 0.0, "head_rate": 0.0, "patience": 1, "epochs": 9}
    stopped = TransformerPredictor(start, **settings).fit(table.prompts, table)
    assert len(stopped.history_) == 2


def test_a_router_on_it_goes_through_files_and_loads_without_torch(start, table, tmp_path):
    experts = tuple(Expert(name=name, model=name) for name in table.experts)
    few = table.select(np.arange(60))
    from tryage import training

    fitted = training.fit_and_validate(few, "transformer", start, 0)
    assert 0.1 < fitted.validation["measured"] < 0.3
    router = Router.fit(few, library=Library(experts, name="t"), predictor="best-single")
    router = Router(
        router.library, {"text-generation": fitted.predictor}, objective=router.objective
    )
    router.save_pretrained(tmp_path / "r")
    loaded = Router.from_pretrained(tmp_path / "r")
    before, after = (r.predict(few.prompts, task="text-generation") for r in (router, loaded))
    np.testing.assert_allclose(after, before, atol=1e-6)
    loaded.evaluate(few, train=few)
    code = (
        "import sys, tryage; tryage.Router.from_pretrained(sys.argv[1]); "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "r")], check=True)


def test_a_table_without_anything_to_watch_is_learned(start):
    few = made(2)
    predictor = TransformerPredictor(start, epochs=2).fit(few.prompts, few)
    assert predictor.predict(few.prompts).mean["loss"].shape == (2, 3)


def test_what_cannot_be_fine_tuned_is_named(start, table, tmp_path):
    with pytest.raises(PredictorError, match="the encoder is 'static'; name one"):
        make_predictor("transformer", StaticEncoder.bundled()).fit(table.prompts, table)
    with pytest.raises(PredictorError, match="unknown setting"):
        TransformerPredictor(start, speed=3).fit(table.prompts, table)
    with pytest.raises(EncoderError, match="could not be loaded"):
        TransformerPredictor(SentenceEncoder(tmp_path)).fit(table.prompts, table)
