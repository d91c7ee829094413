"""Experts' own rate limiters: a wait is no failure, and nobody pays for a call given up."""

import asyncio
import copy
import threading

import pytest
from langchain.agents import create_agent
from langchain_core.caches import InMemoryCache
from langchain_core.language_models import FakeListChatModel
from langchain_core.rate_limiters import BaseRateLimiter, InMemoryRateLimiter
from langchain_core.runnables import (
    ConfigurableField,
    RunnableBranch,
    RunnableLambda,
    RunnablePassthrough,
    RunnablePick,
)

from langchain_tryage import ChatTryage, TryageFlags, TryageRouter
from langchain_tryage._rate_limits import in_turn
from langchain_tryage.middleware import TryageMiddleware
from tryage.errors import DispatchError

SHORT = 0.4


def limiter():
    """One turn each half a second, the first after that time."""
    return InMemoryRateLimiter(requests_per_second=2, check_every_n_seconds=0.02, max_bucket_size=1)


class Never(BaseRateLimiter):
    """Gives no turn; notes that it was asked."""

    def __init__(self):
        self.was_called = threading.Event()

    def acquire(self, *, blocking=True):
        self.was_called.set()
        if blocking:
            raise AssertionError("a wait that nobody could end")
        return False

    async def aacquire(self, *, blocking=True):
        self.was_called.set()
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
    assert len(expert.calls) == 4


class Counting(BaseRateLimiter):
    """Gives every turn at once, and counts them."""

    def __init__(self):
        self.turns = 0

    def acquire(self, *, blocking=True):
        self.turns += 1
        return True

    async def aacquire(self, *, blocking=True):
        return self.acquire()


@pytest.mark.parametrize("kind", ["Whole", "Streaming"])
async def test_each_call_takes_one_turn_in_every_way(router, kit, kind):
    counting = Counting()
    expert = getattr(kit, kind)(label="coder", rate_limiter=counting)
    model = ChatTryage(router, {**kit.experts(), "coder": expert})
    model.invoke(kit.code)
    assert counting.turns == 1
    await model.ainvoke(kit.code)
    assert counting.turns == 2
    list(model.stream(kit.code))
    assert counting.turns == 3
    assert [chunk async for chunk in model.astream(kit.code)]
    assert counting.turns == 4


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
    assert never.was_called.is_set()
    await kit.until(lambda: "tryage-call-coder" not in {t.name for t in threading.enumerate()})
    assert expert.calls == []


def test_what_is_cached_waits_for_no_turn(router, kit):
    limited = kit.Whole(label="coder", rate_limiter=limiter(), cache=InMemoryCache())
    model = ChatTryage(router, {"coder": limited}, timeout=SHORT)
    first = model.invoke(kit.code).text
    limited.rate_limiter = Never()
    assert model.invoke(kit.code).text == first
    assert not limited.rate_limiter.was_called.is_set()
    assert len(limited.calls) == 1


def test_a_class_with_a_way_of_its_own_waits_off_the_clock_too(router, kit):
    class Own(kit.Whole):
        def _generate_with_cache(self, *args, **kwargs):
            self.metadata = {"ways": "own"}
            return super()._generate_with_cache(*args, **kwargs)

    expert = Own(label="coder", rate_limiter=limiter())
    message = ChatTryage(router, {"coder": expert}, timeout=SHORT).invoke(kit.code)
    assert message.text.startswith("coder")
    assert expert.metadata == {"ways": "own"}


def chains(model):
    """What an expert of `TryageRouter` may be, around one model."""
    return {
        "alone": model,
        "bound": model.bind(stop=["zzz"]),
        "in a chain": RunnablePassthrough() | model | RunnablePassthrough(),
        "with retries": model.with_retry(stop_after_attempt=1),
        "with a config": model.with_config(tags=["x"]),
        "a fallback": RunnableLambda(fails).with_fallbacks([model]),
        "in a branch": RunnableBranch((lambda _: True, model), RunnablePassthrough()),
        "one of several": {"answer": model} | RunnablePick("answer"),
        "an alternative": model.configurable_alternatives(ConfigurableField("which"), other=model),
        "behind flags": TryageFlags(model),
    }


def fails(_):
    raise ConnectionError("down")


async def test_no_expert_of_a_runnable_router_waits_on_the_clock(router, kit):
    def routed(form):
        expert = kit.Streaming(label="coder", rate_limiter=limiter())
        return TryageRouter(router, {"coder": chains(expert)[form]}, timeout=SHORT)

    async def last(chunks):
        return await anext(chunks)

    forms = chains(FakeListChatModel(responses=["x"]))
    calls = [asyncio.to_thread(routed(form).invoke, kit.code) for form in forms]
    calls += [routed(form).ainvoke(kit.code) for form in forms]
    calls += [last(routed(form).astream(kit.code)) for form in ("alone", "in a chain", "bound")]
    calls += [asyncio.to_thread(lambda: next(iter(routed("alone").stream(kit.code))))]
    messages = await asyncio.gather(*calls, routed("alone").abatch([kit.code, kit.code]))
    for message in (*messages[:-1], *messages[-1], *routed("alone").batch([kit.code])):
        record = message.response_metadata["tryage"]
        assert (record["answered_by"], len(record["tried"])) == ("coder", 1)


def test_what_a_model_notes_of_its_calls_stands_in_the_user_s_object(router, kit):
    class Always(BaseRateLimiter):
        """Gives every turn at once, and can be copied."""

        def acquire(self, *, blocking=True):
            return True

        async def aacquire(self, *, blocking=True):
            return True

    expert = FakeListChatModel(responses=["one", "two", "three"], rate_limiter=Always())
    model = TryageRouter(router, {"coder": expert}, timeout=SHORT)
    assert [model.invoke(kit.code).text, expert.invoke(kit.code).text] == ["one", "two"]
    assert model.invoke(kit.code).text == "three"
    bound = model._binding.experts["coder"]
    assert bound is not expert
    for copied in (copy.copy(bound), bound.model_copy(), copy.deepcopy(model).experts["coder"]):
        assert isinstance(copied, FakeListChatModel)
        assert copied.i == expert.i


async def test_an_agent_s_model_waits_off_the_clock(router, kit):
    expert = kit.Streaming(label="coder", rate_limiter=limiter())
    middleware = TryageMiddleware(router, {"coder": expert}, timeout=SHORT)
    agent = create_agent(kit.Whole(label="own"), [], middleware=[middleware])
    for state in (
        agent.invoke({"messages": [kit.code]}),
        await agent.ainvoke({"messages": [kit.code]}),
    ):
        record = state["messages"][-1].response_metadata["tryage"]
        assert (record["answered_by"], len(record["tried"])) == ("coder", 1)


@pytest.mark.parametrize(
    ("outer", "inner"),
    [(ChatTryage, ChatTryage), (TryageRouter, ChatTryage), (TryageRouter, TryageRouter)],
)
async def test_a_wait_inside_a_nested_router_counts_nowhere(router, kit, outer, inner):
    expert = kit.Whole(label="coder", rate_limiter=limiter())
    nested = inner(router, {"coder": expert}, timeout=SHORT)
    model = outer(router, {"coder": nested}, timeout=SHORT)
    for message in (
        model.invoke(kit.code),
        await model.ainvoke(kit.code),
    ):
        record = message.response_metadata["tryage"]
        assert [len(record["tried"]), len(record["inner"]["tried"])] == [1, 1]
        assert record["inner"]["answered_by"] == "coder"


async def test_a_blocking_wait_that_was_moved_to_a_thread_is_off_the_clock_of_the_loop(router, kit):
    class Blocking(kit.Whole):
        async def _agenerate(self, messages, stop=None, run_manager=None, **kwargs):
            return await asyncio.to_thread(self._generate, messages, stop, **kwargs)

    model = Blocking(label="coder", rate_limiter=limiter())
    chain = RunnableLambda(lambda text: text, afunc=None) | model
    moved = RunnableLambda(in_turn(chain).invoke)  # LangChain moves it to a thread
    answer = await TryageRouter(router, {"coder": moved}, timeout=SHORT).ainvoke(kit.code)
    assert answer.response_metadata["tryage"]["answered_by"] == "coder"
