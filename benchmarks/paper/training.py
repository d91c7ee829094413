"""Train the experts, two at a time, each in a process of its own on one thread.

A process that is interrupted goes on from the quickstart trainer's last checkpoint (safetensors).
What each stretch of a training took is appended to the expert's log, so that the times of an
interrupted training add up.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from paper.plan import PROCESSES, Plan, Trained, smoke
from paper.texts import training_texts
from tryage.attributes import expert_of
from tryage.files import write_text
from tryage.library import Library

KEY_FILE = "training.json"
"""Says, beside an expert's weights, which training they come from."""

STRETCH = 100
"""Steps between two lines of a log; the trainer writes its checkpoints as often."""


def train_all(plan: Plan, work: Path, corpora: Path, *, tiny: bool = False) -> None:
    """Train every expert that is not there yet; the longest trainings begin first.

    An expert that was trained in another way is not taken for the plan's.

    Args:
        plan: the experts.
        work: folder for weights (`models/`) and logs (`logs/`).
        corpora: folder of the corpora.
        tiny: whether `plan` is the smoke run's, for the processes to know.

    Raises:
        SystemExit: a training failed, and its log says why; or a model that is there was trained
            by another recipe or on other texts.
    """
    (work / "logs").mkdir(parents=True, exist_ok=True)
    waiting = []
    for one in plan.experts:
        folder = work / "models" / one.name
        if not folder.is_dir():
            waiting.append(one)
        elif _key_of(folder) != key(one, training_texts(corpora, one, plan.train_characters)):
            raise SystemExit(f"{folder} was trained in another way; give a new folder")
    waiting.sort(key=lambda one: one.recipe.hidden**2 * one.recipe.steps, reverse=True)

    def run(expert: Trained) -> int:
        command = [sys.executable, "-m", "paper.training", str(work), str(corpora), expert.name]
        with (work / "logs" / f"{expert.name}.txt").open("a", encoding="utf-8") as log:
            return subprocess.run(
                command + ["--smoke"] * tiny,
                stdout=log,
                stderr=log,
                cwd=Path(__file__).parents[1],
                env={**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"},
                check=False,
            ).returncode

    with ThreadPoolExecutor(PROCESSES) as pool:
        codes = dict(zip((one.name for one in waiting), pool.map(run, waiting), strict=True))
    failed = [name for name, code in codes.items() if code]
    if failed:
        raise SystemExit(f"training failed: {', '.join(failed)}; see {work / 'logs'}")
    write_library(plan.experts, work)


def train_one(expert: Trained, work: Path, corpora: Path, characters: int) -> None:
    """Train one expert in this process, and log what each stretch of steps took."""
    import torch

    from tryage.quickstart.experts import train

    torch.set_num_threads(1)
    log = work / "logs" / f"{expert.name}.jsonl"
    log.parent.mkdir(parents=True, exist_ok=True)
    before = [time.time(), time.process_time()]

    def tell(step: int) -> None:
        if step % STRETCH == 0 or step == expert.recipe.steps:
            now = [time.time(), time.process_time()]
            line = {"step": step, "wall": now[0] - before[0], "cpu": now[1] - before[1]}
            with log.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
            before[:] = now

    folder = work / "models" / expert.name
    texts = training_texts(corpora, expert, characters)
    train(expert.recipe, texts, folder, progress=tell)
    write_text(folder / KEY_FILE, json.dumps({"sha256": key(expert, texts)}) + "\n")
    # The trainer's own card tells of the quickstart's texts.
    write_text(folder / "README.md", f"# {expert.name}\n\n{expert.card}\n")


def key(expert: Trained, texts: Sequence[str]) -> str:
    """Return what tells trainings apart: a hash of recipe and texts."""
    content = json.dumps([expert.recipe.to_dict(), list(texts)])
    return hashlib.sha256(content.encode()).hexdigest()


def _key_of(folder: Path) -> str | None:
    path = folder / KEY_FILE
    if not path.is_file():
        return None
    digest: str = json.loads(path.read_text(encoding="utf-8"))["sha256"]
    return digest


def times(expert: Trained, work: Path) -> dict[str, float]:
    """Return the wall and CPU seconds that a training took, interruptions left out."""
    lines = list(_lines(work / "logs" / f"{expert.name}.jsonl"))
    return {kind: sum(line[kind] for line in lines) for kind in ("wall", "cpu")}


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        yield from map(json.loads, file)


def write_library(trained: Sequence[Trained], work: Path) -> Library:
    """Write the library of trained experts beside their models, and return it."""
    experts = [expert_of(f"models/{one.name}", root=work) for one in trained]
    Library(experts, name="paper").write(work / "library.yaml")
    return Library.read(work / "library.yaml")


def main() -> None:
    """Train the expert named on the command line."""
    work, corpora, name, *rest = sys.argv[1:]
    plan = smoke() if rest else Plan()
    expert = next(one for one in plan.experts if one.name == name)
    train_one(expert, Path(work), Path(corpora), plan.train_characters)


if __name__ == "__main__":
    main()
