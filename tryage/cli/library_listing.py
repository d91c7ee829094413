"""What `library from-hub` does with a search: options, progress, and the account at the end."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.text import Text

from tryage.cli.output import note, print_json, say, waiting
from tryage.errors import missing_extra
from tryage.hub_library import Listing, list_library
from tryage.hub_search import RETRIES, TIMEOUT, HubPages, HubSearch
from tryage.progress import shown_progress

_EVERY = 30.0
"""Seconds between two lines of progress in a log."""


def write_listing(
    search: HubSearch,
    out: Path,
    *,
    name: str,
    limit: int | None,
    timeout: float | None,
    retries: int,
    as_json: bool,
) -> None:
    """List models of the Hub, write them as a library, and say what became of them.

    Args:
        search: which models.
        out: the library's file.
        name: of the library.
        limit: most experts.
        timeout: seconds that the Hub may take for a page.
        retries: how often a page is asked for again.
        as_json: print one JSON object.

    Raises:
        TryageError: as `list_library`.
    """
    policy = dataclasses.replace(RETRIES, retries=retries)
    try:
        pages = HubPages(timeout=timeout or TIMEOUT, retries=policy, waiting=note)
    except ImportError as error:
        raise missing_extra("hf", "listing models of the Hub") from error
    with _progress(limit) as progress:
        listing = list_library(
            search, pages, out, name=name, limit=limit, resumed=_say_resumed, progress=progress
        )
    if as_json:
        print_json(
            {
                "experts": listing.experts,
                "pages": listing.pages,
                "skipped": dict(listing.skipped),
                "without_task": listing.without_task,
                "out": str(out),
            }
        )
        return
    say(f"{listing.experts:,} experts of {listing.pages:,} pages written to {out}")
    for reason, count in listing.skipped.items():
        say(f"skipped {count:,}: {reason}")
    if listing.without_task:
        say(f"{listing.without_task:,} state no task and are taken for text-generation")


def _say_resumed(listing: Listing) -> None:
    note(f"going on after {listing.experts:,} experts of an interrupted run")


@contextlib.contextmanager
def _progress(limit: int | None) -> Iterator[Callable[[Listing], None]]:
    """Yield what shows how far a listing is; how long it is, the Hub does not say."""
    if limit is not None:
        with shown_progress(True, rate="experts/s") as advance:

            def bar(listing: Listing) -> None:
                if advance is not None:
                    advance("listing", min(listing.experts, limit), limit)

            yield bar
        return
    shown = time.monotonic()
    with waiting("listing") as status:

        def line(listing: Listing) -> None:
            nonlocal shown
            text = f"listing: {listing.experts:,} experts of {listing.pages:,} pages"
            status.update(Text(text))
            if not status.console.is_terminal and time.monotonic() - shown >= _EVERY:
                shown = time.monotonic()
                note(text)

        yield line
