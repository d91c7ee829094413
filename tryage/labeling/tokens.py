"""Split texts into windows of tokens, with the tokens to predict and their positions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tryage.errors import ExpertError
from tryage.labeling.masking import MaskedText
from tryage.labeling.rows import Row
from tryage.runtime import FillMaskPipeline, TextGenerationPipeline
from tryage.runtime.windows import windows

Pipeline = FillMaskPipeline | TextGenerationPipeline

MAX_WINDOW = 2048
"""Tokens read at once at most, by default; bounds memory for experts with long contexts."""

_BITS_PER_BYTE = 8.0
"""Cost of a byte that the tokenizer cannot express: it is written out."""


@dataclass(slots=True)
class Window:
    """Tokens for one pass of the model.

    Attributes:
        ids: its input.
        at: positions whose output predicts something.
        targets: the right token at each of them.
    """

    ids: list[int]
    at: list[int]
    targets: list[int]


@dataclass(slots=True)
class Encoded:
    """One row as an expert reads it.

    Attributes:
        windows: consecutive windows; together they predict every scored token once.
        size: length of the scored text in UTF-8 bytes.
        bits: cost of what the tokenizer cannot express.
        truncated: whether the beginning of a prompt did not fit the context. Scored text is
            never cut.
    """

    windows: list[Window]
    size: int
    bits: float = 0.0
    truncated: bool = False


@dataclass(slots=True)
class Tokens:
    """A text's tokens.

    Attributes:
        ids: the tokens.
        encoding: of the `tokenizers` library; None for a tokenizer in Python.
    """

    ids: list[int]
    encoding: Any = None

    @property
    def offsets(self) -> list[tuple[int, int]] | None:
        """Character range of each token, computed on demand."""
        return None if self.encoding is None else self.encoding.offsets


SplitTexts = Mapping[str, Tokens]
"""Texts that are split already."""


def split_together(pipeline: Pipeline, rows: Sequence[Row]) -> SplitTexts:
    """Split the scored texts of rows into tokens in one call, which is faster than many.

    `encode_row` splits the rest: texts that change behind their prompt, or that the tokenizer
    fails on.
    """
    if not pipeline.tokenizer.is_fast:
        return {}
    texts = [row.prompt if row.reference is None else row.reference for row in rows]
    try:
        split = pipeline.tokenize(texts, add_special_tokens=False)
    except ExpertError:
        return {}
    return {
        text: Tokens(encoding.ids, encoding)
        for text, encoding in zip(texts, split.encodings, strict=True)
    }


def encode_row(
    pipeline: Pipeline, row: Row, *, max_window: int = MAX_WINDOW, split: SplitTexts | None = None
) -> Encoded:
    """Cut a row into windows that the expert can read.

    Args:
        pipeline: the expert.
        row: what it is measured on.
        max_window: tokens read at once at most.
        split: what `split_together` returned.

    Raises:
        ExpertError: nothing of the row can be measured by this expert; says why.
    """
    if isinstance(pipeline, FillMaskPipeline):
        if row.masked is None or not row.masked.spans:
            raise ExpertError("the text has no word to hide")
        return _encode_masked(pipeline, row.masked, max_window, split or {})
    return _encode_causal(pipeline, row, max_window, split or {})


def _encode_causal(
    pipeline: TextGenerationPipeline, row: Row, max_window: int, split: SplitTexts
) -> Encoded:
    size = min(pipeline.context, max_window)
    start = [] if pipeline.start_token is None else [pipeline.start_token]
    context, text, scored = start, row.prompt, row.prompt
    if row.reference is not None:
        context, text = _question_and_answer(pipeline, row.prompt, row.reference)
        scored = row.reference
    tokens = split.get(text) or _tokenize(pipeline, text)
    n = len(tokens.ids)
    _check_room(size, len(start))
    if not n:
        raise ExpertError("the tokenizer leaves nothing of the text to score")
    context_end = _keep_end(context, size - min(n, size // 2), start)
    # The first window also holds the question; the others go on from the start token.
    first = 0 if row.reference is None else min(n, size - len(context_end))
    cuts = [(0, first)] if first else []
    cuts += [(first + a, first + b) for a, b in windows(n - first, size - len(start))]
    made = []
    bits = _unknown_bits(pipeline, tokens, text, 0, len(text))
    for low, high in cuts:
        before = context_end if low == 0 else start
        ids = before + tokens.ids[low:high]
        if not before:
            # Nothing comes before the first token, so every token is as likely as any other.
            bits += math.log2(len(pipeline.tokenizer))
        at = list(range(max(len(before), 1) - 1, len(ids) - 1))
        made.append(Window(ids, at, [ids[position + 1] for position in at]))
    return Encoded(made, len(scored.encode()), bits, truncated=len(context_end) < len(context))


def _check_room(size: int, special: int) -> None:
    if size <= special:
        raise ExpertError(
            f"a window of {size} tokens leaves no room for text beside {special} special tokens"
        )


def _question_and_answer(
    pipeline: TextGenerationPipeline, prompt: str, answer: str
) -> tuple[list[int], str]:
    """Return the tokens before the answer, and the answer as it follows them."""
    if pipeline.tokenizer.chat_template is not None:
        return pipeline.prompt_ids(prompt), answer
    # Most tokenizers join a word with the space before it; split off, the space would be a token
    # that models rarely see. So space between the two goes with the answer.
    question = prompt.rstrip()
    return pipeline.prompt_ids(question), prompt[len(question) :] + answer


def _keep_end(context: list[int], room: int, start: list[int]) -> list[int]:
    if len(context) <= room:
        return context
    head = start if start and context[: len(start)] == start and room > len(start) else []
    return head + context[len(context) - (room - len(head)) :]


def _encode_masked(
    pipeline: FillMaskPipeline, masked: MaskedText, max_window: int, split: SplitTexts
) -> Encoded:
    whole = split.get(masked.text) or _tokenize(pipeline, masked.text)
    tokens, ranges, bits = _in_context(pipeline, masked, whole) or _in_pieces(pipeline, masked)
    mask = pipeline.tokenizer.convert_tokens_to_ids(pipeline.mask_token)
    hidden = {i for low, high in ranges for i in range(low, high)}
    special = len(pipeline.prefix) + len(pipeline.suffix)
    room = min(pipeline.context, max_window) - special
    _check_room(room + special, special)
    made = []
    for start, end in windows(len(tokens), room, ranges):
        places = [i for i in range(start, end) if i in hidden]
        if places:
            shown = [mask if i in hidden else tokens[i] for i in range(start, end)]
            at = [i - start + len(pipeline.prefix) for i in places]
            ids = [*pipeline.prefix, *shown, *pipeline.suffix]
            made.append(Window(ids, at, [tokens[i] for i in places]))
    return Encoded(made, masked.hidden_bytes, bits)


_Hidden = tuple[list[int], list[tuple[int, int]], float]
"""Tokens of the whole text, the range of each hidden word, the cost of text without a token."""


def _in_context(pipeline: FillMaskPipeline, masked: MaskedText, tokens: Tokens) -> _Hidden | None:
    """Use the tokens of the whole text, if every hidden word begins and ends where a token does."""
    offsets = tokens.offsets
    if offsets is None:
        return None
    ranges, bits, at, count = [], 0.0, 0, len(offsets)
    for start, end in masked.spans:
        while at < count and offsets[at][1] <= start:
            at += 1
        low = at
        while at < count and offsets[at][0] < end:
            at += 1
        if low == at:
            return None
        first, last = offsets[low][0], offsets[at - 1][1]
        # A token may carry the space before its word, and nothing else from outside.
        if masked.text[first:start].strip() or last > end or first > start:
            return None
        ranges.append((low, at))
        bits += _unknown_bits(pipeline, tokens, masked.text, start, end)
    return tokens.ids, ranges, bits


def _in_pieces(pipeline: FillMaskPipeline, masked: MaskedText) -> _Hidden:
    """Split hidden words and the text between them one by one, so that they share no token."""
    ids: list[int] = []
    ranges, bits, done = [], 0.0, 0
    for start, end in masked.spans:
        # The space before a word goes with it, as it would in the running text.
        begin = start - 1 if start > done and masked.text[start - 1] == " " else start
        ids += _tokenize(pipeline, masked.text[done:begin]).ids
        piece = masked.text[begin:end]
        word = _tokenize(pipeline, piece)
        bits += _unknown_bits(pipeline, word, piece, start - begin, end - begin)
        blank = _leading_blanks(pipeline, word.ids)
        ids += word.ids[:blank]
        ranges.append((len(ids), len(ids) + len(word.ids) - blank))
        ids += word.ids[blank:]
        done = end
    ids += _tokenize(pipeline, masked.text[done:]).ids
    return ids, ranges, bits


def _leading_blanks(pipeline: Pipeline, ids: list[int]) -> int:
    """Count the leading tokens that hold only the space before a word."""
    count = 0
    for token in ids[:-1]:
        if str(pipeline.tokenizer.convert_ids_to_tokens(token)).strip("▁Ġ "):
            break
        count += 1
    return count


def _tokenize(pipeline: Pipeline, text: str) -> Tokens:
    if not pipeline.tokenizer.is_fast:
        return Tokens(pipeline.encode(text))
    split = pipeline.tokenize(text, add_special_tokens=False)
    return Tokens(split["input_ids"], split.encodings[0])


def _unknown_bits(pipeline: Pipeline, tokens: Tokens, text: str, start: int, end: int) -> float:
    """Cost of writing out the text of unknown tokens in ``text[start:end]``.

    Otherwise one token for any unknown text would make unreadable text look easy.
    """
    unknown = pipeline.unknown_token
    if unknown is None or unknown not in tokens.ids:
        return _BITS_PER_BYTE * len(text[start:end].encode()) if not tokens.ids else 0.0
    offsets = tokens.offsets
    if offsets is None:
        return _BITS_PER_BYTE * len(text[start:end].encode())
    size = 0
    for token, (low, high) in zip(tokens.ids, offsets, strict=True):
        if token == unknown:
            size += len(text[max(low, start) : min(high, end)].encode())
    return _BITS_PER_BYTE * size
