"""Whole processes that measure: at once, interrupted, killed. What was written stays."""

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from tryage import Library, ScoreTable
from tryage.labeling import label
from tryage.labeling.store import LabelStore

pytest.importorskip("pyarrow")


@pytest.fixture(scope="module")
def texts(tiny_texts) -> list[dict[str, str]]:
    return [
        {"prompt": f"{text} {i}", "id": f"{kind}-{i}-{j}"}
        for kind in ("code", "prose")
        for i in range(20)
        for j, text in enumerate(tiny_texts[kind])
    ]


def start(library, prompts, out) -> subprocess.Popen[str]:
    words = ("label", "--library", library, "--prompts", prompts, "--out", out, "--json")
    command = [sys.executable, "-m", "tryage", *map(str, words)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, **pipes)


def write(path, entries):
    path.write_text("\n".join(map(json.dumps, entries)))
    return path


def test_two_runs_may_fill_a_new_folder_at_once(tiny_library, texts, tmp_path) -> None:
    prompts, out = write(tmp_path / "prompts.jsonl", texts[:40]), tmp_path / "out"
    runs = [start(tiny_library, prompts, out) for _ in range(2)]
    for run in runs:
        output, errors = run.communicate(timeout=240)
        assert run.returncode == 0, errors
        counts = json.loads(output)
        assert counts["measured"] + counts["reused"] == counts["cells"] == 160
    library = Library.read(tiny_library)
    assert label(library, prompts, out).reused == 160
    tables = ScoreTable.read(out).by_task(library).values()
    assert [table.losses.shape for table in tables] == [(40, 2), (40, 2)]
    assert all(np.isfinite(table.losses).all() for table in tables)


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_a_run_that_is_ended_goes_on_later(tiny_library, texts, tmp_path, end) -> None:
    prompts, out = write(tmp_path / "prompts.jsonl", texts), tmp_path / "out"
    run = start(tiny_library, prompts, out)
    deadline = time.monotonic() + 120
    while not list(out.glob("cells-*.parquet")):
        assert run.poll() is None, run.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    run.send_signal(end)
    _, errors = run.communicate(timeout=60)
    if end == signal.SIGINT:
        assert run.returncode == 130, errors
        assert "interrupted; finished work is kept" in errors
        assert "Traceback" not in errors
    else:
        assert run.returncode == -signal.SIGKILL
    shards = LabelStore(out).shards()
    library = Library.read(tiny_library)
    some = texts[:20]
    done = label(library, some, out)
    assert done.failed == 0
    assert 20 <= done.reused < done.cells == 80
    assert shards == LabelStore(out).shards()[: len(shards)]
    tables = ScoreTable.read(out).by_task(library)
    label(library, some, tmp_path / "whole")
    for task, table in ScoreTable.read(tmp_path / "whole").by_task(library).items():
        rows = [tables[task].ids.index(name) for name in table.ids]
        np.testing.assert_allclose(tables[task].losses[rows], table.losses, atol=1e-4)
