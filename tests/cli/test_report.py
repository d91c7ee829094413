import json
import subprocess
import sys
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from tryage import Router
from tryage.cli import app

runner = CliRunner()


def call(*args, code=0):
    done = runner.invoke(app, [str(arg) for arg in args])
    assert done.exit_code == code, done.output
    return done


@pytest.fixture
def files(tmp_path, router, table, held_out_table):
    router.save_pretrained(tmp_path / "r")
    table.write(tmp_path / "train.jsonl")
    held_out_table.write(tmp_path / "test.jsonl")
    return tmp_path


def test_evaluate_writes_a_report_beside_the_table(files, held_out_table):
    target = files / "report.html"
    args = ("evaluate", files / "r", files / "test.jsonl", "--train", files / "train.jsonl")
    done = call(*args, "--html", target)
    assert "oracle" in done.stdout
    assert f"report: {target}" in done.stderr
    html = target.read_text(encoding="utf-8")
    assert "The router is better by" in html
    beginnings = [prompt[:40] for prompt in held_out_table.prompts if prompt.startswith("The")]
    assert all(beginning in html for beginning in beginnings)
    call(*args, "--html", target, "--no-prompts")
    html = target.read_text(encoding="utf-8")
    assert not [beginning for beginning in beginnings if beginning in html]


def test_a_report_with_a_check_shows_plans(files, targets_table, table_library):
    priced = replace(targets_table, kind="scores")
    fitted = Router.fit(priced, library=table_library, predictor="clusters")
    fitted.save_pretrained(files / "scored")
    prompts = tuple(f"Please: {prompt}" for prompt in priced.prompts)
    replace(priced, prompts=prompts).write(files / "scores.jsonl")
    rates = "accepts-right=0.9,accepts-wrong=0.1"
    target = files / "plans.html"
    call("evaluate", files / "scored", files / "scores.jsonl", "--check", rates, "--html", target)
    html = target.read_text(encoding="utf-8")
    assert "Plans with a check" in html
    assert "accepts 90% of right and 10% of wrong answers" in html


def test_pareto_draws_svg_and_refuses_other_kinds(files):
    args = ("pareto", files / "r", files / "test.jsonl", "--goal", "size", "--plot")
    call(*args, files / "front.svg")
    assert (files / "front.svg").read_text().startswith("<svg")
    wrong = call(*args, files / "front.bmp", code=2)
    assert "written as .png or .svg" in wrong.stderr
    assert not (files / "front.bmp").exists()


def test_route_tells_what_the_runner_up_lacks(files, router):
    prompt = "The old river follows the garden."
    decision = router.route(prompt)
    second = router.runner_up(decision)
    args = ("route", prompt, "--router", files / "r", "--why")
    assert call(*args).stdout == router.explain(decision, why=True) + "\n"
    assert json.loads(call(*args, "--json").stdout)["runner_up"] == second.to_dict()
    (files / "p.jsonl").write_text(json.dumps({"prompt": prompt}) + "\n")
    refused = call("route", "--input", files / "p.jsonl", "--router", files / "r", "--why", code=2)
    assert "--why is for one prompt" in refused.stderr


def test_a_missing_extra_names_the_pip_line(files):
    code = f"""
import sys
sys.modules["altair"] = sys.modules["jinja2"] = None
from tryage.cli import app
app(["evaluate", {str(files / "r")!r}, {str(files / "test.jsonl")!r}, "--html", "r.html"])
"""
    run = [sys.executable, "-c", code]
    done = subprocess.run(run, capture_output=True, text=True, cwd=files)
    assert done.returncode == 2
    assert 'pip install "tryage[report]"' in done.stderr
    assert not (files / "r.html").exists()


def test_report_shows_a_file_of_decisions(files, held_out_table):
    lines = [json.dumps({"prompt": prompt}) + "\n" for prompt in held_out_table.prompts]
    (files / "p.jsonl").write_text("".join(lines))
    decisions = files / "d.jsonl"
    call("route", "--input", files / "p.jsonl", "--router", files / "r", "--output", decisions)
    target = files / "week.html"
    done = call("report", decisions, "--out", target, "--json")
    assert json.loads(done.stdout)["decisions"] == len(held_out_table)
    assert f"report: {target}" in done.stderr
    assert "40 decisions" in target.read_text(encoding="utf-8")
    wrong = call("report", files / "p.jsonl", "--out", files / "no.html", code=2)
    assert "line 1: no decision" in wrong.stderr
    assert not (files / "no.html").exists()
