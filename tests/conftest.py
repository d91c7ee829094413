"""Fixtures shared by all tests: small real models, a library of them, and the data folder.

The models are trained here for a few seconds on made-up text of two kinds (a little programming
language, and plain sentences), each with its own tokenizer, so that experts really differ: the
code experts win on code, the prose experts on prose.
"""

from __future__ import annotations

import os

os.environ.update(
    HF_HUB_OFFLINE="1",
    HF_HUB_DISABLE_TELEMETRY="1",
    DO_NOT_TRACK="1",
    TOKENIZERS_PARALLELISM="false",
)
os.environ.setdefault("OMP_NUM_THREADS", "1")

import random
from pathlib import Path
from typing import Any

import pytest

NAMES = ("alpha", "count", "total", "index", "value", "item", "result", "buffer")
NOUNS = ("river", "garden", "teacher", "winter", "letter", "village", "doctor", "morning")
VERBS = ("follows", "remembers", "leaves", "watches", "answers", "paints")
WORDS = ("quiet", "old", "bright", "early", "patient", "small")

CONTEXT = 128
"""Tokens that every small model takes at most."""


def code_text(rng: random.Random) -> str:
    """One made-up function."""
    a, b, c = rng.sample(NAMES, 3)
    n = rng.randint(0, 99)
    return (
        f"def {a}_{b}({c}, {b}={n}):\n"
        f"    if {c} > {b}:\n        return {c} - {b}\n"
        f"    return {a}({b}) + {n}\n"
    )


def prose_text(rng: random.Random) -> str:
    """Two made-up sentences."""
    a, b, c = rng.sample(NOUNS, 3)
    v, w = rng.sample(VERBS, 2)
    x, y = rng.sample(WORDS, 2)
    return f"The {x} {a} {v} the {b}, and the {b} {w} a {y} {c}. It was a {y} {a}."


def texts(kind: str, n: int, seed: int) -> list[str]:
    """`n` texts of a kind, ``"code"`` or ``"prose"``."""
    rng = random.Random(f"{kind} {seed}")
    make = {"code": code_text, "prose": prose_text}[kind]
    return [make(rng) for _ in range(n)]


def _tokenizer(kind: str, corpus: list[str]) -> Any:
    """Train a tokenizer: ``"bytes"`` (byte-level BPE), ``"pieces"`` (WordPiece), ``"unigram"``."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    common: dict[str, Any] = {"vocab_size": 400, "show_progress": False}
    if kind == "bytes":
        special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
        tok = Tokenizer(models.BPE())
        tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tok.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer: Any = trainers.BpeTrainer(
            special_tokens=special, initial_alphabet=alphabet, **common
        )
    elif kind == "pieces":
        special = ["[CLS]", "[PAD]", "[SEP]", "[UNK]", "[MASK]"]
        tok = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        tok.normalizer = normalizers.BertNormalizer(lowercase=False)
        tok.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tok.decoder = decoders.WordPiece(cleanup=False)
        trainer = trainers.WordPieceTrainer(special_tokens=special, **common)
    else:
        special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
        tok = Tokenizer(models.Unigram())
        tok.pre_tokenizer = pre_tokenizers.Metaspace()
        tok.decoder = decoders.Metaspace()
        trainer = trainers.UnigramTrainer(special_tokens=special, unk_token="<unk>", **common)
    tok.train_from_iterator(corpus, trainer)
    names = ("bos_token", "pad_token", "eos_token", "unk_token", "mask_token")
    roles: dict[str, Any] = dict(zip(names, special, strict=True))
    if kind == "pieces":
        roles["cls_token"], roles["sep_token"] = roles.pop("bos_token"), roles.pop("eos_token")
    return PreTrainedTokenizerFast(
        tokenizer_object=tok,
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
        **roles,
    )


def _frame(tokenizer: Any, start: str, end: str) -> None:
    """Make the tokenizer put a start and an end token around every text, as BERT's do."""
    from tokenizers import processors

    vocab = tokenizer.get_vocab()
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{start} $A {end}", special_tokens=[(start, vocab[start]), (end, vocab[end])]
    )


def _model(kind: str, vocab: int) -> Any:
    import transformers as tf

    size = {"vocab_size": vocab, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
    small = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    bert = {**small, "intermediate_size": 64, "hidden_dropout_prob": 0.0, **size}
    if kind == "gpt2":
        no_drop = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
        shape = {"n_embd": 32, "n_layer": 1, "n_head": 2, "n_positions": CONTEXT}
        return tf.GPT2LMHeadModel(tf.GPT2Config(**shape, **no_drop, **size))
    if kind == "llama":
        shape = {**small, "intermediate_size": 64, "max_position_embeddings": CONTEXT}
        return tf.LlamaForCausalLM(tf.LlamaConfig(**shape, **size))
    if kind == "bert":
        return tf.BertForMaskedLM(tf.BertConfig(**bert, max_position_embeddings=CONTEXT))
    # RoBERTa's positions start behind the padding index, so it holds two more than it can use.
    return tf.RobertaForMaskedLM(tf.RobertaConfig(**bert, max_position_embeddings=CONTEXT + 2))


def _train(model: Any, tokenizer: Any, corpus: list[str], *, masked: bool, steps: int) -> None:
    import torch

    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    model.train()
    for step in range(steps):
        start = step * 16 % len(corpus)
        batch = tokenizer(
            corpus[start : start + 16],
            return_tensors="pt",
            padding=True,
            truncation=True,
            return_token_type_ids=False,
        )
        ids = batch["input_ids"]
        labels = ids.masked_fill(batch["attention_mask"] == 0, -100)
        if masked:
            hide = (torch.rand(ids.shape, generator=generator) < 0.25) & (ids > 4)
            labels = labels.masked_fill(~hide, -100)
            batch["input_ids"] = ids.masked_fill(hide, tokenizer.mask_token_id)
        logits = model(**batch).logits
        if not masked:
            logits, labels = logits[:, :-1], labels[:, 1:]
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten()).backward()
        optimizer.step()
        optimizer.zero_grad()
    model.eval()


def make_model(
    folder: Path, architecture: str, tokenizer_kind: str, domain: str, *, steps: int = 60
) -> Path:
    """Train one small model and save it with its tokenizer; returns the folder."""
    import torch
    from transformers.utils import logging

    logging.disable_progress_bar()
    torch.manual_seed(0)
    corpus = texts(domain, 400, seed=1)
    tokenizer = _tokenizer(tokenizer_kind, corpus)
    masked = architecture in ("bert", "roberta")
    ends = ("[CLS]", "[SEP]") if tokenizer_kind == "pieces" else ("<s>", "</s>")
    if masked:
        _frame(tokenizer, *ends)
        corpus_seen = corpus
    else:
        corpus_seen = [f"<s>{text}</s>" for text in corpus]
    model = _model(architecture, len(tokenizer))
    _train(model, tokenizer, corpus_seen, masked=masked, steps=steps)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


EXPERTS = (
    # name, architecture, tokenizer, domain, task, released
    ("code-gpt", "gpt2", "bytes", "code", "text-generation", "2024-03-01"),
    ("prose-gpt", "llama", "unigram", "prose", "text-generation", "2025-06-15"),
    ("code-bert", "roberta", "bytes", "code", "fill-mask", "2023-01-20"),
    ("prose-bert", "bert", "pieces", "prose", "fill-mask", "2024-11-05"),
)


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    """Small models are fastest, and their numbers steadiest, on one thread."""
    try:
        import torch
    except ImportError:
        return
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library.yaml of four small trained experts, two per task; models lie beside it."""
    import yaml

    pytest.importorskip("transformers", reason="needs the extra hf")
    root = tmp_path_factory.mktemp("library")
    rows = []
    for name, architecture, tokenizer, domain, task, released in EXPERTS:
        make_model(root / "models" / name, architecture, tokenizer, domain)
        from safetensors import safe_open

        with safe_open(root / "models" / name / "model.safetensors", "np") as file:
            count = sum(_size(file.get_slice(key).get_shape()) for key in file.keys())
        rows.append(
            {
                "name": name,
                "model": f"models/{name}",
                "task": task,
                "parameters": count,
                "released": released,
                "license": "apache-2.0",
            }
        )
    path = root / "library.yaml"
    path.write_text(yaml.safe_dump({"name": "tiny", "experts": rows}), encoding="utf-8")
    return path


def _size(shape: list[int]) -> int:
    size = 1
    for length in shape:
        size *= length
    return size


@pytest.fixture(scope="session")
def tiny_causal(tiny_library: Path) -> Path:
    """Folder of a small causal model with a byte-level BPE tokenizer."""
    return tiny_library.parent / "models" / "code-gpt"


@pytest.fixture(scope="session")
def tiny_masked(tiny_library: Path) -> Path:
    """Folder of a small masked model with a WordPiece tokenizer."""
    return tiny_library.parent / "models" / "prose-bert"


@pytest.fixture(scope="session")
def tiny_texts() -> dict[str, list[str]]:
    """Unseen texts of both kinds, 24 each: ``{"code": [...], "prose": [...]}``."""
    return {kind: texts(kind, 24, seed=2) for kind in ("code", "prose")}


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of benchmark data; the test is skipped where there is none."""
    beside = Path(__file__).resolve().parents[1].parent / "shared" / "data"
    folder = Path(os.environ.get("TRYAGE_DATA", beside))
    if not folder.is_dir():
        pytest.skip(f"no data: {folder} is not a folder; set TRYAGE_DATA")
    return folder


KINDS = ("code", "prose")
"""Kinds of made-up text, and the groups of the made-up score table."""

TABLE_EXPERTS: tuple[dict[str, Any], ...] = (
    {"name": "coder", "model": "org/coder", "parameters": "7B", "released": "2024-01-01"},
    {"name": "writer", "model": "org/writer", "parameters": "1B", "released": "2024-06-01"},
    {"name": "giant", "model": "org/giant", "parameters": "70B", "released": "2025-01-01"},
)
"""coder is best on code, writer on prose, giant is second on both."""

TABLE_LOSSES = {"code": (0.1, 0.9, 0.2), "prose": (0.9, 0.1, 0.2)}


def table_rows(n: int, seed: int) -> list[dict[str, Any]]:
    """Lines of a score table, `n` prompts of each kind."""
    rng = random.Random(seed)
    names = [expert["name"] for expert in TABLE_EXPERTS]
    rows = []
    for kind in KINDS:
        for text in texts(kind, n, seed):
            losses = [loss + rng.uniform(-0.05, 0.05) for loss in TABLE_LOSSES[kind]]
            rows.append(
                {"prompt": text, "group": kind, "losses": dict(zip(names, losses, strict=True))}
            )
    return rows


@pytest.fixture(scope="session")
def table_library() -> Any:
    """The library of the made-up score table."""
    from tryage import Library

    return Library.from_dict({"name": "made-up", "experts": list(TABLE_EXPERTS)})


@pytest.fixture(scope="session")
def table() -> Any:
    """A made-up score table of 120 prompts and three experts."""
    from tryage import ScoreTable

    return ScoreTable.from_rows(table_rows(60, seed=3))


@pytest.fixture(scope="session")
def scored_table(table: Any) -> Any:
    """`table` as one of scores."""
    from dataclasses import replace

    return replace(table, kind="scores")


@pytest.fixture(scope="session")
def scored_router(scored_table: Any, table_library: Any) -> Any:
    """A router fitted on `scored_table`: one that feedback can go to."""
    from tryage import Router

    return Router.fit(scored_table, library=table_library, predictor="clusters")


@pytest.fixture
def feedback_router(scored_router: Any, tmp_path: Path) -> Any:
    """A router that keeps feedback in a file of the test's own."""
    return scored_router.with_feedback(tmp_path / "feedback.jsonl", store_prompts=True)


@pytest.fixture
def feedback_rows(feedback_router: Any) -> Any:
    """A function: the (prompt, scores) of every line that `feedback_router` has kept so far."""
    import json

    def read() -> list[tuple[str, dict[str, float]]]:
        path = feedback_router.feedback_file.path
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        return [(row["prompt"], row["scores"]) for row in map(json.loads, text.splitlines())]

    return read


@pytest.fixture(scope="session")
def targets_table(table: Any) -> Any:
    """`table` with costs, lengths, grades and latencies, the same on every prompt."""
    from dataclasses import replace

    import numpy as np

    rows = {
        "cost": (2e-4, 1e-4, 9e-4),
        "response_chars": (300.0, 900.0, 600.0),
        "readability": (12.0, 5.0, 9.0),
        "latency": (1.0, 0.5, 3.0),
    }
    shape = table.losses.shape
    targets = {name: np.broadcast_to(np.array(row), shape) for name, row in rows.items()}
    return replace(table, targets=targets)


@pytest.fixture(scope="session")
def held_out_table() -> Any:
    """40 prompts of the same kinds that `table` does not hold."""
    from tryage import ScoreTable

    return ScoreTable.from_rows(table_rows(20, seed=4))


@pytest.fixture(scope="session")
def router(table: Any, table_library: Any) -> Any:
    """A router fitted on `table`."""
    from tryage import Router

    return Router.fit(table, library=table_library)


@pytest.fixture(scope="session")
def open7() -> Any:
    """The bundled router over seven open language models."""
    from tryage import Router

    return Router.from_pretrained("open7")


@pytest.fixture(scope="session")
def tiny_router(tiny_library: Path, tiny_texts: dict[str, list[str]]) -> Any:
    """A router over the four tiny models: two tasks, a code and a prose expert for each."""
    from tryage import Library, Router, ScoreTable

    rows = []
    for kind, prompts in tiny_texts.items():
        losses = {name: 0.2 if name.startswith(kind) else 0.9 for name, *_ in EXPERTS}
        for text in prompts:
            word = text.split()[3]
            marked = text.replace(word, "[MASK]", 1)
            for task, prompt in (("text-generation", text), ("fill-mask", marked)):
                of_task = {name: losses[name] for name, *_, of, _ in EXPERTS if of == task}
                rows.append({"prompt": prompt, "task": task, "losses": of_task})
    return Router.fit(ScoreTable.from_rows(rows), library=Library.read(tiny_library))


def _decision(*order: str) -> Any:
    """Return a decision over made-up experts, the best first."""
    import numpy as np

    from tryage.decision import Decision, HiddenText

    losses = np.arange(len(order), dtype=float)
    return Decision(
        expert=order[0],
        task="text-generation",
        text=HiddenText("text"),
        names=order,
        losses=losses,
        std=np.zeros(len(order)),
        totals=losses,
        values={},
        reasons={},
        weights={},
        limits=(),
        flags=(),
        out_of_distribution=False,
    )


@pytest.fixture
def decide():
    """A function: expert names, best first → a decision."""
    return _decision


@pytest.fixture
def hub(socket_enabled: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """A Hugging Face Hub on loopback, with an empty cache; its `kit` is tests/hub_server.py."""
    import importlib.util
    import time
    from types import SimpleNamespace

    constants = pytest.importorskip("huggingface_hub.constants", reason="needs the extra hf")
    from huggingface_hub import close_session

    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    # huggingface_hub waits up to eight seconds before each of its further attempts.
    quick = SimpleNamespace(**{**vars(time), "sleep": lambda seconds: None})
    for module in ("utils._http", "file_download"):
        monkeypatch.setattr(f"huggingface_hub.{module}.time", quick)
    close_session()
    place = Path(__file__).parent / "hub_server.py"
    spec = importlib.util.spec_from_file_location("hub_server", place)
    hub_server: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hub_server)
    with hub_server.running() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        server.kit = hub_server
        yield server
        close_session()
