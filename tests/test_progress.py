"""What is shown of a labelling run: bars on a terminal, lines in a log, nothing where unwanted."""

import sys

import pytest

from tryage.labeling import alabel_answers, label_answers
from tryage.progress import ProgressLines, shown_progress


class Clock:
    """Stands in for the clock."""

    def __init__(self, monkeypatch):
        self.now = 1000.0
        monkeypatch.setattr("time.monotonic", lambda: self.now)

    def wait(self, seconds):
        self.now += seconds


def test_progress_in_a_log_is_a_line_now_and_then(capsys):
    progress = ProgressLines(every=0.0, rate="cells/s")
    rarely = ProgressLines(every=60.0, rate="cells/s")
    for done in (0, 1000, 2000):
        progress.update("small", done, 2000)
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(",")[0] for line in lines[1:]] == ["small: 1", "small: 2"]
    assert lines[0] == "small: 0 of 2,000"
    assert "cells/s" in lines[1]
    for done in range(2001):
        rarely.update("small", done, 2000)
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_the_rate_of_a_part_is_that_of_its_own_work(monkeypatch, capsys):
    """All parts are announced when the run starts; the second begins when the first has ended."""
    clock = Clock(monkeypatch)
    progress = ProgressLines(every=0.0, rate="cells/s")
    for name, done in (("first", 0), ("second", 500)):
        progress.update(name, done, 1000)
    for done in (500, 1000):
        clock.wait(50)
        progress.update("first", done, 1000)
    clock.wait(10)
    progress.update("second", 600, 1000)
    clock.wait(10)
    progress.update("second", 700, 1000)
    lines = capsys.readouterr().err.splitlines()
    assert lines[3] == "first: 1,000 of 1,000, 10.0 cells/s, 0 s left"
    assert lines[4] == "second: 600 of 1,000, 10.0 cells/s, 40 s left"
    assert lines[5] == "second: 700 of 1,000, 10.0 cells/s, 30 s left"


def label(tmp_path, **options):
    return label_answers(
        {"one [bold]": lambda prompt: "4", "two": lambda prompt: "5"},
        [{"prompt": f"What is {n} + 2?", "reference": "4"} for n in range(3)],
        "exact",
        tmp_path / "scores",
        **options,
    )


def test_a_log_gets_nothing_by_default_and_lines_where_they_are_wanted(tmp_path, capsys):
    label(tmp_path / "a")
    label(tmp_path / "b", progress=False)
    assert capsys.readouterr().err == ""
    label(tmp_path / "c", progress=True)
    assert "two: 3 of 3" in capsys.readouterr().err
    steps = []
    label(tmp_path / "d", progress=lambda *step: steps.append(step))
    assert steps[-1][1:] == (3, 3)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("progress", [None, True, False])
def test_a_terminal_gets_bars_unless_they_are_unwanted(tmp_path, capsys, monkeypatch, progress):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    label(tmp_path, progress=progress)
    drawn = capsys.readouterr().err
    if progress is False:
        assert drawn == ""
    else:
        assert "one [bold]" in drawn
        assert "3/3" in drawn


async def test_labelling_in_a_loop_shows_progress_as_well(tmp_path, capsys):
    await alabel_answers(
        {"one": lambda prompt: "4"},
        [{"prompt": "2 + 2", "reference": "4"}],
        "exact",
        tmp_path / "scores",
        progress=True,
    )
    assert "one: 1 of 1" in capsys.readouterr().err


def test_without_standard_error_nothing_is_drawn(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    with shown_progress(None, rate="cells/s") as advance:
        assert advance is None
