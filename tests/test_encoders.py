import json
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from tryage.encoders import (
    HEAD_CHARACTERS,
    TAIL_CHARACTERS,
    Encoder,
    SentenceEncoder,
    StaticEncoder,
    bundled_digest,
    load_encoder,
    prepare,
    resolve_encoder,
)
from tryage.encoders.surface import FEATURES, surface_features, surface_vector
from tryage.errors import EncoderError, PromptError

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "red", "green", "blue", "##s", "7"]
ODD = [
    "",
    " ",
    "\x00\x01\x02",
    "\ud800",
    "a\udfffb",
    "日本語のテスト",
    "Привет, мир",
    "👩‍🚀" * 50,
    "\u202e",
]


def small_encoder(seed=0, dim=6):
    tokenizer = Tokenizer(models.WordPiece({w: i for i, w in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    rng = np.random.default_rng(seed)
    vectors = rng.integers(-127, 128, (len(WORDS), dim), dtype=np.int8)
    return StaticEncoder(tokenizer, vectors, rng.random(len(WORDS)) + 0.1, name="small")


@pytest.fixture(scope="module")
def bundled():
    return StaticEncoder.bundled()


def test_rows_have_unit_length_and_the_right_shape(bundled):
    vectors = bundled.encode(["def f(x): return x", "How many apples are left?"])
    assert vectors.shape == (2, bundled.dim)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-6)


def test_no_prompts_give_no_rows(bundled):
    assert bundled.encode([]).shape == (0, bundled.dim)


def test_like_is_nearer_than_unlike(bundled):
    code, other_code, chinese, question = bundled.encode(
        [
            "def add(a, b):\n    return a + b",
            "for i in range(10):\n    print(i)",
            "变压器温度最高的部分是哪里",
            "Maria has 5 apples and buys 3 more. How many apples does she have?",
        ]
    )
    assert code @ other_code > max(code @ chinese, code @ question)


def test_a_vector_is_the_weighted_sum_of_its_tokens():
    encoder = small_encoder()
    red, blue = encoder._table[WORDS.index("red")], encoder._table[WORDS.index("blue")]
    total = 2 * red + blue
    expected = total / np.linalg.norm(total)
    np.testing.assert_allclose(encoder.encode(["Red blue RED"])[0], expected, atol=1e-6)


def test_marks_that_hide_words_are_silent(bundled):
    plain = bundled.encode(["The capital of France is a city"])
    np.testing.assert_array_equal(
        plain, bundled.encode(["The capital [MASK] of France [MASK] is a city [MASK]"])
    )
    assert not bundled.encode(["[MASK]"]).any()


def test_how_a_prompt_looks_counts_beside_its_words(bundled):
    assert bundled.dim == bundled._table.shape[1] + len(FEATURES)
    question, text = bundled.encode(["the sum of two and three?", "the sum of two and three"])
    assert question @ text < 0.99


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Ab12", {"capitals": 0.25, "digits": 0.5}),
        ("a\n b\n", {"line_breaks": 0.5}),
        ("x = y + 1", {"symbols": 0.4, "digits": 0.2}),
        ("Why?", {"capitals": 0.25, "punctuation": 0.25, "ends_with_question_mark": 1}),
        ("所以：\n", {"non_ascii": 0.9, "line_breaks": 0.1, "ends_with_colon": 1}),
        ("[MASK] is. [MASK]", {"punctuation": 1 / 3, "ends_with_full_stop": 1}),
        ("", {}),
        (" \t ", {}),
    ],
)
def test_surface_features(text, expected):
    features = np.array(surface_features(text))
    features[:6] **= 2
    assert dict(zip(FEATURES, features.tolist(), strict=True)) == pytest.approx(
        dict.fromkeys(FEATURES, 0.0) | expected
    )


@pytest.mark.parametrize("scales", [np.ones((3, 4)), np.zeros((3, len(FEATURES)))])
def test_scales_of_other_features_are_refused(scales):
    small = small_encoder()
    with pytest.raises(EncoderError, match="surface"):
        StaticEncoder(small._tokenizer, small._vectors, small._weights, surface=scales)


@pytest.mark.parametrize("prompt", ODD)
def test_odd_text_gives_a_finite_vector(bundled, prompt):
    vector = bundled.encode([prompt])[0]
    assert np.isfinite(vector).all()
    assert np.linalg.norm(vector) == pytest.approx(1.0, abs=1e-5) or not vector.any()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(max_size=80), min_size=1, max_size=6))
def test_a_prompt_has_the_same_vector_alone_and_in_a_batch(prompts):
    encoder = StaticEncoder.bundled()
    together = encoder.encode(prompts)
    alone = np.concatenate([encoder.encode([prompt]) for prompt in prompts])
    np.testing.assert_array_equal(together, alone)


def test_a_long_prompt_keeps_its_beginning_and_its_end(bundled):
    head, tail = "x" * HEAD_CHARACTERS, "y" * TAIL_CHARACTERS
    assert prepare(head + tail) == head + tail
    assert prepare(head + "z" * 1_000_000 + tail) == f"{head} {tail}"


@pytest.mark.parametrize("bad", [b"bytes", None, 3])
def test_what_is_not_text_is_refused(bundled, bad):
    with pytest.raises(PromptError, match=type(bad).__name__):
        bundled.encode(["fine", bad])


def test_a_single_str_is_refused(bundled):
    with pytest.raises(PromptError, match="list"):
        bundled.encode("one prompt")


def test_the_bundled_encoder_is_small_and_loaded_once(bundled):
    assert StaticEncoder.bundled() is bundled
    assert resolve_encoder("static") is bundled
    assert isinstance(bundled, Encoder)


def test_saved_is_loaded_the_same(tmp_path, bundled):
    for encoder in (small_encoder(), bundled):
        folder = tmp_path / encoder.name
        config = json.loads(json.dumps(encoder.save(folder)))
        again = load_encoder(config, folder)
        prompts = ["red greens 7", "blue"]
        np.testing.assert_array_equal(again.encode(prompts), encoder.encode(prompts))
        assert (again.name, again.dim) == (encoder.name, encoder.dim)
        assert resolve_encoder(folder).dim == encoder.dim


def test_a_cut_file_is_named(tmp_path):
    small_encoder().save(tmp_path)
    path = tmp_path / "encoder.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(EncoderError, match=r"encoder\.safetensors"):
        StaticEncoder.load(tmp_path)


def test_a_missing_file_is_named(tmp_path):
    small_encoder().save(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(EncoderError, match=r"tokenizer\.json"):
        StaticEncoder.load(tmp_path)


@pytest.mark.parametrize("text", ["{", "{}", '{"version": "1.0"}'])
def test_a_tokenizer_that_is_none_is_named(tmp_path, text):
    small_encoder().save(tmp_path)
    (tmp_path / "tokenizer.json").write_text(text)
    with pytest.raises(EncoderError, match=r"tokenizer\.json"):
        StaticEncoder.load(tmp_path)


def test_files_of_two_encoders_do_not_go_together(tmp_path, bundled):
    small_encoder().save(tmp_path / "a")
    bundled.save(tmp_path / "b")
    (tmp_path / "a" / "tokenizer.json").replace(tmp_path / "b" / "tokenizer.json")
    with pytest.raises(EncoderError, match="10 tokens"):
        StaticEncoder.load(tmp_path / "b")


@pytest.mark.parametrize("name", ["statik", "no/such/folder/anywhere", "./nowhere"])
def test_an_unknown_name_is_refused(name):
    with pytest.raises(EncoderError, match="unknown encoder"):
        resolve_encoder(name)


def test_a_near_miss_gets_a_hint():
    with pytest.raises(EncoderError, match="Did you mean 'static'"):
        resolve_encoder("statik")


def test_something_else_is_refused():
    with pytest.raises(EncoderError, match="int"):
        resolve_encoder(3)


def test_an_unknown_stored_kind_is_refused(tmp_path):
    with pytest.raises(EncoderError, match="telepathy"):
        load_encoder({"kind": "telepathy"}, tmp_path)


def test_a_sentence_encoder_is_not_loaded_before_use(tmp_path):
    encoder = resolve_encoder("nobody/no-such-model")
    assert isinstance(encoder, SentenceEncoder)
    config = encoder.save(tmp_path)
    surface = config.pop("surface")
    assert config == {"kind": "sentence", "model": "nobody/no-such-model"}
    np.testing.assert_array_equal(surface, StaticEncoder.bundled().surface)
    assert load_encoder(config, tmp_path).name == "nobody/no-such-model"


def test_a_model_that_is_nowhere_is_named_with_the_way_out():
    pytest.importorskip("sentence_transformers")
    message = r"'nobody/no-such-model' .*download=True \(--download\)"
    with pytest.raises(EncoderError, match=message):
        SentenceEncoder("nobody/no-such-model").encode(["a"])
    with pytest.raises(EncoderError, match="'nobody/no-such-model' could not be fetched"):
        SentenceEncoder("nobody/no-such-model", download=True).encode(["a"])


def sentence_model(folder, tiny_masked, *modules):
    """Save a sentence-transformers model: the small masked model, mean pooling, and `modules`."""
    models_of = pytest.importorskip("sentence_transformers.models")
    from sentence_transformers import SentenceTransformer

    word = models_of.Transformer(str(tiny_masked), max_seq_length=32)
    size = json.loads((tiny_masked / "config.json").read_text())["hidden_size"]
    pooling = models_of.Pooling(size)
    SentenceTransformer(modules=[word, pooling, *modules], device="cpu").save(str(folder))
    return folder


@pytest.fixture
def dense_model(tmp_path, tiny_masked):
    """A model with a Dense module, its weights in safetensors."""
    models_of = pytest.importorskip("sentence_transformers.models")
    return sentence_model(tmp_path / "model", tiny_masked, models_of.Dense(32, 16))


def pickle_weights(folder):
    """Replace the safetensors of one module by a pickle, as older models have them."""
    import torch
    from safetensors.torch import load_file

    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def in_hub_cache(folder, cache, monkeypatch):
    """Put a model into a Hub cache as me/dense."""
    commit = "1" * 40
    repository = cache / "models--me--dense"
    shutil.copytree(folder, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))


@pytest.mark.parametrize("cached", [False, True])
def test_pickled_weights_are_never_read(dense_model, tmp_path, monkeypatch, cached):
    import torch

    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("torch.load was called"))
    name = "me/dense" if cached else str(dense_model)
    if cached:
        in_hub_cache(dense_model, tmp_path / "hub", monkeypatch)
        dense_model = next((tmp_path / "hub").glob("*/snapshots/*"))
    assert SentenceEncoder(name).encode(["the river"]).shape == (1, 16)
    (dense_model / "training_args.bin").write_bytes(b"read by no module")
    assert SentenceEncoder(name).dim == 16
    pickle_weights(dense_model / "2_Dense")
    (dense_model / "2_Dense" / "other.safetensors").write_bytes(b"")
    with pytest.raises(EncoderError, match=r"2_Dense.pytorch_model\.bin' holds pickled weights"):
        SentenceEncoder(name).encode(["the river"])


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".pkl", ".ckpt", ".BIN"])
def test_every_kind_of_pickle_is_refused(dense_model, suffix):
    weights = dense_model / "2_Dense" / "model.safetensors"
    weights.rename(weights.with_suffix(suffix))
    with pytest.raises(EncoderError, match=f"model{suffix}' holds pickled weights"):
        SentenceEncoder(dense_model).encode(["the river"])


def test_a_folder_that_cannot_be_loaded_tells_the_true_cause(dense_model):
    path = dense_model / "modules.json"
    modules = json.loads(path.read_text())
    modules[2]["type"] = "sentence_transformers.no_such_room.Dense"
    path.write_text(json.dumps(modules))
    with pytest.raises(EncoderError, match=r"ModuleNotFoundError.*no_such_room") as caught:
        SentenceEncoder(dense_model).encode(["the river"])
    assert str(dense_model) in str(caught.value)
    assert "cache" not in str(caught.value)
    path.write_text("{")
    with pytest.raises(EncoderError, match="JSONDecodeError"):
        SentenceEncoder(dense_model).encode(["the river"])


def test_a_class_that_a_model_names_is_not_imported(dense_model, tmp_path, monkeypatch):
    (tmp_path / "evilmod.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass M: pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    path = dense_model / "modules.json"
    modules = json.loads(path.read_text())
    whole = path.read_text()
    modules[2]["type"] = "evilmod.M"
    path.write_text(json.dumps(modules))
    with pytest.raises(EncoderError, match=r"modules\.json' asks for the class 'evilmod\.M'"):
        SentenceEncoder(dense_model).encode(["the river"])
    path.write_text(whole)
    router = dense_model / "2_Dense" / "router_config.json"
    router.write_text(json.dumps({"types": {"a": "evilmod.M"}}))
    with pytest.raises(EncoderError, match=r"router_config\.json' asks for the class 'evilmod\.M'"):
        SentenceEncoder(dense_model).encode(["the river"])
    assert not (tmp_path / "ran").exists()


def test_a_sentence_transformers_folder_is_an_encoder(tmp_path, tiny_masked):
    encoder = resolve_encoder(sentence_model(tmp_path / "model", tiny_masked))
    vectors = encoder.encode(["the river", *ODD])
    assert vectors.shape == (1 + len(ODD), encoder.dim)
    assert np.isfinite(vectors).all()
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-4)
    again = load_encoder(encoder.save(tmp_path), tmp_path)
    np.testing.assert_allclose(again.encode(["the river"])[0], vectors[0], atol=1e-4)
    assert encoder.encode([]).shape == (0, encoder.dim)


def test_surface_features_are_joined_to_a_models_vectors_unless_it_was_saved_without(
    tmp_path, tiny_masked
):
    """Prompts of equal words may look different; a router saved without them stays as it was."""
    encoder = resolve_encoder(sentence_model(tmp_path / "model", tiny_masked))
    config = encoder.save(tmp_path)
    scales = config.pop("surface")
    plain = load_encoder(config, tmp_path)
    assert encoder.dim == plain.dim + len(FEATURES)
    texts = ["the river.", "THE\n\nRIVER:"]
    joined, alone = encoder.encode(texts), plain.encode(texts)
    expected = np.hstack([alone, [surface_vector(text, scales) for text in texts]])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(joined, expected, atol=1e-5)
    with pytest.raises(EncoderError, match=r"shape \(2, 3\).*needs \(9, 3\)"):
        load_encoder(config | {"surface": scales[:2]}, tmp_path)


def test_a_folder_may_name_the_bundled_encoder(tmp_path):
    config = {"kind": "bundled", "sha256": bundled_digest()}
    assert load_encoder(config, tmp_path) is StaticEncoder.bundled()
    with pytest.raises(EncoderError, match="ships"):
        load_encoder(config | {"sha256": "0" * 64}, tmp_path)


@pytest.mark.parametrize("text", ["{", "[" * 10**5, '{"a":' * 10**5])
def test_a_config_that_cannot_be_read_is_named(tmp_path, text):
    (tmp_path / "encoder.json").write_text(text)
    with pytest.raises(EncoderError, match=r"encoder\.json: not a JSON file"):
        StaticEncoder.load(tmp_path)
