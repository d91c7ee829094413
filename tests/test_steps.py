"""What is shown of a fit: what is at work and the time left, and nothing where it is unwanted."""

import itertools
import pickle
import sys
import time

import numpy as np
import pytest
from typer.testing import CliRunner

from tryage import Router, ScoreTable
from tryage.cli import app
from tryage.steps import StepLines, Steps, shown_steps


@pytest.fixture
def clock(monkeypatch):
    """A clock that tests move."""

    class Clock:
        now = 1000.0

    monkeypatch.setattr("time.monotonic", lambda: Clock.now)
    return Clock


def table(n=40, groups=("sums", "verses")):
    rng = np.random.default_rng(0)
    rows = [
        {
            "prompt": f"{'Add' if n % 2 else 'Write a verse about'} {n} and {n * 7 % 31}",
            "group": groups[n % 2],
            "scores": {"a": float(n % 2), "b": float(rng.integers(2))},
        }
        for n in range(n)
    ]
    return ScoreTable.from_rows(rows)


def test_the_time_left_is_that_of_each_kind_by_its_own_speed(clock):
    stood = []
    steps = Steps(stood.append, {"slow": 10.0})
    steps.expect("fast", 2, size=100)
    steps.expect("slow", 2, size=100)
    steps.expect("slow", 1, size=300)

    def work(kind, seconds, size=100):
        with steps.step(kind, f"{kind} at work", size):
            clock.now += seconds

    work("fast", 4.0)
    assert stood[0].seconds_left is None, "nothing has ended that tells of the speed"
    assert (stood[0].name, stood[0].done, stood[0].total) == ("fast at work", 0, 5)
    # 4 s for 100 of the fast kind; the slow one is taken to be ten times as slow.
    assert stood[-1].seconds_left == pytest.approx(4 + 5 * 40)
    work("slow", 10.0)
    assert stood[-1].seconds_left == pytest.approx(4 + 4 * 10)
    work("fast", 6.0)
    work("slow", 10.0, 300)
    assert stood[-1].seconds_left == pytest.approx(100 * 20 / 400)
    work("slow", 5.0)
    assert (stood[-1].done, stood[-1].total, stood[-1].seconds_left) == (5, 5, 0.0)


def test_steps_can_be_taken_back_and_parts_tell_of_the_step_at_work(clock):
    stood = []
    steps = Steps(stood.append)
    steps.expect("either", 3, size=10)
    steps.expect("last", 1, size=10)
    steps.drop("either")
    steps.drop("never announced")
    with steps.step("either", "training", 10):
        steps.part("epoch", 0, 4)
        assert stood[-1].name == "training, epoch 1 of 4"
        assert stood[-1].seconds_left is None
        clock.now += 5
        steps.part("epoch", 1, 4)
        assert stood[-1].seconds_left == pytest.approx(15 + 2 * 20)
        clock.now += 5  # it ends earlier than foretold
    assert stood[-1].seconds_left == pytest.approx(2 * 10)
    assert (stood[-1].done, stood[-1].total) == (1, 3)
    with steps.step("not announced", "more", 10):
        pass
    assert (stood[-1].done, stood[-1].total) == (2, 4)


def test_a_log_gets_a_line_now_and_then(clock, capsys):
    steps = Steps(StepLines(every=30.0).show)
    steps.expect("fit", 4, size=1)
    for seconds in (20.0, 20.0, 400.0, 1.0):
        with steps.step("fit", "hybrid: fold 2 of 3"):
            clock.now += seconds
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "hybrid: fold 2 of 3: 2 of 4 steps done, 40 s left",
        "hybrid: fold 2 of 3: 3 of 4 steps done, 2 min left",
        "hybrid: fold 2 of 3: 3 of 4 steps done, 2 min left",  # the last one will take long
    ]


def test_a_log_names_a_long_step_when_it_begins(clock, capsys):
    steps = Steps(StepLines(every=30.0).show)
    steps.expect("fit", 1, size=10)
    steps.expect("fit", 1, size=60)
    with steps.step("fit", "fold", 10):
        clock.now += 10.0
    with steps.step("fit", "all prompts", 60):
        clock.now += 1.0
    assert capsys.readouterr().err == "all prompts: 1 of 2 steps done, 60 s left\n"


def test_fit_calls_a_function_with_what_is_at_work(capsys):
    calls = []
    router = Router.fit(table(), progress=lambda *call: calls.append(call))
    names = [name for name, _, _ in calls]
    assert names[0] == "encoding 40 prompts"
    assert "clusters: fold 1 of 3" in names
    assert "hybrid: outer fold 5 of 5, inner fold 3 of 3" in names
    assert "nearest: outer fold 2 of 5" in names
    chosen = router.provenance["choice"]["text-generation"]["chosen"]
    assert f"{chosen}: fit on all 40 prompts" in names
    assert calls[-1][1] == calls[-1][2]
    totals = [total for _, _, total in calls]
    assert totals == sorted(totals, reverse=True), "every step was announced"
    assert totals[-1] >= totals[0] - 5, "only an outer fold whose best is a plain kind saves a fit"
    assert all(before[1] <= after[1] for before, after in itertools.pairwise(calls))
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("kind", ["clusters", "best-single"])
def test_the_steps_of_a_named_kind_are_announced_too(kind):
    calls = []
    Router.fit(table(), predictor=kind, progress=lambda *call: calls.append(call))
    assert {total for _, _, total in calls} == {8}, "encoding, five folds, the fit, the chances"
    assert calls[-1][1] == 8


def test_fit_shows_nothing_by_default_in_a_log_and_a_bar_on_a_terminal(capsys, monkeypatch):
    for progress in (None, False, True):  # a short fit needs no line
        Router.fit(table(), predictor="clusters", progress=progress)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    Router.fit(table(), predictor="clusters", progress=False)
    assert capsys.readouterr().err == ""
    Router.fit(table(), predictor="clusters")
    drawn = capsys.readouterr()
    assert "steps" not in drawn.err
    assert "8/8" in drawn.err
    assert drawn.out == ""


def test_a_bar_shows_the_time_left(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with shown_steps(None) as steps:
        steps.expect("a [bold]", 3000)
        with steps.step("a [bold]", "a [bold]: fold 1"):
            time.sleep(0.2)
    drawn = capsys.readouterr().err
    assert "a [bold]: fold 1" in drawn
    assert "min left" in drawn


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_an_interrupted_fit_says_that_nothing_was_saved(tmp_path, monkeypatch, options):
    table().write(tmp_path / "scores.jsonl")
    out = tmp_path / "router"

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("tryage.training.auto.choose", interrupted)
    arguments = ["fit", str(tmp_path / "scores.jsonl"), "--out", str(out), *options]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 130
    assert done.stdout == ""
    assert f"interrupted; {out} was not made" in done.stderr.replace("\n", "")
    assert not out.exists()
    saved = Router.fit(table(), predictor="clusters")
    saved.save_pretrained(out)
    before = (out / "router.json").read_bytes()
    done = CliRunner().invoke(app, arguments)
    assert f"interrupted; {out} is as it was" in done.stderr.replace("\n", "")
    assert (out / "router.json").read_bytes() == before


def test_a_network_tells_of_its_epochs_and_can_be_pickled(monkeypatch):
    pytest.importorskip("torch")
    calls = []
    fitted = Router.fit(
        table(), predictor="embedding-bag", progress=lambda *call: calls.append(call)
    )
    names = [name for name, _, _ in calls]
    assert "embedding-bag: fold 1 of 1, epoch 1 of 20" in names
    assert any("fit on all 40 prompts, epoch" in name for name in names)
    (predictor,) = fitted.predictors.values()
    assert predictor.on_epoch is None
    assert pickle.loads(pickle.dumps(predictor)).kind == "embedding-bag"
