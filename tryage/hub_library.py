"""Libraries from a listing of the Hub, which may be interrupted and taken up again."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tryage.errors import HubAccessError, LibraryError, OptionError, OutputFolderError
from tryage.files import write_text
from tryage.hub import HubError
from tryage.hub_entries import EntryError, expert_of_entry
from tryage.hub_search import PAGE, HubPages, HubSearch
from tryage.json_lines import json_lines
from tryage.library_lines import SUFFIXES, write_rows
from tryage.library_rows import yaml_of
from tryage.parquet_files import import_pyarrow
from tryage.resumable import ResumableOutput

LISTED = ".listed"
"""Added to the name of a library: the file beside it that holds the experts listed so far."""

_MOST_REPEATED_PAGES = 10
"""Pages in a row without a new model, after which a listing leads nowhere."""


@dataclass
class Listing:
    """What was listed so far.

    Attributes:
        experts: how many.
        pages: how many were fetched.
        skipped: reason → entries that became no expert.
        without_task: experts that state no task, which are taken for text generation.
        following: query of the next page; None at the end.
        elsewhere: the address to which the last page sends, where that is not the Hub's.
        is_whole: whether everything was listed, and only the library had to be written.
    """

    experts: int = 0
    pages: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    without_task: int = 0
    following: str | None = None
    elsewhere: str | None = None
    is_whole: bool = False


def list_library(
    search: HubSearch,
    pages: HubPages,
    out: Path,
    *,
    name: str = "library",
    limit: int | None = None,
    resumed: Callable[[Listing], None] | None = None,
    progress: Callable[[Listing], None] | None = None,
) -> Listing:
    """Write a library of the models that a search of the Hub lists.

    The experts are collected in a file beside the library, with a note of the next page; a run
    that was interrupted goes on from there. The library appears whole or not at all.

    Args:
        search: which models.
        pages: fetches them.
        out: the library's file; its ending says the format.
        name: of a library in YAML.
        limit: most experts; None takes all.
        resumed: called where an interrupted run is taken up again.
        progress: called after each page.

    Raises:
        HubAccessError: the Hub cannot be reached, refuses, or sends to another host.
        LibraryError: no model matches, or they are too many for YAML.
        OptionError: an unfinished run had another search, or another process is at it.
        OutputFolderError: the library's file exists.
        MissingExtraError: Parquet without pyarrow.
    """
    if out.suffix.lower() == ".parquet":
        import_pyarrow("writing a library as Parquet")
    listed = out.with_name(out.name + LISTED)
    options = {
        "HF_ENDPOINT": pages.endpoint,
        "--search": search.search,
        "--task": search.task,
        "--author": search.author,
        "--tag": list(search.tags),
        "--sort": search.sort,
    }
    output = ResumableOutput(listed, options)
    with _locked(listed), contextlib.closing(output):
        listing = _resumed(output.resume())
        if out.exists():
            if listing is None or not listing.is_whole:
                raise OutputFolderError(f"{str(out)!r} exists; name a new file")
            # Killed between its last two steps.
            _remove(output)
            return listing
        if listing is None:
            listing = Listing(following=search.query(min(limit or PAGE, PAGE)))
        elif resumed is not None:
            resumed(listing)
        names = {row["name"] for row in _rows(listed, listing.experts)}
        try:
            _collect(search, pages, output, listing, names, limit, progress)
        except HubError as error:
            raise HubAccessError(_interruption(error, listing, output)) from error
        listing.experts = min(listing.experts, limit or listing.experts)
        if listing.experts == 0:
            _remove(output)
            raise LibraryError(_none(listing))
        listing.is_whole = True
        output.append(b"", _state(listing))
        output.close()
        try:
            _write(out, name, list(_rows(listed, listing.experts)))
        except LibraryError as error:
            raise LibraryError(
                f"{error}. What was listed is in {listed}, which is such a library: rename it to "
                f"one that ends in .jsonl, and remove {output.note}"
            ) from error
        _remove(output)
    return listing


def _write(out: Path, name: str, rows: list[dict[str, Any]]) -> None:
    if out.suffix.lower() in SUFFIXES:
        write_rows(out, rows)
    else:
        write_text(out, yaml_of({"name": name, "experts": rows}, str(out)))


def _remove(output: ResumableOutput) -> None:
    """Remove what was collected, which the library holds now."""
    output.finish()
    output.path.unlink(missing_ok=True)


def _collect(
    search: HubSearch,
    pages: HubPages,
    output: ResumableOutput,
    listing: Listing,
    names: set[str],
    limit: int | None,
    progress: Callable[[Listing], None] | None,
) -> None:
    """Fetch pages until the end or the limit, and append the experts of each."""
    repeated = 0
    while limit is None or listing.experts < limit:
        if listing.elsewhere is not None:
            raise HubError(
                f"its next page is said to be at {listing.elsewhere}, which is not this Hub's "
                f"listing, {pages.endpoint}/api/models, so it is not asked for. "
                f"--limit {max(1, listing.experts)} writes what was listed before"
            )
        if listing.following is None:
            return
        query = listing.following
        page = pages.page(query)
        before = listing.experts
        lines = [json.dumps(row) + "\n" for row in _new_rows(page.entries, search, listing, names)]
        listing.pages += 1
        listing.experts += len(lines)
        listing.following, listing.elsewhere = page.following, page.elsewhere
        output.append("".join(lines).encode(), _state(listing))
        if progress is not None:
            progress(listing)
        repeated = 0 if listing.experts > before else repeated + 1
        if page.following == query or repeated == _MOST_REPEATED_PAGES:
            raise HubError("its listing leads back to models that were listed before")


def _new_rows(
    entries: list[Any], search: HubSearch, listing: Listing, names: set[str]
) -> Iterator[dict[str, Any]]:
    for entry in entries:
        try:
            expert, has_task = expert_of_entry(entry, search.task)
        except EntryError as reason:
            listing.skipped[str(reason)] += 1
            continue
        if expert.name in names:
            listing.skipped["listed before"] += 1
            continue
        names.add(expert.name)
        listing.without_task += not has_task
        yield expert.model_dump(mode="json", exclude_none=True, exclude_defaults=True)


def _rows(listed: Path, count: int) -> Iterator[dict[str, Any]]:
    """Yield as many experts; what a killed run wrote after its last note comes behind them."""
    if count == 0:
        return
    with listed.open("rb") as file:
        for _, row in json_lines(itertools.islice(file, count)):
            yield row


def _state(listing: Listing) -> dict[str, Any]:
    return {**vars(listing), "skipped": dict(listing.skipped)}


def _resumed(state: dict[str, Any] | None) -> Listing | None:
    if state is None:
        return None
    return Listing(**{**state, "skipped": Counter(state["skipped"])})


def _interruption(error: HubError, listing: Listing, output: ResumableOutput) -> str:
    if listing.pages == 0:
        return f"models could not be listed: {error}"
    return (
        f"listing stopped after {listing.experts:,} experts: {error}. They are kept in "
        f"{output.path}: repeat the command to go on, or remove {output.note} to begin anew"
    )


def _none(listing: Listing) -> str:
    skipped = ", ".join(f"{count:,} {reason}" for reason, count in listing.skipped.items())
    return "the Hub lists no model for this search" + (f"; skipped: {skipped}" if skipped else "")


@contextlib.contextmanager
def _locked(listed: Path) -> Iterator[None]:
    """Keep other processes from listing into the same file."""
    from filelock import lock_descriptor

    path = listed.with_name(listed.name + ".lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        is_locked = True
        with contextlib.suppress(OSError):  # some network file systems have no locks
            is_locked = lock_descriptor(handle, blocking=False)
        if not is_locked:
            raise OptionError(f"another process lists models into {listed}; wait for it")
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
    finally:
        os.close(handle)
