"""Fingerprints of the prompts that a router was fitted on, to see whether it is judged by them.

A fingerprint is 32 bits of the SHA-256 of a text: no text can be read from it, though somebody who
guesses a whole prompt can test whether it was among them.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

LEAST_SHARE = 0.05
"""Share of the prompts that must have been seen before anything is said of it."""

MOST = 4096
"""Fingerprints that a router stores, the lowest ones; of more prompts they are a sample."""


def _marks(prompts: Sequence[str]) -> np.ndarray[Any, np.dtype[np.uint32]]:
    """Return the sorted fingerprints of the different prompts, white space at their ends aside."""
    texts = {prompt.strip().encode("utf-8", "surrogatepass") for prompt in prompts}
    digests = b"".join(hashlib.sha256(text).digest()[:4] for text in texts)
    return np.unique(np.frombuffer(digests, dtype="<u4"))


def fingerprints(prompts: Sequence[str]) -> str:
    """Return the fingerprints of prompts as text: at most 4,096, four bytes each, in base64."""
    return base64.b64encode(_marks(prompts)[:MOST].tobytes()).decode("ascii")


def joined_fingerprints(stored: Any, prompts: Sequence[str]) -> str | None:
    """Return stored fingerprints with those of more prompts; None where nothing was stored.

    Args:
        stored: what `fingerprints` returned; anything else counts as nothing.
        prompts: the further prompts.
    """
    if not isinstance(stored, str):
        return None
    try:
        before = np.frombuffer(base64.b64decode(stored, validate=True), dtype="<u4")
    except (binascii.Error, ValueError):
        return None
    marks = np.unique(np.concatenate([before, _marks(prompts)]))[:MOST]
    return base64.b64encode(marks.astype("<u4").tobytes()).decode("ascii")


def seen_among(
    provenance: Mapping[str, Any], prompts: Sequence[str], table_hash: str
) -> str | None:
    """Return a sentence where a router was fitted on prompts that it is to be judged by, else None.

    Args:
        provenance: the router's.
        prompts: the prompts that it is judged by.
        table_hash: of their table.
    """
    stored = provenance.get("fingerprints")
    if isinstance(stored, str):
        share, exact = seen_share(stored, prompts)
    else:  # fitted before fingerprints were stored
        share, exact = float(provenance.get("data_sha256") == table_hash), True
    if share < LEAST_SHARE:
        return None
    if share == 1.0:
        part = "the router was fitted on these very prompts"
    else:
        about = "" if exact else "about "
        part = f"the router was fitted on {about}{share:.0%} of these prompts"
    return (
        f"{part}, so its figures are better than on new ones; judge it by prompts that it has not "
        "seen, or by its verdict (tryage fit prints it)"
    )


def seen_share(stored: str, prompts: Sequence[str]) -> tuple[float, bool]:
    """Return how many of some prompts have a stored fingerprint.

    Args:
        stored: what `fingerprints` returned.
        prompts: the prompts that a router is judged by.

    Returns:
        The share of the different prompts, 0 to 1, and whether it is exact: where more prompts
        were fitted on than are stored, the share is that of a sample.
    """
    try:
        stored_marks = np.frombuffer(base64.b64decode(stored, validate=True), dtype="<u4")
    except (binascii.Error, ValueError):
        return 0.0, False
    marks = _marks(prompts)
    exact = len(stored_marks) < MOST
    if not exact:
        marks = marks[marks <= stored_marks[-1]]  # the range in which every fingerprint was stored
    if not len(marks):
        return 0.0, exact
    return float(np.isin(marks, stored_marks).mean()), exact
