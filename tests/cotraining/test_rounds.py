"""Rounds of co-training on the tiny models: experts learn, are guarded, and are continued."""

import hashlib
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("transformers", reason="needs the extra hf")

from typer.testing import CliRunner

from tryage import Expert, Library, Router
from tryage.cli import app
from tryage.cotraining import CotrainingOptions, cotrain
from tryage.cotraining.parts import split
from tryage.errors import ExpertError, OptionError, OutputFolderError, PromptError

OPTIONS = CotrainingOptions(
    rounds=2, task="text-generation", labelled=0.3, held_out=0.2, batch=4, learning_rate=3e-3
)


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
    assert losses[1] < 0.8 * losses[0]
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


@pytest.fixture(scope="module")
def finished(tiny_router, prompts, tmp_path_factory):
    """One round that nobody changes."""
    options = replace(OPTIONS, rounds=1)
    return cotrain(tiny_router, prompts, tmp_path_factory.mktemp("finished") / "out", options)


def assigned(run, number=1):
    path = run.folder / "rounds" / f"{number:03d}" / "assigned.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_more_rounds_continue_a_finished_folder(finished, tiny_router, prompts, tmp_path):
    shutil.copytree(finished.folder, tmp_path / "out")
    reported = []
    run = cotrain(tiny_router, prompts, tmp_path / "out", OPTIONS, on_round=reported.append)
    assert run.rounds[:2] == finished.rounds
    assert len(run.rounds) == 3
    assert list(run.rounds) == reported


def test_an_update_that_forgets_is_rolled_back(tiny_router, prompts, tmp_path):
    """So high a rate ruins the weights: every expert keeps those that it had."""
    wild = replace(OPTIONS, rounds=1, learning_rate=3.0, guard="all")
    run = cotrain(tiny_router, prompts, tmp_path / "out", wild)
    assert run.rounds[1].rolled_back == ("code-gpt", "prose-gpt")
    assert "rose from" in run.rounds[1].reasons["code-gpt"]
    assert run.rounds[1].matrix == run.rounds[0].matrix
    for name in ("code-gpt", "prose-gpt"):
        weights = run.folder / "experts" / name / "model.safetensors"
        model = tiny_router.library.model_path(tiny_router.library[name])
        assert weights.read_bytes() == (model / "model.safetensors").read_bytes()


def test_exploration_is_recorded_with_its_probability(finished):
    rows = assigned(finished)
    assert {row["explored"] for row in rows} == {True, False}
    for row in rows:
        assert row["explored"] == (row["expert"] != row["chosen"])
        assert row["probability"] == pytest.approx(0.1 if row["explored"] else 0.9)
    counts = {
        name: sum(row["expert"] == name for row in rows) for name in ("code-gpt", "prose-gpt")
    }
    assert counts == finished.rounds[1].trained


def test_the_three_parts_share_no_text_and_are_the_same_in_any_order(finished, prompts):
    ids = {row["id"] for row in assigned(finished)}
    reordered = split(prompts[::-1], "text-generation", OPTIONS)
    assert {row.id for row in reordered.stream} == ids
    texts = [
        {row.prompt for row in part}
        for part in (reordered.stream, reordered.labelled, reordered.held_out)
    ]
    assert sum(map(len, texts)) == len(set.union(*texts)) == len({row["prompt"] for row in prompts})


def test_the_measured_parts_are_no_larger_than_wanted(prompts):
    parts = split(prompts, "text-generation", replace(OPTIONS, most_measured=25))
    assert len(parts.labelled) == pytest.approx(25, abs=8)
    assert len(parts.held_out) == len(split(prompts, "text-generation", OPTIONS).held_out)
    assert sum(map(len, (parts.stream, parts.measured))) == len(prompts)


def test_held_out_prompts_of_a_file_are_taken_out_of_the_stream(prompts, tmp_path):
    path = tmp_path / "held_out.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in prompts[:30]))
    parts = split(prompts, "text-generation", OPTIONS, path)
    assert [row.id for row in parts.held_out] == [row["id"] for row in prompts[:30]]
    assert not {row.prompt for row in parts.held_out} & {
        row.prompt for row in (*parts.stream, *parts.labelled)
    }


def test_random_assignment_and_none(tiny_router, prompts, tmp_path):
    chance = cotrain(
        tiny_router, prompts, tmp_path / "a", replace(OPTIONS, rounds=1, assign="random")
    )
    assert {row["probability"] for row in assigned(chance)} == {0.5}
    frozen = cotrain(
        tiny_router, prompts, tmp_path / "b", replace(OPTIONS, rounds=1, assign="frozen")
    )
    assert frozen.rounds[1].trained == {"code-gpt": 0, "prose-gpt": 0}
    assert frozen.rounds[1].matrix == frozen.rounds[0].matrix


def test_groups_assign(tiny_router, prompts, tmp_path):
    owners = {"log": "code-gpt", "dish": "prose-gpt"}
    options = replace(OPTIONS, rounds=1, assign="groups", groups=owners, explore=0.0)
    run = cotrain(tiny_router, prompts, tmp_path / "out", options)
    assert all(row["expert"] == owners[row["id"].partition("-")[0]] for row in assigned(run))


def test_an_expert_whose_training_fails_stays_as_it_was(tiny_router, prompts, tmp_path):
    wild = replace(OPTIONS, rounds=1, learning_rate=1e30)
    run = cotrain(tiny_router, prompts, tmp_path / "out", wild)
    for name in ("code-gpt", "prose-gpt"):
        assert "training failed: its loss at step" in run.rounds[1].reasons[name]
    assert run.rounds[1].matrix == run.rounds[0].matrix
    assert run.rounds[1].steps == {}


def test_two_processes_do_not_work_in_one_folder(finished, tiny_router, prompts):
    def again(_):
        with pytest.raises(OutputFolderError, match="another process"):
            cotrain(tiny_router, prompts, finished.folder, replace(OPTIONS, rounds=1))
        again.calls += 1

    again.calls = 0
    cotrain(tiny_router, prompts, finished.folder, replace(OPTIONS, rounds=1), on_round=again)
    assert again.calls == 2


def test_an_expert_behind_an_endpoint_has_no_weights_to_train(tiny_router, prompts, tmp_path):
    served = Expert(
        name="served",
        model="served",
        task="text-generation",
        endpoint={"url": "http://127.0.0.1:9/v1"},
    )
    local = tiny_router.library.of_task("text-generation").experts
    library = Library([*local, served], root=tiny_router.library.root)
    with pytest.raises(ExpertError, match=r"endpoint.*without\('served'\)"):
        cotrain(Router.from_library(library), prompts, tmp_path / "out", OPTIONS)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"learning_rate": 1e-5}, ("learning_rate", "0.003", "1e-05")),
        ({"seed": 3}, ("seed", "0", "3")),
    ],
)
def test_other_options_do_not_continue_a_folder(change, words, finished, tiny_router, prompts):
    before = contents(finished.folder)
    with pytest.raises(OutputFolderError) as refusal:
        cotrain(tiny_router, prompts, finished.folder, replace(OPTIONS, rounds=1, **change))
    for word in (*words, "new folder"):
        assert word in str(refusal.value)
    assert contents(finished.folder) == before


def test_other_prompts_do_not_continue_a_folder(finished, tiny_router, prompts):
    with pytest.raises(OutputFolderError, match="other prompts"):
        cotrain(tiny_router, prompts[:-1], finished.folder, replace(OPTIONS, rounds=1))


def test_what_cannot_be_trained_is_refused(tiny_router, open7, prompts, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    with pytest.raises(OutputFolderError, match="something else made it"):
        cotrain(tiny_router, prompts, tmp_path / "full", OPTIONS)
    with pytest.raises(ExpertError, match="download"):
        cotrain(open7, prompts, tmp_path / "out", CotrainingOptions())
    with pytest.raises(OptionError, match="text-generation, fill-mask"):
        cotrain(tiny_router, prompts, tmp_path / "out", CotrainingOptions())
    with pytest.raises(PromptError, match="20 are needed"):
        cotrain(tiny_router, prompts[:30], tmp_path / "out", OPTIONS)
    inside = tiny_router.library.model_path(tiny_router.library["code-gpt"]) / "out"
    with pytest.raises(OptionError, match="stays as it is"):
        cotrain(tiny_router, prompts, inside, OPTIONS)
    assert not (tmp_path / "out").exists()


def test_the_command_prints_one_object_a_round(
    finished, tiny_router, tiny_library, prompts, tmp_path
):
    tiny_router.save_pretrained(tmp_path / "router")
    stream = tmp_path / "stream.jsonl"
    stream.write_text("".join(json.dumps(row) + "\n" for row in prompts))
    words = ["cotrain", tmp_path / "router", "--prompts", stream, "--out", tmp_path / "out"]
    words += ["--rounds", 1, "--task", "text-generation", "--batch", 4, "--learning-rate", 0.003]
    words += ["--allow-models", tiny_library.parent, "--json"]
    done = CliRunner().invoke(app, list(map(str, words)))
    assert done.exit_code == 0, done.output
    rounds = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["round"] for one in rounds] == [0, 1]
    assert set(rounds[1]) >= {"round", "held_out_loss", "shares", "rolled_back"}
    assert sum(rounds[1]["shares"].values()) == pytest.approx(1)
    done = CliRunner().invoke(app, list(map(str, words[:-1])))
    assert done.exit_code == 0, done.output
    shown = done.stdout.splitlines()
    assert [line.partition(":")[0] for line in shown] == ["round 0", "round 1", "1 round"]
    assert f"{rounds[1]['held_out_loss']:.4f} bits per byte" in shown[1]


def test_the_example_runs_on_these_experts(tiny_router, tiny_library, prompts, tmp_path):
    example = Path(__file__).parents[2] / "examples" / "13_cotraining.py"
    start = tmp_path / "start"
    shutil.copytree(tiny_library.parent, start)
    library = Library.read(start / "library.yaml")
    tiny_router.replace(library=library).save_pretrained(start / "router")
    (start / "prompts").mkdir()
    for name, rows in (("label", prompts[:70]), ("test", prompts[70:])):
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (start / "prompts" / f"{name}.jsonl").write_text(lines)
    done = subprocess.run(
        [sys.executable, "-W", "error", str(example), str(start)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=True,
    )
    assert [line.partition(":")[0] for line in done.stdout.splitlines()[:1]] == ["round 0"]
    assert "round 3: " in done.stdout
    assert len(example.read_text().splitlines()) < 60


def test_a_router_that_knows_nothing_learns_before_the_first_round(tiny_router, prompts, tmp_path):
    library = tiny_router.library.of_task("text-generation")
    options = replace(OPTIONS, rounds=1, min_share=0.0, max_share=1.0)
    run = cotrain(Router.from_library(library), prompts, tmp_path / "out", options)
    rows = assigned(run)
    best = {
        group: min(of_group, key=of_group.get) for group, of_group in run.rounds[0].matrix.items()
    }
    right = sum(row["chosen"] == best[row["id"].partition("-")[0]] for row in rows)
    assert right > 0.9 * len(rows)


def test_the_result_does_not_depend_on_what_drew_random_numbers_before(
    tiny_router, tiny_library, prompts, tmp_path
):
    import torch

    shutil.copytree(tiny_library.parent, tmp_path / "library")
    config = tmp_path / "library" / "models" / "code-gpt" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "resid_pdrop": 0.3}))
    router = tiny_router.replace(library=Library.read(tmp_path / "library" / "library.yaml"))
    experts = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        run = cotrain(router, prompts, tmp_path / str(seed), replace(OPTIONS, rounds=1))
        experts.append(contents(run.folder / "experts"))
    assert experts[0] == experts[1]


def test_what_is_half_removed_after_a_round_is_not_taken_for_its_result(
    finished, tiny_router, prompts, tmp_path
):
    """A kill may leave a part of the round's own copy, whose place is taken already."""
    shutil.copytree(finished.folder, tmp_path / "out")
    left = tmp_path / "out" / "rounds" / "001" / "experts" / "code-gpt"
    left.mkdir(parents=True)
    (left / "config.json").write_text("{}")
    cotrain(tiny_router, prompts, tmp_path / "out", replace(OPTIONS, rounds=1))
    assert contents(tmp_path / "out" / "experts") == contents(finished.folder / "experts")
    assert not left.exists()
