"""Experts' own rate limiters: the wait for a turn is not time that the expert takes to answer."""

from __future__ import annotations

from typing import Any

from tryage.dispatch import current_scope, off_the_clock
from tryage.errors import ExpertTimeoutError


class TurnLimiter:
    """A rate limiter of LlamaIndex whose waits are off the clock of the dispatch.

    A call that is given up while it waits is not made.
    """

    def __init__(self, limiter: Any) -> None:
        self._limiter = limiter

    def acquire(self, *args: Any, **kwargs: Any) -> None:
        """Wait for a turn; arguments as the limiter's own.

        Raises:
            ExpertTimeoutError: nobody waits for the call any more.
        """
        scope = current_scope()
        with off_the_clock():
            self._limiter.acquire(*args, **kwargs)
        if scope is not None and scope.nobody_waits:
            raise ExpertTimeoutError("the call was given up while it waited for its turn")

    async def async_acquire(self, *args: Any, **kwargs: Any) -> None:
        """Wait for a turn; who is cancelled meanwhile takes none."""
        with off_the_clock():
            await self._limiter.async_acquire(*args, **kwargs)
