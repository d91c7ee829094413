"""Flags that were taken off the user's text before it went into a template, on their way."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Literal

from tryage.flags import Flags

_PASSED_ON: ContextVar[Flags | None] = ContextVar("tryage_flags", default=None)


@contextlib.contextmanager
def passing_on(flags: Flags) -> Iterator[None]:
    """Let flags act in every decision that is made inside: they were read off the user's text.

    They reach decisions in threads and tasks that copy the context, as those of both frameworks
    do.
    """
    token = _PASSED_ON.set(flags if flags.found else None)
    try:
        yield
    finally:
        _PASSED_ON.reset(token)


def flag_mode(own: bool) -> Literal["warn", False] | Flags:
    """Return how a decision treats flags.

    Args:
        own: whether the text is the user's own.

    Returns:
        The flags that are passed on, if any, which then are the only ones; else whether those in
        the text act.
    """
    return _PASSED_ON.get() or ("warn" if own else False)
