"""Experts' own rate limiters: the wait for a turn is not time that the expert takes to answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from langchain_core.language_models import BaseChatModel
from langchain_core.rate_limiters import BaseRateLimiter
from langchain_core.runnables import (
    RouterRunnable,
    RunnableAssign,
    RunnableBranch,
    RunnableParallel,
    RunnableSequence,
    RunnableWithFallbacks,
)
from langchain_core.runnables.base import RunnableBindingBase, RunnableEachBase
from langchain_core.runnables.configurable import DynamicRunnable

from langchain_tryage.flags import TryageFlags
from tryage.binding import with_limiter
from tryage.dispatch import current_scope, off_the_clock
from tryage.errors import ExpertTimeoutError

R = TypeVar("R")

_POLL = 0.02
"""Seconds between two looks at a limiter, where somebody may give up the call meanwhile."""

_WRAPPERS = (
    DynamicRunnable,
    RouterRunnable,
    RunnableAssign,
    RunnableBindingBase,
    RunnableBranch,
    RunnableEachBase,
    RunnableParallel,
    RunnableSequence,
    RunnableWithFallbacks,
    TryageFlags,
)
"""Runnables that hold others, and do nothing with them but call them."""


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
        if not blocking:
            return self._limiter.acquire(blocking=False)
        with off_the_clock():
            if scope is None:
                return self._limiter.acquire(blocking=True)
            while not self._limiter.acquire(blocking=False):
                if scope.given_up.wait(_POLL) or scope.nobody_waits:
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


def in_turn(runnable: R) -> R:
    """Return a runnable whose chat models wait for their turns off the clock.

    They are found inside of LangChain's own chains, bindings, fallbacks, retries and branches; what
    a function calls is not seen. The runnable is not changed; without such a model it is returned.
    """
    if isinstance(runnable, BaseChatModel):
        return with_limiter(runnable, TurnLimiter)
    if not isinstance(runnable, _WRAPPERS):
        return runnable
    changed = {
        name: inside
        for name, value in vars(runnable).items()
        if (inside := _inside(value)) is not value
    }
    copy: Any = runnable
    return copy.model_copy(update=changed) if changed else runnable


def _inside(value: Any) -> Any:
    """Return a field's value with the runnables in it in turn; itself if there are none."""
    if isinstance(value, Mapping):
        parts = {key: _inside(part) for key, part in value.items()}
        return parts if any(parts[key] is not value[key] for key in parts) else value
    if isinstance(value, list | tuple):
        items = [_inside(item) for item in value]
        is_same = all(new is old for new, old in zip(items, value, strict=True))
        return value if is_same else type(value)(items)
    return in_turn(value)
