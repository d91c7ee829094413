"""Real processes against a limit on file sizes, and killed at any moment: cells stay whole."""

import json
import random
import resource
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
        for i in range(12)
        for j, text in enumerate(tiny_texts[kind])
    ]


def start(library, prompts, out, **options) -> subprocess.Popen[str]:
    words = ("label", "--library", library, "--prompts", prompts, "--out", out)
    command = [sys.executable, "-m", "tryage", *map(str, words)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, **pipes, **options)


def write(path, entries):
    path.write_text("\n".join(map(json.dumps, entries)))
    return path


def test_a_disk_that_is_full_leaves_whole_shards_and_one_error(
    tiny_library, texts, tmp_path
) -> None:
    """A limit of the system stands for the disk: writing beyond it fails in the same method."""
    library, out = Library.read(tiny_library), tmp_path / "out"
    label(library, texts[:20], out)
    contents = {shard.name: shard.read_bytes() for shard in LabelStore(out).shards()}
    limit = max(map(len, contents.values())) + 1000
    run = start(
        tiny_library,
        write(tmp_path / "prompts.jsonl", texts),
        out,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    _, errors = run.communicate(timeout=240)
    assert run.returncode == 1
    assert "measured cells could not be written" in errors
    assert "Traceback" not in errors
    assert contents == {shard.name: shard.read_bytes() for shard in LabelStore(out).shards()}
    assert not [path for path in out.iterdir() if path.name.startswith(".")]
    rest = label(library, texts, out)
    assert (rest.reused, rest.failed) == (80, 0)
    assert rest.measured == rest.cells - 80


def test_runs_killed_at_any_moment_come_to_the_same_end(tiny_library, texts, tmp_path) -> None:
    prompts, out = write(tmp_path / "prompts.jsonl", texts), tmp_path / "out"
    rng = random.Random(0)
    for shards in (0, 2):
        run = start(tiny_library, prompts, out)
        while run.poll() is None and len(list(out.glob("cells-*.parquet"))) <= shards:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.3))
        run.send_signal(signal.SIGKILL)
        run.communicate(timeout=60)
        if LabelStore(out).shards():
            ScoreTable.read(out)
    library = Library.read(tiny_library)
    (out / ".cells-000009-ab12cd34.parquet.0123456789ab").write_bytes(b"half a shard")
    rest = label(library, texts, out)
    assert rest.failed == 0
    assert not [path for path in out.iterdir() if path.name.startswith(".")]
    assert rest.reused + rest.measured == rest.cells
    label(library, texts, tmp_path / "whole")
    there, here = (ScoreTable.read(folder).by_task(library) for folder in (out, tmp_path / "whole"))
    for task, table in here.items():
        rows = [there[task].ids.index(name) for name in table.ids]
        np.testing.assert_allclose(there[task].losses[rows], table.losses, atol=1e-4)
