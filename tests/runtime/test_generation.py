import asyncio
import concurrent.futures
import time

import pytest

from tryage import Library
from tryage.errors import ExpertError, PromptError
from tryage.runtime import Runtime, TextGenerationPipeline

TEMPLATE = (
    "{% for m in messages %}<s>{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant: {% endif %}"
)


@pytest.fixture(scope="module")
def runtime(tiny_library) -> Runtime:
    return Runtime(Library.read(tiny_library))


@pytest.fixture
def code(runtime) -> TextGenerationPipeline:
    return runtime.load("code-gpt")


def test_only_the_answer_comes_back_with_its_counts(code) -> None:
    prompt = "def alpha_count("
    answer = code.generate(prompt, max_new_tokens=20)
    assert answer.text
    assert not answer.text.startswith(prompt)
    assert answer.prompt_tokens == len(code.tokenizer(prompt)["input_ids"])
    assert 1 <= answer.completion_tokens <= 20
    assert answer.seconds > 0
    assert not answer.truncated


def test_it_writes_what_the_model_itself_writes(code) -> None:
    ids = code.tokenizer("def total_", return_tensors="pt")
    own = code.model.generate(**ids, max_new_tokens=25, do_sample=False, pad_token_id=1)
    text = code.tokenizer.decode(own[0, ids["input_ids"].shape[1] :], skip_special_tokens=True)
    assert code.generate("def total_", max_new_tokens=25).text == text


def test_reasons_to_finish(code) -> None:
    assert code.generate("def alpha", max_new_tokens=3).finish_reason == "length"
    whole = code.generate("def alpha", max_new_tokens=100)
    assert whole.finish_reason == "stop"
    stopped = code.generate("def alpha", max_new_tokens=100, stop=["\n"])
    assert stopped.finish_reason == "stop"
    assert stopped.text == whole.text.split("\n")[0]
    assert code.generate("def alpha", max_new_tokens=100, stop="\n").text == stopped.text


def test_a_seed_repeats_a_sample_and_leaves_the_global_generator_alone(code) -> None:
    import torch

    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    options = {"temperature": 1.5, "max_new_tokens": 30}
    one = code.generate("def ", seed=1, **options)
    assert torch.rand(1) == expected
    assert code.generate("def ", seed=1, **options).text == one.text
    others = {code.generate("def ", seed=seed, **options).text for seed in range(2, 6)}
    assert len(others | {one.text}) > 1
    assert isinstance(code.generate("def ", **options).text, str)


def test_samples_follow_the_model(code) -> None:
    """First tokens drawn at temperature 1 are distributed as the model says."""
    import torch

    ids = code.tokenizer("def ", return_tensors="pt")
    with torch.no_grad():
        p = code.model(**ids).logits[0, -1].softmax(-1)
    best = code.tokenizer.decode([int(p.argmax())])
    n = 300
    hits = sum(
        code.generate("def ", max_new_tokens=1, temperature=1.0, seed=s).text == best
        for s in range(n)
    )
    assert hits / n == pytest.approx(float(p.max()), abs=0.12)


def test_a_long_prompt_keeps_its_end_and_says_so(code) -> None:
    long = "def alpha(beta):\n    return beta\n" * 40
    answer = code.generate(long, max_new_tokens=10)
    assert answer.truncated
    assert answer.prompt_tokens == code.context - 10
    end = code.tokenizer.decode(code.tokenizer(long, verbose=False)["input_ids"][-118:])
    assert answer.text == code.generate(end, max_new_tokens=10).text


def test_more_tokens_asked_for_than_the_context_holds(code) -> None:
    prompt = "def alpha_count(total, index=5):\n    if total > index:\n"
    whole = code.generate(prompt, max_new_tokens=8)
    answer = code.generate(prompt, max_new_tokens=10_000)
    assert (answer.prompt_tokens, answer.truncated) == (whole.prompt_tokens, False)
    assert answer.text.startswith(whole.text)
    assert answer.completion_tokens <= code.context - answer.prompt_tokens


def test_a_long_prompt_leaves_room_for_an_answer_and_no_more(code, monkeypatch) -> None:
    long = "def alpha(beta):\n    return beta\n" * 40
    for limit in (512, code.context // 4):
        answer = code.generate(long, max_new_tokens=limit)
        assert (answer.prompt_tokens, answer.truncated) == (code.context - code.context // 4, True)
    monkeypatch.setattr(code, "context", 1)
    assert code.generate("def alpha", max_new_tokens=3).prompt_tokens == 1


def prompts_of(pipeline, monkeypatch) -> list[list[int]]:
    """The prompts that go into a pipeline's model from now on."""
    prompts: list[list[int]] = []
    generate = pipeline.model.generate

    def noted(ids, **options):
        prompts.extend(ids.tolist())
        return generate(ids, **options)

    monkeypatch.setattr(pipeline.model, "generate", noted)
    return prompts


def test_a_prompt_that_is_cut_keeps_its_start_token(tiny_library, monkeypatch) -> None:
    from tokenizers.processors import TemplateProcessing

    pipeline = Runtime(Library.read(tiny_library)).load("code-gpt")
    start = pipeline.tokenizer.bos_token, pipeline.tokenizer.bos_token_id
    pipeline.tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{start[0]} $A", special_tokens=[start]
    )
    prompts = prompts_of(pipeline, monkeypatch)
    long = "def alpha(beta):\n    return beta\n" * 40
    assert pipeline.generate(long, max_new_tokens=10).truncated
    room = pipeline.context - 10
    ids = pipeline.encode(long)
    assert prompts == [[start[1], *ids[-(room - 1) :]]]


def test_a_text_that_its_tokenizer_closes_is_opened_again(tiny_library, monkeypatch) -> None:
    from tokenizers.processors import TemplateProcessing

    pipeline = Runtime(Library.read(tiny_library)).load("code-gpt")
    end = pipeline.tokenizer.eos_token, pipeline.tokenizer.eos_token_id
    pipeline.tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"$A {end[0]}", special_tokens=[end]
    )
    prompts = prompts_of(pipeline, monkeypatch)
    pipeline.generate("def alpha", max_new_tokens=2)
    assert prompts == [pipeline.encode("def alpha")]


@pytest.mark.parametrize("prompt", ["", "  \n", [], [{"role": "user"}], 7])
def test_a_prompt_that_says_nothing_is_refused(code, prompt) -> None:
    with pytest.raises(PromptError):
        code.generate(prompt)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens must be at least 1, not 0"),
        ({"max_new_tokens": "9"}, "max_new_tokens must be at least 1, not '9'"),
        ({"temperature": -1}, "temperature must be 0 or more, not -1"),
        ({"temperature": float("nan")}, "temperature must be 0 or more, not nan"),
        ({"temperature": "0"}, "temperature must be 0 or more, not '0'"),
        ({"stop": [5]}, r"stop must be texts, not \(5,\)"),
    ],
)
def test_options_out_of_range_are_refused(code, options, words) -> None:
    with pytest.raises(ValueError, match=words):
        code.generate("def", **options)


def test_chat_templates_are_used_where_there_is_one(tiny_library) -> None:
    pipeline = Runtime(Library.read(tiny_library)).load("code-gpt")
    messages = [{"role": "user", "content": "def"}]
    assert pipeline.prompt_ids(messages) == pipeline.prompt_ids("def")
    pair = [{"role": "system", "content": "Be brief."}, *messages]
    plain = pipeline.tokenizer.decode(pipeline.prompt_ids(pair))
    assert plain == "System: Be brief.\nUser: def\nAssistant:"
    pipeline.tokenizer.chat_template = TEMPLATE
    templated = pipeline.tokenizer.decode(pipeline.prompt_ids("def"))
    assert templated == "<s>user: def\n<s>assistant: "
    assert pipeline.prompt_ids("def", chat=False) == pipeline.encode("def")
    prefill = [*messages, {"role": "assistant", "content": "Sure"}]
    assert pipeline.tokenizer.decode(pipeline.prompt_ids(prefill)).endswith("assistant: Sure")
    assert pipeline.generate("def", max_new_tokens=5).prompt_tokens == len(
        pipeline.prompt_ids("def")
    )


STRICT = (
    "{% for m in messages %}"
    "{% if m.role not in ('user', 'assistant') %}{{ raise_exception('System role not supported') }}"
    "{% endif %}"
    "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate') }}{% endif %}"
    "<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>"
)


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ("user: hi", "<user>hi<assistant>"),
        ("system: Be brief. | user: hi", "<user>Be brief.\n\nhi<assistant>"),
        ("user: text | user: hi", "<user>text\n\nhi<assistant>"),
        (
            "system: Be brief. | user: a | assistant: b | system: Now. | user: c",
            "<user>Be brief.\n\na<assistant>b<user>Now.\n\nc<assistant>",
        ),
        (
            "user: a | assistant: I look. | tool: found | user: c",
            "<user>a<assistant>I look.<user>found\n\nc<assistant>",
        ),
        (
            "user: a | assistant: b | assistant: c | user: d",
            "<user>a<assistant>b\n\nc<user>d<assistant>",
        ),
    ],
)
def test_a_template_of_two_roles_in_turns_gets_such(tiny_library, messages, expected) -> None:
    pipeline = Runtime(Library.read(tiny_library)).load("code-gpt")
    pipeline.tokenizer.chat_template = STRICT
    sent = [
        {"role": role, "content": content}
        for role, _, content in (part.partition(": ") for part in messages.split(" | "))
    ]
    before = [dict(message) for message in sent]
    assert pipeline.tokenizer.decode(pipeline.prompt_ids(sent)) == expected
    assert sent == before
    assert pipeline.generate(sent, max_new_tokens=2).text


def test_a_template_that_takes_other_roles_gets_them(tiny_library) -> None:
    pipeline = Runtime(Library.read(tiny_library)).load("code-gpt")
    pipeline.tokenizer.chat_template = TEMPLATE
    sent = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}]
    templated = pipeline.tokenizer.decode(pipeline.prompt_ids([*sent, *sent]))
    assert templated.count("<s>system: Be brief.") == 2


def test_the_first_error_of_a_template_is_told(tiny_library) -> None:
    pipeline = Runtime(Library.read(tiny_library)).load("code-gpt")
    pipeline.tokenizer.chat_template = STRICT
    sent = [{"role": "assistant", "content": "Hi."}, {"role": "tool", "content": "x"}]
    with pytest.raises(ExpertError, match="failed: Conversation roles must alternate"):
        pipeline.generate(sent)


def test_calls_from_many_threads_give_what_one_gives(runtime) -> None:
    prompts = ["def alpha", "def total_item(", "    return ", "if value"] * 4
    alone = [runtime.run("code-gpt", prompt, max_new_tokens=8).text for prompt in prompts]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        together = pool.map(lambda p: runtime.run("code-gpt", p, max_new_tokens=8).text, prompts)
        assert list(together) == alone


async def test_async_calls_leave_the_event_loop_free(code) -> None:
    beats = 0

    async def beat() -> None:
        nonlocal beats
        while True:
            await asyncio.sleep(0.001)
            beats += 1

    heart = asyncio.create_task(beat())
    answer = await code.agenerate("def alpha", max_new_tokens=60)
    heart.cancel()
    assert beats > 2
    assert answer.text == code.generate("def alpha", max_new_tokens=60).text


async def test_a_cancelled_call_ends_its_generation(code, monkeypatch, never_ending) -> None:
    steps = 0
    forward = code.model.forward

    def counted(*args, **kwargs):
        nonlocal steps
        steps += 1
        return forward(*args, **kwargs)

    monkeypatch.setattr(code.model, "forward", counted)
    never_ending(code)
    call = asyncio.create_task(code.agenerate("def", max_new_tokens=120))
    deadline = time.monotonic() + 20
    while steps < 3:
        assert time.monotonic() < deadline
        await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert steps < 120
    assert not code._lock.locked()


def test_a_failing_chat_template_or_tokenizer_is_a_named_error(tiny_library, monkeypatch) -> None:
    pipeline = Runtime(Library.read(tiny_library)).load("code-gpt")
    pipeline.tokenizer.chat_template = "{{ raise_exception('roles must alternate') }}"
    with pytest.raises(ExpertError, match="'code-gpt' failed: roles must alternate"):
        pipeline.generate("def")

    def broken(*_, **__):
        raise Exception("no such token")

    monkeypatch.setattr(type(pipeline.tokenizer), "_encode_plus", broken)
    with pytest.raises(ExpertError, match="'code-gpt' failed: no such token"):
        pipeline.generate("def", chat=False)


def test_a_fault_of_the_code_around_a_model_is_not_the_models(code, monkeypatch) -> None:
    monkeypatch.setattr(code, "config", lambda new: new.no_such_attribute)
    with pytest.raises(AttributeError):
        code.generate("def")


def test_a_failing_model_is_a_named_error(code, monkeypatch) -> None:
    def broken(*_, **__):
        raise RuntimeError("no memory left\nmore detail")

    monkeypatch.setattr(code.model, "forward", broken)
    with pytest.raises(ExpertError, match=r"'code-gpt' failed: no memory left$") as caught:
        code.generate("def")
    assert isinstance(caught.value.__cause__, RuntimeError)
