"""Commands that learn: label, fit, evaluate, quickstart."""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from tryage.cli.checking import CheckRates, MaxAttempts, read_check
from tryage.cli.shared import (
    AllowedKeys,
    AllowedModels,
    AsJson,
    Download,
    ProgressLines,
    guarded,
    print_json,
    progress_bars,
    say,
    stderr,
)
from tryage.errors import OptionError, RouterNotFoundError
from tryage.evaluation.plans import plans_table
from tryage.persistence import INDEX, check_output
from tryage.plans import MAX_ATTEMPTS
from tryage.router import Router


@guarded
def label(
    library: Annotated[Path, typer.Option(help="The library's YAML file.")],
    prompts: Annotated[
        Path, typer.Option(help="Prompts: JSONL, Parquet, or a saved datasets.Dataset.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the score table; resumed if it is there.")],
    metric: Annotated[
        str | None,
        typer.Option(help="Score answers: contains, exact, f1 or number. Else likelihoods."),
    ] = None,
    sample: Annotated[int | None, typer.Option(min=1, help="Prompts to take at most.")] = None,
    stratify: Annotated[
        str | None, typer.Option(metavar="group|task", help="Take as many from each.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the sample.")] = 0,
    mask_share: Annotated[
        float, typer.Option(min=0.01, max=0.9, help="Share of words hidden from masked experts.")
    ] = 0.15,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Tokens of an answer at most.")] = 256,
    batch_tokens: Annotated[
        int, typer.Option(min=1, help="Tokens that go through a model at once; bounds memory.")
    ] = 2048,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Threads per model; with Ray, processes.")
    ] = None,
    engine: Annotated[str, typer.Option(metavar="local|ray", help="Where it runs.")] = "local",
    address: Annotated[
        str | None, typer.Option(help="Of a Ray cluster; else Ray starts here.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, mps or auto.")] = "cpu",
    download: Download = False,
    allow_key: AllowedKeys = None,
    allow_models: AllowedModels = None,
    as_json: AsJson = False,
) -> None:
    """Measure every expert of a library on every prompt: bits per byte, or scored answers.

    Example: tryage label --library library.yaml --prompts prompts.jsonl --out scores/
    """
    from tryage.labeling import label as measure
    from tryage.library import Library

    options: dict[str, Any] = {
        "metric": metric,
        "sample": sample,
        "stratify": stratify,
        "seed": seed,
        "mask_share": mask_share,
        "max_new_tokens": max_new_tokens,
        "batch_tokens": batch_tokens,
        "workers": workers,
        "engine": engine,
        "address": address,
        "device": device,
        "download": download,
        "keys": allow_key or (),
        "folders": allow_models or (),
    }
    read = Library.read(library)
    # Ray's own threads write what they think of into standard output.
    with contextlib.redirect_stdout(sys.stderr), progress_bars(rate="cells/s") as progress:
        bars: dict[str, Any] = {}
        lines = ProgressLines(rate="cells/s")

        def advance(expert: str, done: int, total: int) -> None:
            if not progress.console.is_terminal:
                lines.tell(expert, done, total)
                return
            if expert not in bars:
                bars[expert] = progress.add_task(expert, total=total, completed=done)
            progress.update(bars[expert], completed=done, total=total)

        summary = measure(read, prompts, out, progress=advance, **options)
    if as_json:
        print_json(summary.to_dict())
    else:
        say(str(summary))


@guarded
def fit(
    scores: Annotated[Path, typer.Argument(help="The score table.")],
    out: Annotated[Path, typer.Option(help="Folder of the router.")],
    library: Annotated[
        Path | None, typer.Option(help="The library's YAML file; with --update the router's.")
    ] = None,
    update: Annotated[
        Path | None,
        typer.Option(help="Newer results, such as feedback: fit the router in --out anew on both."),
    ] = None,
    predictor: Annotated[
        str | None,
        typer.Option(
            help="Kind of predictor; auto (the default) chooses. With --update: as it is."
        ),
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(
            help="static (the default), or a sentence-transformers id or folder. With --update: "
            "as it is."
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Makes fitting repeatable.")] = None,
    download: Download = False,
    as_json: AsJson = False,
) -> None:
    """Fit a router on a score table, or a router anew on its table and newer results.

    Example: tryage fit scores.jsonl --library library.yaml --out my-router

    Example: tryage fit scores.jsonl --update feedback.jsonl --out my-router
    """
    from tryage.encoders import resolve_encoder
    from tryage.library import Library
    from tryage.scores import ScoreTable

    start = time.perf_counter()
    check_output(out)
    with stderr().status("fitting"):
        table = ScoreTable.read(scores)
        known = None if library is None else Library.read(library)
        ready = None if encoder is None else resolve_encoder(encoder, download=download)
        if update is not None:
            fitted = _router_in(out).refit(
                table,
                ScoreTable.read(update),
                library=known,
                predictor=predictor,
                encoder=ready,
                seed=seed,
            )
        elif known is None:
            raise OptionError("--library is missing; without --update there is no router to ask")
        else:
            fitted = Router.fit(
                table,
                library=known,
                predictor=predictor or "auto",
                encoder=ready or "static",
                seed=seed or 0,
            )
        fitted.save_pretrained(out)
    _tell_fit(fitted, out, time.perf_counter() - start, as_json)


def _tell_fit(fitted: Router, out: Path, seconds: float, as_json: bool) -> None:
    kind, validation = fitted.provenance["predictor"], fitted.provenance["validation"]
    if len(validation) == 1:
        (validation,) = validation.values()
    else:
        validation = {"tasks": validation}
    if as_json:
        print_json({"predictor": kind, "validation": validation, "seconds": seconds})
        return
    say(f"{fitted!r} saved in {out} after {seconds:.1f} s")
    for task, choice in fitted.provenance.get("choice", {}).items():
        say(f"{task}: auto chose {choice['chosen']}")
    for task, row in fitted.provenance["validation"].items():
        figures = ", ".join(f"{k} {v:.4f}" for k, v in row.items() if isinstance(v, float))
        say(f"{task}, cross-validated: {figures}")


def _router_in(out: Path) -> Router:
    """Return the router in a folder, never a bundled one of that name.

    Raises:
        RouterNotFoundError: it holds none.
    """
    if not (out / INDEX).is_file():
        raise RouterNotFoundError(f"{str(out)!r} holds no router to update; fit it first")
    return Router.from_pretrained(out)


@guarded
def evaluate(
    router: Annotated[str, typer.Argument(help="A router folder, or a bundled name.")],
    scores: Annotated[Path, typer.Argument(help="A score table the router was not fitted on.")],
    train: Annotated[
        Path | None, typer.Option(help="The table it was fitted on, for the fitted references.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the bootstrap.")] = 0,
    check: CheckRates = None,
    max_attempts: MaxAttempts = MAX_ATTEMPTS,
    as_json: AsJson = False,
) -> None:
    """Compare a router's choices with measured results; warn where one expert takes nearly all.

    With --check the choices are plans: exact expected values of trying experts until the check
    accepts an answer.

    Example: tryage evaluate my-router test.jsonl --train scores.jsonl
    """
    from tryage.scores import ScoreTable

    loaded = Router.from_pretrained(router)
    table = ScoreTable.read(scores)
    known = None if train is None else ScoreTable.read(train)
    if check is not None:
        made = read_check(check, loaded)
        with stderr().status("evaluating"):
            figures = loaded.evaluate_plans(
                table, made, max_attempts=max_attempts, train=known, seed=seed
            )
        print_json(figures) if as_json else say(plans_table(figures))
        return
    with stderr().status("evaluating"):
        report = loaded.evaluate(table, train=known, seed=seed)
    if as_json:
        print_json(report.to_dict())
    else:
        say(report.table())


@guarded
def quickstart(
    out: Annotated[
        Path | None, typer.Option(help="Keep everything here instead of in the cache.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Train a small library on this machine, measure it, fit a router and use it.

    Example: tryage quickstart --out quickstart
    """
    from tryage.quickstart import run as start

    result = start(out, console=Console(stderr=as_json))
    if as_json:
        print_json(result)
