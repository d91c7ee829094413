"""What is said twice with two values is an error that names both, and where."""

import pytest
from typer.testing import CliRunner

from tryage import Goals, ScoreTable
from tryage.cli import app
from tryage.errors import GoalError, PromptError, ScoreTableError, TryageError
from tryage.goals import Security
from tryage.prompts import read_prompts


def refused(*args):
    done = CliRunner().invoke(app, [str(arg) for arg in args])
    assert (done.exit_code, done.stdout) == (2, ""), done.output
    assert done.stderr.count("\n") == 1
    return done.stderr


@pytest.mark.parametrize(
    ("args", "parts"),
    [
        (["--router", "open7", "--router=r2"], ["--router is given twice", "'open7'", "'r2'"]),
        (["--task", "a", "--task", "b"], ["--task is given twice, as 'a' and as 'b'"]),
        (["--goal", "size=0.1", "--goal", "size=0.3"], ["size is given twice, as 0.1 and 0.3"]),
        (
            ["--limit", "parameters<=3B", "--limit", "parameters < 7B"],
            ["at most for parameters", "'parameters <= 3B' and 'parameters < 7B'"],
        ),
        (["--limit", "license=mit", "--limit", "license in [gpl]"], ["one of for license"]),
    ],
)
def test_an_option_with_two_values(args, parts):
    message = refused("route", "hello", *args)
    for part in parts:
        assert part in message


def test_options_that_may_be_repeated():
    args = ["--goal", "size=0.1", "--goal", "size=0.1", "--limit", "parameters>=1B"]
    args += ["--limit", "parameters<=90B", "--router", "open7", "--router", "open7"]
    done = CliRunner().invoke(app, ["route", "hello", *args])
    assert done.exit_code == 0, done.output
    done = CliRunner().invoke(app, ["route", "--", "--router", "--router"])
    assert "unexpected extra argument" in done.stderr


def test_rates_budgets_and_goals_of_one_name(router, held_out_table, tmp_path):
    router.save_pretrained(tmp_path / "r")
    held_out_table.write(tmp_path / "t.jsonl")
    rates = "accepts-right=0.9,accepts-right=0.8,accepts-wrong=0.1"
    message = refused("evaluate", tmp_path / "r", tmp_path / "t.jsonl", "--check", rates)
    assert "accepts-right is given twice, as 0.9 and 0.8" in message
    with pytest.raises(GoalError, match=r"'size <= 7B' and 'mean size <= 9B'; keep one"):
        router.calibrate(["p"], "size <= 7B", "mean size <= 9B")
    with pytest.raises(GoalError, match="'size' is given twice"):
        router.pareto(tmp_path / "t.jsonl", "size", "size")
    assert Goals(limits=["parameters<=3B", "parameters<=7B"]).limits


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "t.jsonl",
            '{"prompt": "p", "scores": {"a": 1, "b": 0.5, "a": 0.25}}',
            "line 1: a: stands twice; keep one of 1 and 0.25",
        ),
        (
            "t.csv",
            "prompt,expert,score,cost,score\np,a,0.9,1,0.2\n",
            "line 1: column 'score' stands twice; keep one of columns 3 and 5, on line 2 '0.9' and "
            "'0.2'",
        ),
        (
            "w.csv",
            "prompt,a,b,a\np,0.9,1,0.2\n",
            "column 'a' stands twice; keep one of columns 2 and 4, on line 2 '0.9' and '0.2'",
        ),
        (
            "t.json",
            '[{"prompt": "p", "expert": "a", "score": 1, "score": 0}]',
            "key 'score' stands twice; keep one of 1 and 0",
        ),
    ],
)
def test_keys_and_columns_of_tables(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(ScoreTableError) as caught:
        ScoreTable.read(tmp_path / name)
    assert message in str(caught.value)
    assert str(tmp_path / name) in str(caught.value)


@pytest.mark.parametrize("read", [ScoreTable.read, lambda path: list(read_prompts(path))])
def test_columns_of_parquet(tmp_path, read):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    names = ["prompt", "expert", "score", "prompt"]
    arrays = [pyarrow.array(values) for values in (["p"], ["a"], [1.0], ["q"])]
    path = tmp_path / "t.parquet"
    parquet.write_table(pyarrow.Table.from_arrays(arrays, names=names), path)
    with pytest.raises(
        TryageError, match="column 'prompt' stands twice; keep one of columns 1 and 4"
    ):
        read(path)


def test_keys_of_prompts_and_rules(tmp_path):
    (tmp_path / "p.jsonl").write_text('{"prompt": "x"}\n{"prompt": "y", "id": 1, "id": 2}\n')
    with pytest.raises(
        PromptError, match=r"p.jsonl, line 2: id: stands twice; keep one of 1 and 2"
    ):
        list(read_prompts(tmp_path / "p.jsonl"))
    rule = '{"fact": "license", "points": {"mit": 0, "gpl": 1, "mit": 2}}'
    (tmp_path / "rules.json").write_text('{"rules": [' + rule + "]}")
    with pytest.raises(GoalError, match=r"rules.json.*'mit' stands twice; keep one of 0 and 2"):
        Security(rules=tmp_path / "rules.json")


def test_a_column_named_error_is_a_column_of_the_users(tmp_path):
    rows = "prompt,expert,score,error,extras\nSort,a,0.9,,my note\nSort,b,0.2,False,\n"
    (tmp_path / "t.csv").write_text(rows)
    table = ScoreTable.read(tmp_path / "t.csv")
    assert table.losses.tolist() == [[pytest.approx(0.1), pytest.approx(0.8)]]
    pytest.importorskip("pyarrow")
    table.write(tmp_path / "t.parquet")
    assert ScoreTable.read(tmp_path / "t.parquet").hash == table.hash
