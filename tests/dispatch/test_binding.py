"""What `Binding` makes of the options of dispatch."""

import threading

import pytest

from tryage.binding import Binding
from tryage.dispatch import Breaker
from tryage.errors import DispatchError

CODE = "def alpha_count(total, count=3):\n    return total\n"


def test_breaker_and_health(router) -> None:
    def call(name, expert):
        if name == best:
            raise ConnectionError("down")
        return name

    binding = Binding(router, dict.fromkeys(router.library.names), breaker=Breaker(failures=1))
    best = binding.decide(CODE).expert
    binding.dispatch(binding.decide(CODE), call)
    assert binding.health.state(best) == "open"
    assert set(binding.health.snapshot()) == {binding.dispatch(binding.decide(CODE), call)[0]}
    assert Binding(router, dict.fromkeys(router.library.names), breaker=True).health.breaker
    assert Binding(router, dict.fromkeys(router.library.names)).health.breaker is None


def test_time_outs(router) -> None:
    release = threading.Event()
    options = {"timeout": 0.05, "total_timeout": 10.0}
    binding = Binding(router, dict.fromkeys(router.library.names), **options)
    with pytest.raises(DispatchError, match=r"did not answer within 0\.05 s"):
        binding.dispatch(binding.decide(CODE), lambda name, _: release.wait(60))
    release.set()
    with pytest.raises(ValueError, match="timeout is -1"):
        Binding(router, {}, timeout=-1)
