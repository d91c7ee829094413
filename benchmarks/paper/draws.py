"""Draws of hidden words, and the losses of every expert on them.

A draw deals the words of a text into a few parts, by a stable hash of the text and the draw's
number. Each part is hidden in one pass, so that a draw hides every word exactly once, and every
expert is measured on the same words: the loss is the bits that all hidden words cost, divided by
their UTF-8 bytes. Two draws code_differs in what stands around a hidden word, and in nothing else.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from paper.plan import PROCESSES
from paper.texts import Cut
from tryage.errors import ExpertError
from tryage.experts import FILL_MASK, MASK
from tryage.files import write_text
from tryage.labeling.fingerprints import fingerprint
from tryage.labeling.masking import MaskedText, words
from tryage.labeling.rows import Row
from tryage.labeling.tokens import Window, encode_row
from tryage.library import Library
from tryage.runtime import Runtime

logger = logging.getLogger("paper")

BATCH_TOKENS = 4096
"""Tokens, padding included, that go through a model at once."""

_BLANK = "ĠĊĉč"
"""How byte-level tokens write space, line feed, tab and carriage return."""


def deal_words(text: str, passes: int, draw: int) -> list[MaskedText]:
    """Deal the words of a text into parts, and hide each part once.

    Args:
        text: the text; the same text and draw always give the same parts.
        passes: how many parts; fewer where there are fewer words.
        draw: number of the draw; another number deals the words anew.

    Returns:
        One masked text per part that has words.
    """
    spans = words(text)
    seed = hashlib.sha256(f"{draw}\n".encode() + text.encode("utf-8", "surrogatepass")).digest()
    order = sorted(
        range(len(spans)),
        key=lambda i: hashlib.sha256(seed + i.to_bytes(8, "little")).digest(),
    )
    return [
        _hide(text, [spans[i] for i in sorted(order[part::passes])])
        for part in range(min(passes, len(spans)))
    ]


def _hide(text: str, spans: Sequence[tuple[int, int]]) -> MaskedText:
    prompt, end = "", 0
    for start, stop in spans:
        prompt += text[end:start] + MASK
        end = stop
    return MaskedText(text, prompt + text[end:], tuple(spans))


@dataclass(frozen=True)
class Losses:
    """What one expert does on n prompts, by draw.

    Attributes:
        loss: (draws, n) bits per byte of the hidden words, lower is better.
        accuracy: (draws, n) share of the hidden words that the expert finds likeliest, every
            token of them; comparable between tokenizers.
        seconds: CPU seconds that measuring took.
    """

    loss: Any
    accuracy: Any
    seconds: float


def measure_split(
    library: Library,
    cuts: Sequence[Cut],
    folder: Path,
    *,
    passes: int,
    draws: int,
    device: str = "cpu",
) -> dict[str, Losses]:
    """Measure experts on prompts; what the folder holds already is not measured again.

    Args:
        library: the experts.
        cuts: the n prompts.
        folder: one JSON file per expert.
        passes: parts of a draw.
        draws: how many draws.
        device: where models run.
    """
    request = json.dumps([[cut.id, cut.text] for cut in cuts] + [passes, draws])
    keys = {
        one.name: hashlib.sha256(
            f"{request} {fingerprint(Path(library.model_path(one)))}".encode()
        ).hexdigest()
        for one in library
    }
    paths = {name: folder / f"{name}.json" for name in library.names}
    for name, path in paths.items():
        if path.is_file() and json.loads(path.read_text(encoding="utf-8"))["key"] != keys[name]:
            raise SystemExit(f"{path} is of other prompts or another model; give a new folder")
    with ProcessPoolExecutor(PROCESSES, get_context("spawn")) as pool:
        made = {
            pool.submit(
                _measure, library, name, cuts, passes, draws, device, path, keys[name]
            ): name
            for name, path in paths.items()
            if not path.is_file()
        }
        for future in as_completed(made):
            future.result()
            logger.info("measured %s (%s)", made[future], folder.name)
    losses = {}
    for name, path in paths.items():
        data = json.loads(path.read_text(encoding="utf-8"))
        losses[name] = Losses(
            np.array(data["loss"]), np.array(data["accuracy"]), float(data["seconds"])
        )
    return losses


def _measure(
    library: Library,
    name: str,
    cuts: Sequence[Cut],
    passes: int,
    draws: int,
    device: str,
    path: Path,
    key: str,
) -> None:
    """Measure one expert in a process of its own, and write its file."""
    import torch

    torch.set_num_threads(1)
    pipeline = Runtime(library, device=device).load(name)
    measured = measure_expert(pipeline, cuts, passes=passes, draws=draws)
    results = {
        "key": key,
        "loss": measured.loss.tolist(),
        "accuracy": measured.accuracy.tolist(),
        "seconds": measured.seconds,
    }
    write_text(path, json.dumps(results) + "\n")


def measure_expert(pipeline: Any, cuts: Sequence[Cut], *, passes: int, draws: int) -> Losses:
    """Measure one loaded fill-mask expert, rows of like length together."""
    started = time.process_time()
    windows: list[tuple[Window, int, list[int]]] = []  # window, place, tokens of each hidden word
    size = np.zeros(draws * len(cuts))
    for draw in range(draws):
        for number, cut in enumerate(cuts):
            place = draw * len(cuts) + number
            for masked in deal_words(cut.text, passes, draw):
                row = Row(cut.id, masked.prompt, FILL_MASK, None, masked.text, masked)
                encoded = encode_row(pipeline, row)
                size[place] += encoded.size
                lengths = _tokens_by_word(pipeline, masked, encoded.windows)
                for window in encoded.windows:
                    windows.append((window, place, _drawn(lengths, len(window.targets))))
    bits, right, count = (np.zeros(len(size)) for _ in range(3))
    windows.sort(key=lambda item: len(item[0].ids))
    for batch in _batches(windows):
        for (_, place, lengths), (costs, hits) in zip(
            batch, _forward(pipeline, [item[0] for item in batch]), strict=True
        ):
            starts = np.cumsum([0, *lengths[:-1]])
            bits[place] += costs.sum() / math.log(2)
            right[place] += np.minimum.reduceat(hits, starts).sum()
            count[place] += len(lengths)
    shape = (draws, len(cuts))
    return Losses(
        (bits / size).reshape(shape),
        (right / count).reshape(shape),
        time.process_time() - started,
    )


def _tokens_by_word(pipeline: Any, masked: MaskedText, windows: Sequence[Window]) -> list[int]:
    """Count the tokens of each hidden word: a byte-level token has a character for every byte."""
    targets = [token for window in windows for token in window.targets]
    left = iter(pipeline.tokenizer.convert_ids_to_tokens(targets))
    lengths = []
    for start, end in masked.spans:
        size, length = len(masked.text[start:end].encode()), 0
        while size > 0:
            token = next(left, "")
            size -= len(token.lstrip(_BLANK) if length == 0 else token)
            length += 1
        if size:
            raise ExpertError("the tokens of a hidden word do not add up to it")
        lengths.append(length)
    return lengths


def _drawn(lengths: list[int], count: int) -> list[int]:
    """Take from the front of a list the words that make up a window's `count` tokens."""
    drawn = []
    while count > 0:
        first = min(lengths[0], count)  # a word longer than a window goes over several
        drawn.append(first)
        count -= first
        lengths[0] -= first
        if not lengths[0]:
            lengths.pop(0)
    return drawn


def _batches(windows: Sequence[Any]) -> Any:
    batch: list[Any] = []
    for item in windows:
        if batch and (len(batch) + 1) * len(item[0].ids) > BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(item)
    if batch:
        yield batch


def _forward(pipeline: Any, windows: Sequence[Window]) -> list[tuple[Any, Any]]:
    """Costs in nats of each window's hidden tokens, and whether they were likeliest.

    The same as `tryage.labeling` computes, with outputs only where a token is hidden.
    """
    import torch

    model = pipeline.model
    ids = torch.full((len(windows), max(len(window.ids) for window in windows)), 0)
    ids += pipeline.tokenizer.pad_token_id
    mask = torch.zeros_like(ids)
    for i, window in enumerate(windows):
        ids[i, : len(window.ids)] = torch.tensor(window.ids)
        mask[i, : len(window.ids)] = 1
    rows = torch.tensor([i for i, window in enumerate(windows) for _ in window.at])
    at = torch.tensor([place for window in windows for place in window.at])
    targets = torch.tensor([token for window in windows for token in window.targets])
    rows, at, targets = (tensor.to(model.device) for tensor in (rows, at, targets))
    with pipeline.turn():
        states = model.model(input_ids=ids.to(model.device), attention_mask=mask.to(model.device))[
            0
        ]
        logits = model.decoder(model.head(states[rows, at])).float()  # (tokens, vocabulary)
        costs = torch.nn.functional.cross_entropy(logits, targets, reduction="none").cpu().numpy()
        hits = (logits.argmax(dim=-1) == targets).cpu().numpy()
    ends = np.cumsum([len(window.at) for window in windows])[:-1]
    return list(zip(np.split(costs.astype(np.float64), ends), np.split(hits, ends), strict=True))
