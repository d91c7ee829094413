"""A log of decisions: one JSON line each, in a file or through `logging`, without prompts.

The logger ``tryage.decisions`` gets every decision at level INFO. It is off until its own level is
set, whatever the level of the root logger::

    logging.getLogger("tryage.decisions").setLevel(logging.INFO)
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tryage.appending import append
from tryage.decision import Decision
from tryage.errors import OptionError
from tryage.paths import check_writable, user_path

LOGGER = logging.getLogger("tryage.decisions")
if LOGGER.level == logging.NOTSET:
    LOGGER.setLevel(logging.WARNING)

TOP = 5
"""Experts of the ranking in a line."""

_TIMEOUT = 0.2
"""Most seconds that an answer waits for another process which writes to the log."""


class DecisionLog:
    """A file that gets one line for each decision; safe from many threads and processes.

    A line that cannot be written is lost, and the logger ``tryage.decisions`` warns once: no
    answer fails for the log's sake.

    Args:
        path: the file; it is made at the first decision.
        prompts: write the prompts' texts as well.

    Raises:
        OptionError: it is no file that may be written.
    """

    def __init__(self, path: str | Path, *, prompts: bool = False) -> None:
        self.path, self.prompts = user_path(path), prompts
        self._failed = False
        try:
            check_writable(self.path)
        except OSError as error:
            raise OptionError(
                f"decisions cannot be logged in {str(path)!r}: {error.filename}: {error.strerror}"
            ) from error

    def __repr__(self) -> str:
        return f"DecisionLog({str(self.path)!r}, prompts={self.prompts})"

    def write(self, decisions: Sequence[Decision]) -> None:
        """Append a line for each decision."""
        lines = [_line(decision, prompt=self.prompts) + "\n" for decision in decisions]
        data = "".join(lines).encode("utf-8", "backslashreplace")
        try:
            append(self.path, data, timeout=_TIMEOUT)
        except OSError as error:
            if not self._failed:
                self._failed = True
                LOGGER.warning(
                    "%s: decisions are not logged: %s (this is said once)",
                    self.path,
                    error.strerror or error,
                )


def log_decisions(log: DecisionLog | None, decisions: Sequence[Decision]) -> None:
    """Write decisions to a router's log, and to the logger where it is on."""
    if log is not None and decisions:
        log.write(decisions)
    if LOGGER.isEnabledFor(logging.INFO):
        for decision in decisions:
            LOGGER.info("%s", _line(decision, prompt=False))


def decision_line(decision: Decision) -> dict[str, Any]:
    """Return what the line of a decision holds: time (UTC) and the keys of ``tryage route``."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {"time": now, **decision.to_dict(TOP)}


def _line(decision: Decision, *, prompt: bool) -> str:
    entry = decision_line(decision)
    if prompt:
        entry["prompt"] = decision.prompt
    return json.dumps(entry, ensure_ascii=False)
