"""Scripts of natural languages: which a text is written in, and which are new to a router."""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Iterable, Sequence

_RANGES = {
    "Latin": "A-Za-z\u00aa\u00ba\u00c0-\u024f\u1e00-\u1eff\uff21-\uff3a\uff41-\uff5a",
    "Greek": "\u0370-\u03ff\u1f00-\u1fff",
    "Cyrillic": "\u0400-\u052f",
    "Armenian": "\u0530-\u058f",
    "Hebrew": "\u0590-\u05ff",
    "Arabic": "\u0600-\u06ff\u0750-\u077f\u08a0-\u08ff\ufb50-\ufdff\ufe70-\ufeff",
    "Syriac": "\u0700-\u074f",
    "Thaana": "\u0780-\u07bf",
    "Devanagari": "\u0900-\u097f",
    "Bengali": "\u0980-\u09ff",
    "Gurmukhi": "\u0a00-\u0a7f",
    "Gujarati": "\u0a80-\u0aff",
    "Oriya": "\u0b00-\u0b7f",
    "Tamil": "\u0b80-\u0bff",
    "Telugu": "\u0c00-\u0c7f",
    "Kannada": "\u0c80-\u0cff",
    "Malayalam": "\u0d00-\u0d7f",
    "Sinhala": "\u0d80-\u0dff",
    "Thai": "\u0e00-\u0e7f",
    "Lao": "\u0e80-\u0eff",
    "Tibetan": "\u0f00-\u0fff",
    "Myanmar": "\u1000-\u109f",
    "Georgian": "\u10a0-\u10ff",
    "Hangul": "\u1100-\u11ff\u3130-\u318f\uac00-\ud7af",
    "Ethiopic": "\u1200-\u139f",
    "Cherokee": "\u13a0-\u13ff",
    "Khmer": "\u1780-\u17ff",
    "Mongolian": "\u1800-\u18af",
    "Kana": "\u3041-\u3096\u30a1-\u30fa\uff66-\uff9d",
    "Han": "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff",
}
"""Script → its characters, as in a regular expression's brackets; the two kana count as one."""

SCRIPTS = tuple(_RANGES)

_FEWEST = 0.001
"""Share of the letters from which a script counts as known."""

_SAMPLE = 128
"""Characters of a prompt that are looked at, at most."""

_JOINED = 4096
"""Prompts that are read at once."""

_LETTERS = {script: re.compile(f"[{ranges}]+") for script, ranges in _RANGES.items()}


def scripts_in(prompts: Iterable[str]) -> tuple[str, ...]:
    """Return the scripts that at least one letter in a thousand is written in."""
    counts = dict.fromkeys(SCRIPTS, 0)
    rest = iter(prompts)
    # In parts, since the texts of a large table are long when joined.
    while part := list(itertools.islice(rest, _JOINED)):
        text = "\n".join(part)
        ascii_text = text.encode("ascii", "ignore").decode()
        counts["Latin"] += _count(_LETTERS["Latin"], ascii_text)
        if not text.isascii():
            others = re.sub(r"[\x00-\x7f]+", " ", text)
            for script, letters in _LETTERS.items():
                counts[script] += _count(letters, others)
    fewest = max(1.0, _FEWEST * sum(counts.values()))
    return tuple(script for script, count in counts.items() if count >= fewest)


def in_other_scripts(prompts: Sequence[str], scripts: tuple[str, ...]) -> list[int]:
    """Return the places of the prompts that are written mostly in other scripts than these.

    More than half of the characters that are not white space are letters of another script. Of
    long prompts some hundred characters are looked at, evenly spaced.
    """
    foreign = []
    others, knows_latin = _others(scripts), "Latin" in scripts
    for row, prompt in enumerate(prompts):
        if knows_latin and prompt.isascii():
            continue  # almost every prompt
        sample = prompt[:: len(prompt) // _SAMPLE + 1]
        letters = _count(others, sample) if others.search(sample) is not None else 0
        if letters and 2 * letters > sum(map(len, sample.split())):
            foreign.append(row)
    return foreign


@functools.lru_cache(maxsize=64)
def _others(scripts: tuple[str, ...]) -> re.Pattern[str]:
    ranges = "".join(ranges for script, ranges in _RANGES.items() if script not in scripts)
    return re.compile(f"[{ranges}]+" if ranges else "(?!)")


def _count(letters: re.Pattern[str], text: str) -> int:
    return sum(map(len, letters.findall(text)))
