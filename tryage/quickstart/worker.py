"""The worker process: one job a line on standard input, progress on standard output.

Run by `tryage.quickstart.workers` as ``python -m tryage.quickstart.worker``. It works on one
thread, so that several of them share a machine and the weights do not depend on its cores.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from tryage.experts import Expert
from tryage.library import Library
from tryage.quickstart.recipes import LIBRARY, Recipe
from tryage.quickstart.workspace import PARTS, Workspace


def main() -> None:
    """Make one expert per line of standard input until it ends."""
    import torch
    from transformers.utils import logging

    torch.set_num_threads(1)
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    for line in sys.stdin:
        job = json.loads(line)
        recipe = Recipe.from_dict(job["recipe"])
        workspace = Workspace(Path(job["folder"]), key="")
        if not workspace.model(recipe).is_dir():
            _train(recipe, workspace)
        _measure(recipe, workspace, job["mask_share"])
        _report(finished=True)


def _train(recipe: Recipe, workspace: Workspace) -> None:
    from tryage.quickstart.experts import train

    with workspace.texts(recipe.domain).open(encoding="utf-8") as file:
        texts = [json.loads(line)["text"] for line in file]
    train(
        recipe,
        texts,
        workspace.model(recipe),
        progress=lambda step: _report(what=recipe.name, done=step, total=recipe.steps),
    )


def _measure(recipe: Recipe, workspace: Workspace, mask_share: float) -> None:
    """Measure the expert on all held-out prompts; several processes fill the same folders."""
    from tryage.labeling import label

    model = workspace.model(recipe).relative_to(workspace.folder).as_posix()
    expert = Expert(name=recipe.name, model=model, task=recipe.task)
    library = Library([expert], name=LIBRARY, root=workspace.folder)
    for part in PARTS:

        def progress(name: str, done: int, total: int, part: str = part) -> None:
            _report(what=f"{name} ({part})", done=done, total=total)

        label(
            library,
            workspace.prompts(part),
            workspace.scores(part),
            mask_share=mask_share,
            progress=progress,
        )


def _report(**message: Any) -> None:
    # If the quickstart is gone, this write fails and ends the process; the last checkpoint stays.
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
