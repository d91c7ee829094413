"""Each line of a file has its own task; commands follow it, or say what they need."""

import json

import pytest
from typer.testing import CliRunner

from tryage import Expert, Library, Router, ScoreTable
from tryage.cli import app

SUMMARY = "summarization"
NAMES = {"g1": None, "g2": None, "s1": SUMMARY, "s2": SUMMARY}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tasks")
    experts = [
        Expert(name=name, model=f"m/{name}", parameters=10**number, **({"task": t} if t else {}))
        for number, (name, t) in enumerate(NAMES.items(), 6)
    ]
    rows = [{"prompt": f"write {n}", "scores": {"g1": 1, "g2": 0.5}} for n in range(9)]
    rows += [
        {"prompt": f"shorten {n}", "task": SUMMARY, "scores": {"s1": 0.5, "s2": 1}}
        for n in range(9)
    ]
    rows = [row | {"costs": dict.fromkeys(row["scores"], 0.1)} for row in rows]
    table = ScoreTable.from_rows(rows)
    Router.fit(table, library=Library(experts), predictor="best-single").save_pretrained(
        folder / "r"
    )
    others = [row | {"prompt": f"{row['prompt']} of another book"} for row in rows]
    ScoreTable.from_rows(others).write(folder / "t.jsonl")
    lines = [{key: row[key] for key in ("prompt", "task") if key in row} for row in rows]
    (folder / "p.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def call(*args, code=0):
    done = CliRunner().invoke(app, [str(arg) for arg in args])
    assert done.exit_code == code, done.output
    return done


def test_a_line_is_routed_by_its_own_task(files):
    done = call("route", "--input", files / "p.jsonl", "--router", files / "r")
    chosen = [json.loads(line)["expert"] for line in done.stdout.splitlines()]
    assert chosen == ["g1"] * 9 + ["s2"] * 9


def test_a_line_without_a_decision_is_named(files, tmp_path):
    lines = [{"prompt": "fine", "task": SUMMARY}, {"prompt": "not fine", "task": "translation"}]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    done = call("route", "--input", tmp_path / "p.jsonl", "--router", files / "r", code=2)
    assert f"{tmp_path / 'p.jsonl'}, line 2: no expert" in done.stderr
    reasons = [line for line in done.stderr.splitlines() if "its task is" in line]
    assert [line.split(":")[0].strip() for line in reasons] == list(NAMES)


def test_calibrate_takes_the_lines_of_one_task(files, tmp_path):
    budget = "share(s2) <= 0%"
    done = call("calibrate", files / "r", files / "p.jsonl", budget, code=2)
    assert all(part in done.stderr for part in ("line 9", "line 18", "--task"))
    done = call("calibrate", files / "r", files / "p.jsonl", budget, "--task", SUMMARY)
    assert "share   100.0%  s1" in done.stdout
    alone = [{"prompt": "shorten this", "task": SUMMARY}]
    (tmp_path / "p.jsonl").write_text(json.dumps(alone[0]))
    done = call("calibrate", files / "r", tmp_path / "p.jsonl", budget)
    assert "share   100.0%  s1" in done.stdout
    done = call("calibrate", files / "r", files / "p.jsonl", "share(g1) <= 0%", "--task",
                "text-generation")  # fmt: skip
    assert "left out: 9 prompts of summarization" in done.stderr
    assert "share   100.0%  g2" in done.stdout


def test_evaluate_and_pareto_look_at_one_task(files):
    table = files / "t.jsonl"
    done = call("pareto", files / "r", table, "--goal", "size", code=2)
    assert "choose one with task= (--task)" in done.stderr
    front = json.loads(
        call("pareto", files / "r", table, "--goal", "size", "--task", SUMMARY, "--json").stdout
    )
    assert (front["prompts"], set(front["experts"])) == (9, {"s1", "s2"})
    both = json.loads(call("evaluate", files / "r", table, "--json").stdout)
    one = json.loads(call("evaluate", files / "r", table, "--task", SUMMARY, "--json").stdout)
    assert one == both["tasks"][SUMMARY]
    done = call("evaluate", files / "r", table, "--task", "sumarization", code=2)
    assert "Did you mean 'summarization'?" in done.stderr
    rates = "accepts-right=0.9,accepts-wrong=0.1"
    done = call("evaluate", files / "r", table, "--check", rates, code=2)
    assert "choose one with task= (--task)" in done.stderr
    plans = call("evaluate", files / "r", table, "--check", rates, "--task", SUMMARY, "--json")
    assert json.loads(plans.stdout)["prompts"] == 9
