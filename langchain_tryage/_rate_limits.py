"""Experts' own rate limiters: the wait for a turn is not time that the expert takes to answer."""

from __future__ import annotations

from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.rate_limiters import BaseRateLimiter

from tryage.dispatch import current_scope, off_the_clock
from tryage.errors import ExpertTimeoutError

_POLL = 0.02
"""Seconds between two looks at a limiter, where somebody may give up the call meanwhile."""


class TurnLimiter(BaseRateLimiter):
    """A rate limiter whose waits are off the clock of the dispatch.

    Where the call is given up while it waits, it takes no turn and is not made.
    """

    def __init__(self, limiter: BaseRateLimiter) -> None:
        self._limiter = limiter

    def acquire(self, *, blocking: bool = True) -> bool:
        """Wait for a turn.

        Raises:
            ExpertTimeoutError: nobody waits for the call any more.
        """
        scope = current_scope()
        if scope is None or not blocking:
            return self._limiter.acquire(blocking=blocking)
        with off_the_clock():
            while not self._limiter.acquire(blocking=False):
                if scope.given_up.wait(_POLL):
                    raise ExpertTimeoutError("the call was given up while it waited for its turn")
        return True

    async def aacquire(self, *, blocking: bool = True) -> bool:
        """Wait for a turn; who is cancelled meanwhile takes none."""
        with off_the_clock():
            return await self._limiter.aacquire(blocking=blocking)


def acquire(model: BaseChatModel) -> None:
    """Wait for a model's turn, if it has a rate limiter."""
    if model.rate_limiter is not None:
        TurnLimiter(model.rate_limiter).acquire()


async def aacquire(model: BaseChatModel) -> None:
    """Wait for a model's turn, if it has a rate limiter."""
    if model.rate_limiter is not None:
        await TurnLimiter(model.rate_limiter).aacquire()


def with_turns(model: BaseChatModel) -> Any:
    """Return a model as its `_generate_with_cache` sees it, with the limiter's waits off the clock.

    It looks into the cache before it waits, so the wait cannot be done outside of it; and a copy
    would not share what the model notes of its calls. A class that overrides it is left alone.
    """
    kind = type(model)
    is_usual = (
        kind._generate_with_cache is BaseChatModel._generate_with_cache
        and kind._agenerate_with_cache is BaseChatModel._agenerate_with_cache
    )
    limiter = model.rate_limiter
    return model if limiter is None or not is_usual else _WithTurns(model, limiter)


class _WithTurns:
    """The model itself, but for its rate limiter."""

    def __init__(self, model: BaseChatModel, limiter: BaseRateLimiter) -> None:
        self._model = model
        self.rate_limiter = TurnLimiter(limiter)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)
