"""The notebooks in examples/ run from top to bottom, and what their cells show can be shown."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[2] / "examples").glob("*.ipynb"))

RUN = """
import ast, json, pathlib, sys

for cell in json.loads(pathlib.Path(sys.argv[1]).read_text(encoding="utf-8"))["cells"]:
    if cell["cell_type"] != "code":
        continue
    tree = ast.parse("".join(cell["source"]))
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "cell", "exec"), globals())
    if last is not None:
        value = eval(compile(ast.Expression(last.value), "cell", "eval"), globals())
        show = getattr(value, "_repr_mimebundle_", None) or getattr(value, "_repr_html_", None)
        shown = repr(value) if show is None else show()
        assert shown, type(value)
        print("shown:", type(value).__name__)
"""


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_runs_and_its_cells_show_something(notebook, tmp_path):
    data = json.loads(notebook.read_text(encoding="utf-8"))
    assert all(not cell.get("outputs") for cell in data["cells"])
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", RUN, str(notebook)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stderr
    shown = [line for line in done.stdout.splitlines() if line.startswith("shown: ")]
    assert "shown: Router" in shown
    assert "shown: LayerChart" in shown
    for name in ("report.html", "week.html"):
        assert "Content-Security-Policy" in (tmp_path / name).read_text(encoding="utf-8")
