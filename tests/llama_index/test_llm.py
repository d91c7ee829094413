"""`TryageLLM`: all eight methods, the user's own flags, the child's events, every fault."""

import asyncio
import threading

import pytest
from llama_index.core import PromptTemplate
from llama_index.core.base.llms.types import ChatMessage, ImageBlock, MessageRole, TextBlock
from llama_index.core.chat_engine import SimpleChatEngine
from llama_index.core.indices.prompt_helper import PromptHelper
from llama_index.core.memory import ChatMemoryBuffer

from llama_index_tryage import TryageLLM
from tryage import Goals, Policy, TryageWarning
from tryage.errors import (
    DispatchError,
    FlagError,
    LibraryError,
    NoEligibleExpertError,
    PromptError,
    RouterNotFoundError,
)

FLAG = "[Flag: size=2]"


def user(text):
    return [ChatMessage("Be brief.", role="system"), ChatMessage(text)]


async def every_way(llm, text, **kwargs):
    """Call an LLM in all eight ways; (text, responses) each."""
    responses = [
        [llm.chat(user(text), **kwargs)],
        [llm.complete(text, **kwargs)],
        list(llm.stream_chat(user(text), **kwargs)),
        list(llm.stream_complete(text, **kwargs)),
        [await llm.achat(user(text), **kwargs)],
        [await llm.acomplete(text, **kwargs)],
        [r async for r in await llm.astream_chat(user(text), **kwargs)],
        [r async for r in await llm.astream_complete(text, **kwargs)],
    ]
    return [(text_of(pieces[-1]), pieces) for pieces in responses]


def text_of(response):
    return response.message.content if hasattr(response, "message") else response.text


async def test_every_way_answers_with_the_chosen_expert(router, kit):
    for kind in (kit.Scripted, kit.Simple):
        llm = TryageLLM(router, kit.experts(kind))
        for text, responses in await every_way(llm, kit.code):
            assert text.startswith("coder says ")
            assert kit.code.strip() in text
            for response in responses:
                decision = response.additional_kwargs["tryage"]
                assert (decision["expert"], decision["answered_by"]) == ("coder", "coder")
                assert [t["expert"] for t in decision["tried"]] == ["coder"]
                if hasattr(response, "message"):
                    assert "tryage" not in response.message.additional_kwargs
    assert TryageLLM(router, kit.experts()).complete(kit.prose).text == f"writer says {kit.prose}"


async def test_streams_stream_and_keep_raw(router, kit):
    llm = TryageLLM(router, kit.experts())
    for place, (_, responses) in enumerate(await every_way(llm, kit.code)):
        assert (len(responses) > 3) == (place in (2, 3, 6, 7))
        assert all(response.raw == {"model": "coder"} for response in responses)
        if len(responses) > 1:
            assert "".join(r.delta for r in responses) == text_of(responses[-1])


def test_the_response_of_the_expert_is_not_touched(router, kit):
    responses = []

    class Keeping(kit.Scripted):
        def _chat(self, text, delta=None):
            responses.append(super()._chat(text, delta))
            return responses[-1]

    TryageLLM(router, kit.experts(Keeping)).chat(user(kit.code))
    assert responses[0].additional_kwargs == {}


async def test_arguments_reach_the_expert_in_every_way(router, kit):
    experts = kit.experts()
    await every_way(TryageLLM(router, experts), kit.code, temperature=0.3)
    assert len(experts["coder"].calls) == 8
    assert all(kwargs["temperature"] == 0.3 for _, kwargs in experts["coder"].calls)
    TryageLLM(router, experts).complete(kit.code, formatted=True)
    assert experts["coder"].calls[-1][1] == {"formatted": True}


async def test_fails_over_in_order_and_says_so(router, kit):
    llm = TryageLLM(router, kit.experts(coder={"fault": ValueError("no")}))
    for text, responses in await every_way(llm, kit.code):
        assert text.startswith("giant says")
        for response in responses:
            decision = response.additional_kwargs["tryage"]
            assert (decision["expert"], decision["answered_by"]) == ("coder", "giant")
            assert [t["error"] for t in decision["tried"]] == ["ValueError: no", None]


async def test_never_fails_over_after_the_first_chunk(router, kit):
    experts = kit.experts(coder={"late": ConnectionError("cut")})
    llm = TryageLLM(router, experts)
    stream = llm.stream_chat(user(kit.code))
    assert next(stream).delta == "coder"
    with pytest.raises(ConnectionError, match="cut"):
        next(stream)
    astream = await llm.astream_complete(kit.code)
    assert (await anext(astream)).delta == "coder"
    with pytest.raises(ConnectionError, match="cut"):
        await anext(astream)
    assert not experts["giant"].calls


async def test_all_down_is_one_error_that_lists_them(router, kit):
    faults = {name: {"fault": ValueError(name)} for name in ("coder", "writer", "giant")}
    llm = TryageLLM(router, kit.experts(**faults))
    for call in (llm.chat, llm.stream_chat):
        with pytest.raises(DispatchError, match="each of the 3 experts") as caught:
            call(user(kit.code))
        assert [attempt.expert for attempt in caught.value.tried] == ["coder", "giant", "writer"]
    for acall in (llm.acomplete, llm.astream_complete):
        with pytest.raises(DispatchError):
            await acall(kit.code)
    with pytest.raises(DispatchError, match="the one expert"):
        TryageLLM(router, kit.experts(**faults), max_attempts=1).complete(kit.code)
    with pytest.raises(ValueError, match="coder"):
        TryageLLM(router, kit.experts(**faults), errors=(TimeoutError,)).complete(kit.code)


async def test_an_expert_that_streams_nothing_has_failed(router, kit):
    class Silent(kit.Scripted):
        def _pieces(self, call_input, kwargs):
            return iter(()) if self.label == "coder" else super()._pieces(call_input, kwargs)

    llm = TryageLLM(router, kit.experts(Silent))
    assert text_of(list(llm.stream_complete(kit.code))[-1]).startswith("giant")
    responses = [r async for r in await llm.astream_complete(kit.code)]
    assert text_of(responses[-1]).startswith("giant")


async def test_closing_a_stream_closes_the_expert_s(router, kit):
    experts = kit.experts()
    llm = TryageLLM(router, experts)
    stream = llm.stream_chat(user(kit.code))
    next(stream)
    stream.close()
    astream = await llm.astream_chat(user(kit.code))
    await anext(astream)
    await astream.aclose()
    # LlamaIndex's own wrapper leaves the inner generator to the event loop, here as in a direct
    # call.
    for _ in range(5):
        await asyncio.sleep(0)
    assert experts["coder"].closed == ["coder"] * 2


async def test_a_stream_that_nobody_reads_closes_the_expert_s(router, kit):
    experts = kit.experts()
    llm = TryageLLM(router, experts)
    llm.stream_chat(user(kit.code)).close()
    astream = await llm.astream_chat(user(kit.code))
    await astream.aclose()
    for _ in range(5):
        await asyncio.sleep(0)
    assert experts["coder"].closed == ["coder"] * 2


async def test_cancelling_a_reader_mid_stream_closes_the_expert_s(router, kit):
    class Halting(kit.Scripted):
        """Hangs after its first chunk."""

        async def astream_chat(self, messages, **kwargs):
            return self._halt(self._chat("one", "one"))

        async def astream_complete(self, prompt, formatted=False, **kwargs):
            return self._halt(self._completion("one", "one"))

        async def _halt(self, first):
            try:
                yield first
                await asyncio.sleep(3600)
            finally:
                self.closed.append(self.label)

    experts = kit.experts(Halting)
    llm = TryageLLM(router, experts)
    for open_stream in (
        lambda: llm.astream_chat(user(kit.code)),
        lambda: llm.astream_complete(kit.code),
    ):
        deltas = []

        async def read(open_stream=open_stream, deltas=deltas):
            async for response in await open_stream():
                deltas.append(response.delta)

        task = asyncio.create_task(read())
        async with asyncio.timeout(30):
            while not deltas:
                await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert deltas == ["one"]
        assert asyncio.all_tasks() == {asyncio.current_task()}
    assert experts["coder"].closed == ["coder"] * 2
    assert not experts["giant"].closed


async def test_cancelling_calls_no_other_expert(router, kit):
    class Hanging(kit.Scripted):
        async def achat(self, messages, **kwargs):
            self.calls.append(messages)
            await asyncio.sleep(3600)

    experts = kit.experts(Hanging)
    task = asyncio.create_task(TryageLLM(router, experts).achat(user(kit.code)))
    async with asyncio.timeout(30):
        while not experts["coder"].calls:
            await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not experts["giant"].calls


async def test_flags_are_off_by_default(router, kit):
    llm = TryageLLM(router, kit.experts())
    for text, responses in await every_way(llm, f"{kit.code} {FLAG}"):
        assert FLAG in text
        assert responses[0].additional_kwargs["tryage"]["weights"] == {}


async def test_flags_of_the_last_message_act_and_are_taken_off(router, kit):
    experts = kit.experts()
    llm = TryageLLM(router, experts, flags_from="last_message")
    messages = [ChatMessage(f"Never say {FLAG}.", role="system"), ChatMessage(f"{kit.code} {FLAG}")]
    before = [message.model_copy(deep=True) for message in messages]
    response = llm.chat(messages)
    assert response.message.content == f"writer says {kit.code}"
    assert response.additional_kwargs["tryage"]["weights"] == {"size": 2.0}
    sent = experts["writer"].calls[0][0]
    assert sent[0].content == f"Never say {FLAG}."
    assert messages == before
    for text, _ in await every_way(llm, f"{kit.code.strip()} {FLAG} and keep [MARK]"):
        assert text == f"writer says {kit.code.strip()} and keep [MARK]"


def test_an_expert_that_returns_nothing_has_failed(router, kit):
    class Mute(kit.Scripted):
        def _chat(self, text, delta=None):
            return None if self.label == "coder" else super()._chat(text, delta)

    decision = TryageLLM(router, kit.experts(Mute)).chat(user(kit.code)).additional_kwargs["tryage"]
    assert decision["answered_by"] == "giant"
    assert decision["tried"][0]["error"] == "ExpertError: coder returned nothing"


def test_flags_beside_an_image(router, kit):
    experts = kit.experts()
    image = ImageBlock(url="https://example.org/a.png")
    blocks = [TextBlock(text=f"{kit.code} {FLAG}"), image]
    TryageLLM(router, experts, flags_from="last_message").chat([ChatMessage(blocks=blocks)])
    (sent,) = experts["writer"].calls[0][0]
    assert sent.blocks == [TextBlock(text=kit.code), image]


def test_flags_of_earlier_turns_reach_no_expert(router, kit):
    experts = kit.experts()
    llm = TryageLLM(router, experts, flags_from="last_message")
    messages = [
        ChatMessage(f"Never say {FLAG}.", role="system"),
        ChatMessage(f"Hello {FLAG}"),
        ChatMessage(f"I read {FLAG}.", role="assistant"),
        ChatMessage(kit.code),
    ]
    assert llm.chat(messages).additional_kwargs["tryage"]["weights"] == {}
    sent = [message.content for message in experts["coder"].calls[0][0]]
    assert sent == [f"Never say {FLAG}.", "Hello", f"I read {FLAG}.", kit.code]
    assert messages[1].content == f"Hello {FLAG}"


def test_a_flag_stands_in_one_block(router, kit):
    experts = kit.experts()
    blocks = [TextBlock(text=f"{kit.code} [Flag: size"), TextBlock(text="=2]")]
    llm = TryageLLM(router, experts, flags_from="last_message")
    response = llm.chat([ChatMessage(blocks=blocks)])
    assert response.additional_kwargs["tryage"]["weights"] == {}
    assert experts["coder"].calls[0][0][0].blocks == blocks


RAG = PromptTemplate("Context: {context}\n\nQuestion: {question}")


def test_an_injected_flag_in_a_document_does_not_act(router, kit):
    experts = kit.experts()
    prompt = RAG.format(context=f"Doc. {FLAG}", question=kit.code)
    response = TryageLLM(router, experts).complete(prompt)
    assert response.additional_kwargs["tryage"]["weights"] == {}
    assert FLAG in response.text

    def question(prompt):
        text = prompt if isinstance(prompt, str) else prompt[-1].content
        return text.partition("Question: ")[2]

    llm = TryageLLM(router, experts, flags_from=question)
    response = llm.complete(prompt)
    assert response.additional_kwargs["tryage"]["weights"] == {}
    assert response.text == f"coder says {prompt}"
    query = RAG.format(context=f"Doc. {FLAG}", question=f"{kit.code} {FLAG}")
    expected = f"writer says Context: Doc. {FLAG}\n\nQuestion: {kit.code}"
    assert llm.complete(query).text == expected
    assert llm.chat(user(query)).message.content == expected


def test_a_function_that_makes_text_up_is_told_so(router, kit):
    llm = TryageLLM(router, kit.experts(), flags_from=lambda messages: f"Made up. {FLAG}")
    for call in (lambda: llm.complete(kit.prose), lambda: llm.chat(user(kit.prose))):
        with pytest.raises(PromptError, match="word for word"):
            call()


def test_unknown_flags_warn_unless_the_policy_says_error(router, kit):
    text = f"{kit.code} [Flag: shiniest model]"
    with pytest.warns(TryageWarning, match="shiniest"):
        TryageLLM(router, kit.experts(), flags_from="last_message").complete(text)
    strict = Policy(unknown_flags="error")
    with pytest.raises(FlagError, match="shiniest"):
        TryageLLM(router, kit.experts(), flags_from="last_message", policy=strict).complete(text)


def test_the_user_s_last_message_is_routed(router, kit):
    llm = TryageLLM(router, kit.experts())

    def chosen(*messages):
        return llm.chat(list(messages)).additional_kwargs["tryage"]["expert"]

    answer = ChatMessage(kit.prose, role=MessageRole.ASSISTANT)
    assert chosen(ChatMessage(kit.prose), answer, ChatMessage(kit.code)) == "coder"
    assert chosen(ChatMessage(kit.code), answer) == "coder"
    assert chosen(ChatMessage(kit.prose, role=MessageRole.SYSTEM)) == "writer"
    with pytest.raises(PromptError, match="list of messages is empty"):
        llm.chat([])
    with pytest.raises(PromptError, match="the prompt is empty"):
        llm.complete(" ")


def test_goals_limits_and_policy(router, kit):
    small = TryageLLM(router, kit.experts(), goals=Goals(size=2.0))
    assert small.complete(kit.code).text.startswith("writer")
    nobody = TryageLLM(router, kit.experts(), goals=Goals(limits={"parameters": "<=1M"}))
    with pytest.raises(NoEligibleExpertError, match="giant"):
        nobody.complete(kit.code)


def test_metadata_holds_for_every_expert(router, kit):
    experts = kit.experts(coder={"window": 8000}, writer={"window": 500}, giant={"output": 512})
    llm = TryageLLM(router, experts)
    assert llm.metadata.context_window == 500
    assert llm.metadata.num_output == 256
    assert llm.metadata.is_chat_model
    assert llm.metadata.model_name == "tryage:made-up"
    assert TryageLLM(router, experts, context_window=99).metadata.context_window == 99
    bounded = Policy(limits={"parameters": ">=2B"})
    assert TryageLLM(router, experts, policy=bounded).metadata.context_window == 4096
    limited = Goals(limits={"parameters": ">=2B"})
    assert TryageLLM(router, experts, goals=limited).metadata.context_window == 4096
    assert not TryageLLM(router, kit.experts(kit.Simple)).metadata.is_chat_model


def test_system_prompts_take_a_role_that_every_expert_takes(router, kit):
    class Early(kit.Scripted):
        """Like reasoning models that refuse system messages."""

        @property
        def metadata(self):
            return super().metadata.model_copy(update={"system_role": MessageRole.USER})

    assert TryageLLM(router, kit.experts()).metadata.system_role == MessageRole.SYSTEM
    assert TryageLLM(router, kit.experts(Early)).metadata.system_role == MessageRole.USER
    mixed = kit.experts() | {"giant": Early(label="giant")}
    llm = TryageLLM(router, mixed)
    assert llm.metadata.system_role == MessageRole.USER
    engine = SimpleChatEngine.from_defaults(
        llm=llm, system_prompt="Be brief.", memory=ChatMemoryBuffer.from_defaults()
    )
    engine.chat(kit.code)
    ((sent, _),) = mixed["coder"].calls
    assert [message.role for message in sent] == [MessageRole.USER] * 2


@pytest.mark.parametrize(
    ("coder", "writer"),
    [((1024, 64), (128_000, 4096)), ((1000, 64), (1200, 1000)), ((500, 100), (500, 200))],
)
def test_packed_prompts_leave_every_expert_room_for_its_answer(router, kit, coder, writer):
    both = dict(zip(("coder", "writer"), (coder, writer), strict=True))
    experts = {n: kit.Scripted(label=n, window=w, output=o) for n, (w, o) in both.items()}
    metadata = TryageLLM(router, experts).metadata
    assert metadata.context_window == min(coder[0], writer[0])
    room = min(window - output for window, output in both.values())
    assert metadata.context_window - metadata.num_output == room
    helper = PromptHelper.from_llm_metadata(metadata)
    assert helper.repack(PromptTemplate("{context_str}"), ["hello"]) == ["hello"]
    small = TryageLLM(router, experts, context_window=99).metadata
    assert 0 < small.num_output < 99


def test_a_rate_limiter_of_the_router_holds(router, kit):
    class Counting:
        count = 0

        def acquire(self):
            self.count += 1

        async def async_acquire(self):
            self.count += 1

    limiter = Counting()
    llm = TryageLLM(router, kit.experts(), rate_limiter=limiter)
    llm.complete(kit.code)
    asyncio.run(llm.acomplete(kit.code))
    assert limiter.count == 2


def test_experts_are_checked_at_construction(router, kit, tmp_path):
    with pytest.raises(TypeError, match="it must be an LLM"):
        TryageLLM(router, {"coder": str.upper})
    with pytest.raises(LibraryError, match=r"'codr'\. Did you mean 'coder'"):
        TryageLLM(router, {"codr": kit.Scripted(label="a")})
    with pytest.raises(TypeError, match=r"'alias'\. Did you mean 'aliases'"):
        TryageLLM(router, kit.experts(), alias={})
    with pytest.raises(RouterNotFoundError):
        TryageLLM("no/such/folder", kit.experts())
    with pytest.raises(ValueError, match="have no such key"):
        TryageLLM(router, kit.experts(), flags_from="question")
    router.save_pretrained(tmp_path / "r")
    named = TryageLLM(str(tmp_path / "r"), {"a": kit.Scripted(label="a")}, aliases={"a": "writer"})
    decision = named.complete(kit.code).additional_kwargs["tryage"]
    assert decision["expert"] == "writer"
    reasons = {row["expert"]: row.get("reason") for row in decision["ranking"]}
    assert reasons["coder"] == "no callable was given for it"


def test_repr_and_payload_hold_names_only(router, kit):
    llm = TryageLLM(router, {"coder": kit.Scripted(label="secret")})
    assert "coder" in repr(llm)
    assert "secret" not in repr(llm)
    assert "secret" not in str(llm.to_payload())
    assert "secret" not in str(llm.to_dict())


async def test_the_event_loop_stays_free(router, kit):
    entered = 0
    all_in = asyncio.Event()

    class Meeting(kit.Scripted):
        async def achat(self, messages, **kwargs):
            nonlocal entered
            entered += 1
            if entered == 20:
                all_in.set()
            await all_in.wait()
            return self._chat("met")

    llm = TryageLLM(router, kit.experts(Meeting))
    responses = await asyncio.gather(*(llm.achat(user(kit.code)) for _ in range(20)))
    assert {text_of(response) for response in responses} == {"met"}


def test_fifty_threads(router, kit):
    llm = TryageLLM(router, kit.experts())
    barrier = threading.Barrier(50)
    texts = [None] * 50

    def work(number):
        barrier.wait()
        texts[number] = llm.complete(kit.code if number % 2 else kit.prose).text

    threads = [threading.Thread(target=work, args=(number,)) for number in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [text.partition(" ")[0] for text in texts] == ["writer", "coder"] * 25


def test_it_is_an_llm_of_llama_index():
    assert "BaseLLM" in [cls.__name__ for cls in TryageLLM.__mro__]
    assert TryageLLM.class_name() == "TryageLLM"


async def test_experts_left_out_run_the_library_s_own_pipelines(tiny_router):
    llm = TryageLLM(tiny_router)
    assert llm.metadata.context_window == 128
    for text, responses in await every_way(llm, "The quiet river follows", max_tokens=5):
        assert text
        assert responses[-1].additional_kwargs["tryage"]["answered_by"] == "prose-gpt"
        assert responses[-1].raw["usage"]["completion_tokens"] <= 5
    for text, responses in await every_way(llm, "The quiet [MASK] follows the garden."):
        assert text.startswith("The quiet ")
        assert "[MASK]" not in text
        assert responses[-1].additional_kwargs["tryage"]["answered_by"] == "prose-bert"
