"""The memory budget: who stays, who leaves, and what does not fit."""

import asyncio
import concurrent.futures
import random
import shutil
import sys
import threading
import time
import traceback

import pytest

from tryage import Expert, Library
from tryage.checkpoints import weight_bytes
from tryage.dispatch import DispatchOptions, dispatch
from tryage.errors import DispatchError, MemoryBudgetError
from tryage.runtime import Runtime
from tryage.runtime import runtime as runtime_module
from tryage.runtime.memory import Memory, parse_bytes, size_text


@pytest.fixture(scope="module")
def many(tiny_causal, tmp_path_factory) -> Library:
    """Six experts, each with its own folder."""
    root = tmp_path_factory.mktemp("many")
    for i in range(6):
        shutil.copytree(tiny_causal, root / f"m{i}")
    return Library([Expert(name=f"m{i}", model=f"./m{i}") for i in range(6)], root=root)


@pytest.fixture
def exact(monkeypatch) -> None:
    """What the process is seen to take is left out: these models are smaller than its noise."""
    monkeypatch.setattr("tryage.runtime.memory.bytes_in_use", lambda device: None)


def weights(library: Library) -> int:
    return Runtime(library).load("m0").estimate()


def test_the_estimate_is_what_the_tensors_take(tiny_causal, many) -> None:
    model = Runtime(many).load("m0").model
    tied = {id(t): t.nbytes for t in model.parameters()}
    assert weight_bytes(tiny_causal, "auto") == pytest.approx(sum(tied.values()), rel=0.01)
    assert weight_bytes(tiny_causal, "bfloat16") == weight_bytes(tiny_causal, "auto") / 2


def test_the_least_recently_used_leaves_first(many, exact) -> None:
    runtime = Runtime(many, memory_budget=int(weights(many) * 2.5))
    runtime.load("m0")
    runtime.load("m1")
    runtime.run("m0", "def", max_new_tokens=2)
    runtime.load("m2")
    states = {name: runtime.health(name).state for name in many.names}
    assert [n for n, state in states.items() if state == "ready"] == ["m0", "m2"]
    assert runtime.health("m0").bytes == weights(many)


def test_a_pipeline_whose_model_left_loads_it_again(many, exact) -> None:
    runtime = Runtime(many, memory_budget=int(weights(many) * 1.5))
    pipeline = runtime.load("m0")
    expected = pipeline.generate("def alpha", max_new_tokens=8).text
    runtime.load("m1")
    assert not pipeline.loaded
    assert "not loaded" in repr(pipeline)
    assert pipeline.generate("def alpha", max_new_tokens=8).text == expected
    assert runtime.load("m1") is not pipeline


def test_random_use_by_many_threads_stays_within_the_budget(many, exact) -> None:
    budget = int(weights(many) * 2.5)
    runtime = Runtime(many, memory_budget=budget)
    expected = runtime.run("m0", "def alpha", max_new_tokens=4).text
    rng = random.Random(0)
    names = [rng.choice(many.names) for _ in range(60)]
    over = []

    def call(name: str) -> str:
        answer = runtime.run(name, "def alpha", max_new_tokens=4).text
        over.append(sum(runtime.health(n).bytes for n in many.names) > budget)
        return answer

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert set(pool.map(call, names)) == {expected}
    assert not any(over)


def test_a_model_in_use_is_not_unloaded(many, exact, monkeypatch) -> None:
    runtime = Runtime(many, memory_budget=int(weights(many) * 1.5))
    pipeline = runtime.load("m0")
    with pipeline.turn():
        loads = threading.Thread(target=runtime.load, args=("m1",))
        loads.start()
        loads.join(0.3)
        assert loads.is_alive()
        assert pipeline.loaded
    loads.join(30)
    assert not loads.is_alive()
    assert not pipeline.loaded


async def test_who_waits_for_memory_and_gives_up_leaves_no_thread(many, exact, decide) -> None:
    runtime = Runtime(many, memory_budget=int(weights(many) * 1.5))

    def waiting() -> list[threading.Thread]:
        frames = sys._current_frames()
        return [
            thread
            for thread in threading.enumerate()
            if (frame := frames.get(thread.ident)) is not None
            and any(f.f_code.co_name == "_make_room" for f, _ in traceback.walk_stack(frame))
        ]

    async def gone() -> bool:
        for _ in range(500):
            if not waiting():
                return True
            await asyncio.sleep(0.01)
        return False

    pipeline = await runtime.aload("m0")
    with pipeline.turn():
        call = asyncio.create_task(runtime.arun("m1", "def"))
        deadline = time.monotonic() + 20
        while not waiting():
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert await gone()
        with pytest.raises(DispatchError, match="ExpertTimeoutError"):
            dispatch(
                decide("m1"),
                lambda name: runtime.run(name, "def"),
                options=DispatchOptions(timeout=0.2),
            )
        assert await gone()
    assert runtime.health("m1").calls == 0
    assert runtime.run("m1", "def", max_new_tokens=1).completion_tokens == 1


def test_a_model_larger_than_the_budget(many) -> None:
    runtime = Runtime(many, memory_budget=1000)
    with pytest.raises(
        MemoryBudgetError, match=r"'m0' needs about .* kB, the memory budget is 1 kB"
    ):
        runtime.load("m0")
    assert runtime.health("m0").state == "failing"
    with pytest.raises(MemoryError):
        runtime.run("m0", "def")
    with pytest.raises(MemoryBudgetError):
        list(runtime.stream("m0", "def"))


def test_a_model_larger_than_the_machine(many, monkeypatch) -> None:
    monkeypatch.setattr("tryage.runtime.memory.free_bytes", lambda device: 10)
    with pytest.raises(MemoryBudgetError, match=r"10 bytes of memory are free on cpu"):
        Runtime(many).load("m0")


def test_memory_that_runs_out_while_loading(many, monkeypatch) -> None:
    def full(*_, **__):
        raise MemoryError("no pages")

    monkeypatch.setattr("tryage.runtime.runtime.load_parts", full)
    with pytest.raises(MemoryBudgetError, match="not enough memory to load it"):
        Runtime(many).load("m0")


def test_what_was_seen_corrects_the_estimate(many, monkeypatch) -> None:
    readings = iter([1000, 1000 + 7 * 10**6])
    monkeypatch.setattr("tryage.runtime.memory.bytes_in_use", lambda device: next(readings))
    runtime = Runtime(many)
    runtime.load("m0")
    assert runtime.health("m0").bytes == weights_of(runtime)
    runtime.run("m0", "def", max_new_tokens=2)
    assert runtime.health("m0").bytes == 7 * 10**6


def grown(monkeypatch, sizes: dict[str, int]) -> None:
    """Let the process seem to grow by so many bytes from before each load to after its first call.

    Args:
        monkeypatch: pytest's.
        sizes: expert → bytes; others seem to take nothing.
    """
    loading = []

    def watched(self, pipeline) -> None:
        loading.append(pipeline.expert.name)
        load(self, pipeline)

    def in_use(device: str) -> int:
        # Asked before a load, when the one before is past, and once after its first call.
        calls.append(1)
        return 10**9 + (sizes.get(loading[-1], 0) if len(calls) % 2 == 0 else 0)

    calls: list[int] = []
    load = Memory._load
    monkeypatch.setattr(Memory, "_load", watched)
    monkeypatch.setattr("tryage.runtime.memory.bytes_in_use", in_use)


def test_a_size_that_was_seen_counts_at_the_next_load(many, monkeypatch) -> None:
    size = weights(many)
    runtime = Runtime(many, memory_budget=int(size * 2.5))
    grown(monkeypatch, {"m0": int(size * 2.2)})
    for name in ("m0", "m1"):
        runtime.run(name, "def", max_new_tokens=1)
    assert runtime.health("m0").state == "not loaded"
    assert runtime.health("m1").bytes == size  # less than its tensors take is not believed
    runtime.load("m0")
    assert runtime.health("m1").state == "not loaded"
    assert runtime.health("m0").bytes == int(size * 2.2)


async def test_a_model_that_outgrew_the_budget_is_loaded_alone(many, monkeypatch) -> None:
    size = weights(many)
    runtime = Runtime(many, memory_budget=int(size * 2.5))
    grown(monkeypatch, {"m0": size * 3})
    for name in ("m0", "m1"):
        runtime.run(name, "def", max_new_tokens=1)
    pipeline = await asyncio.wait_for(runtime.aload("m0"), 20)
    assert pipeline.loaded
    assert runtime.health("m1").state == "not loaded"


def test_a_load_does_not_wait_after_others_were_unloaded(many, exact, monkeypatch) -> None:
    monkeypatch.setattr("tryage.runtime.memory._POLL", 20)
    runtime = Runtime(many, memory_budget=int(weights(many) * 1.5))
    runtime.load("m0")
    started = time.perf_counter()
    runtime.load("m1")
    assert time.perf_counter() - started < 10


def test_unloading_waits_for_the_calls_of_the_model(many) -> None:
    runtime = Runtime(many)
    pipeline = runtime.load("m0")
    with pipeline.turn():
        unloading = threading.Thread(target=runtime.unload, args=("m0",))
        unloading.start()
        unloading.join(0.3)
        assert unloading.is_alive()
        assert pipeline.loaded
    unloading.join(30)
    assert not unloading.is_alive()
    assert not pipeline.loaded


async def test_who_waits_for_the_load_of_another_model_can_give_up(many, monkeypatch) -> None:
    loading, loaded = threading.Event(), threading.Event()
    load_parts = runtime_module.load_parts

    def slowly(*args, **options):
        loading.set()
        assert loaded.wait(60)
        return load_parts(*args, **options)

    runtime = Runtime(many)
    monkeypatch.setattr(runtime_module, "load_parts", slowly)
    first = asyncio.create_task(runtime.aload("m0"))
    assert await asyncio.to_thread(loading.wait, 60)
    second = asyncio.create_task(runtime.aload("m1"))
    await asyncio.sleep(0.2)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    loaded.set()
    assert (await first).loaded
    assert runtime.health("m1").state == "not loaded"
    assert runtime.health("m1").calls == 0


def weights_of(runtime: Runtime) -> int:
    return runtime.load("m0").estimate()


def test_unloading_frees_the_model(many) -> None:
    import weakref

    with Runtime(many) as runtime:
        runtime.run("m0", "def", max_new_tokens=2)
        model = weakref.ref(runtime.load("m0").model)
        runtime.unload("m0")
        runtime.unload("m1")
        assert model() is None
        runtime.load("m1")
    assert runtime.health("m1").state == "not loaded"


def test_warm_up_answers_once_with_each(tiny_library) -> None:
    runtime = Runtime(Library.read(tiny_library))
    took = runtime.warm_up(["code-gpt", "prose-bert"])
    assert list(took) == ["code-gpt", "prose-bert"]
    assert all(seconds > 0 for seconds in took.values())
    assert runtime.health("code-gpt").state == "ready"
    assert set(runtime.warm_up()) == set(runtime.library.names)


def test_health_counts_calls_and_says_why_one_failed(tiny_library, monkeypatch) -> None:
    runtime = Runtime(Library.read(tiny_library))
    runtime.run("code-gpt", "def", max_new_tokens=2)
    assert (runtime.health("code-gpt").calls, runtime.health("code-gpt").state) == (1, "ready")
    assert runtime.health("code-gpt").seconds > 0
    model = runtime.load("code-gpt").model
    with monkeypatch.context() as patched:
        patched.setattr(model, "forward", lambda *_, **__: 1 / 0 if False else [][1])
        with pytest.raises(RuntimeError):
            runtime.run("code-gpt", "def", max_new_tokens=2)
    health = runtime.health("code-gpt")
    assert (health.state, health.failures, health.calls) == ("failing", 1, 2)
    assert health.error.startswith("ExpertError: expert 'code-gpt' failed")
    runtime.run("code-gpt", "def", max_new_tokens=2)
    assert runtime.health("code-gpt").state == "ready"


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4GB", 4 * 10**9),
        ("1.5 GiB", 3 * 2**29),
        ("100 mb", 10**8),
        (77, 77),
        ("5", 5),
        (None, None),
    ],
)
def test_sizes_are_read(text, size) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "much", "-1GB", 0])
def test_sizes_that_are_none(text) -> None:
    with pytest.raises(ValueError, match="memory_budget"):
        parse_bytes(text)


def test_sizes_are_written() -> None:
    assert [size_text(n) for n in (12, 3400, 5.6e6, 7.89e9)] == [
        "12 bytes",
        "3.4 kB",
        "5.6 MB",
        "7.89 GB",
    ]
