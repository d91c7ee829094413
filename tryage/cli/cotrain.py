"""The command `cotrain`: trains a router and its experts together on a stream of prompts."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tryage.cli.options import AllowedModels, AsJson, Download, RouterArgument, allowed_folders
from tryage.cli.output import guarded, print_json, say

if TYPE_CHECKING:
    from tryage.cotraining import Round


@guarded
def cotrain(
    router: RouterArgument,
    prompts: Annotated[
        Path, typer.Option(help="The stream: JSONL, Parquet, or a saved datasets.Dataset.")
    ],
    out: Annotated[
        Path, typer.Option(help="Folder of routers and experts; an unfinished one is continued.")
    ],
    rounds: Annotated[int, typer.Option(min=1, help="How many rounds.")] = 5,
    task: Annotated[
        str | None, typer.Option(help="Task of the experts; by default the router's only one.")
    ] = None,
    mode: Annotated[
        str, typer.Option(metavar="rounds|joint", help="One expert after another, or by gradient.")
    ] = "rounds",
    assign: Annotated[
        str,
        typer.Option(metavar="router|random|frozen", help="Who assigns prompts to experts."),
    ] = "router",
    held_out: Annotated[
        Path | None,
        typer.Option(help="Prompts that are only measured; by default a fifth of the stream."),
    ] = None,
    explore: Annotated[
        float, typer.Option(help="Share of prompts that go to another expert.")
    ] = 0.1,
    min_share: Annotated[float, typer.Option(help="Least share of an expert in a round.")] = 0.05,
    max_share: Annotated[float, typer.Option(help="Largest share of an expert in a round.")] = 0.8,
    max_rise: Annotated[
        float,
        typer.Option(help="Roll back an update that raises a group's loss by more than this."),
    ] = 0.05,
    per_round: Annotated[
        int | None, typer.Option(min=1, help="Prompts in a round; by default all of them.")
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over an expert's prompts.")] = 1,
    max_steps: Annotated[
        int | None, typer.Option(min=1, help="Most steps of an expert in a round.")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Texts in a step.")] = 8,
    learning_rate: Annotated[float, typer.Option(help="Highest learning rate.")] = 1e-4,
    lora_rank: Annotated[
        int | None,
        typer.Option(min=1, help="Train LoRA matrices of this rank instead of all weights."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything random.")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda, mps or auto.")] = "cpu",
    download: Download = False,
    allow_models: AllowedModels = None,
    as_json: AsJson = False,
) -> None:
    """Train a router and its experts together on unlabelled prompts, round by round.

    With --json one object a round is printed, as it is finished.

    Example: tryage cotrain my-router --prompts stream.jsonl --out cotrained --rounds 5
    """
    from tryage.cotraining import CotrainingOptions
    from tryage.cotraining import cotrain as train

    choices: dict[str, Any] = {"mode": mode, "assign": assign}
    options = CotrainingOptions(
        rounds=rounds,
        task=task,
        explore=explore,
        min_share=min_share,
        max_share=max_share,
        max_rise=max_rise,
        per_round=per_round,
        epochs=epochs,
        max_steps=max_steps,
        batch=batch,
        learning_rate=learning_rate,
        lora_rank=lora_rank,
        seed=seed,
        device=device,
        **choices,
    )

    def show(one: Round) -> None:
        with contextlib.redirect_stdout(standard_output):
            if as_json:
                print_json(one.to_dict())
            else:
                say(_line(one))

    standard_output = sys.stdout
    # What models and their libraries print goes to standard error.
    with contextlib.redirect_stdout(sys.stderr):
        run = train(
            router,
            prompts,
            out,
            options,
            held_out=held_out,
            folders=allowed_folders(allow_models),
            download=download,
            on_round=show,
            progress=True,
        )
    if not as_json:
        say(str(run))


def _line(one: Round) -> str:
    """One round for people."""
    shares = ", ".join(f"{name} {share:.0%}" for name, share in one.shares.items())
    lines = [
        f"round {one.round}: routed held-out loss {one.held_out_loss:.4f} bits per byte, best "
        f"single expert {one.single_loss:.4f}; {shares}"
    ]
    lines += [f"  {name} was rolled back: {reason}" for name, reason in one.reasons.items()]
    return "\n".join(lines)
