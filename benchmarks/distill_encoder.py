"""Distil the bundled static encoder from a sentence-transformers model.

Run it with the folder of the data (``TRYAGE_DATA``) and a teacher, by id or by folder::

    python benchmarks/distill_encoder.py --teacher sentence-transformers/all-MiniLM-L6-v2

Three steps. (1) The teacher reads every token of its vocabulary alone, and about 27,000 texts:
excerpts of six domains cut to assorted lengths, and the training prompts of open7. (2) A
principal component analysis of the text embeddings keeps a few dimensions; the token vectors
start there, each with a weight that falls with its frequency. (3) Vectors and weights are
trained end to end so that the pooled vector of a text points where the teacher's embedding of
it points, and rounded to int8 with one scale per token. Mean and deviation of the surface
features are those of the same texts.

The domains legal, dialogue and patents are left out on purpose: they are what the
out-of-distribution tests use.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from data import data_folder, read_jsonl
from numpy.typing import NDArray
from tokenizers import Tokenizer

from tryage.encoders import StaticEncoder
from tryage.encoders.surface import surface_features

logger = logging.getLogger("distill_encoder")

DOMAINS = ("code", "encyclopedic", "clinical", "biomedical", "finance", "math")
TEACHER = "sentence-transformers/all-MiniLM-L6-v2"
BUNDLED = Path(__file__).parents[1] / "tryage" / "pretrained" / "static"
TEACHER_CHARACTERS = 1200
"""Longest text the teacher reads: about the 256 tokens after which MiniLM stops anyway."""


def excerpts(
    documents: Sequence[str], count: int, rng: np.random.Generator, shortest: int, longest: int
) -> list[str]:
    """Cut `count` excerpts of log-uniform length out of documents, starting at a word."""
    sizes = np.array([len(text) for text in documents], dtype=float)
    picks = rng.choice(len(documents), size=count, p=sizes / sizes.sum())
    lengths = np.exp(rng.uniform(np.log(shortest), np.log(longest), size=count)).astype(int)
    passages = []
    for pick, length in zip(picks, lengths, strict=True):
        text = documents[pick]
        start = int(rng.integers(0, max(1, len(text) - length)))
        while 0 < start < len(text) and not text[start - 1].isspace():
            start += 1
        passages.append(text[start : start + length].strip())
    return [text for text in dict.fromkeys(passages) if text]


def training_texts(data: Path, per_domain: int, seed: int) -> list[str]:
    """Gather the texts that the teacher reads."""
    rng = np.random.default_rng(seed)
    texts: list[str] = []
    for domain in DOMAINS:
        rows = read_jsonl(data / "corpora" / domain / "train.jsonl")
        documents = [row["text"] for row in rows]
        texts += excerpts(documents, per_domain, rng, 40, TEACHER_CHARACTERS)
    prompts = read_jsonl(data / "routing" / "open7_train.jsonl.gz")
    texts += [row["prompt"][:TEACHER_CHARACTERS] for row in prompts]
    return list(dict.fromkeys(texts))


def teach(teacher: Any, texts: Sequence[str], cache: Path | None, name: str) -> NDArray[np.float32]:
    """Embed texts with the teacher, in order of length so that little is padding.

    Returns:
        Unit vectors, shape (n_texts, teacher_dim); read from `cache` when it holds them.
    """
    path = cache / f"{name}.npy" if cache else None
    if path is not None and path.exists():
        stored: NDArray[np.float32] = np.load(path)
        if len(stored) == len(texts):
            return stored
    start = time.perf_counter()
    order = np.argsort([len(text) for text in texts])
    vectors = np.empty((len(texts), teacher.get_embedding_dimension()), dtype=np.float32)
    for at in range(0, len(texts), 1024):
        rows = order[at : at + 1024]
        vectors[rows] = teacher.encode(
            [texts[row] for row in rows],
            batch_size=64,
            normalize_embeddings=True,
            show_progress_bar=False,
        )
        done = min(at + 1024, len(texts))
        logger.info("%s: %d of %d, %.0f s", name, done, len(texts), time.perf_counter() - start)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, vectors)
    return vectors


def principal_axes(
    vectors: NDArray[np.float32], dim: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the mean, shape (teacher_dim,), and the first axes, shape (teacher_dim, dim)."""
    centre = vectors.mean(axis=0)
    _, axes = np.linalg.eigh(np.cov(vectors - centre, rowvar=False))
    return centre, np.ascontiguousarray(axes[:, ::-1][:, :dim], dtype=np.float32)


def starting_table(
    directions: NDArray[np.float32], counts: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Weigh token directions by frequency: a / (a + p) (Arora et al. 2017, eq. 3), a = 1e-3."""
    frequency = counts / max(1, counts.sum())
    unit = directions / np.maximum(np.linalg.norm(directions, axis=1, keepdims=True), 1e-9)
    weighted: NDArray[np.float32] = (unit * (1e-3 / (1e-3 + frequency))[:, None]).astype(np.float32)
    return weighted


def train_table(
    table: NDArray[np.float32],
    ids: Sequence[NDArray[np.int64]],
    targets: NDArray[np.float32],
    *,
    epochs: int,
    rate: float,
    seed: int,
) -> tuple[NDArray[np.float32], float]:
    """Turn the pooled vectors towards the teacher's: minimise 1 - cosine with Adam.

    Args:
        table: where token vectors start, shape (n_tokens, dim).
        ids: token ids of each text.
        targets: the teacher's embeddings on the principal axes, shape (n_texts, dim).
        epochs: passes over the texts.
        rate: first step size; falls to zero linearly.
        seed: drives the order; every twentieth text is held out.

    Returns:
        The trained table, and the mean cosine on the texts held out.
    """
    import torch
    from torch.nn.functional import cosine_similarity

    torch.manual_seed(seed)
    bag = torch.nn.EmbeddingBag.from_pretrained(torch.from_numpy(table), freeze=False, mode="sum")
    target_vectors = torch.from_numpy(targets)
    tensors = [torch.from_numpy(row) for row in ids]
    held_out = torch.arange(0, len(ids), 20)
    rest = torch.tensor([row for row in range(len(ids)) if row % 20])
    steps = epochs * -(-len(rest) // 256)
    optimiser = torch.optim.Adam(bag.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.0, total_iters=steps)

    def cosine(rows: torch.Tensor) -> torch.Tensor:
        parts = [tensors[int(row)] for row in rows]
        starts = torch.tensor([0, *np.cumsum([len(part) for part in parts])[:-1]])
        return cosine_similarity(bag(torch.cat(parts), starts), target_vectors[rows])

    reached = float(cosine(held_out).mean().detach())
    for epoch in range(epochs):
        for rows in rest[torch.randperm(len(rest))].split(256):
            optimiser.zero_grad()
            loss = 1.0 - cosine(rows).mean()
            loss.backward()
            optimiser.step()
            schedule.step()
        with torch.no_grad():
            reached = float(cosine(held_out).mean().detach())
        logger.info("epoch %d: held-out cosine %.4f", epoch + 1, reached)
    return bag.weight.detach().numpy(), reached


def quantise(table: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Round a table to int8 directions, shape (n_tokens, dim), and one weight per token."""
    weights = np.maximum(np.abs(table).max(axis=1), 1e-9) / 127.0
    return np.round(table / weights[:, None]).astype(np.int8), weights.astype(np.float32)


def surface_scales(texts: Sequence[str], weight: float) -> NDArray[np.float32]:
    """Return mean, deviation and weight of each surface feature, shape (3, n_features)."""
    features = np.array([surface_features(text) for text in texts])
    weights = np.full(features.shape[1], weight)
    return np.stack([features.mean(axis=0), features.std(axis=0), weights]).astype(np.float32)


def read_tokenizer(teacher: Any) -> Tokenizer:
    """Return the teacher's tokenizer without padding, truncation or special tokens."""
    tokenizer = Tokenizer.from_str(teacher.tokenizer.backend_tokenizer.to_str())
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def distil(teacher: Any, args: argparse.Namespace) -> tuple[StaticEncoder, dict[str, Any]]:
    """Run the three steps; return the encoder and the facts of the run."""
    tokenizer = read_tokenizer(teacher)
    texts = training_texts(data_folder(), args.per_domain, args.seed)
    words = [
        str(tokenizer.id_to_token(token)).removeprefix("##")
        for token in range(tokenizer.get_vocab_size())
    ]
    alone = teach(teacher, words, args.cache, "tokens")
    embedded = teach(teacher, texts, args.cache, "texts")
    ids = [
        np.array(encoding.ids, dtype=np.int64)
        for encoding in tokenizer.encode_batch(texts, add_special_tokens=False)
    ]
    rows = [row for row, token_ids in enumerate(ids) if len(token_ids)]
    ids, embedded = [ids[row] for row in rows], embedded[rows]
    counts = np.bincount(np.concatenate(ids), minlength=len(words))
    centre, axes = principal_axes(embedded, args.dim)
    directions, targets = (
        np.asarray((vectors - centre) @ axes, dtype=np.float32) for vectors in (alone, embedded)
    )
    table, reached = train_table(
        starting_table(directions, counts),
        ids,
        targets,
        epochs=args.epochs,
        rate=args.rate,
        seed=args.seed,
    )
    vectors, weights = quantise(table)
    surface = surface_scales(texts, args.surface)
    training = {
        "teacher": args.teacher_name,
        "dim": args.dim,
        "texts": len(ids),
        "domains": list(DOMAINS),
        "tokens_seen": int((counts > 0).sum()),
        "tokens": len(words),
        "epochs": args.epochs,
        "rate": args.rate,
        "surface_weight": args.surface,
        "seed": args.seed,
        "held_out_cosine": round(reached, 4),
    }
    return StaticEncoder(tokenizer, vectors, weights, surface=surface, name="static"), training


CARD = """\
# The static encoder

One vector of {dim} numbers (int8) and one weight per token, and nine surface features (shares of
capitals, digits, line breaks, punctuation, symbols and non-ASCII bytes; how the prompt ends). A
prompt's vector is the weighted sum of its tokens, at unit length, beside its weighted features.
Prompts longer than 10,000 characters are cut to their first 8,000 and last 2,000.

Distilled from [{teacher}](https://huggingface.co/{teacher}) (Apache-2.0),
whose WordPiece tokenizer it keeps, by `benchmarks/distill_encoder.py`: {texts} texts, excerpts
of the domains {domains}, and the training prompts of open7.
{tokens_seen} of {tokens} tokens occurred in them; the others keep the teacher's own direction. On
held-out texts its vectors (without the features) have a mean cosine of {held_out_cosine} to the
teacher's embeddings on their first {dim} principal axes.

The texts belong to their authors and are not part of this folder. English above all: the
tokenizer knows few words of other languages, and reads Chinese one character at a time.
"""


def main() -> None:
    """Read the arguments, distil, and write the encoder's folder."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", 1)[0])
    parser.add_argument("--teacher", default=TEACHER, help="Hub id or folder")
    parser.add_argument("--teacher-name", default=TEACHER, help="what the model card says")
    parser.add_argument("--cache", type=Path, help="keep the teacher's embeddings here")
    parser.add_argument("--per-domain", type=int, default=3500)
    parser.add_argument("--dim", type=int, default=48)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--rate", type=float, default=0.01)
    parser.add_argument("--surface", type=float, default=0.2, help="weight of surface features")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=BUNDLED)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")

    from sentence_transformers import SentenceTransformer

    encoder, training = distil(SentenceTransformer(args.teacher, device="cpu"), args)
    config = encoder.save(args.out)
    text = json.dumps(config | {"training": training}, indent=2, ensure_ascii=False)
    (args.out / "encoder.json").write_text(text + "\n", encoding="utf-8")
    domains = ", ".join(DOMAINS)
    (args.out / "README.md").write_text(CARD.format(**training | {"domains": domains}), "utf-8")
    logger.info("wrote %s: %s", args.out, training)


if __name__ == "__main__":
    main()
