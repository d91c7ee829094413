"""The command `library show`: a page of a library's experts, or the names of those that match."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from typing import Annotated

import typer

from tryage.cli.options import AsJson, LibraryFile
from tryage.cli.output import guarded, note, print_json, print_table, write_out
from tryage.drawing.beginnings import visible
from tryage.errors import OptionError
from tryage.experts import Expert
from tryage.library import Library
from tryage.limits import ATTRIBUTES, ON_GOALS, Limit, parse_limits

ROWS = 50
"""Experts on a page, where `--limit` does not say otherwise."""


@guarded
def show(
    library: LibraryFile,
    search: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="Only experts whose name or model holds this text."),
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LIMIT",
            help="Only experts that keep this limit, e.g. 'size<1e9'; may be repeated.",
        ),
    ] = None,
    task: Annotated[
        str | None, typer.Option(help="Only experts of this Transformers task.")
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            min=1, help=f"Most experts shown; by default {ROWS} on a terminal, elsewhere all."
        ),
    ] = None,
    page: Annotated[
        int | None, typer.Option(min=1, help="Which page of that many, counted from 1.")
    ] = None,
    table: Annotated[
        bool, typer.Option("--table", help="Draw the table where output is piped, too.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List a library's experts: what they are, and to which endpoint their prompts and keys go.

    A terminal shows a table, page by page. Piped, each line is the whole name of one expert;
    `--json` prints the experts that match as a library.

    Example: tryage library show library.yaml --where "size<1e9" --search llama
    """
    if as_json and table:
        raise OptionError("--json and --table exclude each other; keep one")
    is_drawn = table or (sys.stdout.isatty() and not as_json)
    loaded = Library.read(library)
    experts, unstated = _matching(loaded, search, _limits(where or ()), task)
    for attribute, count in unstated.items():
        note(f"{count:,} of {len(loaded):,} experts state no {attribute} and are left out")
    if limit is None and (page is not None or is_drawn):
        limit = ROWS
    shown = _page(experts, limit, page or 1)
    if as_json:
        rows = Library(shown).to_dict()["experts"] if shown else []
        print_json({"name": loaded.name, "experts": rows})
    elif is_drawn and shown:
        _print_experts(shown)
    else:
        # A name with a line break in it must not pass for two.
        write_out(visible(expert.name).replace("\n", "\\n") + "\n" for expert in shown)
    if len(shown) < len(experts) or (is_drawn and len(experts) < len(loaded)) or not experts:
        note(_summary(len(loaded), len(experts), len(shown), limit, page or 1))


def _limits(texts: Sequence[str]) -> tuple[Limit, ...]:
    limits = parse_limits(texts)
    for limit in limits:
        if limit.attribute in ON_GOALS:
            stated = ", ".join(name for name in ATTRIBUTES if name not in ON_GOALS)
            raise OptionError(
                f"--where {str(limit)!r}: the {limit.attribute} differs from prompt to prompt, so "
                f"no library states it; filter by {stated}"
            )
    return limits


def _matching(
    library: Library, search: str | None, limits: Sequence[Limit], task: str | None
) -> tuple[list[Expert], Counter[str]]:
    """Return the experts that match, and how many are left out for want of each attribute."""
    text = (search or "").lower()
    unstated: Counter[str] = Counter()
    experts = []
    for expert in library:
        if task is not None and expert.task != task:
            continue
        if text and text not in expert.name.lower() and text not in expert.model.lower():
            continue
        if _keeps(expert, limits, unstated):
            experts.append(expert)
    return experts, unstated


def _keeps(expert: Expert, limits: Sequence[Limit], unstated: Counter[str]) -> bool:
    for limit in limits:
        if ATTRIBUTES[limit.attribute].read(expert) is None:
            unstated[limit.attribute] += 1
            return False
        if limit.reason_against(expert) is not None:
            return False
    return True


def _page(experts: Sequence[Expert], limit: int | None, page: int) -> Sequence[Expert]:
    if limit is None:
        return experts
    pages = max(1, -(-len(experts) // limit))
    if page > pages:
        raise OptionError(
            f"--page {page}: the last page is {pages}, with {limit} of {len(experts):,} experts "
            "on each"
        )
    return experts[(page - 1) * limit : page * limit]


def _summary(total: int, matching: int, shown: int, limit: int | None, page: int) -> str:
    """Return what is shown, what is left out, and how to see it."""
    among = "" if matching == total else f" that match, of {total:,}"
    if matching == 0:
        return f"none of {total:,} experts matches"
    if limit is None or shown == matching:
        return f"{matching:,} experts{among}"
    first = (page - 1) * limit + 1
    last = first + shown - 1
    ways = [f"--page {page + 1} shows the next"] if last < matching else []
    ways.append(f"--limit {matching} shows all")
    which = f"expert {first:,}" if first == last else f"experts {first:,} to {last:,}"
    return f"{which} of {matching:,}{among}; {', '.join(ways)}"


def _print_experts(experts: Sequence[Expert]) -> None:
    from tryage.units import format_count

    served = any(expert.endpoint for expert in experts)
    columns = ["expert", "task", "model", "parameters", "released", "license"]
    rows = []
    for expert in experts:
        size = "" if expert.parameters is None else format_count(expert.parameters)
        row = [expert.name, expert.task, expert.model, size, str(expert.released or "")]
        row.append(expert.license or "")
        if served and expert.endpoint:
            key = expert.endpoint.key_env
            row.append(f"{expert.endpoint.url}, key {key}" if key else expert.endpoint.url)
        elif served:
            row.append("")
        rows.append([visible(value) for value in row])
    print_table([*columns, *["endpoint"] * served], rows)
