"""Consecutive windows of tokens that fit into a model's context."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def windows(n: int, size: int, joined: Sequence[tuple[int, int]] = ()) -> list[tuple[int, int]]:
    """Cut `n` tokens into consecutive windows without gaps or overlaps.

    The windows are as even as possible, so that no token has almost no context.

    Args:
        n: number of tokens.
        size: most tokens in a window.
        joined: half-open ranges, in order, that should not be cut; a range longer than a window
            is cut nevertheless.

    Returns:
        Half-open ranges that cover ``0..n`` in order.

    Raises:
        ValueError: `size` is less than one token.
    """
    if size < 1:
        raise ValueError(f"a window must hold at least one token, not {size}")
    ranges = []
    start = 0
    while start < n:
        left = n - start
        count = -(-left // size)
        end = start + -(-left // count)
        for low, high in joined:
            if low < end < high:
                # Move the cut after the range if the window can hold it, else before it.
                if high - start <= size:
                    end = high
                elif low > start:
                    end = low
                break
        ranges.append((start, end))
        start = end
    return ranges


def frame(tokenizer: Any) -> tuple[list[int], list[int]]:
    """Return the special tokens that the tokenizer adds before and after a text."""
    framed = tokenizer("a", add_special_tokens=True)["input_ids"]
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    for start in range(len(framed) - len(bare) + 1):
        if framed[start : start + len(bare)] == bare:
            return list(framed[:start]), list(framed[start + len(bare) :])
    return [], []
