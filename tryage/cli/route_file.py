"""Routes a file of prompts block by block, and goes on after an interruption."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tryage.cli.output import note, write_out
from tryage.cli.route_engines import Engine, Source
from tryage.cli.route_lines import Block, Order
from tryage.cli.summary import Tally
from tryage.errors import OptionError, PromptError
from tryage.paths import STANDARD
from tryage.progress import shown_progress
from tryage.prompts import PromptRecord, read_prompts
from tryage.resumable import MARK, ResumableOutput
from tryage.router import Router

BLOCK = 1024
"""Prompts that are decided, and written, at once."""


def route_file(
    source: Source,
    prompts: Path,
    target: Path | None,
    order: Order,
    engine: Engine = Engine(),  # noqa: B008 - immutable
) -> None:
    """Route a file of prompts and write a line for each, in the file's order.

    Args:
        source: of the router.
        prompts: the file, or ``-``.
        target: a file, which grows block by block and is taken up again after an interruption;
            None and ``-`` are standard output, and pipes and devices are only written to.
        order: goals and task of every prompt, and the form of its line.
        engine: what decides.

    Raises:
        PromptError: a line is wrong, or there is none.
        OptionError: the output is the input, or belongs to another run; or there is no such
            engine.
        MissingExtraError: Ray is not installed.
    """
    engine.check()
    if engine.name == "ray" and target in (None, STANDARD):
        raise OptionError(
            "Ray may write to standard output itself, so --engine ray needs a file for the "
            "decisions; name it with --output"
        )
    router = source.load()
    output = _output(router, prompts, target, order)
    begun = output.resume()
    records = read_prompts(prompts)
    digest = hashlib.sha256()
    tally = None if begun is None else Tally.from_dict(begun["tally"])
    if tally is not None and begun is not None:
        for record in itertools.islice(records, tally.prompts):
            _add(digest, record)
        if digest.hexdigest() != begun["digest"]:
            raise OptionError(
                f"{target} holds decisions of {tally.prompts:,} prompts, which are not those that "
                f"{prompts} begins with; restore these, or remove {target}{MARK} to begin anew"
            )
        note(f"{target} holds {tally.prompts:,} decisions of an interrupted run; going on")
    total = _count(prompts)
    with (
        contextlib.closing(output),
        shown_progress(None, rate="prompts/s") as advance,
        engine.deciding(source, router, order) as decided,
    ):
        for block, (text, part) in decided(_blocks(records)):
            for record in block:
                _add(digest, record)
            tally = part if tally is None else tally.plus(part)
            output.append(text.encode(), {"digest": digest.hexdigest(), "tally": tally.to_dict()})
            if advance is not None and total is not None:
                advance("routing", min(tally.prompts, total), total)
        if tally is None:
            raise PromptError(f"{prompts}: there are no prompts to route")
        output.finish()
    scored = router.provenance.get("kind") == "scores"
    best = router.provenance.get("among_best", {})
    among_best = {name: share for shares in best.values() for name, share in shares.items()}
    note(tally.summary(router.library.names, scored=scored, among_best=among_best))


class _Stream:
    """Standard output, a pipe or a device, which cannot be taken up again."""

    def __init__(self, path: Path | None) -> None:
        self._file = None if path is None else path.open("wb")

    def resume(self) -> None:
        """Return None: nothing was begun."""

    def append(self, block: bytes, _state: Any) -> None:
        """Write a block."""
        if self._file is None:
            write_out([block.decode()])
        else:
            self._file.write(block)
            self._file.flush()

    def finish(self) -> None:
        """Do nothing: all is written."""

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


def _output(
    router: Router, prompts: Path, target: Path | None, order: Order
) -> ResumableOutput | _Stream:
    if target is None or target == STANDARD:
        return _Stream(None)
    if prompts != STANDARD and prompts.exists() and target.exists() and prompts.samefile(target):
        raise OptionError(f"--input and --output are one file, {target}; write to another one")
    if target.exists() and not target.is_file():
        return _Stream(target)
    goals = order.goals
    limits = {} if goals is None else {str(limit): limit.exact for limit in goals.limits}
    options = {
        "--router": _digest(router),
        "--goal": {} if goals is None else dict(goals.weights),
        "--limit": sorted(limits.values()),
        "--task": order.task,
        "--top": order.top,
    }
    return ResumableOutput(target, options)


def _digest(router: Router) -> str:
    """Return what tells one router from another, in hex."""
    parts = [
        router.library.to_dict(),
        router.objective.to_dict(),
        router.policy.to_dict(),
        dict(router.objective.unavailable),
        router.provenance,
    ]
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _add(digest: Any, record: PromptRecord) -> None:
    """Add to a hash what a decision depends on."""
    text = "\0".join((record.id, record.task or "", record.prompt, ""))
    digest.update(text.encode("utf-8", "surrogatepass"))


def _blocks(records: Iterable[PromptRecord]) -> Iterator[Block]:
    records = iter(records)
    while block := list(itertools.islice(records, BLOCK)):
        yield block


def _count(prompts: Path) -> int | None:
    """Return the lines of a plain JSONL file that are not blank; None of anything else."""
    if not prompts.is_file() or prompts.suffix.lower() == ".parquet":
        return None
    with prompts.open("rb") as file:
        return sum(1 for line in file if line.strip())
