"""Losses against the arithmetic done by hand, one model call per text."""

import math

import pytest

from tryage import Library
from tryage.errors import PromptError
from tryage.labeling import mask_words, measure
from tryage.labeling.likelihood import measure_rows
from tryage.labeling.rows import Row
from tryage.runtime import Runtime
from tryage.runtime.windows import windows

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def runtime(tiny_library) -> Runtime:
    return Runtime(Library.read(tiny_library))


def test_a_causal_loss_is_the_bits_of_the_text_over_its_bytes(runtime, tiny_texts) -> None:
    pipeline = runtime.load("code-gpt")
    text = tiny_texts["code"][0]
    ids = torch.tensor([[pipeline.start_token, *pipeline.encode(text)]])
    with torch.no_grad():
        logp = pipeline.model(ids).logits[0, :-1].log_softmax(-1)
    nats = -logp.gather(1, ids[0, 1:, None]).sum()
    (cell,) = measure(pipeline, [text])
    assert cell.loss == pytest.approx(float(nats) / math.log(2) / len(text.encode()), abs=1e-5)
    assert cell.token_loss == pytest.approx(float(nats) / (ids.shape[1] - 1), abs=1e-5)
    right = (logp.argmax(-1) == ids[0, 1:]).float().mean()
    assert cell.token_accuracy == pytest.approx(float(right))


def test_a_reference_is_scored_given_the_prompt(runtime) -> None:
    pipeline = runtime.load("code-gpt")
    prompt, reference = "def alpha_count(index, count=7):", "\n    if index > count:\n"
    ids = torch.tensor([pipeline.encode(prompt) + pipeline.encode(reference)])
    n = len(pipeline.encode(reference))
    with torch.no_grad():
        logp = pipeline.model(ids).logits[0, -n - 1 : -1].log_softmax(-1)
    nats = -logp.gather(1, ids[0, -n:, None]).sum()
    (cell,) = measure(pipeline, [{"prompt": prompt, "reference": reference}])
    expected = float(nats) / math.log(2) / len(reference.encode())
    assert cell.loss == pytest.approx(expected, abs=1e-5)
    assert cell.loss < measure(pipeline, [reference])[0].loss


def test_a_masked_loss_is_the_bits_of_the_hidden_words_over_their_bytes(runtime) -> None:
    import transformers

    pipeline = runtime.load("prose-bert")
    text = "The quiet river follows the garden."
    masked = mask_words(text, share=0.15)
    ((start, end),) = masked.spans
    tokens = pipeline.tokenizer(text[start:end], add_special_tokens=False)["input_ids"]
    shown = masked.prompt.replace("[MASK]", "[MASK]" * len(tokens))
    inputs = pipeline.tokenizer(shown, return_tensors="pt")
    with torch.no_grad():
        logp = pipeline.model(**inputs).logits[0].log_softmax(-1)
    places = (inputs["input_ids"][0] == pipeline.tokenizer.mask_token_id).nonzero()[:, 0]
    nats = -sum(float(logp[place, token]) for place, token in zip(places, tokens, strict=True))
    (cell,) = measure(pipeline, [text], mask_share=0.15)
    assert cell.loss == pytest.approx(nats / math.log(2) / (end - start), abs=1e-5)
    if len(tokens) == 1:
        own = transformers.pipeline(
            "fill-mask", model=pipeline.model, tokenizer=pipeline.tokenizer, device="cpu"
        )
        (best,) = own(masked.prompt, targets=text[start:end], top_k=1)
        assert cell.token_loss == pytest.approx(-math.log(best["score"]), abs=1e-4)


@pytest.mark.parametrize("expert", ["code-gpt", "prose-gpt", "code-bert", "prose-bert"])
def test_batches_change_nothing(runtime, tiny_texts, expert) -> None:
    pipeline = runtime.load(expert)
    texts = [*tiny_texts["code"], *tiny_texts["prose"], " ".join(tiny_texts["prose"]), "x"]
    texts += [{"prompt": f"{tiny_texts['code'][0]}{i}", "reference": "old"} for i in range(3)]
    if pipeline.task == "fill-mask":
        texts = texts[:-3]
    together = measure(pipeline, texts, mask_share=0.3)
    for text, cell in zip(texts, together, strict=True):
        for options in ({}, {"batch_tokens": 1}):
            (alone,) = measure(pipeline, [text], mask_share=0.3, **options)
            assert cell.loss == pytest.approx(alone.loss, abs=1e-4)
            assert cell.token_accuracy == pytest.approx(alone.token_accuracy)
    order = list(reversed(texts))
    for one, other in zip(measure(pipeline, order, mask_share=0.3), together[::-1], strict=True):
        assert one.loss == pytest.approx(other.loss, abs=1e-4)


def test_experts_win_on_their_own_domain(runtime, tiny_texts) -> None:
    for kind in ("gpt", "bert"):
        for domain, other in (("code", "prose"), ("prose", "code")):
            own = measure(runtime.load(f"{domain}-{kind}"), tiny_texts[domain], mask_share=0.3)
            far = measure(runtime.load(f"{other}-{kind}"), tiny_texts[domain], mask_share=0.3)
            assert all(a.loss < b.loss for a, b in zip(own, far, strict=True))
            assert sum(a.loss for a in own) / len(own) < 2


def test_a_long_text_is_measured_to_its_end(runtime, tiny_texts) -> None:
    pipeline = runtime.load("code-gpt")
    long = "".join(tiny_texts["code"])
    ids = pipeline.encode(long)
    assert len(ids) > 5 * pipeline.context
    nats = 0.0
    for start, end in windows(len(ids), pipeline.context - 1):
        row = torch.tensor([[pipeline.start_token, *ids[start:end]]])
        with torch.no_grad():
            logp = pipeline.model(row).logits[0, :-1].log_softmax(-1)
        nats -= float(logp.gather(1, row[0, 1:, None]).sum())
    (cell,) = measure(pipeline, [long])
    assert cell.loss == pytest.approx(nats / math.log(2) / len(long.encode()), abs=1e-4)
    assert not cell.truncated


@pytest.mark.parametrize("expert", ["prose-gpt", "prose-bert"])
def test_the_last_words_of_a_long_text_count(runtime, tiny_texts, expert) -> None:
    pipeline = runtime.load(expert)
    long = " ".join(tiny_texts["prose"])
    assert len(pipeline.encode(long)) > 3 * pipeline.context
    plain, odd = measure(pipeline, [long, long + " zqxj" * 200], mask_share=0.3)
    assert plain.loss < odd.loss


def test_a_prompt_that_does_not_fit_is_cut_and_says_so(runtime) -> None:
    pipeline = runtime.load("code-gpt")
    long = {"prompt": "def alpha(beta):\n    return beta\n" * 40, "reference": "def"}
    (cell,) = measure(pipeline, [long])
    assert cell.truncated
    assert math.isfinite(cell.loss)


def test_one_bad_row_does_not_spoil_the_others(runtime, monkeypatch) -> None:
    pipeline = runtime.load("code-gpt")
    forward = pipeline.model.forward
    poison = pipeline.encode("Z")[0]

    def refuses(ids, *args, **kwargs):
        if (ids == poison).any():
            raise RuntimeError("poisoned\nwith detail")
        return forward(ids, *args, **kwargs)

    monkeypatch.setattr(pipeline.model, "forward", refuses)
    good, bad, other = measure(pipeline, ["def alpha", "def Zeta", "return x"])
    assert bad.error == "RuntimeError: poisoned"
    assert math.isnan(bad.loss)
    assert good.error is other.error is None


@pytest.mark.parametrize(
    "fault",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        ValueError("odd input"),
        IndexError("index out of range in self"),
        MemoryError(),
        OSError("no device"),
    ],
)
def test_what_a_model_fails_on_is_told(runtime, monkeypatch, fault) -> None:
    pipeline = runtime.load("prose-bert")

    def broken(*_, **__):
        raise fault

    monkeypatch.setattr(pipeline.model, "forward", broken)
    cells = measure(pipeline, ["the old river", "a garden"])
    reason = f"{type(fault).__name__}: {fault}" if str(fault) else type(fault).__name__
    assert [one.error for one in cells] == [reason] * 2


def test_a_template_that_refuses_a_prompt_fails_its_row_alone(tiny_library) -> None:
    pipeline = Runtime(Library.read(tiny_library)).load("code-gpt")
    pipeline.tokenizer.chat_template = (
        "{% if 'bad' in messages[0]['content'] %}{{ raise_exception('refused') }}{% endif %}"
        "{{ messages[0]['content'] }}"
    )
    rows = [{"prompt": text, "reference": "x"} for text in ("bad", "good")]
    bad, good = measure(pipeline, rows)
    assert bad.error == "expert 'code-gpt' failed: refused"
    assert good.error is None


@pytest.mark.parametrize("fault", [TypeError, AttributeError, AssertionError, KeyError])
def test_a_fault_of_the_code_here_is_no_failed_cell(runtime, monkeypatch, fault) -> None:
    from tryage.labeling import likelihood, tokens, window_losses

    def broken(*_, **__):
        raise fault("a mistake")

    pipeline = runtime.load("code-gpt")
    for module, name in (
        (window_losses, "_losses"),
        (likelihood, "encode_row"),
        (tokens, "_keep_end"),
    ):
        with monkeypatch.context() as patched:
            patched.setattr(module, name, broken)
            with pytest.raises(fault, match="a mistake"):
                measure(pipeline, ["the old river"])


@pytest.mark.parametrize(("expert", "size", "special"), [("code-gpt", 1, 1), ("prose-bert", 2, 2)])
def test_a_window_without_room_is_told(runtime, expert, size, special) -> None:
    (cell,) = measure(runtime.load(expert), ["the old river"], max_window=size)
    assert cell.error == (
        f"a window of {size} tokens leaves no room for text beside {special} special tokens"
    )


def test_a_masked_expert_without_a_mask_token_is_told(tiny_library) -> None:
    pipeline = Runtime(Library.read(tiny_library)).load("prose-bert")
    pipeline.tokenizer.mask_token = None
    (cell,) = measure(pipeline, ["the old river"])
    assert "its tokenizer has no mask token" in cell.error


def test_an_output_that_is_not_a_number_is_a_failure(runtime, monkeypatch) -> None:
    pipeline = runtime.load("prose-bert")
    forward = pipeline.model.forward

    def broken(*args, **kwargs):
        output = forward(*args, **kwargs)
        output.logits = output.logits * float("nan")
        return output

    monkeypatch.setattr(pipeline.model, "forward", broken)
    (cell,) = measure(pipeline, ["the old river"])
    assert cell.error == "the model's output is not a number"


def test_no_batch_holds_more_tokens_than_allowed_padding_included(runtime) -> None:
    pipeline = runtime.load("code-gpt")
    sizes = (1, 20, 2, 1, 12, 1, 3)
    rows = [Row(str(i), "def alpha " * n, "text-generation") for i, n in enumerate(sizes)]
    lengths = [1 + len(pipeline.encode(row.prompt)) for row in rows]
    batches = [
        numbers for numbers, _ in measure_rows(pipeline, rows, max_window=128, batch_tokens=100)
    ]
    assert sorted(i for numbers in batches for i in numbers) == list(range(len(rows)))
    assert max(map(len, batches)) > 1
    for numbers in batches:
        longest = max(lengths[i] for i in numbers)
        assert len(numbers) == 1 or len(numbers) * longest <= 100


def test_prompts_are_checked(runtime) -> None:
    with pytest.raises(PromptError, match="prompt 2: prompt: is missing or empty"):
        measure(runtime.load("code-gpt"), ["fine", " "])
    with pytest.raises(PromptError, match="no expert of the library does 'fill-mask'"):
        measure(runtime.load("code-gpt"), [{"prompt": "a [MASK]", "reference": "a b"}])


def test_a_model_that_looks_at_what_stands_behind_is_read_with_its_mask(
    runtime, tiny_texts, monkeypatch
) -> None:
    """Padding would count as text in a model that is not causal."""
    pipeline = runtime.load("code-gpt").twin()
    texts = [*tiny_texts["code"][:6], "def alpha"]
    forward = pipeline.model.forward

    def looks_behind(ids, attention_mask=None, **options):
        output = forward(ids, attention_mask=attention_mask, **options)
        mask = torch.ones_like(ids) if attention_mask is None else attention_mask
        output.logits = output.logits * (1 + 0.01 * mask.sum(1))[:, None, None]
        return output

    monkeypatch.setattr(pipeline.model, "forward", looks_behind)
    together = measure(pipeline, texts)
    for text, cell in zip(texts, together, strict=True):
        assert cell.loss == pytest.approx(measure(pipeline, [text])[0].loss, abs=1e-4)
    assert max(rows for rows, _ in rows_scored(pipeline, texts)) > 1


def rows_scored(pipeline, texts):
    """Return the shape (rows, positions) of what the model's last layer scored, batch by batch."""
    shapes = []
    head = pipeline.model.get_output_embeddings()
    handle = head.register_forward_pre_hook(lambda _, args: shapes.append(args[0].shape[:2]))
    try:
        measure(pipeline, texts, batch_tokens=100)
    finally:
        handle.remove()
    return shapes


@pytest.mark.parametrize("expert", ["code-gpt", "prose-bert"])
def test_a_few_windows_of_a_model_tell_how_it_may_be_read(runtime, expert, tiny_texts) -> None:
    """Finding it out again for every block would cost a tenth of the run."""
    texts = [*tiny_texts["code"][:6], "def alpha"]
    pipeline = runtime.load(expert).twin()
    first, later = rows_scored(pipeline, texts), rows_scored(pipeline, texts)
    assert len(first) == len(later) + 2  # the trial, in both ways
    assert {rows for rows, _ in later} == {1}  # only positions where something is predicted
    for one, other in zip(
        measure(pipeline, texts), measure(pipeline, texts[::-1])[::-1], strict=True
    ):
        assert one.loss == pytest.approx(other.loss, abs=1e-4)
