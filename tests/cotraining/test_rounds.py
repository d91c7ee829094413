"""Rounds of co-training on the tiny models: experts learn, are guarded, and are continued."""

import hashlib
import json

import pytest

pytest.importorskip("transformers", reason="needs the extra hf")

from tryage import Router
from tryage.cotraining import CotrainingOptions, cotrain

LEARNING = CotrainingOptions(
    rounds=2,
    task="text-generation",
    labelled=0.4,
    held_out=0.25,
    batch=4,
    epochs=3,
    learning_rate=1e-3,
)


@pytest.fixture(scope="module")
def prompts(tiny_texts):
    return [
        {"prompt": text, "id": f"{kind}-{n}", "group": kind}
        for kind, of_kind in tiny_texts.items()
        for n, text in enumerate(of_kind)
    ]


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
    run = cotrain(tiny_router, prompts, tmp_path / "out", LEARNING)
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
    options = CotrainingOptions(
        rounds=1, task="fill-mask", labelled=0.4, held_out=0.25, learning_rate=1e-2, lora_rank=4
    )
    run = cotrain(tiny_router, prompts, tmp_path / "out", options)
    assert run.rounds[1].labelled_loss < run.rounds[0].labelled_loss
    for name in ("code-bert", "prose-bert"):
        files = {path.name for path in (run.folder / "experts" / name).iterdir()}
        assert "model.safetensors" in files
        assert not any("adapter" in file for file in files)
