"""The command `distill`: trains a fast student on a slow router's predictions."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from tryage.cli.options import (
    AllowedModels,
    AsJson,
    RouterDownload,
    load_router,
)
from tryage.cli.output import guarded, print_json, say
from tryage.errors import OptionError
from tryage.persistence import check_output
from tryage.progress import shown_progress
from tryage.router import Router

_RATE = "prompts/s"


@guarded
def distill(
    router: Annotated[
        str,
        typer.Argument(
            metavar="TEACHER", help="The slow router: a folder, a bundled name, or a Hub id."
        ),
    ],
    prompts: Annotated[Path, typer.Argument(help="JSONL of prompts that nobody measured.")],
    out: Annotated[Path, typer.Option(help="Folder of the student's router.")],
    table: Annotated[
        Path | None,
        typer.Option(help="A score table of the same experts, to learn from measured results too."),
    ] = None,
    student: Annotated[
        str, typer.Option(help="Kind of the student's predictor.")
    ] = "embedding-bag",
    encoder: Annotated[
        str, typer.Option(help="The student's: static, or the folder of another static encoder.")
    ] = "static",
    seed: Annotated[int, typer.Option(min=0, help="Seed; the same one gives the same router.")] = 0,
    teacher_weight: Annotated[
        float | None,
        typer.Option(
            help="Weight of the teacher's prediction beside a measured value, 0 to 1; by default "
            "chosen on the held-out part of the table.",
        ),
    ] = None,
    holdout: Annotated[
        float,
        typer.Option(
            help="Share of the table's prompts that the student is judged by and does not learn "
            "from; 0 learns from all."
        ),
    ] = 0.2,
    predictions: Annotated[
        Path | None,
        typer.Option(
            help="File of the teacher's predictions, from which an interrupted run goes on; by "
            "default OUT.predictions.jsonl, which is removed at the end."
        ),
    ] = None,
    download: RouterDownload = False,
    allow_models: AllowedModels = None,
    as_json: AsJson = False,
) -> None:
    """Train a fast router on a slow router's predictions, and on measured results.

    Example: tryage distill my-teacher prompts.jsonl --table scores.jsonl --out my-router
    """
    from tryage.scores import ScoreTable

    start = time.perf_counter()
    check_output(out)
    teacher = load_router(router, allow_models, download=download)
    whole = out.resolve()  # "." has no name
    store = predictions or whole.with_name(f"{whole.name}.predictions.jsonl")
    if store.is_dir():
        raise OptionError(f"--predictions {str(store)!r} is a folder; name a file")
    results = None if table is None else ScoreTable.read(table)
    with shown_progress(True if not as_json else None, rate=_RATE) as progress:
        made = teacher.distill(
            prompts,
            results,
            student=student,
            encoder=encoder,
            seed=seed,
            teacher_weight=teacher_weight,
            holdout=holdout or None,
            predictions=store,
            progress=progress,
        )
    made.save_pretrained(out)
    if predictions is None:
        store.unlink(missing_ok=True)
    _print(made, out, time.perf_counter() - start, as_json)


def _print(made: Router, out: Path, seconds: float, as_json: bool) -> None:
    stated: Mapping[str, Any] = made.provenance["distilled"]
    if as_json:
        verdicts = {task: verdict.to_dict() for task, verdict in made.verdicts.items()}
        print_json(
            {
                "predictor": made.provenance["predictor"],
                "distilled": dict(stated),
                "validation": made.provenance["validation"],
                "verdicts": verdicts,
                "seconds": seconds,
            }
        )
        return
    say(f"{made!r} saved in {out} after {seconds:.1f} s")
    say("\n".join(made.summary().distilled()))
    for task, verdict in made.verdicts.items():
        say(f"\n{verdict.table()}\n")
        say(verdict.sentence() if len(made.verdicts) == 1 else f"{task}: {verdict.sentence()}")
