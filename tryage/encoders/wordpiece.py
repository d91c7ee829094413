"""Word-level cache in front of the `tokenizers` library.

Tokenizing takes most of a decision's time, and most words of a prompt have occurred before. The
ids are always those of the library, which still splits what is not plain: a word with letters
beyond ASCII, and a whole text with control characters or special tokens.
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

_MOST_CACHED = 65_536
"""Chunks cached; a run of names and numbers that never recur must not fill the memory."""

_LONGEST_CACHED = 24
"""Longest chunk cached, in characters; longer ones hardly ever recur."""

_MOST_STRANGE = 8
"""Most new chunks that the library splits one by one; with more, it splits the whole text."""


class WordCache:
    """Splits text into the token ids of a BERT tokenizer; safe from many threads.

    Text splits into chunks at white space, and a chunk of plain characters into words. Ids do
    not depend on neighbouring chunks or words, so each can be cached.

    Args:
        tokenizer: an uncased BERT tokenizer, see `of`.
        special: tokens that are found in text before it is split.
    """

    def __init__(self, tokenizer: Tokenizer, special: Iterable[str]) -> None:
        self._tokenizer = tokenizer
        self._special = tuple(special)
        self._vocabulary = tokenizer.get_vocab()
        self._cache: dict[str, Ids] = {}

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> WordCache | None:
        """Return the cache of a tokenizer; None where it is not an uncased BERT tokenizer."""
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
        """Return a text's token ids without added special ones; None: the library must split it."""
        if _CONTROL.search(text) is not None:
            return None
        for token in self._special:
            if token in text:
                return None
        chunks = text.split()
        try:
            return list(chain.from_iterable(map(self._cache.__getitem__, chunks)))
        except KeyError:
            return self._new_ids(chunks)

    def _new_ids(self, chunks: Sequence[str]) -> list[int] | None:
        if len(self._cache) > _MOST_CACHED:
            # Another thread may be reading it, so it is replaced, not emptied.
            self._cache = {}
        cache, ids, strange = self._cache, list[int](), 0
        for chunk in chunks:
            cached = cache.get(chunk)
            if cached is not None:
                ids += cached
            elif _STRANGE.search(chunk) is None:
                ids += self._plain(chunk)
            elif strange < _MOST_STRANGE:
                strange += 1
                ids += self._library_ids(chunk)
            else:
                return None
        return ids

    def _plain(self, chunk: str) -> Sequence[int]:
        """Return the ids of a chunk of plain characters, word by word."""
        ids = list[int]()
        for part in _PARTS.findall(chunk.lower()):
            whole = self._vocabulary.get(part)
            if whole is None:
                ids += self._cache.get(part) or self._library_ids(part)
            else:
                ids.append(whole)
        if len(chunk) <= _LONGEST_CACHED:
            self._cache[chunk] = tuple(ids)
        return ids

    def _library_ids(self, part: str) -> Ids:
        """Return the library's ids and cache them."""
        ids = tuple(self._tokenizer.encode(part, add_special_tokens=False).ids)
        if len(part) <= _LONGEST_CACHED:
            self._cache[part] = ids
        return ids
