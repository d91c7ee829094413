import json

import pytest
from typer.testing import CliRunner

from tryage import Router
from tryage.cli import app

runner = CliRunner()
PROMPTS = [
    "def buffer_item(index, item=3):\n    if index > item:\n        return index - item\n",
    "The old teacher watches the garden, and the garden answers a quiet letter.",
]


def call(*args, code=0):
    done = runner.invoke(app, [str(arg) for arg in args])
    assert done.exit_code == code, done.output
    return done


@pytest.fixture
def files(tmp_path, targets_table, table_library):
    Router.fit(targets_table, library=table_library).save_pretrained(tmp_path / "r")
    lines = [json.dumps({"prompt": prompt}) for prompt in PROMPTS]
    (tmp_path / "prompts.jsonl").write_text("\n".join(lines))
    targets_table.write(tmp_path / "scores.jsonl")
    return tmp_path


def test_calibrate(files):
    budget = "mean cost <= 0.1 USD per 1000 prompts"
    args = ("calibrate", files / "r", files / "prompts.jsonl", budget, "share(giant) <= 10%")
    output = json.loads(call(*args, "--json").stdout)
    assert set(output) == {"weights", "attained", "met"}
    assert output["met"]
    assert output["attained"][budget]["value"] == pytest.approx(1e-4)
    assert "met     mean cost" in call(*args).stdout
    wrong = call("calibrate", files / "r", files / "prompts.jsonl", "cost < nothing", code=2)
    assert "is not a budget" in wrong.stderr
    unmet = call("calibrate", files / "r", files / "prompts.jsonl", "mean cost <= 0.00001")
    assert "NOT MET" in unmet.stdout
    assert "nearest attainable is 0.0001" in unmet.stdout
    both = ("mean cost <= 0.1 USD per 1000 prompts", "share(writer) <= 0%")
    unmet = call("calibrate", files / "r", files / "prompts.jsonl", *both).stdout
    assert "beside the other budgets, 0.0001 without them" in unmet


def test_the_share_found_is_taken_back(files):
    args = ("route", PROMPTS[0], "--router", files / "r", "--goal", "share(coder)=9", "--json")
    assert json.loads(call(*args).stdout)["expert"] != "coder"


def test_the_summary_of_a_file_compares_with_each_expert(files):
    args = ("route", "--input", files / "prompts.jsonl", "--output", files / "o", "--router")
    lines = call(*args, files / "r").stderr.splitlines()
    assert lines[0].split() == ["share", "loss", "USD/1000", "alone", "loss", "alone", "USD/1000"]
    rows = {line.split()[0]: line.split()[1:] for line in lines[1:-3]}
    assert rows["coder"][0] == rows["writer"][0] == "50.0%"
    assert rows["giant"] == ["0.0%", "-", "-", rows["giant"][3], "0.9"]
    assert rows["routed"][2] == "0.15"
    assert lines[-3].startswith("2 prompts.")
    assert lines[-2].startswith("Out of distribution: 0.0% of the prompts")
    # Two of three experts get half of the prompts each: log 2 / log 3.
    assert lines[-1] == "Evenness of the shares (entropy, 0 to 1): 0.63."


def test_the_summary_of_a_file_warns_of_a_collapse_onto_one_expert(files):
    """All prompts are the coder's kind, or a weight makes it so; in training half of them were."""
    prompts = "".join(json.dumps({"prompt": PROMPTS[0] + str(i)}) + "\n" for i in range(10))
    (files / "alike.jsonl").write_text(prompts, encoding="utf-8")
    args = ("route", "--input", files / "alike.jsonl", "--output", files / "o", "--router")
    lines = call(*args, files / "r").stderr.splitlines()
    assert lines[-1].startswith("warning: coder takes 100.0% of the prompts, but is among the best")


def test_the_summary_of_a_file_tells_the_share_out_of_distribution(files):
    prompts = [*PROMPTS, "qqq zzz xxx 77 88", "999 888 777 666 @@@"]
    lines = "".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts)
    (files / "half.jsonl").write_text(lines, encoding="utf-8")
    done = call("route", "--input", files / "half.jsonl", "--router", files / "r")
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [record["out_of_distribution"] for record in records] == [False, False, True, True]
    assert "Out of distribution: 50.0% of the prompts, unlike all training" in done.stderr


@pytest.mark.filterwarnings("ignore:the router was fitted on these very prompts")
def test_pareto(files):
    args = ("pareto", files / "r", files / "scores.jsonl", "--goal", "cost")
    output = json.loads(call(*args, "--json", "--png", files / "front.png").stdout)
    assert {"goal", "points", "aiq", "hypervolume", "references"} <= set(output)
    assert set(output["references"]) == {"zero_router", "oracle"}
    assert (files / "front.png").read_bytes().startswith(b"\x89PNG")
    assert "AIQ" in call(*args).stdout
    both = call(*args, "--goal", "size", "--png", files / "both.png", code=2)
    assert "a picture shows one goal" in both.stderr
    assert not (files / "both.png").exists()
