"""What a co-training says of itself."""

from pathlib import Path

import pytest

pytest.importorskip("transformers", reason="needs the extra hf")

from tryage.cotraining.results import CotrainingRun, Round


def run(*losses):
    same = {"labelled_loss": 1.0, "single_loss": 9.0, "shares": {}}
    rounds = [
        Round(round=number, held_out_loss=held_out, best_loss=best, **same)
        for number, (held_out, best) in enumerate(losses)
    ]
    return str(CotrainingRun(Path("out"), tuple(rounds)))


def test_it_says_whether_it_paid_and_why_not():
    paid = run((2.0, 1.5), (1.8, 1.4))
    assert paid == (
        "1 round: the routed held-out loss went from 2.0000 to 1.8000 bits per byte (-10.0%). The "
        "router is in out/router."
    )
    assert "did not pay" not in run((2.0, 1.5), (2.0, 1.5))
    router = run((2.0, 1.5), (1.9, 1.45), (2.1, 1.4))
    assert router.startswith("2 rounds: ")
    assert "(+5.0%)" in router
    assert "best expert improved, from 1.5000 to 1.4000, but the router" in router
    assert run((2.0, 1.5), (2.1, 1.5)).endswith(
        "the experts did not improve on the held-out prompts."
    )
