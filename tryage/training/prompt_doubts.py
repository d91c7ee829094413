"""What makes training prompts a poor base for telling new prompts apart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tryage.encoders import Encoder, StaticEncoder

FEWEST = 10
"""Prompts from which a shared beginning or end, or a share of them, is no chance."""

SHARED_CHARS = 20
"""Characters of a shared beginning or end that make it a template."""

UNREAD_PROMPTS, UNREAD_TOKENS = 0.05, 0.5
"""Share of the prompts, and of the tokens in each, that an encoder cannot read."""


def prompt_doubts(prompts: Sequence[str], encoder: Encoder | None) -> list[str]:
    """Return what is wrong with training prompts, one sentence each.

    Args:
        prompts: of one task.
        encoder: makes their vectors; None where nothing does.
    """
    return [*_shared_template(prompts), *_unread(prompts, encoder)]


def _shared_template(prompts: Sequence[str]) -> list[str]:
    different = list(dict.fromkeys(prompts))
    if len(different) < FEWEST:
        return []
    sentences = []
    for place, texts in (("begin", different), ("end", [text[::-1] for text in different])):
        shared = _common_start(min(texts), max(texts))  # in order, so of all between too
        if shared >= SHARED_CHARS:
            sentences.append(
                f"all {len(different)} prompts {place} with the same {shared} characters: "
                "prompts without them will count as out of distribution; leave a template out of "
                "the table, and route by the text that goes into it"
            )
    return sentences


def _common_start(first: str, last: str) -> int:
    pairs = enumerate(zip(first, last, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(first), len(last)))


def _unread(prompts: Sequence[str], encoder: Encoder | None) -> list[str]:
    if not isinstance(encoder, StaticEncoder) or len(prompts) < FEWEST:
        return []
    unread = int(np.count_nonzero(encoder.unknown_share(prompts) > UNREAD_TOKENS))
    if unread <= UNREAD_PROMPTS * len(prompts):
        return []
    return [
        f"encoder {encoder.name!r} knows fewer than half of the tokens of {unread} of "
        f"{len(prompts)} prompts, so it tells these apart by length and punctuation at most; give "
        "a sentence-transformers model of their languages as encoder"
    ]
