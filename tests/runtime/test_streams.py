import asyncio
import gc
import threading
import time

import pytest

from tryage import Library
from tryage.errors import ExpertError
from tryage.runtime import Runtime, TextGenerationPipeline


@pytest.fixture(scope="module")
def code(tiny_library) -> TextGenerationPipeline:
    return Runtime(Library.read(tiny_library)).load("code-gpt")


@pytest.fixture
def endless(code, monkeypatch, never_ending):
    """The pipeline with a model that never ends by itself; counts its steps."""
    steps: list[int] = []
    forward = code.model.forward

    def counted(*args, **kwargs):
        steps.append(1)
        return forward(*args, **kwargs)

    monkeypatch.setattr(code.model, "forward", counted)
    never_ending(code)
    return code, steps


def stream_threads() -> list[str]:
    """Threads of models that still work; one that has just let go of its model is given time."""
    alive = [t for t in threading.enumerate() if t.name.startswith("tryage-batch")]
    for thread in alive:
        thread.join(5)
    return [thread.name for thread in alive if thread.is_alive()]


def test_a_stream_joins_to_the_answer(code) -> None:
    stream = code.stream("def alpha", max_new_tokens=30)
    assert stream.answer is None
    pieces = list(stream)
    assert len(pieces) > 3
    expected = code.generate("def alpha", max_new_tokens=30)
    assert "".join(pieces) == expected.text == stream.answer.text
    assert stream.answer.completion_tokens == expected.completion_tokens
    assert list(stream) == []
    assert stream_threads() == []


def test_nothing_runs_before_the_first_piece(endless) -> None:
    code, steps = endless
    stream = code.stream("def")
    stream.close()
    assert list(stream) == []
    assert steps == []


def test_closing_a_stream_ends_the_generation(endless) -> None:
    code, steps = endless
    with code.stream("def", max_new_tokens=120) as stream:
        next(stream)
    assert len(steps) < 120
    assert stream_threads() == []
    assert not code._lock.locked()
    assert list(stream) == []


def test_a_stream_that_is_dropped_ends_too(endless) -> None:
    code, steps = endless
    stream = code.stream("def", max_new_tokens=120)
    next(stream)
    thread = next(t for t in threading.enumerate() if t.name.startswith("tryage-batch"))
    del stream
    gc.collect()
    thread.join(10)
    assert not thread.is_alive()
    assert len(steps) < 120


def test_an_error_reaches_the_reader(code, monkeypatch) -> None:
    calls = 0
    forward = code.model.forward

    def breaks(*args, **kwargs):
        nonlocal calls
        calls += 1
        if calls > 4:
            raise RuntimeError("cut")
        return forward(*args, **kwargs)

    monkeypatch.setattr(code.model, "forward", breaks)
    stream = code.stream("def alpha", max_new_tokens=30)
    with pytest.raises(ExpertError, match="cut"):
        list(stream)
    assert stream_threads() == []
    assert list(stream) == []


async def test_an_async_stream_joins_to_the_answer(code) -> None:
    stream = code.astream("def alpha", max_new_tokens=30)
    pieces = [piece async for piece in stream]
    assert "".join(pieces) == code.generate("def alpha", max_new_tokens=30).text
    assert stream.answer.text == "".join(pieces)
    assert [piece async for piece in stream] == []


async def test_closing_an_async_stream_ends_the_generation(endless) -> None:
    code, steps = endless
    async with code.astream("def", max_new_tokens=120) as stream:
        await anext(stream)
    assert len(steps) < 120
    assert stream_threads() == []


async def test_cancelling_the_reader_ends_the_generation(endless) -> None:
    code, steps = endless

    async def read() -> None:
        async for _ in code.astream("def", max_new_tokens=120):
            pass

    reader = asyncio.create_task(read())
    deadline = time.monotonic() + 20
    while len(steps) < 3:
        assert time.monotonic() < deadline
        await asyncio.sleep(0)
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    assert len(steps) < 120
    assert stream_threads() == []


async def test_an_error_reaches_the_async_reader(code, monkeypatch) -> None:
    def broken(*_, **__):
        raise RuntimeError("cut")

    monkeypatch.setattr(code.model, "forward", broken)
    with pytest.raises(ExpertError, match="cut"):
        [piece async for piece in code.astream("def")]


def test_two_streams_of_one_model_take_turns(code) -> None:
    first, second = (code.stream("def alpha", max_new_tokens=12) for _ in range(2))
    one, other = next(first), next(second)
    rest = "".join(first), "".join(second)
    assert one + rest[0] == other + rest[1]
