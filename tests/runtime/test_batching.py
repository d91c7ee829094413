"""Concurrent calls of one model: batched, and each with the answer that it gets alone."""

import asyncio
import concurrent.futures
import contextlib
import threading
import time

import pytest

from tryage import Library
from tryage.errors import ExpertError, PromptError
from tryage.runtime import Answer, Batching, Runtime, TextGenerationPipeline
from tryage.runtime.batching import Batcher, CallCancellation, Request

PROMPTS = ["def alpha", "def total_item(value, index=7):\n    ", "    return ", "if value"] * 8


@pytest.fixture(scope="module", params=["code-gpt", "prose-gpt"])
def pipeline(request, tiny_library) -> TextGenerationPipeline:
    return Runtime(Library.read(tiny_library), batching=Batching(window=0)).load(request.param)


@pytest.fixture
def batches(pipeline, monkeypatch) -> list[int]:
    """Sizes of the batches that go through the model."""
    sizes: list[int] = []
    generate = pipeline.model.generate

    def counted(ids, **options):
        if options["generation_config"].max_new_tokens > 1:
            sizes.append(len(ids))
        return generate(ids, **options)

    monkeypatch.setattr(pipeline.model, "generate", counted)
    return sizes


@contextlib.contextmanager
def gathering(pipeline, count):
    """A window that closes when so many calls have come, however slow the machine is."""
    before = pipeline._batcher._batching
    pipeline._batcher._batching = Batching(window=60, size=count)
    try:
        yield
    finally:
        pipeline._batcher._batching = before


def at_once(calls):
    with concurrent.futures.ThreadPoolExecutor(len(calls)) as pool:
        return [future.result() for future in [pool.submit(call) for call in calls]]


def together(pipeline, calls):
    with gathering(pipeline, len(calls)):
        return at_once(calls)


def test_a_batch_gives_what_each_call_gets_alone(pipeline, batches) -> None:
    lengths = [4 + i % 13 for i in range(len(PROMPTS))]
    pairs = list(zip(PROMPTS, lengths, strict=True))
    alone = [pipeline.generate(p, max_new_tokens=n, stop="\n") for p, n in pairs]
    batches.clear()
    calls = [lambda p=p, n=n: pipeline.generate(p, max_new_tokens=n, stop="\n") for p, n in pairs]
    answers = together(pipeline, calls)
    for one, other in zip(alone, answers, strict=True):
        assert (one.text, one.finish_reason) == (other.text, other.finish_reason)
        assert one.completion_tokens == other.completion_tokens
        assert one.prompt_tokens == other.prompt_tokens
    assert batches == [len(PROMPTS)]


def test_samples_in_a_batch_follow_their_own_seed(pipeline) -> None:
    options = {"temperature": 1.0, "max_new_tokens": 12}
    alone = [pipeline.generate("The old def", seed=seed, **options).text for seed in range(6)]
    calls = [
        lambda seed=seed: pipeline.generate("The old def", seed=seed, **options).text
        for seed in range(6)
    ]
    assert together(pipeline, calls) == alone


def test_a_wrong_prompt_fails_alone(pipeline) -> None:
    expected = pipeline.generate("def alpha", max_new_tokens=5).text

    def call(prompt):
        try:
            return pipeline.generate(prompt, max_new_tokens=5).text
        except PromptError as error:
            return str(error)

    answers = together(pipeline, [lambda p=p: call(p) for p in ("def alpha", " ", "def alpha")])
    assert answers == [expected, "the prompt is empty; there is nothing to answer", expected]


def test_streams_and_calls_share_a_batch(pipeline, batches) -> None:
    expected = [pipeline.generate(p, max_new_tokens=20).text for p in PROMPTS[:4]]
    batches.clear()
    streams = [lambda p=p: "".join(pipeline.stream(p, max_new_tokens=20)) for p in PROMPTS[:2]]
    calls = [lambda p=p: pipeline.generate(p, max_new_tokens=20).text for p in PROMPTS[2:4]]
    assert together(pipeline, [*streams, *calls]) == expected
    assert batches == [4]


async def test_one_call_of_a_batch_is_cancelled_and_the_others_go_on(pipeline, monkeypatch) -> None:
    expected = pipeline.generate("def alpha", max_new_tokens=30).text
    with gathering(pipeline, 3):
        stream = pipeline.astream("def total", max_new_tokens=100)
        other = asyncio.create_task(pipeline.agenerate("def alpha", max_new_tokens=30))
        third = asyncio.create_task(pipeline.agenerate("def beta", max_new_tokens=30))
        await anext(stream)
        third.cancel()
        await stream.aclose()
        with pytest.raises(asyncio.CancelledError):
            await third
        assert (await other).text == expected


async def test_many_async_calls_use_one_thread(pipeline, batches) -> None:
    before = threading.active_count()
    with gathering(pipeline, len(PROMPTS)):
        calls = [asyncio.create_task(pipeline.agenerate(p, max_new_tokens=6)) for p in PROMPTS]
        await asyncio.sleep(0)
        assert threading.active_count() <= before + 1
        assert all(answer.text for answer in await asyncio.gather(*calls))
    assert batches == [32]


def test_a_batch_that_fails_is_tried_call_by_call(pipeline, monkeypatch) -> None:
    expected = [pipeline.generate(p, max_new_tokens=5).text for p in PROMPTS[:3]]
    generate = pipeline.model.generate

    def short(ids, **options):
        if len(ids) > 1:
            raise RuntimeError("out of memory")
        return generate(ids, **options)

    monkeypatch.setattr(pipeline.model, "generate", short)
    calls = [lambda p=p: pipeline.generate(p, max_new_tokens=5).text for p in PROMPTS[:3]]
    assert together(pipeline, calls) == expected


def test_every_call_hears_of_a_model_that_is_broken(pipeline, monkeypatch) -> None:
    def broken(*_, **__):
        raise RuntimeError("no memory")

    monkeypatch.setattr(pipeline.model, "generate", broken)

    def call():
        with pytest.raises(ExpertError, match="no memory"):
            pipeline.generate("def", max_new_tokens=5)
        return True

    assert all(together(pipeline, [call] * 4))


def test_a_model_that_reads_padding_gets_equal_lengths_only(pipeline, batches, monkeypatch) -> None:
    monkeypatch.setattr(pipeline, "_padding_is_neutral", None)
    monkeypatch.setattr(pipeline.model.generation_config, "repetition_penalty", 1.3)
    calls = [lambda p=p: pipeline.generate(p, max_new_tokens=6).text for p in PROMPTS]
    answers = together(pipeline, calls)
    assert sum(batches) == len(PROMPTS)
    assert max(batches) < len(PROMPTS)
    batches.clear()
    assert answers == [pipeline.generate(p, max_new_tokens=6).text for p in PROMPTS]
    monkeypatch.setattr(pipeline, "_padding_is_neutral", None)


def test_limits_of_a_batch(tiny_library) -> None:
    library = Library.read(tiny_library)
    for batching, largest in ((Batching(0.2, size=3), 3), (Batching(0.2, tokens=60), 3)):
        pipeline = Runtime(library, batching=batching).load("code-gpt")
        sizes = []
        generate = pipeline.model.generate
        pipeline.model.generate = lambda ids, n=sizes, g=generate, **o: (
            n.append(len(ids)) or g(ids, **o)
        )
        at_once([lambda p=pipeline: p.generate("def alpha", max_new_tokens=16)] * 8)
        assert sum(sizes) == 8
        assert max(sizes) <= largest


@pytest.mark.parametrize("options", [{"window": -1}, {"size": 0}, {"tokens": 0}])
def test_batching_out_of_range(options) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        Batching(**options)


def blocked_batches():
    """A batch function that waits, what lets it begin and end, and the batches that it got."""
    begun, go_on, batches = threading.Event(), threading.Event(), []

    def run(requests):
        batches.append([request.prompt for request in requests])
        begun.set()
        assert go_on.wait(30)
        for request in requests:
            request.answer(Answer(request.prompt, 0, 0, 0.0))

    return run, begun, go_on, batches


def test_a_call_cancelled_while_a_batch_runs_is_settled_and_never_run() -> None:
    run, begun, go_on, batches = blocked_batches()
    batcher = Batcher("x", run, Batching(window=0))
    first = batcher.submit(Request("first", None))
    assert begun.wait(10)
    cancelled = batcher.submit(Request("cancelled", None))
    cancelled.cancel.set()
    last = batcher.submit(Request("last", None))
    go_on.set()
    assert [request.future.result(10).text for request in (first, last)] == ["first", "last"]
    assert cancelled.future.result(10).finish_reason == "cancelled"
    assert batches == [["first"], ["last"]]


def test_calls_that_waited_for_a_batch_need_no_further_window() -> None:
    run, begun, go_on, batches = blocked_batches()
    batcher = Batcher("x", run, Batching(window=1.5))
    first = batcher.submit(Request("first", None))
    assert begun.wait(10)
    second = batcher.submit(Request("second", None))
    time.sleep(1.6)
    go_on.set()
    first.future.result(10)
    released = time.perf_counter()
    second.future.result(10)
    assert time.perf_counter() - released < 1
    assert batches == [["first"], ["second"]]


def test_a_call_cancelled_while_others_use_the_model_is_settled_at_once(pipeline) -> None:
    cancel = CallCancellation()
    with pipeline.turn():
        request = pipeline.starting("def alpha", max_new_tokens=5)(None, cancel)
        time.sleep(0.2)
        assert not request.future.done()
        cancel.set()
        answer = request.future.result(10)
    assert (answer.text, answer.finish_reason) == ("", "cancelled")


def test_streams_of_a_batch_that_fails_after_their_first_words_fail(
    pipeline, monkeypatch, never_ending
) -> None:
    lengths = []
    forward, generate = pipeline.model.forward, pipeline.model.generate

    def counted(ids, **options):
        if options["generation_config"].max_new_tokens > 1:
            lengths.append(len(ids))
        return generate(ids, **options)

    def failing(*args, **options):
        steps.append(1)
        if lengths and len(steps) > 12:
            raise RuntimeError("out of memory")
        return forward(*args, **options)

    steps: list[int] = []
    monkeypatch.setattr(pipeline.model, "generate", counted)
    monkeypatch.setattr(pipeline.model, "forward", failing)
    never_ending(pipeline)

    def read():
        pieces = []
        with pytest.raises(ExpertError, match="out of memory"):
            pieces.extend(pipeline.stream("def alpha", max_new_tokens=60))
        return pieces

    assert together(pipeline, [read, read])
    assert lengths == [2]
