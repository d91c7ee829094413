"""Rounds of co-training on the tiny models: experts learn, are guarded, and are continued."""

import hashlib
import json
import random
from dataclasses import replace

import pytest

pytest.importorskip("transformers", reason="needs the extra hf")

from tryage import Router
from tryage.cotraining import CotrainingOptions, cotrain

OPTIONS = CotrainingOptions(
    rounds=2, task="text-generation", labelled=0.3, held_out=0.2, batch=4, learning_rate=3e-3
)


@pytest.fixture(scope="module")
def prompts():
    """Texts of two kinds that no tiny model has learned."""
    draw = random.Random(5)
    rows = []
    for n in range(50):
        a, b, c = (draw.randint(0, 99) for _ in range(3))
        what = draw.choice(["disk", "cable", "fan"])
        log = f"[{a:02d}:{b:02d}] WARN node-{c}: {what} failed; retry {b} of {a}"
        dish = (
            f"Peel {a} onions, add {b} grams of {draw.choice(['salt', 'rice'])} and stir {c} times."
        )
        rows += [{"prompt": log, "id": f"log-{n}", "group": "log"}]
        rows += [{"prompt": dish, "id": f"dish-{n}", "group": "dish"}]
    return rows


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_the_routed_loss_falls_and_the_start_stays_as_it_was(
    tiny_router, tiny_library, prompts, tmp_path
):
    before = contents(tiny_library.parent)
    run = cotrain(tiny_router, prompts, tmp_path / "out", OPTIONS)
    losses = [round_.held_out_loss for round_ in run.rounds]
    assert len(losses) == 3
    assert losses[2] < losses[1] < losses[0]
    assert contents(tiny_library.parent) == before
    router = Router.from_pretrained(run.router)
    assert router.library.names == ("code-gpt", "prose-gpt")
    for name in router.library.names:
        assert router.library.model_path(router.library[name]) == run.folder / "experts" / name
        assert (run.folder / "experts" / name / "model.safetensors").is_file()
    shown = json.loads((run.folder / "rounds" / "002" / "round.json").read_text())
    assert shown == run.rounds[2].to_dict()


def test_lora_trains_and_is_merged_into_the_weights(tiny_router, tiny_library, prompts, tmp_path):
    pytest.importorskip("peft", reason="needs the extra lora")
    options = replace(OPTIONS, rounds=1, task="fill-mask", learning_rate=1e-2, lora_rank=4)
    run = cotrain(tiny_router, prompts, tmp_path / "out", options)
    assert run.rounds[1].labelled_loss < run.rounds[0].labelled_loss
    for name in ("code-bert", "prose-bert"):
        files = {path.name for path in (run.folder / "experts" / name).iterdir()}
        assert "model.safetensors" in files
        assert not any("adapter" in file for file in files)
