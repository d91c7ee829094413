"""Word-level cache in front of the `tokenizers` library.

Tokenizing takes most of a decision's time, and most words of a prompt have occurred before. The
ids are always those of the library, which still splits what is not plain: a word with letters
beyond ASCII, and a whole text with control characters or special tokens.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

Ids = NDArray[np.int32]

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


class _Chunks(dict[str, bytes]):
    """Chunk → its packed ids. Plain chunks are split when they are first looked up.

    Looking up another new chunk raises KeyError.

    Args:
        split: returns the packed ids of a plain chunk.
        older: chunks that were cached before; those that recur are taken over.
    """

    def __init__(self, split: Callable[[str], bytes], older: Mapping[str, bytes]) -> None:
        super().__init__()
        self._split = split
        self.older = older

    def __missing__(self, chunk: str) -> bytes:
        packed = self.older.get(chunk)
        if packed is None:
            # All other characters of ASCII are white space or control characters.
            if not chunk.isascii() and _STRANGE.search(chunk) is not None:
                raise KeyError(chunk)
            packed = self._split(chunk)
        if len(chunk) <= _LONGEST_CACHED:
            self[chunk] = packed
        return packed


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
        self._vocabulary = {
            token: np.array([number], dtype=np.int32).tobytes()
            for token, number in tokenizer.get_vocab().items()
        }
        model = tokenizer.model
        self._longest_word: int = model.max_input_chars_per_word
        self._prefix: str = model.continuing_subword_prefix
        self._unknown = self._vocabulary.get(model.unk_token)
        self._cache = _Chunks(self._plain, {})

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

    def ids(self, text: str) -> Ids | None:
        """Return a text's token ids without added special ones; None: the library must split it."""
        if _CONTROL.search(text) is not None:
            return None
        for token in self._special:
            if token in text:
                return None
        cache = self._cache
        if 2 * len(cache) > _MOST_CACHED:
            # Other threads may be reading it, so it is replaced, not emptied.
            cache.older = {}
            cache = self._cache = _Chunks(self._plain, cache)
        chunks = text.split()
        try:
            packed = b"".join(map(cache.__getitem__, chunks))
        except KeyError:
            pieces = self._with_strange(cache, chunks)
            if pieces is None:
                return None
            packed = b"".join(pieces)
        return np.frombuffer(packed, dtype=np.int32)

    def _with_strange(self, cache: _Chunks, chunks: Sequence[str]) -> list[bytes] | None:
        """Return the packed ids of chunks, some of which only the library can split."""
        pieces, strange = list[bytes](), 0
        for chunk in chunks:
            try:
                pieces.append(cache[chunk])
            except KeyError:
                if strange == _MOST_STRANGE:
                    return None
                strange += 1
                packed = self._of_library(chunk)
                if len(chunk) <= _LONGEST_CACHED:
                    cache[chunk] = packed
                pieces.append(packed)
        return pieces

    def _plain(self, chunk: str) -> bytes:
        """Return the packed ids of a chunk of plain characters, word by word."""
        chunk = chunk.lower()
        words = [chunk] if chunk.isascii() and chunk.isalnum() else _PARTS.findall(chunk)
        whole, rare = self._vocabulary.get, self._cache.get
        return b"".join([whole(word) or rare(word) or self._rare(word) for word in words])

    def _rare(self, word: str) -> bytes:
        """Return the packed ids of a plain word that is not in the vocabulary, and cache them."""
        packed = self._pieces(word)
        if len(word) <= _LONGEST_CACHED:
            self._cache[word] = packed
        return packed

    def _pieces(self, word: str) -> bytes:
        """Split a plain word: from its start the longest piece, and so on."""
        if self._unknown is None:
            return self._of_library(word)
        if len(word) > self._longest_word:
            return self._unknown
        vocabulary, pieces, start, end, prefix = self._vocabulary, list[bytes](), 0, len(word), ""
        while start < end:
            piece = vocabulary.get(prefix + word[start:end])
            if piece is None:
                end -= 1
                continue
            pieces.append(piece)
            start, end, prefix = end, len(word), self._prefix
        return b"".join(pieces) if start == len(word) else self._unknown

    def _of_library(self, part: str) -> bytes:
        ids = self._tokenizer.encode(part, add_special_tokens=False).ids
        return np.array(ids, dtype=np.int32).tobytes()
