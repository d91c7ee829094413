import dataclasses
import functools
import io
import json
import math
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import transformers
import yaml
from rich.console import Console
from typer.testing import CliRunner

import tryage.quickstart
from tryage import Library, Router, ScoreTable
from tryage.cli import app
from tryage.errors import MissingExtraError, OutputFolderError
from tryage.quickstart import run
from tryage.quickstart.recipes import STARTER
from tryage.quickstart.show import Bar, command_line

EXAMPLE = Path(__file__).parents[2] / "examples" / "01_quickstart.py"


def silent():
    return Console(file=io.StringIO(), width=100)


@pytest.fixture
def home(tiny_run, monkeypatch):
    """The folder of the run that was made, its cache in use."""
    root, _, _ = tiny_run
    monkeypatch.setenv("TRYAGE_CACHE", str(root / "cache"))
    return root


def without_times(result):
    experts = [{k: v for k, v in expert.items() if k != "model"} for expert in result["experts"]]
    return {"experts": experts, **{k: result[k] for k in ("evaluation", "verdicts", "examples")}}


def test_the_starter_library_is_what_the_quickstart_promises():
    tasks = [recipe.task for recipe in STARTER]
    assert len(STARTER) >= 8
    assert min(tasks.count("text-generation"), tasks.count("fill-mask")) >= 4
    assert len({recipe.hidden for recipe in STARTER}) >= 2
    python = [recipe.hidden for recipe in STARTER if recipe.name.startswith("python-writer")]
    assert len(set(python)) == 2


def test_the_result_has_the_keys_of_the_json_object(tiny_run, tiny_plan):
    _, result, _ = tiny_run
    assert list(result) == ["experts", "evaluation", "verdicts", "examples", "seconds"]
    assert [expert["name"] for expert in result["experts"]] == [r.name for r in tiny_plan.recipes]
    assert set(result["evaluation"]) == {"text-generation", "fill-mask"}
    for evaluation in result["evaluation"].values():
        assert evaluation["prompts"] == 24
        assert set(evaluation["groups"]) == {"legal", "headers"}
        assert evaluation["router"]["regret"] >= 0
        assert all(evaluation["references"][name] for name in ("oracle", "best_single", "random"))
    keys = ["prompt", "expert", "predicted_loss", "measured_loss", "answer", "via"]
    assert all(list(example) == keys for example in result["examples"])
    assert result["seconds"]["total"] > 0
    json.dumps(result, allow_nan=False)


def test_examples_are_answered_by_experts_of_their_task(tiny_run, tiny_plan):
    root, result, _ = tiny_run
    library = Library.read(root / "out" / "library.yaml")
    for example, planned in zip(result["examples"], tiny_plan.examples, strict=True):
        assert example["prompt"] == planned.prompt
        assert example["via"] == planned.via
        task = "fill-mask" if "[MASK]" in planned.prompt else "text-generation"
        assert library[example["expert"]].task == task
        assert example["measured_loss"] > 0
        assert example["predicted_loss"] > 0
        assert "[MASK]" not in example["answer"]
        assert "[Flag" not in example["answer"]
    assert result["examples"][2]["answer"].endswith("of this license")


def test_everything_is_kept_as_ordinary_files(tiny_run, tiny_plan):
    root, result, _ = tiny_run
    out = root / "out"
    names = {path.name for path in out.iterdir()}
    assert names == {
        "details.txt",
        "library.yaml",
        "models",
        "prompts",
        "quickstart.json",
        "report.html",
        "result.json",
        "router",
        "scores",
        "texts",
    }
    assert not [path for path in out.rglob("*") if path.suffix in (".pt", ".bin", ".pkl")]
    assert json.loads((out / "result.json").read_text()) == result
    assert len(yaml.safe_load((out / "library.yaml").read_text())["experts"]) == 4
    table = ScoreTable.read(out / "scores" / "test")
    assert len(table) == 48
    router = Router.from_pretrained(out / "router")
    assert set(router.tasks) == {"text-generation", "fill-mask"}
    for expert in router.library:
        pipe = transformers.pipeline(expert.task, model=str(router.library.model_path(expert)))
        assert sum(p.numel() for p in pipe.model.parameters()) == expert.parameters


def end_of(printed):
    """Return the lines below the progress bars."""
    return printed.rpartition("\n\n")[2].splitlines()


def test_it_ends_with_a_verdict_in_six_lines_and_the_details_are_in_a_file(tiny_run):
    root, result, printed = tiny_run
    lines = end_of(printed)
    assert len(lines) == 6
    for line, (task, verdict) in zip(lines, result["verdicts"].items(), strict=False):
        assert line.startswith(f"{task}: {verdict['prompts']} held-out prompts")
        assert verdict["best_single"] in line
        assert "worth it" in line
    assert str(root / "out") in lines[2]
    details = (root / "out" / "details.txt").read_text()
    assert str(root / "out" / "details.txt") in lines[3]
    for word in ("router", "oracle", "group best", "best single", "random", "regret"):
        assert word in details
    for example in result["examples"]:
        assert f"{example['expert']} via {example['via']}" in details
        assert f"{example['expert']} via {example['via']}" not in printed


def test_verbose_prints_the_details_as_well(home, tiny_plan):
    console = silent()
    run(home / "out", console=console, plan=tiny_plan, verbose=True)
    details = (home / "out" / "details.txt").read_text()
    assert [line for line in details.splitlines() if line not in console.file.getvalue()] == []


def test_the_command_at_its_end_works_as_printed(tiny_run, tmp_path):
    _, _, printed = tiny_run
    command = end_of(printed)[4].removeprefix("Try it: ")
    done = subprocess.run(
        command,
        shell=True,
        cwd=Path.cwd(),
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "lowest predicted loss" in done.stdout
    assert "unlike the training prompts" not in done.stdout


def test_the_command_names_the_program_as_it_was_called(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    program = tmp_path / ".venv" / "bin" / "tryage"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setattr("sys.argv", [".venv/bin/tryage", "quickstart"])
    monkeypatch.setenv("PATH", "/nowhere")
    assert command_line("run", "two words") == ".venv/bin/tryage run 'two words'"
    monkeypatch.setenv("PATH", str(program.parent))
    assert command_line("run") == "tryage run"
    monkeypatch.setattr("sys.argv", [str(tmp_path / "tryage" / "__main__.py")])
    assert command_line("run").endswith(" -m tryage run")


def test_it_ends_with_the_report_of_its_own_router(tiny_run):
    root, result, printed = tiny_run
    path = root / "out" / "report.html"
    assert printed.rstrip().endswith(f"to open in a browser: {path}")
    html = path.read_text(encoding="utf-8")
    for expert in result["experts"]:
        assert expert["name"] in html


def test_without_the_extra_it_says_how_to_get_a_report(home, tiny_run, tiny_plan, monkeypatch):
    monkeypatch.setitem(sys.modules, "altair", None)
    printed = io.StringIO()
    run(home / "plain", console=Console(file=printed, width=100), plan=tiny_plan)
    assert not (home / "plain" / "report.html").exists()
    assert 'pip install "tryage[report]"' in printed.getvalue()


def test_a_second_run_reuses_everything(home, tiny_run, tiny_plan, monkeypatch):
    def fail(*_):
        pytest.fail("nothing is left to train")

    monkeypatch.setattr("tryage.quickstart.workers._Worker", fail)
    again = run(home / "out", console=silent(), plan=tiny_plan)
    assert without_times(again) == without_times(tiny_run[1])
    fresh = run(home / "elsewhere", console=silent(), plan=tiny_plan)
    assert without_times(fresh) == without_times(tiny_run[1])


def test_an_interrupted_run_is_resumed_and_ends_the_same(
    tiny_run, tiny_plan, tmp_path, monkeypatch
):
    monkeypatch.setenv("TRYAGE_CACHE", str(tmp_path))
    part = Bar.part

    def interrupt(bar, name, done, total):
        part(bar, name, done, total)
        if list(tmp_path.rglob("models/[!.]*/config.json")):
            raise KeyboardInterrupt

    monkeypatch.setattr(Bar, "part", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(console=silent(), plan=tiny_plan)
    [config, *_] = tmp_path.rglob("models/[!.]*/config.json")
    written = config.stat().st_mtime_ns
    monkeypatch.setattr(Bar, "part", part)
    result = run(console=silent(), plan=tiny_plan)
    assert config.stat().st_mtime_ns == written
    assert without_times(result) == without_times(tiny_run[1])


def test_the_command_prints_one_object(home, tiny_plan, monkeypatch):
    monkeypatch.setattr("tryage.quickstart.run", functools.partial(run, plan=tiny_plan))
    done = CliRunner().invoke(app, ["quickstart", "--json", "--out", str(home / "out")])
    assert done.exit_code == 0
    assert set(json.loads(done.stdout)) == {
        "experts",
        "evaluation",
        "verdicts",
        "examples",
        "seconds",
    }
    assert "training, measuring 4 experts" in done.stderr


def test_a_folder_of_something_else_is_refused_before_any_work(tmp_path, tiny_plan, monkeypatch):
    (tmp_path / "mine.txt").write_text("mine")
    monkeypatch.setattr("tryage.quickstart.texts.gather", lambda **_: pytest.fail("too late"))
    with pytest.raises(OutputFolderError, match="something else made it"):
        run(tmp_path, console=silent(), plan=tiny_plan)


def test_missing_extras_are_named_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(
        MissingExtraError, match=r'pip install "tryage\[hf,langchain,llama-index\]"'
    ):
        run(tmp_path / "new", console=silent())
    assert not (tmp_path / "new").exists()


def test_one_task_alone_is_enough(tiny_plan, tmp_path, monkeypatch):
    monkeypatch.setenv("TRYAGE_CACHE", str(tmp_path))
    writers = tuple(r for r in tiny_plan.recipes if r.task == "text-generation")
    plan = dataclasses.replace(tiny_plan, recipes=writers, examples=tiny_plan.examples[:1])
    result = run(console=silent(), plan=plan)
    assert list(result["evaluation"]) == ["text-generation"]
    assert math.isfinite(result["examples"][0]["measured_loss"])


def test_the_example_runs(home, tiny_plan, monkeypatch, capsys):
    monkeypatch.chdir(home)
    here = functools.partial(run, plan=tiny_plan)
    monkeypatch.setattr(tryage.quickstart, "run", here)
    runpy.run_path(str(EXAMPLE))
    assert "text-generation: the router chooses" in capsys.readouterr().out
    assert len(EXAMPLE.read_text().splitlines()) < 60
