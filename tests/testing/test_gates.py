"""`Gate`: calls wait for it, blocking or awaited, and go on when it opens."""

import asyncio
import threading

import pytest

from langchain_tryage.testing import ScriptedChat, ScriptedText
from llama_index_tryage.testing import ScriptedLLM
from tryage.testing import Gate


def test_threads_wait_until_it_opens():
    gate, passed = Gate(), []
    threads = [threading.Thread(target=lambda: passed.append(gate.wait())) for _ in range(3)]
    for thread in threads:
        thread.start()
    gate.wait_for_calls(3)
    assert (gate.waiting, passed) == (3, [])
    gate.open()
    for thread in threads:
        thread.join(10)
    assert (gate.waiting, len(passed)) == (0, 3)
    gate.wait()


async def test_tasks_wait_until_it_opens_in_another_thread():
    gate = Gate()
    tasks = [asyncio.create_task(gate.wait_async()) for _ in range(3)]
    await asyncio.sleep(0)
    assert gate.waiting == 3
    await asyncio.to_thread(gate.open)
    await asyncio.wait_for(asyncio.gather(*tasks), 10)
    assert (gate.waiting, gate.cancelled) == (0, 0)
    await gate.wait_async()


async def test_cancelled_calls_are_counted():
    gate = Gate()
    task = asyncio.create_task(gate.wait_async())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (gate.waiting, gate.cancelled) == (0, 1)


async def test_a_gate_that_nobody_opens_lets_go():
    gate = Gate(seconds=0.01)
    gate.wait()
    await gate.wait_async()
    with pytest.raises(TimeoutError, match="0 of 1 calls came"):
        gate.wait_for_calls()


async def test_scripted_experts_wait_and_answer_what_they_are_told():
    for expert, ask, aask in (
        (ScriptedChat(label="a", answer="yes"), "invoke", "ainvoke"),
        (ScriptedText(label="a", answer="yes"), "invoke", "ainvoke"),
        (ScriptedLLM(label="a", answer="yes"), "complete", "acomplete"),
    ):
        gate = expert.gate = Gate()
        task = asyncio.create_task(getattr(expert, aask)("?"))
        call = asyncio.create_task(asyncio.to_thread(getattr(expert, ask), "?"))
        await asyncio.to_thread(gate.wait_for_calls, 2)
        assert not expert.calls
        gate.open()
        for answer in await asyncio.gather(task, call):
            assert (answer if isinstance(answer, str) else answer.text) == "yes"
        expert.answer = lambda sent: f"{len(sent)} sent"
        answer = getattr(expert, ask)("?")
        assert (answer if isinstance(answer, str) else answer.text) == "1 sent"
