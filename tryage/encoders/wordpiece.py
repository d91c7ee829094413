"""WordPiece from memory: what a prompt's words were split into before, they are split into again.

Most of a decision is tokenizing, and most words of a prompt have been seen before. The ids are
always those of the `tokenizers` library, which still splits whatever is not plain: a word with
letters beyond ASCII, and a whole text with control characters or special tokens.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from itertools import chain

from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

Ids = tuple[int, ...]

_PUNCTUATION = "".join(
    chr(code)
    for start, end in ((0x2010, 0x205F), (0x3001, 0x3031), (0xFF01, 0xFF66))
    for code in range(start, end)
    if unicodedata.category(chr(code)).startswith("P")
)
_ALONE = rf"!-/:-@\[-`{{-~\u3400-\u4dbf\u4e00-\u9fff{re.escape(_PUNCTUATION)}"
"""Characters that are words by themselves wherever they stand: punctuation and Han."""

_PARTS = re.compile(rf"[0-9a-z]+|[{_ALONE}]")
_STRANGE = re.compile(rf"[^0-9A-Za-z{_ALONE}]")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x85]")

_MOST_KEPT = 65_536
"""Chunks kept; a run of names and numbers that never come again must not fill the memory."""

_LONGEST_KEPT = 24
"""Characters of a chunk that is kept; a longer one is hardly ever met again."""

_MOST_STRANGE = 8
"""New chunks that the library splits one by one; with more, it splits the whole text at once."""


class WordMemory:
    """Splits text into the token ids that a BERT tokenizer gives; safe from many threads.

    Text falls into chunks at white space, and a chunk of plain characters into words; neither
    looks across its borders, so each can be remembered.

    Args:
        tokenizer: an uncased BERT tokenizer, see `of`.
        special: tokens that are found in text before it is split.
    """

    def __init__(self, tokenizer: Tokenizer, special: Iterable[str]) -> None:
        self._tokenizer = tokenizer
        self._special = tuple(special)
        self._vocabulary = tokenizer.get_vocab()
        self._known: dict[str, Ids] = {}

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> WordMemory | None:
        """Return the memory of a tokenizer; None where it is not an uncased BERT tokenizer."""
        normalizer = tokenizer.normalizer
        if (
            not isinstance(tokenizer.model, WordPiece)
            or not isinstance(tokenizer.pre_tokenizer, BertPreTokenizer)
            or not isinstance(normalizer, BertNormalizer)
            or not (normalizer.lowercase and normalizer.clean_text)
            or not normalizer.handle_chinese_chars
            or normalizer.strip_accents is False
        ):
            return None
        added = tokenizer.get_added_tokens_decoder().values()
        return cls(tokenizer, [token.content for token in added])

    def ids(self, text: str) -> list[int] | None:
        """Return a text's token ids, without those the tokenizer adds; None: ask the library."""
        if _CONTROL.search(text) is not None:
            return None
        for token in self._special:
            if token in text:
                return None
        chunks = text.split()
        try:
            return list(chain.from_iterable(map(self._known.__getitem__, chunks)))
        except KeyError:
            return self._learned(chunks)

    def _learned(self, chunks: Sequence[str]) -> list[int] | None:
        if len(self._known) > _MOST_KEPT:
            # Another thread may be reading it, so it is replaced, not emptied.
            self._known = {}
        known, found, strange = self._known, list[int](), 0
        for chunk in chunks:
            ids = known.get(chunk)
            if ids is not None:
                found += ids
            elif _STRANGE.search(chunk) is None:
                found += self._plain(chunk)
            elif strange < _MOST_STRANGE:
                strange += 1
                found += self._asked(chunk)
            else:
                return None
        return found

    def _plain(self, chunk: str) -> Sequence[int]:
        """Return the ids of a chunk of plain characters, word by word."""
        ids = list[int]()
        for part in _PARTS.findall(chunk.lower()):
            whole = self._vocabulary.get(part)
            if whole is None:
                ids += self._known.get(part) or self._asked(part)
            else:
                ids.append(whole)
        if len(chunk) <= _LONGEST_KEPT:
            self._known[chunk] = tuple(ids)
        return ids

    def _asked(self, part: str) -> Ids:
        """Return the ids that the library gives."""
        ids = tuple(self._tokenizer.encode(part, add_special_tokens=False).ids)
        if len(part) <= _LONGEST_KEPT:
            self._known[part] = ids
        return ids
