"""Tokens of the hidden words: exact, for tokenizers of three kinds."""

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tryage import Expert, Library
from tryage.errors import ExpertError
from tryage.labeling import measure
from tryage.labeling.rows import Row, read_rows
from tryage.labeling.tokens import encode_row
from tryage.runtime import FillMaskPipeline, Runtime

TEXTS = [
    "The quiet river follows the garden, and the garden leaves a bright letter.",
    "def alpha_count(index, count=72):\n    if index > count:\n        return index - count\n",
    "It's (old)early,\nand-the  teacher's letter: 'winter'.",
    "naïve café 東京 x²",
]


@pytest.fixture(scope="module")
def runtime(tiny_library) -> Runtime:
    return Runtime(Library.read(tiny_library))


@pytest.fixture(scope="module")
def unigram(tiny_library, tmp_path_factory) -> FillMaskPipeline:
    """A masked expert (untrained) with the Unigram tokenizer of a causal one."""
    import transformers

    folder = tmp_path_factory.mktemp("unigram")
    tokenizer = transformers.AutoTokenizer.from_pretrained(
        tiny_library.parent / "models" / "prose-gpt"
    )
    config = transformers.RobertaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=130,
        pad_token_id=1,
    )
    transformers.RobertaForMaskedLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    expert = Expert(name="unigram", model=str(folder), task="fill-mask")
    return Runtime(Library([expert])).load("unigram")


@pytest.fixture(params=["code-bert", "prose-bert", "unigram"])
def masked_expert(request, runtime, unigram) -> FillMaskPipeline:
    return unigram if request.param == "unigram" else runtime.load(request.param)


def row_of(text: str, share: float = 0.3) -> Row:
    return read_rows([text], ("fill-mask",), mask_share=share)[0]


def spelled(pipeline: FillMaskPipeline, ids: list[int]) -> str:
    """What tokens stand for, without the marks that tokenizers put at word borders."""
    text = pipeline.tokenizer.decode(ids, clean_up_tokenization_spaces=False)
    return text.replace(" ", "").replace("##", "")


def hidden_text(pipeline: FillMaskPipeline, encoded) -> str:
    """What the tokens to predict stand for, of all windows."""
    return spelled(pipeline, [token for window in encoded.windows for token in window.targets])


@pytest.mark.parametrize("text", TEXTS[:3])
@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_hidden_tokens_spell_the_hidden_words(masked_expert, text, share) -> None:
    row = row_of(text, share)
    words = [text[start:end] for start, end in row.masked.spans]
    hidden = hidden_text(masked_expert, encode_row(masked_expert, row))
    known_parts = hidden.split(masked_expert.tokenizer.unk_token)  # any word may be unknown
    assert re.fullmatch(".+".join(map(re.escape, known_parts)), "".join(words))


def test_plain_text_is_tokenized_as_a_whole(masked_expert) -> None:
    """The usual case: the words' tokens are those of the running text."""
    (window,) = encode_row(masked_expert, row_of(TEXTS[0], 0.4)).windows
    ids = list(window.ids)
    for place, token in zip(window.at, window.targets, strict=True):
        ids[place] = token
    text_ids = ids[len(masked_expert.prefix) : len(ids) - len(masked_expert.suffix)]
    assert text_ids == masked_expert.tokenizer(TEXTS[0], add_special_tokens=False)["input_ids"]


def test_a_token_that_reaches_over_the_edge_of_a_word_is_cut_there(runtime) -> None:
    from tokenizers import AddedToken

    pipeline = Runtime(runtime.library).load("prose-bert")
    pipeline.tokenizer.add_tokens([AddedToken("old),", single_word=False)])
    text = "the (old), river"
    edge = pipeline.tokenizer.convert_tokens_to_ids("old),")
    assert edge in pipeline.encode(text)
    encoded = encode_row(pipeline, row_of(text, 1.0))
    assert hidden_text(pipeline, encoded) == "theoldriver"
    (window,) = encoded.windows
    assert edge not in [*window.ids, *window.targets]


def test_every_expert_hides_the_same_words(runtime, unigram) -> None:
    row = row_of(TEXTS[0])
    sizes = set()
    for pipeline in (runtime.load("code-bert"), runtime.load("prose-bert"), unigram):
        encoded = encode_row(pipeline, row)
        (window,) = encoded.windows
        shown = [token for token in window.ids if token != pipeline.tokenizer.mask_token_id]
        text = spelled(pipeline, shown)
        for start, end in row.masked.spans:
            hidden = TEXTS[0][start:end]
            if TEXTS[0].count(hidden) == 1 and len(hidden) > 4:
                assert hidden not in text
        assert len(window.targets) == window.ids.count(pipeline.tokenizer.mask_token_id)
        sizes.add(encoded.size)
    assert sizes == {row.masked.hidden_bytes}


@given(
    text=st.text("abz ,.(\n'é東", min_size=1, max_size=300).filter(lambda t: t.strip()),
    share=st.floats(0.05, 1),
)
def test_windows_predict_every_hidden_token_once(runtime, text, share) -> None:
    pipeline = runtime.load("code-bert")
    row = row_of(text, share)
    if not row.masked.spans:
        with pytest.raises(ExpertError, match="no word to hide"):
            encode_row(pipeline, row)
        return
    whole = encode_row(pipeline, row, max_window=10_000)
    cut = encode_row(pipeline, row, max_window=16)
    assert all(len(window.ids) <= 16 for window in cut.windows)
    joined = [token for window in cut.windows for token in window.targets]
    assert joined == [token for window in whole.windows for token in window.targets]
    for window in cut.windows:
        mask = pipeline.tokenizer.mask_token_id
        assert [i for i, token in enumerate(window.ids) if token == mask] == window.at


@given(text=st.text("ab ,\né", min_size=1, max_size=300).filter(lambda t: t.strip()))
def test_causal_windows_predict_every_token_once(runtime, text) -> None:
    pipeline = runtime.load("code-gpt")
    encoded = encode_row(pipeline, Row("1", text, "text-generation"), max_window=16)
    joined = [token for window in encoded.windows for token in window.targets]
    assert joined == pipeline.encode(text)
    assert encoded.size == len(text.encode())
    for window in encoded.windows:
        assert len(window.ids) <= 16
        assert window.ids[0] == pipeline.start_token
        assert [window.ids[i + 1] for i in window.at] == window.targets


@given(
    prompt=st.text("ab \n", min_size=1, max_size=200).filter(lambda t: t.strip()),
    reference=st.text("ab \n", min_size=1, max_size=200).filter(lambda t: t.strip()),
)
def test_a_reference_is_scored_whole_whatever_the_prompts_length(
    runtime, prompt, reference
) -> None:
    pipeline = runtime.load("code-gpt")
    row = Row("1", prompt, "text-generation", reference=reference)
    encoded = encode_row(pipeline, row, max_window=24)
    joined = [token for window in encoded.windows for token in window.targets]
    assert (prompt + reference).endswith(pipeline.tokenizer.decode(joined))
    assert pipeline.tokenizer.decode(joined).endswith(reference)
    assert encoded.size == len(reference.encode())
    assert all(len(window.ids) <= 24 for window in encoded.windows)
    first = encoded.windows[0]
    shown = pipeline.tokenizer.decode(first.ids[: len(first.ids) - len(first.targets)])
    assert prompt.rstrip().endswith(shown)
    assert encoded.truncated == (shown != prompt.rstrip())


def test_text_that_a_tokenizer_cannot_express_is_written_out(runtime) -> None:
    pipeline = runtime.load("prose-bert")
    encoded = encode_row(pipeline, row_of("the 東 river", share=1.0))
    assert pipeline.tokenizer.unk_token_id in encoded.windows[0].targets
    assert encoded.bits == 8 * len("東".encode())
    llama = runtime.load("prose-gpt")
    encoded = encode_row(llama, Row("1", "the 東 river", "text-generation"))
    assert encoded.bits == 8 * len("東".encode())
    assert encode_row(llama, Row("1", "the river", "text-generation")).bits == 0


def test_without_a_start_token_the_first_token_costs_a_free_choice(runtime, monkeypatch) -> None:
    pipeline = runtime.load("code-gpt")
    row = Row("1", "ab ab ab", "text-generation")
    with_start = encode_row(pipeline, row)
    monkeypatch.setattr(pipeline, "start_token", None)
    without = encode_row(pipeline, row)
    assert without.bits == pytest.approx(math.log2(len(pipeline.tokenizer)))
    assert without.windows[0].targets == with_start.windows[0].targets[1:]


@pytest.mark.parametrize("expert", ["code-gpt", "prose-gpt"])
@pytest.mark.parametrize(("repeats", "question_tokens"), [(40, 12), (1, None)])
def test_a_long_answer_leaves_half_a_window_to_the_end_of_the_question(
    runtime, expert, repeats, question_tokens
) -> None:
    """How much of the question the model sees decides the answer's loss."""
    pipeline = runtime.load(expert)
    prompt, reference = "def alpha_beta(gamma):\n" * 20, "x" + " - y" * repeats
    encoded = encode_row(
        pipeline, Row("1", prompt, "text-generation", reference=reference), max_window=24
    )
    first = encoded.windows[0]
    shown = first.ids[: len(first.ids) - len(first.targets)]
    if question_tokens is None:  # a short answer leaves the rest of the window
        question_tokens = 24 - len(first.targets)
        assert question_tokens > 12
    assert len(first.ids) == 24
    assert len(shown) == question_tokens
    question = pipeline.prompt_ids(prompt.rstrip())
    start = question[:1] if question[0] == pipeline.start_token else []
    assert shown == start + question[len(question) - question_tokens + len(start) :]
    assert encoded.truncated


@pytest.fixture(scope="module")
def bytewise(tmp_path_factory):
    """A causal expert (untrained) whose tokenizer is in Python and tells no offsets."""
    import transformers

    folder = tmp_path_factory.mktemp("bytewise")
    tokenizer = transformers.ByT5Tokenizer()
    config = transformers.GPT2Config(
        vocab_size=len(tokenizer), n_embd=16, n_layer=1, n_head=2, n_positions=64, eos_token_id=1
    )
    transformers.GPT2LMHeadModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    expert = Expert(name="bytewise", model=str(folder))
    return Runtime(Library([expert])).load("bytewise")


def test_a_tokenizer_in_python_is_measured_like_others(bytewise) -> None:
    import torch

    assert not bytewise.tokenizer.is_fast
    text = "naïve 東"
    [cell] = measure(bytewise, [text])
    ids = [bytewise.start_token] if bytewise.start_token is not None else []
    ids += bytewise.encode(text)
    with torch.no_grad():
        logits = bytewise.model(torch.tensor([ids])).logits[0, :-1].double()
    nats = torch.nn.functional.cross_entropy(logits, torch.tensor(ids[1:]), reduction="sum")
    free_choice = 0.0 if bytewise.start_token is not None else math.log2(len(bytewise.tokenizer))
    bits = float(nats) / math.log(2) + free_choice
    assert cell.loss == pytest.approx(bits / len(text.encode()), rel=1e-5)
