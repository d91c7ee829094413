"""Hide words of a text: the same ones for every expert, whatever its tokenizer."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from dataclasses import dataclass, field

from tryage.errors import PromptError
from tryage.experts import MASK

# Scripts written without spaces, in which every character stands for a word.
_ALONE = "\u2e80-\u2fdf\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_LETTER = f"(?![{_ALONE}])[^\\W_]"
_WORD = re.compile(f"[{_ALONE}]|(?:{_LETTER})+(?:['\u2019](?:{_LETTER})+)*")


@dataclass(frozen=True, slots=True)
class MaskedText:
    """A text with some of its words hidden.

    Attributes:
        text: the whole text.
        prompt: the text with one `[MASK]` in place of each hidden word.
        spans: where the hidden words stand in `text`, in order, as half-open character ranges.
    """

    text: str = field(repr=False)
    prompt: str = field(repr=False)
    spans: tuple[tuple[int, int], ...]

    @property
    def hidden_bytes(self) -> int:
        """Length of the hidden words in UTF-8 bytes: what a loss is divided by."""
        return sum(len(self.text[start:end].encode()) for start, end in self.spans)


def words(text: str) -> list[tuple[int, int]]:
    """Return the character ranges of a text's words: runs of letters and digits.

    An apostrophe inside a word belongs to it; punctuation and underscores do not; a character of
    a script without spaces is a word of its own. Accents written as characters of their own stay
    with their letter.
    """
    ranges: list[tuple[int, int]] = []
    for match in _WORD.finditer(text):
        start, end = match.span()
        while end < len(text) and unicodedata.category(text[end]).startswith("M"):
            end += 1
        if ranges and ranges[-1][1] == start and unicodedata.category(text[start - 1])[0] == "M":
            # An accent is no letter to the pattern, so it cut this word in two.
            start = ranges.pop()[0]
        ranges.append((start, end))
    return ranges


def mask_words(text: str, *, share: float = 0.15, seed: int = 0) -> MaskedText:
    """Hide a share of the words of a text, chosen by a stable hash of the text.

    Args:
        text: the text; the same text always hides the same words.
        share: share of the words to hide, above 0 and at most 1; at least one word is hidden.
        seed: another one hides other words.

    Returns:
        The text with its hidden words; without `spans` if the text has no words.

    Raises:
        ValueError: `share` is out of range.
    """
    if not 0 < share <= 1:
        raise ValueError(f"the share of hidden words must be above 0 and at most 1, not {share}")
    ranges = words(text)
    count = min(len(ranges), max(1, round(share * len(ranges))))
    salt = f"{seed} " if seed else ""
    start = hashlib.sha256((salt + text).encode("utf-8", "surrogatepass")).digest()
    order = sorted(
        range(len(ranges)),
        key=lambda i: hashlib.sha256(start + i.to_bytes(8, "little")).digest(),
    )
    return _hide(text, [ranges[i] for i in sorted(order[:count])])


def align(prompt: str, text: str) -> MaskedText:
    """Find the words behind the marks of a fill-mask prompt in the text without marks.

    Args:
        prompt: text with `[MASK]` marks.
        text: the same text, with a word or more in place of each mark.

    Raises:
        PromptError: the two do not fit together.
    """
    parts = prompt.split(MASK)
    if len(parts) < 2:
        raise PromptError(f"the prompt holds no {MASK}")
    spans: list[tuple[int, int]] = []
    at = len(parts[0]) if text.startswith(parts[0]) else -1
    for number, part in enumerate(parts[1:], 1):
        last = number == len(parts) - 1
        # Each mark stands for at least one character; of several places the first is taken.
        end = len(text) - len(part) if last else text.find(part, at + 1)
        if at < 0 or end <= at or not text.startswith(part, end):
            raise PromptError(
                f"the reference is not the prompt with its {len(parts) - 1} {MASK} filled in: "
                f"mark {number} finds nothing to stand for"
            )
        spans.append((at, end))
        at = end + len(part)
    return MaskedText(text, prompt, tuple(spans))


def _hide(text: str, spans: list[tuple[int, int]]) -> MaskedText:
    prompt, end = "", 0
    for start, stop in spans:
        prompt += text[end:start] + MASK
        end = stop
    return MaskedText(text, prompt + text[end:], tuple(spans))
