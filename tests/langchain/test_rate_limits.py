"""Experts' own rate limiters: a wait is no failure, and nobody pays for a call given up."""

import asyncio
import threading

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.rate_limiters import BaseRateLimiter, InMemoryRateLimiter

from langchain_tryage import ChatTryage
from tryage.errors import DispatchError

SHORT = 0.4


def limiter():
    """One turn each half a second, the first after that time."""
    return InMemoryRateLimiter(requests_per_second=2, check_every_n_seconds=0.02, max_bucket_size=1)


class Never(BaseRateLimiter):
    """Gives no turn; notes that it was asked."""

    def __init__(self):
        self.asked = threading.Event()

    def acquire(self, *, blocking=True):
        self.asked.set()
        if blocking:
            raise AssertionError("a wait that nobody could end")
        return False

    async def aacquire(self, *, blocking=True):
        self.asked.set()
        await asyncio.sleep(60)


@pytest.mark.parametrize("kind", ["Whole", "Streaming"])
async def test_the_wait_for_a_turn_is_no_time_out(router, kit, kind):
    expert = getattr(kit, kind)(label="coder", rate_limiter=limiter())
    model = ChatTryage(router, {**kit.experts(), "coder": expert}, timeout=SHORT)
    messages = [
        model.invoke(kit.code),
        await model.ainvoke(kit.code),
        next(iter(model.stream(kit.code))),
        (await anext(model.astream(kit.code))),
    ]
    for message in messages:
        record = message.response_metadata["tryage"]
        assert (record["answered_by"], len(record["tried"])) == ("coder", 1)
    assert len(expert._calls) == 4


@pytest.mark.parametrize("kind", ["Whole", "Streaming"])
async def test_a_call_given_up_while_it_waits_is_never_made(router, kit, kind):
    never = Never()
    expert = getattr(kit, kind)(label="coder", rate_limiter=never)
    model = ChatTryage(router, {"coder": expert}, timeout=SHORT, total_timeout=2 * SHORT)
    for act in (lambda: model.invoke(kit.code), lambda: list(model.stream(kit.code))):
        with pytest.raises(DispatchError, match="for the whole dispatch are over"):
            act()
    with pytest.raises(DispatchError, match="for the whole dispatch are over"):
        await model.ainvoke(kit.code)
    assert never.asked.is_set()
    await kit.until(lambda: "tryage-call-coder" not in {t.name for t in threading.enumerate()})
    assert expert._calls == []


def test_what_is_cached_waits_for_no_turn(router, kit):
    limited = kit.Whole(label="coder", rate_limiter=limiter(), cache=InMemoryCache())
    model = ChatTryage(router, {"coder": limited}, timeout=SHORT)
    first = model.invoke(kit.code).text
    limited.rate_limiter = Never()
    assert model.invoke(kit.code).text == first
    assert not limited.rate_limiter.asked.is_set()
    assert len(limited._calls) == 1


def test_a_class_with_a_way_of_its_own_keeps_it(router, kit):
    used = []

    class Own(kit.Whole):
        def _generate_with_cache(self, *args, **kwargs):
            used.append(type(self.rate_limiter))
            return super()._generate_with_cache(*args, **kwargs)

    expert = Own(label="coder", rate_limiter=limiter())
    assert ChatTryage(router, {"coder": expert}).invoke(kit.code).text.startswith("coder")
    assert used == [InMemoryRateLimiter]
