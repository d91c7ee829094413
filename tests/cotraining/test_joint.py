"""Joint training on the tiny models: one gradient for the gate and all experts."""

import json
from dataclasses import replace

import pytest

pytest.importorskip("transformers", reason="needs the extra hf")

from tryage import Router
from tryage.cotraining import CotrainingOptions, cotrain
from tryage.errors import OptionError, OutputFolderError

OPTIONS = CotrainingOptions(
    mode="joint",
    rounds=2,
    task="text-generation",
    labelled=0.3,
    held_out=0.2,
    batch=4,
    learning_rate=3e-3,
)


def weights_of(run, number):
    path = run.folder / "rounds" / f"{number:03d}" / "assigned.jsonl"
    return [json.loads(line)["weights"] for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def joint(tiny_router, prompts, tmp_path_factory):
    return cotrain(tiny_router, prompts, tmp_path_factory.mktemp("joint") / "out", OPTIONS)


def test_the_routed_loss_falls(joint):
    losses = [one.held_out_loss for one in joint.rounds]
    assert losses[2] < losses[1] < losses[0]
    assert losses[1] < 0.8 * losses[0]
    assert Router.from_pretrained(joint.router).library.names == ("code-gpt", "prose-gpt")


def test_the_weights_are_a_distribution_that_sharpens(joint):
    sharpness = []
    for number in (1, 2):
        weights = weights_of(joint, number)
        assert all(sum(row.values()) == pytest.approx(1) for row in weights)
        sharpness.append(sum(max(row.values()) for row in weights) / len(weights))
    assert sharpness[1] > sharpness[0]
    path = joint.folder / "rounds" / "002" / "assigned.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    weighted, even = 0.0, 0.0
    for row in rows:
        losses = joint.rounds[1].matrix[row["id"].partition("-")[0]]
        weighted += sum(row["weights"][name] * losses[name] for name in losses)
        even += sum(losses.values()) / len(losses)
    assert weighted < even
    assert sum(joint.rounds[1].trained.values()) == pytest.approx(len(weights_of(joint, 1)), abs=1)


def test_an_interrupted_round_is_continued_to_the_same_result(
    joint, tiny_router, prompts, tmp_path
):
    steps = []

    def interrupt(what, done, total):
        if what == "training jointly":
            steps.append(done)
            if len(steps) > total + 3:  # in the second round
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cotrain(tiny_router, prompts, tmp_path / "out", OPTIONS, progress=interrupt)
    run = cotrain(tiny_router, prompts, tmp_path / "out", OPTIONS, progress=False)
    assert run.rounds == joint.rounds
    for name in ("code-gpt", "prose-gpt"):
        weights = [one.folder / "experts" / name / "model.safetensors" for one in (run, joint)]
        assert weights[0].read_bytes() == weights[1].read_bytes()


def test_the_temperature_depends_on_the_rounds_so_their_number_stays(joint, tiny_router, prompts):
    with pytest.raises(OutputFolderError, match="rounds 2, and now it is 3"):
        cotrain(tiny_router, prompts, joint.folder, replace(OPTIONS, rounds=3))


def test_balance_keeps_the_shares_equal(tiny_router, prompts, tmp_path):
    """Prompts of one kind, so that one expert would get nearly all of the weight."""
    alike = [prompt for prompt in prompts if prompt["group"] == "log"]
    leaning = []
    for balance in (0.0, 200.0):
        warm = {"temperature": 0.3, "last_temperature": 0.3, "gate_rate": 0.1}
        options = replace(OPTIONS, rounds=1, balance=balance, labelled=0.45, **warm)
        run = cotrain(tiny_router, alike, tmp_path / str(balance), options)
        rows = weights_of(run, 1)
        lean = [row["code-gpt"] - row["prose-gpt"] for row in rows]
        leaning.append(abs(sum(lean)) / len(rows))
    assert leaning[0] > 0.3
    assert leaning[1] < 0.5 * leaning[0]


def test_a_hot_gate_trains_every_expert_on_everything(tiny_router, prompts, tmp_path):
    hot = replace(OPTIONS, rounds=1, temperature=1e3, last_temperature=1e3)
    run = cotrain(tiny_router, prompts, tmp_path / "out", hot)
    assert all(row["code-gpt"] == pytest.approx(0.5, abs=0.01) for row in weights_of(run, 1))
    before, after = run.rounds[0].matrix, run.rounds[1].matrix
    for group in ("log", "dish"):
        for name in ("code-gpt", "prose-gpt"):
            assert after[group][name] < 0.8 * before[group][name]


def test_masked_experts_learn_too(tiny_router, prompts, tmp_path):
    options = replace(OPTIONS, rounds=1, task="fill-mask")
    run = cotrain(tiny_router, prompts, tmp_path / "out", options)
    assert run.rounds[1].labelled_loss < run.rounds[0].labelled_loss


def test_a_gate_weighs_all_experts_so_nothing_else_assigns():
    with pytest.raises(OptionError, match="gate weighs all"):
        replace(OPTIONS, assign="random")
