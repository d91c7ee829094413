"""Every wrong input ends with exit code 2, one clear line, and nothing half written."""

import json
import shutil
import subprocess
import sys

import pytest
import yaml
from typer.testing import CliRunner

from tryage.cli import app

runner = CliRunner()


def refused(*args, words, lines=1):
    done = runner.invoke(app, [str(arg) for arg in args])
    assert done.exit_code == 2, done.output
    assert done.stdout == ""
    message = done.stderr.strip().splitlines()
    assert len(message) == lines, done.stderr
    assert message[0].startswith("error: ")
    for part in words:
        assert str(part) in done.stderr, done.stderr


@pytest.fixture
def library(tmp_path):
    data = {"experts": [{"name": "a", "model": "org/a"}, {"name": "b", "model": "org/b"}]}
    path = tmp_path / "library.yaml"
    path.write_text(yaml.safe_dump(data))
    return path


@pytest.fixture
def saved(router, tmp_path):
    router.save_pretrained(tmp_path / "router")
    return tmp_path / "router"


def table(path, *rows):
    path.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows))
    return path


def row(prompt="p", **scores):
    return {"prompt": prompt, "scores": scores}


@pytest.mark.parametrize(
    ("experts", "words"),
    [
        ([{"name": "a", "model": "m", "modle": "x"}], ["modle", "Did you mean 'model'"]),
        ([{"name": "a", "model": "m"}, {"name": "a", "model": "n"}], ["'a' occurs twice"]),
    ],
)
def test_a_wrong_library(tmp_path, experts, words):
    path = tmp_path / "wrong.yaml"
    path.write_text(yaml.safe_dump({"experts": experts}))
    scores = table(tmp_path / "s.jsonl", row(a=1, b=0))
    out = tmp_path / "out"
    refused("fit", scores, "--library", path, "--out", out, words=[path, *words])
    refused("library", "show", path, words=[path, *words])
    assert not out.exists()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("released: 2024-13-45", ["line 1, column 45", "month must be in 1..12"]),
        ("parameters: true", ["line 1, column 47", "not true or false"]),
        ("context_length: yes", ["line 1, column 51", "not true or false"]),
        ("price: {input: true, output: 1}", ["line 1, column 50", "not true or false"]),
    ],
)
def test_a_value_of_a_wrong_kind_in_a_library_is_named_by_its_place(tmp_path, line, words):
    path = tmp_path / "wrong.yaml"
    path.write_text("experts: [{name: a, model: org/a, " + line + "}]")
    refused("library", "show", path, words=[path, *words])


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ("{not json", ["s.jsonl", "2"]),
        (row(a=1.5, b=0), ["s.jsonl", "2", "scores", "1.5"]),
        ({"prompt": "p", "scores": {"a": None}}, ["s.jsonl", "2", "scores"]),
        ('{"prompt": "p", "scores": {"a": NaN}}', ["s.jsonl", "2", "scores"]),
        ({"scores": {"a": 1}}, ["s.jsonl", "2", "prompt"]),
        (row("", a=1), ["s.jsonl", "2", "prompt"]),
        ({"prompt": "p", "losses": {"a": 1}}, ["s.jsonl", "2", "losses"]),
    ],
)
def test_a_score_table_with_a_bad_line(tmp_path, library, bad, words):
    scores, out = table(tmp_path / "s.jsonl", row(a=1, b=0), bad), tmp_path / "out"
    refused("fit", scores, "--library", library, "--out", out, words=words)
    assert not out.exists()


def test_a_negative_loss(tmp_path, library):
    scores = table(tmp_path / "s.jsonl", {"prompt": "p", "losses": {"a": -1, "b": 0}})
    words = ["s.jsonl", "1", "losses", "-1"]
    refused("fit", scores, "--library", library, "--out", tmp_path / "out", words=words)


def test_experts_that_do_not_match(tmp_path, library):
    out = tmp_path / "out"
    unknown = table(tmp_path / "unknown.jsonl", row(a=1, b=0, c=1))
    refused("fit", unknown, "--library", library, "--out", out, words=["'c'"])
    unmeasured = table(tmp_path / "unmeasured.jsonl", row(a=1))
    refused("fit", unmeasured, "--library", library, "--out", out, words=["'b'"])
    assert not out.exists()


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["  "], ["the prompt is empty"]),
        (["hi", "--goal", "sise=1"], ["unknown goal 'sise'", "'size'"]),
        (["hi", "--goal", "size=-1"], ["-1"]),
        (["hi", "--goal", "size"], ["GOAL=WEIGHT"]),
        (["hi", "--goal", "limits=1"], ["unknown goal 'limits'"]),
        (["hi", "--limit", "paramters<=3B"], ["unknown limit 'paramters'", "'parameters'"]),
        (["hi", "--limit", "parameters<=3 kg"], ["units K, M, B, T"]),
        (["hi [Flag: fluffy]"], ["'fluffy'"]),
    ],
)
def test_wrong_words_and_numbers(saved, args, words):
    refused("route", *args, "--router", saved, words=words)


def test_a_limit_that_nobody_meets_lists_every_expert(saved):
    refused("route", "hi", "--router", saved, "--limit", "size<=1K", words=["giant: "], lines=4)


@pytest.mark.parametrize(("kind", "words"), [("cluster", "'clusters'"), ("aut", "'auto'")])
def test_an_unknown_predictor(tmp_path, library, kind, words):
    scores, out = table(tmp_path / "s.jsonl", row(a=1, b=0)), tmp_path / "out"
    refused("fit", scores, "--library", library, "--predictor", kind, "--out", out, words=[words])
    assert not out.exists()


def test_an_output_folder_that_holds_something_else(tmp_path, library):
    scores, out = table(tmp_path / "s.jsonl", row(a=1, b=0)), tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("years of work")
    refused("fit", scores, "--library", library, "--out", out, words=["out"])
    assert (out / "thesis.txt").read_text() == "years of work"


def test_a_router_that_is_missing_newer_or_damaged(tmp_path, saved):
    refused("route", "hi", "--router", tmp_path / "none", words=["none", "open7"])
    index = json.loads((saved / "router.json").read_text())
    newer = shutil.copytree(saved, tmp_path / "newer")
    (newer / "router.json").write_text(json.dumps(index | {"format": 2}))
    refused("route", "hi", "--router", newer, words=["format 2", "upgrade"])
    arrays = next(saved.glob("*.safetensors"))
    arrays.write_bytes(arrays.read_bytes()[:-1])
    refused("route", "hi", "--router", saved, words=[arrays.name])


def test_a_model_folder_that_does_not_exist(tmp_path, saved, table_library):
    path, prompts = tmp_path / "library.yaml", table(tmp_path / "p.jsonl", {"prompt": "hi"})
    path.write_text(yaml.safe_dump({"experts": [{"name": "a", "model": "./gone"}]}))
    out = tmp_path / "scores"
    refused("label", "--library", path, "--prompts", prompts, "--out", out, words=["gone"])
    checked = runner.invoke(app, ["library", "check", str(path)])
    assert checked.exit_code == 2
    assert "gone" in checked.stdout


def test_running_an_expert_that_is_not_there(tmp_path, router, table_library):
    for model, task, words in (
        ("./gone", "text-generation", "gone"),
        ("org/not-cached", "text-generation", "--download"),
        ("./m", "image-to-text", "image-to-text"),
    ):
        (tmp_path / "m").mkdir(exist_ok=True)
        path = tmp_path / "library.yaml"
        path.write_text(yaml.safe_dump({"experts": [{"name": "a", "model": model, "task": task}]}))
        scores = table(tmp_path / "s.jsonl", {**row(a=1), "task": task}, {**row(a=0), "task": task})
        fit = ["fit", scores, "--library", path, "--out", tmp_path / "r", "--predictor"]
        done = runner.invoke(app, [str(arg) for arg in (*fit, "best-single")])
        assert done.exit_code == 0, done.output
        refused("run", "hi", "--router", tmp_path / "r", "--task", task, words=[words])


def test_a_file_of_prompts_names_the_bad_line(tmp_path, saved):
    prompts = table(tmp_path / "p.jsonl", {"prompt": "a"}, {"prompt": "b [Flag: fluffy]"})
    refused("route", "--input", prompts, "--router", saved, words=["p.jsonl, line 2", "fluffy"])
    empty = table(tmp_path / "empty.jsonl")
    refused("route", "--input", empty, "--router", saved, words=["empty.jsonl", "no prompts"])


def test_paths_that_cannot_be_written(tmp_path, saved):
    prompts = table(tmp_path / "p.jsonl", {"prompt": "a"})
    args = ("route", "--input", prompts, "--router", saved, "--output")
    refused(*args, prompts / "x", words=["p.jsonl"])
    refused(*args, tmp_path, words=[tmp_path])


def test_an_encoder_that_is_not_in_the_cache_names_the_switch(tmp_path, library):
    pytest.importorskip("sentence_transformers")
    scores = table(tmp_path / "s.jsonl", *[row(f"p{i}", a=1, b=0) for i in range(20)])
    fit = ("fit", scores, "--library", library, "--out", tmp_path / "r", "--encoder", "me/none")
    refused(*fit, words=["'me/none'", "--download"])
    refused(*fit, "--download", words=["'me/none' could not be fetched"])
    assert not (tmp_path / "r").exists()


def test_a_task_that_the_runtime_does_not_know(tmp_path):
    path, prompts = tmp_path / "library.yaml", table(tmp_path / "p.jsonl", {"prompt": "hi"})
    experts = [{"name": "a", "model": "./m", "task": "image-to-text"}]
    path.write_text(yaml.safe_dump({"experts": experts}))
    words = ["image-to-text", "text-generation", "fill-mask"]
    out = tmp_path / "scores"
    refused("label", "--library", path, "--prompts", prompts, "--out", out, words=words)


def test_a_missing_extra_names_the_pip_line(tmp_path):
    # In a process of its own: modules that are imported anew here would confuse other tests.
    code = "import sys; sys.modules.update(torch=None, transformers=None)\n"
    code += "import tryage.cli as c; c.main()"
    path, prompts = tmp_path / "library.yaml", table(tmp_path / "p.jsonl", {"prompt": "hi"})
    (tmp_path / "m").mkdir()
    path.write_text(yaml.safe_dump({"experts": [{"name": "a", "model": "./m"}]}))
    args = ["label", "--library", path, "--prompts", prompts, "--out", tmp_path / "scores"]
    command = [sys.executable, "-c", code, *map(str, args)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    [line] = done.stderr.strip().splitlines()
    assert 'pip install "tryage[hf]"' in line
