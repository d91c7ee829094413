"""`cotrain`: the arguments of a co-training, checked and put together."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tryage.cotraining.fine_tuning import check_lora
from tryage.cotraining.folder import CotrainingFolder, check
from tryage.cotraining.joint import JointRounds
from tryage.cotraining.options import CotrainingOptions, Mode
from tryage.cotraining.parts import Parts, split
from tryage.cotraining.results import CotrainingRun
from tryage.cotraining.rounds import OnRound, Rounds
from tryage.errors import ExpertError, OptionError, TaskError
from tryage.experts import FILL_MASK, TEXT_GENERATION
from tryage.folders import Folders
from tryage.labeling.fingerprints import fingerprint
from tryage.paths import user_path
from tryage.progress import Progress, shown_progress
from tryage.prompts import Prompts
from tryage.router import Router
from tryage.runtime import Runtime

_MODES: Mapping[Mode, type[Rounds]] = {"rounds": Rounds, "joint": JointRounds}


def cotrain(
    router: Router | str | Path,
    prompts: Prompts,
    out: str | Path,
    options: CotrainingOptions | None = None,
    *,
    held_out: Prompts | None = None,
    folders: Folders = (),
    download: bool = False,
    on_round: OnRound | None = None,
    progress: Progress | bool | None = None,
) -> CotrainingRun:
    """Train a router and its experts together on a stream of unlabelled prompts.

    Each round assigns the prompts, trains each expert on its own, measures all experts again on a
    labelling sample, and refits the router on that. A run that was interrupted, even by
    ``kill -9``, is continued by the same call, with the same result; only the expert at work is
    trained again. The starting router and the folders of its experts are never changed.

    Args:
        router: the starting router, or its folder or name. The models of its experts of one task
            are folders of Hugging Face models, causal or masked.
        prompts: what `tryage.labeling.label` takes; ``group`` is only used to judge and to show
            results, unless groups assign.
        out: folder to create or to continue. Afterwards ``router/`` and ``experts/NAME/`` hold the
            last round's.
        options: how; see there.
        held_out: prompts that are only measured; by default a share of `prompts`.
        folders: folders outside a library's own whose models it may use.
        download: whether Hub models that are not in the local cache may be fetched.
        on_round: called with each round's figures, those of earlier calls too.
        progress: called with the work at hand, units done and all units. By default bars are drawn
            where standard error is a terminal; True also prints lines, False shows nothing.

    Raises:
        PromptError: a prompt is wrong, or there are too few.
        OptionError: the router has several tasks and none is named, or not the one named.
        ExpertError: an expert cannot be trained, or not be measured before training. One that fails
            later stays as it was, and the others go on.
        OutputFolderError: `out` holds something else, or was begun in another way.
        OSError: `out` cannot be written; what was finished stays.
        MissingExtraError: torch, transformers or, for LoRA, peft is not installed.
    """
    options = options or CotrainingOptions()
    folder = CotrainingFolder(user_path(out))
    check(folder.folder)
    check_lora(options)
    start = (
        router if isinstance(router, Router) else Router.from_pretrained(router, folders=folders)
    )
    task = _task(start, options)
    sources = _sources(start, task, folders=folders, download=download)
    places = {f"model of expert {name!r}": path for name, path in sources.items()}
    if not isinstance(router, Router) and user_path(router).is_dir():
        places["starting router"] = user_path(router)
    _check_place(folder.folder, places)
    parts = split(prompts, task, options, held_out)
    prints = {
        "prompts": parts.fingerprint,
        "router": _router_fingerprint(start, task, parts),
        **{f"expert {name}": fingerprint(path) for name, path in sources.items()},
    }
    folder.open(options, prints)
    with folder.locked(), shown_progress(progress, rate="steps/s") as advance:
        rounds = _MODES[options.mode](
            folder, start, sources, task, parts, options, folders=folders, progress=advance
        ).run(on_round)
    return CotrainingRun(folder.folder, tuple(rounds))


def _check_place(out: Path, places: Mapping[str, Path]) -> None:
    """Refuse to write into the folder of the starting router or of a starting model."""
    for what, path in places.items():
        if out.resolve().is_relative_to(path.resolve()):
            raise OptionError(
                f"out is {str(out)!r}, in the folder {str(path)!r} of the {what}, which stays as "
                "it is; give another folder"
            )


def _task(router: Router, options: CotrainingOptions) -> str:
    if options.task is None and len(router.tasks) > 1:
        raise OptionError(
            f"the router has the tasks {', '.join(router.tasks)}; name the one to train in task"
        )
    task = options.task or router.tasks[0]
    if task not in router.tasks:
        raise OptionError(f"task is {task!r}; the router has {', '.join(router.tasks)}")
    if task not in (TEXT_GENERATION, FILL_MASK):
        raise TaskError(
            f"the router's task is {task!r}; experts are trained for {TEXT_GENERATION} and "
            f"{FILL_MASK}"
        )
    return task


def _sources(router: Router, task: str, *, folders: Folders, download: bool) -> dict[str, Path]:
    """Return the folder of each expert's model.

    Raises:
        ExpertError: an expert has no local weights.
        OptionError: there is one expert only.
    """
    runtime = Runtime(router.library, folders=folders, download=download)
    sources: dict[str, Path] = {}
    for expert in router.library.of_task(task):
        if expert.endpoint is not None:
            raise ExpertError(
                f"expert {expert.name!r} is served at an endpoint, so its weights cannot be "
                f"trained; take a router without it (router.without({expert.name!r}))"
            )
        path = runtime.check(expert.name)
        if path is not None:
            sources[expert.name] = path
    if len(sources) < 2:
        raise OptionError(f"the router has one expert of {task!r}; co-training needs two or more")
    return sources


def _router_fingerprint(router: Router, task: str, parts: Parts) -> str:
    """Return a SHA-256 of the router's predictions, rounded so that machines agree."""
    losses = router.predict([row.prompt for row in parts.labelled[:64]], task=task)
    return hashlib.sha256(json.dumps(np.round(losses, 6).tolist()).encode()).hexdigest()
