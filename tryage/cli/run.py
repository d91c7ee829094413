"""The command `run`: decides, and lets the chosen expert answer."""

from __future__ import annotations

from typing import Annotated

import typer

from tryage.cli.options import (
    AllowedKeys,
    AllowedModels,
    AsJson,
    Download,
    Excluded,
    GoalOptions,
    LimitOptions,
    RouterName,
    TaskName,
    load_router,
    read_goals,
)
from tryage.cli.output import guarded, print_json, say, text_of, waiting
from tryage.errors import OptionError


@guarded
def run(
    prompt: Annotated[
        str, typer.Argument(help="The prompt, with its flags; - reads standard input.")
    ],
    router: RouterName,
    goal: GoalOptions = None,
    limit: LimitOptions = None,
    exclude: Excluded = None,
    task: TaskName = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Most tokens of an answer.")] = 64,
    max_attempts: Annotated[
        int | None, typer.Option(min=1, help="Most experts to try; by default all eligible ones.")
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option(help="Seconds that one expert may take before the next is tried."),
    ] = None,
    total_timeout: Annotated[
        float | None, typer.Option(help="Seconds that all attempts may take together.")
    ] = None,
    download: Download = False,
    allow_key: AllowedKeys = None,
    allow_models: AllowedModels = None,
    as_json: AsJson = False,
) -> None:
    """Decide, and answer with the chosen expert: a Hugging Face pipeline, or its endpoint.

    Example: tryage run "The capital of France is [MASK]." --router my-router

    Example: tryage run "Hello" --router my-router --allow-key api.example.com=EXAMPLE_KEY
    """
    from tryage.dispatch import DispatchOptions, dispatch, record
    from tryage.runtime import Runtime

    try:
        options = DispatchOptions(
            max_attempts=max_attempts, timeout=timeout, total_timeout=total_timeout
        )
    except ValueError as error:
        raise OptionError(str(error)) from error
    prompt = text_of(prompt)
    loaded = load_router(router, allow_models, exclude, download=download)
    runtime = Runtime(
        loaded.library, download=download, keys=allow_key or (), folders=allow_models or ()
    )
    decision = loaded.route(prompt, goals=read_goals(goal, limit), task=task)
    # A missing model is an error of the user; failover is for models that fail.
    runtime.check(decision.expert)
    with waiting(f"{decision.expert} is answering"):
        outcome = dispatch(
            decision,
            lambda name: runtime.run(name, decision.prompt, max_new_tokens=max_new_tokens),
            options,
        )
    dispatched = record(decision, outcome)
    if as_json:
        answer = {"answer": outcome.value.text, "seconds": outcome.seconds}
        print_json(dispatched.to_dict() | answer)
    else:
        say(dispatched.explain())
        say("\n" + outcome.value.text)
