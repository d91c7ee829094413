"""The command `label`: measures every expert of a library on prompts."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from tryage.cli.options import AllowedKeys, AllowedModels, AsJson, Download, allowed_folders
from tryage.cli.output import guarded, print_json, say


@guarded
def label(
    library: Annotated[Path, typer.Option(help="The library's file: YAML, .jsonl or .parquet.")],
    prompts: Annotated[
        Path, typer.Option(help="Prompts: JSONL, Parquet, or a saved datasets.Dataset.")
    ],
    out: Annotated[
        Path, typer.Option(help="Folder of the score table; an unfinished one is resumed.")
    ],
    metric: Annotated[
        str | None,
        typer.Option(
            help="Score answers by contains, exact, f1 or number; by default likelihoods count."
        ),
    ] = None,
    sample: Annotated[int | None, typer.Option(min=1, help="Most prompts to measure.")] = None,
    stratify: Annotated[
        str | None, typer.Option(metavar="group|task", help="Sample equally from each.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the sample.")] = 0,
    mask_share: Annotated[
        float, typer.Option(min=0.01, max=0.9, help="Share of words hidden from fill-mask experts.")
    ] = 0.15,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Most tokens of an answer.")] = 256,
    keep_answers: Annotated[
        bool, typer.Option("--keep-answers", help="Keep the answers' texts, for tryage check.")
    ] = False,
    batch_tokens: Annotated[
        int, typer.Option(min=1, help="Most tokens of one batch; bounds memory.")
    ] = 2048,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Threads per model; with Ray, processes.")
    ] = None,
    engine: Annotated[
        str, typer.Option(metavar="local|ray", help="What runs the models.")
    ] = "local",
    address: Annotated[
        str | None, typer.Option(help="Address of a Ray cluster; by default Ray starts here.")
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
        "keep_answers": keep_answers,
        "batch_tokens": batch_tokens,
        "workers": workers,
        "engine": engine,
        "address": address,
        "device": device,
        "download": download,
        "keys": allow_key or (),
        "folders": allowed_folders(allow_models),
    }
    loaded = Library.read(library)
    # Ray's own threads write to standard output.
    with contextlib.redirect_stdout(sys.stderr):
        summary = measure(loaded, prompts, out, progress=True, **options)
    if as_json:
        print_json(summary.to_dict())
    else:
        say(str(summary))
