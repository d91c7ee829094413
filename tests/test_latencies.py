import threading

import pytest

from tryage.binding import Binding
from tryage.dispatch import Attempt, Latencies


def test_the_average_moves_towards_the_newest_call():
    seen = Latencies(share=0.5)
    assert seen.snapshot() == {}
    seen.observe([Attempt("a", None, 4.0), Attempt("b", "ValueError", 9.0)])
    seen.observe([Attempt("a", None, 2.0)])
    assert seen.snapshot() == {"a": 3.0}


@pytest.mark.parametrize("share", [0, -1, 1.1])
def test_a_share_outside_is_refused(share):
    with pytest.raises(ValueError, match="above 0 and at most 1"):
        Latencies(share=share)


def test_many_threads_observe_at_once():
    seen = Latencies()
    calls = [Attempt("a", None, 1.0)] * 100
    threads = [threading.Thread(target=seen.observe, args=(calls,)) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen.snapshot() == {"a": 1.0}


def test_a_binding_learns_from_its_dispatches(router):
    bound = Binding(router, dict.fromkeys(router.library.names, "callable"))
    decision = bound.decide("def value(index): return index")
    before = decision.values.get("latency")
    _, told = bound.dispatch(decision, lambda name, _: name)
    assert before is None
    assert set(bound.latencies.snapshot()) == {told.answered_by}
    again = bound.decide("def value(index): return index").values["latency"]
    assert again[router.library.index(told.answered_by)] < 0.5
