"""Marks of code: they change with what a function does, and with nothing else."""

import functools
import os
import subprocess
import sys

import pytest

from tryage.labeling import METRICS, PointwiseJudge, label_answers
from tryage.labeling.fingerprints import code_differs, code_fingerprint

pytest.importorskip("pyarrow")


def made(source, name="metric"):
    space = {"functools": functools}
    exec(compile(source, "made.py", "exec"), space)
    return space[name]


def within(least):
    return lambda answer, reference: len(answer) >= least


class Length:
    def __init__(self, least, client=None):
        self.least, self.client = least, client

    def __call__(self, answer, reference):
        return len(answer) >= self.least

    def score(self, answer, reference):
        return self(answer, reference)


def test_a_mark_changes_with_what_a_function_does():
    metrics = [
        lambda answer, reference: 1.0,
        lambda answer, reference: 0.5,
        lambda answer, reference: float(answer == reference),
        lambda answer, reference: float(answer != reference),
        lambda answer, reference, least=1: least,
        lambda answer, reference, *, least=2: least,
        lambda answer, reference: [one for one in answer if one == "a"],
        lambda answer, reference: [one for one in answer if one == "b"],
        within(1),
        within(2),
        functools.partial(METRICS["f1"]),
        functools.partial(METRICS["exact"]),
        functools.partial(lambda answer, reference, least: least, least=1),
        functools.partial(lambda answer, reference, least: least, least=2),
        Length(1),
        Length(2),
        Length(1).score,
    ]
    marks = [code_fingerprint(metric) for metric in metrics]
    assert None not in marks
    assert len(set(marks)) == len(marks)


def test_a_mark_stays_where_nothing_but_the_looks_changed():
    one = "def metric(a, r):\n    return a in {'x', 'y', 'z'}"
    other = "# why\n\n\ndef metric(a, r):\n    # why\n    return a in {'x', 'y', 'z'}\n"
    assert code_fingerprint(made(one)) == code_fingerprint(made(other))
    assert code_fingerprint(Length(1, object())) == code_fingerprint(Length(1, object()))
    assert code_fingerprint(len) is None


def test_a_mark_is_the_same_in_another_process():
    code = "import sys; from tryage.labeling.fingerprints import code_fingerprint; f = {}; "
    code += "exec(\"def metric(a, r): return a in {'x', 'y', 'z'} or (lambda: r)()\", f); "
    code += "print(code_fingerprint(f['metric']))"
    fingerprints = {
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(fingerprints) == 1


def test_marks_of_two_versions_of_python_tell_nothing():
    assert code_differs("python3.11 aa", "python3.11 ab")
    assert not code_differs("python3.11 aa", "python3.12 ab")
    assert not code_differs(None, "python3.12 ab")
    assert not code_differs("python3.12 ab", None)


def test_a_metric_that_changed_is_warned_of_where_scores_are_there(tmp_path):
    experts = {"small": lambda prompt: prompt}

    def run(prompts, metric):
        return label_answers(experts, prompts, metric, tmp_path)

    failing, half = (lambda answer, reference: answer.nothing), (lambda answer, reference: 0.5)
    assert run(["one"], failing).failed == 1
    # Nothing is measured yet, so there is nothing that the change could contradict.
    assert run(["one"], half).measured == 1
    assert run(["one", "two"], half).reused == 1
    with pytest.warns(UserWarning, match=r"<lambda> is no longer the code that .* stay as they"):
        summary = run(["one", "two", "three"], lambda answer, reference: 1.0)
    assert (summary.reused, summary.measured) == (2, 1)


def test_a_judges_own_reading_counts_as_well(tmp_path):
    def run(parse):
        judge = PointwiseJudge(lambda text: "7", parse=parse, name="mine")
        label_answers({"small": lambda prompt: prompt}, ["one"], judge, tmp_path)

    run(lambda reply: float(reply))
    with pytest.warns(UserWarning, match="is no longer the code"):
        run(lambda reply: float(reply) / 2)
