"""Padding prompts to one length, and whether a model's answers depend on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

_LENGTH_BOUND = ("repetition_penalty", "encoder_repetition_penalty", "no_repeat_ngram_size")
_NEUTRAL = (None, 0, 1.0)


def pad_rows(
    rows: Sequence[Sequence[int]], pad_token: int, side: Literal["left", "right"], device: Any
) -> tuple[Any, Any]:
    """Return prompts as one tensor (rows, tokens), and its attention mask: 1 is a token, 0 padding.

    Args:
        rows: token ids of each prompt.
        pad_token: fills the shorter rows.
        side: where the padding stands.
        device: of both tensors.
    """
    import torch

    longest = max(map(len, rows))
    ids = torch.full((len(rows), longest), pad_token)
    mask = torch.zeros_like(ids)
    for i, row in enumerate(rows):
        part = slice(longest - len(row), None) if side == "left" else slice(len(row))
        ids[i, part] = torch.tensor(row)
        mask[i, part] = 1
    return ids.to(device), mask.to(device)


def padding_is_neutral(
    config: Any,
    first_scores: Callable[[Sequence[Sequence[int]]], Any],
    prompts: Sequence[Sequence[int]],
) -> bool:
    """Test whether the shortest prompt gets the same scores beside the longest one as alone.

    Most models ignore padding. Some, such as recurrent ones, read it as text, and settings that
    count earlier tokens count it too.

    Args:
        config: the model's generation settings.
        first_scores: prompts → scores of the first new token, (rows, vocabulary).
        prompts: token ids, of at least two lengths.
    """
    if any(getattr(config, key, None) not in _NEUTRAL for key in _LENGTH_BOUND):
        return False
    if getattr(config, "min_length", 0) or getattr(config, "min_new_tokens", None):
        return False
    short, long = min(prompts, key=len), max(prompts, key=len)
    alone, beside = (first_scores(rows)[0] for rows in ([short], [short, long]))
    tolerance = 1e-4 if alone.dtype.itemsize >= 4 else 0.05
    scale = float(alone[alone.isfinite()].abs().max())
    difference = float((alone - beside).nan_to_num(0.0).abs().max())
    return difference <= tolerance * max(scale, 1.0)
