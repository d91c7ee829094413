"""What `Binding` makes of the options of dispatch."""

import threading

import pytest

from tryage.binding import Binding
from tryage.dispatch import Breaker, DispatchOptions, Health
from tryage.errors import DispatchError

CODE = "def alpha_count(total, count=3):\n    return total\n"


def test_breaker_and_health(router) -> None:
    def call(name, expert):
        if name == best:
            raise ConnectionError("down")
        return name

    binding = Binding(
        router,
        dict.fromkeys(router.library.names),
        options=DispatchOptions(breaker=Breaker(failures=1)),
    )
    best = binding.decide(CODE).expert
    binding.dispatch(binding.decide(CODE), call)
    assert binding.health.state(best) == "open"
    assert set(binding.health.snapshot()) == {binding.dispatch(binding.decide(CODE), call)[0]}
    assert Binding(
        router, dict.fromkeys(router.library.names), options=DispatchOptions(breaker=True)
    ).health.breaker
    assert Binding(router, dict.fromkeys(router.library.names)).health.breaker is None


def test_time_outs(router) -> None:
    release = threading.Event()
    options = DispatchOptions(timeout=0.05, total_timeout=10.0)
    binding = Binding(router, dict.fromkeys(router.library.names), options=options)
    with pytest.raises(DispatchError, match=r"did not answer within 0\.05 s"):
        binding.dispatch(binding.decide(CODE), lambda name, _: release.wait(60))
    release.set()
    with pytest.raises(ValueError, match="timeout is -1"):
        Binding(router, {}, options=DispatchOptions(timeout=-1))


def test_a_binding_learns_from_its_dispatches(router) -> None:
    bound = Binding(router, dict.fromkeys(router.library.names, "callable"))
    decision = bound.decide(CODE)
    before = decision.values.get("latency")
    _, dispatched = bound.dispatch(decision, lambda name, _: name)
    assert before is None
    assert set(bound.health.snapshot()) == {dispatched.answered_by}
    again = bound.decide(CODE).values["latency"]
    assert again[router.library.index(dispatched.answered_by)] < 0.5


def test_many_threads_report_at_once() -> None:
    health = Health()

    def report() -> None:
        for _ in range(100):
            health.admit("a")
            health.answered("a", 1.0)

    threads = [threading.Thread(target=report) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert dict(health.snapshot()) == {"a": 1.0}
