"""A connection to Ray, for the engines that run on one machine or many."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

from tryage.errors import OptionError, missing_extra

ENGINES = ("local", "ray")

RESTARTS = 3
"""How often an actor may die before the run ends; one block may kill them all."""


def check_engine(engine: str) -> None:
    """See that an engine is known, and installed.

    Raises:
        OptionError: it is neither ``"local"`` nor ``"ray"``.
        MissingExtraError: Ray is not installed.
    """
    if engine not in ENGINES:
        raise OptionError(f"engine is {engine!r}; it is 'local' or 'ray'")
    if engine == "ray" and find_spec("ray") is None:
        raise missing_extra("ray", "the Ray engine")


@contextlib.contextmanager
def ray_session(address: str | None) -> Iterator[Any]:
    """Yield `ray`, connected; a Ray that was started here ends here.

    Args:
        address: of a cluster; None starts Ray here, unless this process has started it.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Its core writes much to the console; failures come as exceptions anyway.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    import ray

    own = not ray.is_initialized()
    if own:
        options = {"address": address} if address else {"include_dashboard": False}
        ray.init(log_to_driver=False, logging_level="ERROR", **options)
    try:
        yield ray
    finally:
        if own:
            ray.shutdown()


def last_line(error: Exception) -> str:
    """Return the reason that a Ray error ends with."""
    return str(error).strip().splitlines()[-1]
