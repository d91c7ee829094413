"""The command `push`: publishes a router on the Hugging Face Hub."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from tryage import hub_routers
from tryage.cards import CardFacts, stated_terms
from tryage.cli.options import AllowedModels, AsJson, RouterArgument, load_router
from tryage.cli.output import guarded, print_json, say, waiting
from tryage.errors import OptionError
from tryage.paths import read_bytes, user_path
from tryage.persistence import CARD


@guarded
def push(
    router: RouterArgument,
    repository: Annotated[str, typer.Argument(metavar="ID", help="ACCOUNT/NAME on the Hub.")],
    private: Annotated[
        bool, typer.Option("--private", help="Only your accounts may see it.")
    ] = False,
    message: Annotated[str | None, typer.Option(help="Message of the commit.")] = None,
    card: Annotated[
        Path | None, typer.Option(help="A README.md of your own; by default one is written.")
    ] = None,
    terms: Annotated[
        str | None,
        typer.Option(help="Terms of the training data; by default those of the router's card."),
    ] = None,
    license: Annotated[
        str | None, typer.Option(help="Licence of the router, e.g. apache-2.0.")
    ] = None,
    dataset: Annotated[
        list[str] | None,
        typer.Option(help="Hub id of a data set it was fitted on; may be repeated."),
    ] = None,
    evaluation: Annotated[
        Path | None,
        typer.Option(help="What evaluate --json printed, for the figures of the card."),
    ] = None,
    evaluated_on: Annotated[
        str, typer.Option(help="Name of the table of --evaluation.")
    ] = "held-out table",
    local_models: Annotated[
        bool,
        typer.Option("--local-models", help="Publish although models lie on this machine only."),
    ] = False,
    training_prompts: Annotated[
        bool,
        typer.Option("--training-prompts", help="Publish the prompts or words that it keeps."),
    ] = False,
    allow_models: AllowedModels = None,
    as_json: AsJson = False,
) -> None:
    """Publish a router on the Hugging Face Hub; log in with `hf auth login`, or set HF_TOKEN.

    Example: tryage push my-router me/my-router --private
    """
    loaded = load_router(router, allow_models)
    card_facts = CardFacts(
        terms=terms or _terms_of(router),
        license=license,
        datasets=dataset or (),
        evaluation=_read_evaluation(evaluation),
        evaluated_on=evaluated_on,
    )
    with waiting(f"publishing {repository}"):
        pushed = loaded.push_to_hub(
            repository,
            private=private,
            message=message,
            card=None if card is None else read_bytes(card).decode("utf-8"),
            card_facts=card_facts,
            local_models=local_models,
            training_prompts=training_prompts,
        )
    if as_json:
        print_json(dataclasses.asdict(pushed))
    else:
        say(f"{pushed.files} files, {pushed.bytes / 1e6:.1f} MB: {pushed.url}")
        say(f'Router.from_pretrained("{pushed.id}", download=True) loads it')


def _terms_of(router: str) -> str:
    """Return the terms that the card of a router folder states."""
    folder = hub_routers.find(router)
    card = folder / CARD if isinstance(folder, Path) else None
    return stated_terms(card.read_text(encoding="utf-8")) if card and card.is_file() else ""


def _read_evaluation(path: Path | None) -> dict[str, Any] | None:
    if path is None:
        return None
    try:
        report = json.loads(read_bytes(user_path(path)))
        parts = report.get("tasks", {"": report}).values()
        is_report = all(isinstance(part["router"], dict) for part in parts)
    except (ValueError, RecursionError, AttributeError, LookupError, TypeError):
        is_report = False
    if not is_report:
        raise OptionError(f"--evaluation {str(path)!r} is not what evaluate --json prints")
    return dict(report)
