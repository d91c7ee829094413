"""The commands, the code and the figures of docs/labelling.md."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tryage import Expert, Library, Router, ScoreTable
from tryage.labeling import label_answers

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "labelling.md").read_text(encoding="utf-8")

pytest.importorskip("pyarrow")


def block(language: str) -> str:
    return re.search(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL).group(1)


def test_the_commands_run(tiny_library, tiny_texts, tmp_path) -> None:
    pytest.importorskip("ray.data")
    experts = yaml.safe_load(tiny_library.read_text())["experts"][:2]
    shutil.copytree(tiny_library.parent / "models", tmp_path / "models")
    (tmp_path / "library.yaml").write_text(yaml.safe_dump({"name": "two", "experts": experts}))
    prompts = [{"prompt": t, "group": kind} for kind in tiny_texts for t in tiny_texts[kind][:8]]
    questions = [{"prompt": t[:20], "reference": t[20:]} for t in tiny_texts["code"][:8]]
    for name, rows in (("prompts", prompts), ("questions", questions)):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for line in block("sh").splitlines():
        done = subprocess.run(
            [sys.executable, "-m", *shlex.split(line)],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=os.environ | {"RAY_USAGE_STATS_ENABLED": "0"},
            check=False,
        )
        assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert (summary["cells"], summary["measured"], summary["failed"]) == (32, 32, 0)
    tables = {name: ScoreTable.read(tmp_path / name) for name in ("scores", "few", "answers")}
    assert {name: len(table) for name, table in tables.items()} == {
        "scores": 16,
        "few": 10,
        "answers": 8,
    }
    assert sorted(tables["few"].groups) == ["code"] * 5 + ["prose"] * 5
    assert tables["answers"].kind == "scores"


def test_a_metric_of_ones_own(tiny_library, tiny_texts, tmp_path) -> None:
    names: dict = {}
    exec(compile(block("python"), "block", "exec"), names)
    library = Library.read(tiny_library).of_task("text-generation")
    prompts = [{"prompt": t[:20], "reference": "return"} for t in tiny_texts["code"][:4]]
    assert names["measured"](library, prompts, tmp_path).measured == 8
    table = ScoreTable.read(tmp_path)
    assert table.losses[:, table.experts.index("code-gpt")].mean() < 1


def test_the_command_that_learns_from_feedback(tmp_path) -> None:
    """As the page has it, on a router whose experts are functions."""
    [update] = re.findall(r"^tryage fit .* --update .*$", PAGE, re.MULTILINE)
    experts = {"small": lambda prompt: "4", "large": lambda prompt: "5"}
    prompts = [{"prompt": f"2 + 2 ({n})", "reference": "4"} for n in range(8)]
    label_answers(experts, prompts, "exact", tmp_path / "answers")
    library = Library([Expert(name=name, model=name) for name in experts])
    router = Router.fit(ScoreTable.read(tmp_path / "answers"), library=library)
    router.save_pretrained(tmp_path / "my-router")
    keeping = router.with_feedback(tmp_path / "feedback.jsonl", store_prompts=True)
    for number in range(8):
        keeping.feedback({"expert": "small"}, 0.0, prompt=f"2 + 2 ({number})")
    command = [sys.executable, "-m", *shlex.split(update)]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    again = Router.from_pretrained(tmp_path / "my-router")
    assert again.provenance["data_sha256"] != router.provenance["data_sha256"]
    assert (again.provenance["prompts"], again.provenance["cells"]) == (8, 16)


@pytest.mark.parametrize("name", ["labelling", "labelling_curve"])
def test_the_figures_are_those_of_the_results(name, monkeypatch) -> None:
    path = ROOT / "benchmarks" / "results" / f"{name}.json"
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    module = __import__(f"{name}_table")
    begin, end = module.MARKS
    written = PAGE.split(begin)[1].split(end)[0].strip()
    assert written == module.table(json.loads(path.read_text(encoding="utf-8")))
