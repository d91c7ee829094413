"""Warns once if most routed prompts are unlike the training prompts."""

from __future__ import annotations

import threading
import warnings
from collections import deque
from collections.abc import Sequence

from tryage.errors import TryageWarning

CALLS = 100
"""Number of latest calls that count."""


class Familiarity:
    """Counts the last calls that were out of distribution; safe from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._strange: deque[bool] = deque(maxlen=CALLS)
        self._has_warned = False

    def note(self, strange: Sequence[bool]) -> None:
        """Note calls; warn the first time that most of the last hundred were strange."""
        with self._lock:
            self._strange.extend(strange)
            count = sum(self._strange)
            warns = not self._has_warned and len(self._strange) == CALLS and 2 * count > CALLS
            self._has_warned = self._has_warned or warns
        if warns:
            warnings.warn(
                f"{count} of the last {CALLS} prompts are unlike those the router was fitted on, "
                "so they went to the best expert on average. If a template surrounds the "
                "question, say where it stands with text_from=; if the prompts are of a new kind, "
                "fit the router on some of them",
                TryageWarning,
                stacklevel=4,
            )
