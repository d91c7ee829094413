"""The Ray engine on a real local Ray, in processes of their own: sockets stay blocked here."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tryage import Library, ScoreTable
from tryage.errors import MissingExtraError
from tryage.labeling import label
from tryage.labeling.store import LabelStore

pytest.importorskip("pyarrow")


@pytest.fixture(scope="module")
def texts(tiny_texts) -> list[dict[str, str]]:
    # More than one block for each expert.
    return [
        {"prompt": f"{text} {i}", "id": f"{kind}-{i}-{j}"}
        for kind in ("code", "prose")
        for i in range(14)
        for j, text in enumerate(tiny_texts[kind])
    ] + [{"prompt": "+++", "id": "no-word"}]


def run(*arguments, **environment):
    result_file = arguments[-1].with_suffix(".json")
    words = map(str, (Path(__file__).with_name("ray_run.py"), *arguments, result_file))
    done = subprocess.run(
        [sys.executable, *words],
        capture_output=True,
        text=True,
        timeout=240,
        env=os.environ | {"RAY_USAGE_STATS_ENABLED": "0"} | environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(result_file.read_text())


def test_a_worker_that_dies_in_the_middle_costs_nothing(tiny_library, texts, tmp_path) -> None:
    """The same cells as the local engine's, on the same shards, which either can resume."""
    pytest.importorskip("ray.data")
    library = Library.read(tiny_library)
    prompts, out, dead = tmp_path / "prompts.jsonl", tmp_path / "out", tmp_path / "dead"
    prompts.write_text("\n".join(map(json.dumps, texts)))
    begun = label(library, texts[:10], out)
    summary = run(tiny_library, prompts, out, DEATH=str(dead))
    assert dead.exists()
    cells = 4 * len(texts)
    assert (summary["cells"], summary["reused"]) == (cells, begun.cells)
    assert (summary["measured"], summary["failed"]) == (cells - begun.cells - 2, 2)
    assert summary["failures"]["code-bert"] == {"the text has no word to hide": 1}
    again = label(library, texts, out)
    assert (again.reused, again.failed) == (cells - 2, 2)
    assert len(LabelStore(out).shards()) > 8
    label(library, texts, tmp_path / "local")
    there, here = (ScoreTable.read(folder).by_task(library) for folder in (out, tmp_path / "local"))
    for task, table in here.items():
        rows = [there[task].ids.index(name) for name in table.ids]
        np.testing.assert_allclose(there[task].losses[rows], table.losses, atol=1e-4)


def test_without_ray_the_pip_line_is_named(tiny_library, texts, tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r'pip install "tryage\[ray\]"'):
        label(Library.read(tiny_library), texts[:1], tmp_path / "out", engine="ray")
    assert not (tmp_path / "out").exists()
