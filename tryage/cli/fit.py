"""The command `fit`: fits a router on a score table, or refits one on newer results."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from tryage.cli.options import AllowedModels, AsJson, Download, allowed_folders
from tryage.cli.output import guarded, note, print_json, say, waiting
from tryage.errors import RouterNotFoundError
from tryage.persistence import INDEX, check_output
from tryage.router import Router


@guarded
def fit(
    scores: Annotated[Path, typer.Argument(help="The score table.")],
    out: Annotated[Path, typer.Option(help="Folder of the router.")],
    library: Annotated[
        Path | None,
        typer.Option(
            help="The library's file: YAML, .jsonl or .parquet; by default the table's experts, of "
            "which only the names are known. With --update: by default the router's."
        ),
    ] = None,
    update: Annotated[
        Path | None,
        typer.Option(
            help="Newer results, such as feedback: refit the router in --out on both tables."
        ),
    ] = None,
    predictor: Annotated[
        str | None,
        typer.Option(
            help="Kind of predictor; auto (the default) chooses. With --update: unchanged."
        ),
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(
            help="static (the default), or a sentence-transformers id or folder. With --update: "
            "unchanged."
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Seed; the same one gives the same router.")
    ] = None,
    holdout: Annotated[
        float | None,
        typer.Option(
            help="Share of the prompts to judge the router by and not to fit it on, e.g. 0.2; by "
            "default it is judged by cross-validation.",
        ),
    ] = None,
    choose_on: Annotated[
        int | None,
        typer.Option(
            min=100,
            help="Most prompts that auto compares predictors on: of more it draws a sample, and "
            "fits on all what it chose. By default 20,000.",
        ),
    ] = None,
    keep_prompts: Annotated[
        bool,
        typer.Option(
            "--keep-prompts",
            help="Keep prompts and results in the router, so that `route --similar` shows them.",
        ),
    ] = False,
    keep_words: Annotated[
        bool, typer.Option("--keep-words", help="Store typical words of each kind of prompt.")
    ] = False,
    download: Download = False,
    allow_models: AllowedModels = None,
    as_json: AsJson = False,
) -> None:
    """Fit a router on a score table, or refit one on its table and newer results.

    Example: tryage fit scores.jsonl --library library.yaml --out my-router

    Example: tryage fit scores.jsonl --update feedback.jsonl --out my-router
    """
    from tryage.encoders import resolve_encoder
    from tryage.library import Library
    from tryage.scores import ScoreTable

    start = time.perf_counter()
    check_output(out)
    with waiting("reading"):
        table = ScoreTable.read(scores)
        newer = None if update is None else ScoreTable.read(update)
        experts = None if library is None else Library.read(library)
        loaded_encoder = None if encoder is None else resolve_encoder(encoder, download=download)
        older = None if update is None else _router_in(out, allow_models)
    # Lines in a log are for people; a bar is drawn on a terminal, beside JSON as well.
    progress = None if as_json else True
    with _nothing_saved(out):
        if older is not None and newer is not None:
            fitted = older.refit(
                table,
                newer,
                library=experts,
                predictor=predictor,
                encoder=loaded_encoder,
                seed=seed,
                holdout=holdout,
                choose_on=choose_on,
                progress=progress,
            )
        else:
            fitted = Router.fit(
                table,
                library=experts,
                predictor=predictor or "auto",
                encoder=loaded_encoder or "static",
                seed=seed or 0,
                holdout=holdout,
                keep_prompts=keep_prompts,
                keep_words=keep_words,
                choose_on=choose_on,
                progress=progress,
            )
    with waiting("saving"):
        fitted.save_pretrained(out)
    if experts is None and update is None:
        note(
            f"note: the library is the table's {len(fitted.library)} experts by name; sizes, "
            "prices and models come from a library file (--library)"
        )
    _print_fit(fitted, out, time.perf_counter() - start, as_json)


@contextlib.contextmanager
def _nothing_saved(out: Path) -> Iterator[None]:
    """Say of an interruption that nothing is saved yet."""
    try:
        yield
    except KeyboardInterrupt:
        state = "is as it was" if out.exists() else "was not made"
        raise KeyboardInterrupt(f"interrupted; {out} {state}") from None


def _print_fit(fitted: Router, out: Path, seconds: float, as_json: bool) -> None:
    kind, validation = fitted.provenance["predictor"], fitted.provenance["validation"]
    verdicts = fitted.verdicts
    choices = fitted.provenance.get("choice", {})
    if as_json:
        judged = {task: verdict.to_dict() for task, verdict in verdicts.items()}
        print_json(
            {
                "predictor": kind,
                "validation": _by_task(validation),
                "seconds": seconds,
                "verdict": _by_task(judged),
                "choice": _by_task(choices) if choices else None,
            }
        )
        return
    say(f"{fitted!r} saved in {out} after {seconds:.1f} s")
    for task, choice in choices.items():
        sample = choice.get("sample")
        on = "" if sample is None else f" on {sample['prompts']:,} of {sample['of']:,} prompts"
        say(f"{task}: auto chose {choice['chosen']}{on}{_network(choice)}")
    for task, row in validation.items():
        figures = [
            f"{k} {v:.4f}" for k, v in row.items() if isinstance(v, float) and k != "mean_cost"
        ]
        if row.get("mean_cost") is not None:
            figures.append(f"USD per 1,000 {1000 * row['mean_cost']:.4g}")
        say(f"{task}, cross-validated: {', '.join(figures)}")
    for task, verdict in verdicts.items():
        say(f"\n{verdict.table()}\n")
        say(verdict.sentence() if len(verdicts) == 1 else f"{task}: {verdict.sentence()}")


def _network(choice: dict[str, Any]) -> str:
    """Return what became of the network that `auto` may try; "" where an early router lacks it."""
    trial = choice.get("embedding-bag")
    if trial is None:
        return ""
    if not trial["tried"]:
        return f" (embedding-bag was not tried: {trial['reason']})"
    regret, quick = trial["regret"], trial["quick_regret"]
    return f" (regret on one fold: embedding-bag {regret:.4f}, the quick kinds {quick:.4f})"


def _by_task(rows: dict[str, Any]) -> dict[str, Any]:
    """Return the row of the only task, or all of them under "tasks"."""
    return next(iter(rows.values())) if len(rows) == 1 else {"tasks": rows}


def _router_in(out: Path, folders: list[str] | None) -> Router:
    """Return the router in a folder, never a bundled one of that name.

    Args:
        out: the folder.
        folders: those of ``--allow-models``.

    Raises:
        OptionError: one of `folders` is no folder.
        RouterNotFoundError: it holds none.
    """
    if not (out / INDEX).is_file():
        raise RouterNotFoundError(f"{str(out)!r} holds no router to update; fit it first")
    return Router.from_pretrained(out, folders=allowed_folders(folders))
