"""The command `flags`: shows what the flags of a prompt ask for."""

from __future__ import annotations

from typing import Annotated

import typer

from tryage.cli.options import AsJson
from tryage.cli.output import guarded, print_json, say, text_of
from tryage.errors import PromptError


@guarded
def flags(
    prompt: Annotated[str, typer.Argument(help="A prompt with flags; - reads standard input.")],
    as_json: AsJson = False,
) -> None:
    """Show what the flags of a prompt ask for.

    Example: tryage flags "Sum this up. [Flag: smallest model]"
    """
    from tryage.flags import parse

    prompt = text_of(prompt)
    parsed = parse(prompt)
    if not prompt.strip():
        raise PromptError("the prompt is empty; there are no flags to read")
    if as_json:
        limits: dict[str, str] = {}
        for limit in parsed.limits:
            earlier = limits.get(limit.attribute)
            limits[limit.attribute] = (
                f"{earlier}, {limit.condition}" if earlier else limit.condition
            )
        print_json(
            {
                "prompt": parsed.prompt,
                "weights": dict(parsed.weights),
                "limits": limits,
                "unknown": list(parsed.unknown),
            }
        )
        return
    say(f"prompt: {parsed.prompt}")
    for directive in parsed.echo:
        say(f"flag: {directive}")
    for word in parsed.unknown:
        say(f"unknown: {word}")
