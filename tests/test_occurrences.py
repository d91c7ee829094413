"""Occurrences are counted exactly, in memory and on disk."""

import random
import tempfile
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tryage import occurrences
from tryage.occurrences import Occurrences
from tryage.prompts import prompt_id, read_prompts

KEYS = st.integers(0, 2**64 - 1)


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(occurrences, "_RECENT", 7)
    monkeypatch.setattr(occurrences, "_LONGEST_RUN", 32)


def check(keys):
    counted, counts = Occurrences(), Counter()
    for key in keys:
        counts[key] += 1
        assert counted.number(key) == counts[key]
    return counted


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_every_key_is_counted(data):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(occurrences, "_RECENT", data.draw(st.integers(1, 9)))
        patch.setattr(occurrences, "_LONGEST_RUN", data.draw(st.integers(1, 40)))
        pool = data.draw(st.lists(KEYS, min_size=1, max_size=20))
        check(data.draw(st.lists(st.sampled_from(pool) | KEYS, max_size=200)))


def test_one_key_again_and_again(small):
    check([2**64 - 1] * 1_000 + [0] * 100)


def test_keys_that_share_the_filters_bit_are_told_apart(small):
    step = occurrences._BITS
    check([3 + step * (n % 40) for n in range(400)])


def test_long_runs_lie_on_disk(small, monkeypatch):
    runs = check(random.Random(0).choices(range(10**6), k=1_000))._runs
    assert sum(isinstance(run, np.memmap) for run in runs) >= 10
    assert max(len(run) for run in runs if not isinstance(run, np.memmap)) < 32

    def full(**_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    runs = check(random.Random(0).choices(range(300), k=1_000))._runs
    assert not any(isinstance(run, np.memmap) for run in runs)


def test_many_keys_take_little_memory():
    counted = Occurrences()
    for key in range(200_000):
        assert counted.number(key * 0x9E3779B97F4A7C15 % 2**64) == 1
    assert sum(run.nbytes for run in counted._runs) <= 8 * 200_000
    assert len(counted._recent) < 2**15
    assert len(counted._runs) <= 8


def test_prompts_are_named_by_their_occurrence(small):
    texts = [f"text {n % 9}" for n in range(60)] + ["other"]
    texts += ["text 0", "text 0"]
    records = list(read_prompts([*texts[:-2], {"prompt": "text 0", "id": "own"}, "text 0"]))
    numbers = [texts[: place + 1].count(text) for place, text in enumerate(texts)]
    ids = [prompt_id(text, number) for text, number in zip(texts, numbers, strict=True)]
    assert numbers[-1] == 9, "a prompt with its own id counts too"
    assert [record.id for record in records] == [*ids[:-2], "own", ids[-1]]
