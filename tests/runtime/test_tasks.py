"""The tasks beside generation and fill-mask, over small real models, against Transformers."""

import json

import pytest

from tryage import Expert, Library
from tryage.errors import PromptError, TaskError
from tryage.labeling import label, measure
from tryage.runtime import EncoderDecoderPipeline, Runtime

CONTEXT = 64
TEXT = "The quiet river follows the garden, and the teacher paints a small letter."


@pytest.fixture(scope="module")
def library(tiny_masked, tmp_path_factory) -> Library:
    """Untrained heads of fixed seed over the tokenizer of the prose expert."""
    import torch
    import transformers as tf

    root = tmp_path_factory.mktemp("tasks")
    tokenizer = tf.AutoTokenizer.from_pretrained(str(tiny_masked))
    tokenizer.model_max_length = CONTEXT
    size = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": CONTEXT,
        "initializer_range": 0.5,
    }
    names = ("contradiction", "neutral", "entailment")
    entails = {"id2label": dict(enumerate(names)), "label2id": {n: i for i, n in enumerate(names)}}
    spans = {"id2label": {0: "O", 1: "B-PLACE", 2: "I-PLACE"}}
    torch.manual_seed(0)
    models = {
        "text-classification": tf.BertForSequenceClassification(tf.BertConfig(**size, **entails)),
        "zero-shot-classification": tf.BertForSequenceClassification(
            tf.BertConfig(**size, **entails)
        ),
        "token-classification": tf.BertForTokenClassification(tf.BertConfig(**size, **spans)),
        "feature-extraction": tf.BertModel(tf.BertConfig(**size)),
        "text-generation": tf.BartForConditionalGeneration(
            tf.BartConfig(
                vocab_size=len(tokenizer),
                d_model=32,
                encoder_layers=1,
                decoder_layers=1,
                encoder_attention_heads=2,
                decoder_attention_heads=2,
                encoder_ffn_dim=64,
                decoder_ffn_dim=64,
                max_position_embeddings=CONTEXT,
                init_std=0.5,
                bos_token_id=0,
                pad_token_id=1,
                eos_token_id=2,
                decoder_start_token_id=2,
                forced_eos_token_id=None,
            )
        ),
    }
    for task, model in models.items():
        model.save_pretrained(root / task)
        tokenizer.save_pretrained(root / task)
    experts = [Expert(name=task, model=f"./{task}", task=task) for task in models]
    return Library(experts, root=root)


@pytest.fixture(scope="module")
def runtime(library) -> Runtime:
    return Runtime(library)


def own(runtime, task, **options):
    import transformers

    pipeline = runtime.load(task)
    return transformers.pipeline(
        task, model=pipeline.model, tokenizer=pipeline.tokenizer, device="cpu", **options
    )


def test_text_classification(runtime) -> None:
    answer = runtime.run("text-classification", TEXT, max_new_tokens=5)
    expected = own(runtime, "text-classification")(TEXT)[0]
    assert answer.text == expected["label"] == answer.result[0]["label"]
    assert answer.result[0]["score"] == pytest.approx(expected["score"])
    assert sum(row["score"] for row in answer.result) == pytest.approx(1)
    assert not answer.truncated
    assert runtime.run("text-classification", TEXT * 9).truncated
    json.dumps(answer.result)


def test_zero_shot_classification(runtime) -> None:
    labels = ["nature", "money", "war"]
    answer = runtime.run("zero-shot-classification", TEXT, labels=labels)
    expected = own(runtime, "zero-shot-classification")(TEXT, labels)
    assert [row["label"] for row in answer.result] == expected["labels"]
    assert [row["score"] for row in answer.result] == pytest.approx(expected["scores"])
    assert answer.text == expected["labels"][0]
    several = runtime.run(
        "zero-shot-classification", TEXT, labels=labels, multi_label=True, hypothesis="It is {}."
    )
    assert sum(row["score"] for row in several.result) != pytest.approx(1)


@pytest.mark.parametrize("options", [{}, {"labels": []}, {"labels": "one"}])
def test_zero_shot_needs_labels(runtime, options) -> None:
    with pytest.raises(PromptError, match=r"needs labels=\[...\]"):
        runtime.run("zero-shot-classification", TEXT, **options)
    with pytest.raises(PromptError, match="where the label stands"):
        runtime.run("zero-shot-classification", TEXT, labels=["a"], hypothesis="no place")


def test_token_classification(runtime) -> None:
    answer = runtime.run("token-classification", TEXT)
    assert answer.result
    for span in answer.result:
        assert span["text"] == TEXT[span["start"] : span["end"]]
        assert span["label"] in ("PLACE", "O")
    assert answer.text.splitlines()[0] == f"PLACE: {answer.result[0]['text']}"
    expected = own(runtime, "token-classification", aggregation_strategy="simple")(TEXT)
    assert [(s["start"], s["end"]) for s in answer.result] == [
        (s["start"], s["end"]) for s in expected
    ]
    long = runtime.run("token-classification", TEXT * 9)
    assert not long.truncated
    assert long.result[-1]["end"] > len(TEXT) * 7


def test_feature_extraction(runtime) -> None:
    answer = runtime.run("feature-extraction", TEXT)
    inner = own(runtime, "feature-extraction")(TEXT)[0][1:-1]
    expected = [sum(column) / len(inner) for column in zip(*inner, strict=True)]
    assert answer.result == pytest.approx(expected, abs=1e-5)
    assert json.loads(answer.text) == answer.result
    assert len(runtime.run("feature-extraction", TEXT * 9).result) == 32


def test_an_encoder_decoder_model_writes_what_it_writes_itself(runtime) -> None:
    pipeline = runtime.load("text-generation")
    assert isinstance(pipeline, EncoderDecoderPipeline)
    ids = pipeline.tokenizer(TEXT, return_tensors="pt", return_token_type_ids=False)
    expected = pipeline.model.generate(
        **ids, max_new_tokens=12, do_sample=False, num_beams=1, max_length=None
    )
    text = pipeline.tokenizer.decode(expected[0], skip_special_tokens=True)
    answer = runtime.run("text-generation", TEXT, max_new_tokens=12)
    assert answer.text.strip() == text.strip() != ""
    assert "".join(runtime.stream("text-generation", TEXT, max_new_tokens=12)) == answer.text
    cut = runtime.run("text-generation", TEXT * 9, max_new_tokens=4)
    assert (cut.truncated, cut.prompt_tokens) == (True, CONTEXT)


def test_a_cut_prompt_of_an_encoder_decoder_model_keeps_its_closing_token(
    runtime, monkeypatch
) -> None:
    pipeline = runtime.load("text-generation")
    prompts = []
    generate = pipeline.model.generate

    def noted(ids, **options):
        prompts.extend(ids.tolist())
        return generate(ids, **options)

    monkeypatch.setattr(pipeline.model, "generate", noted)
    pipeline.generate(TEXT * 9, max_new_tokens=4)
    ids = pipeline.encode(TEXT * 9, special=True)
    assert ids[-1] == pipeline.tokenizer.sep_token_id
    assert prompts == [[*ids[: CONTEXT - 1], ids[-1]]]


async def test_encoder_decoder_calls_are_batched(runtime) -> None:
    import asyncio

    pipeline = runtime.load("text-generation")
    prompts = [TEXT[: 20 + 5 * i] for i in range(8)]
    alone = [pipeline.generate(prompt, max_new_tokens=8).text for prompt in prompts]
    calls = [runtime.arun("text-generation", prompt, max_new_tokens=8) for prompt in prompts]
    assert [answer.text for answer in await asyncio.gather(*calls)] == alone


@pytest.mark.parametrize("task", ["text-classification", "feature-extraction"])
async def test_async_and_streams_of_tasks_that_read(runtime, task) -> None:
    answer = runtime.run(task, TEXT)
    assert (await runtime.arun(task, TEXT)).text == answer.text
    stream = runtime.stream(task, TEXT)
    assert list(stream) == [answer.text]
    assert stream.answer.result == answer.result
    assert [piece async for piece in runtime.astream(task, TEXT)] == [answer.text]
    with pytest.raises(PromptError):
        list(runtime.stream(task, " "))
    with pytest.raises(TypeError, match="takes no option 'labels'"):
        runtime.run(task, TEXT, labels=["a"])
    with pytest.raises(TaskError, match="takes text"):
        runtime.run(task, [{"role": "user", "content": TEXT}])


def test_warming_up_knows_every_task(runtime) -> None:
    assert len(runtime.warm_up()) == 5


def test_label_refuses_what_it_cannot_measure(library, tmp_path) -> None:
    one = Library([library["text-classification"]], root=library.root)
    with pytest.raises(TaskError, match="likelihoods are those of text-generation and fill-mask"):
        label(one, ["a text"], tmp_path / "a")
    two_parts = Library([library["text-generation"]], root=library.root)
    summary = label(two_parts, ["a text"], tmp_path / "b")
    assert "an encoder and a decoder" in next(iter(summary.reasons))
    with pytest.raises(TaskError, match="not of EncoderDecoderPipeline"):
        measure(Runtime(library).load("text-generation"), ["a text"])
