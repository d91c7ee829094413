"""Decoding tokens while they are generated: text, stop strings, sampling."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

_TAIL = 6
"""Prompt tokens decoded together with the first new ones, to keep a leading space."""

_MOST_HELD = 32
"""Tokens that may be held back for a character to be complete; none takes so many."""

_HALF_CHARACTER = "\ufffd"


class _Decoder:
    """Incremental decoder that returns complete characters only.

    A token may hold part of a character, or decode differently after other tokens. So each token
    is decoded together with those before it, and text that ends inside a character is held back.
    """

    def __init__(self, tokenizer: Any, prompt_ids: Sequence[int]) -> None:
        self._tokenizer = tokenizer
        self._ids = list(prompt_ids[-_TAIL:])
        self._start = 0
        self._read = len(self._ids)

    def _decode(self, ids: list[int]) -> str:
        text: str = self._tokenizer.decode(
            ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return text

    def add(self, token: int) -> str:
        """Append a token; returns the text that it completes, which may be empty."""
        self._ids.append(token)
        return self._new_text(last=False)

    def keep(self, token: int) -> None:
        """Append a token without decoding; `flush` returns its text."""
        self._ids.append(token)

    def flush(self) -> str:
        """Return the text held back so far."""
        return self._new_text(last=True)

    def _new_text(self, *, last: bool) -> str:
        before = self._decode(self._ids[self._start : self._read])
        text = self._decode(self._ids[self._start :])
        unfinished = len(text) <= len(before) or text.endswith(_HALF_CHARACTER)
        if unfinished and not last and len(self._ids) - self._read < _MOST_HELD:
            return ""
        self._start, self._read = self._read, len(self._ids)
        return text[len(before) :]


class AnswerBuilder:
    """Builds one answer from its tokens: emits text and detects stop strings.

    Attributes:
        text: the answer so far, without stop strings. Without a reader and without stop strings it
            is decoded in `finish` only.
        tokens: number of generated tokens.
        last: the newest token.
        stopped: whether a stop string was found.
    """

    def __init__(
        self,
        tokenizer: Any,
        prompt_ids: Sequence[int],
        stop: Sequence[str],
        emit: Callable[[str], None] | None,
    ) -> None:
        self._decoder = _Decoder(tokenizer, prompt_ids)
        self._stop = tuple(string for string in stop if string)
        self._emit = emit
        self._follows = emit is not None or bool(self._stop)
        self._pending = ""
        self._texts: list[str] = []
        self.tokens = 0
        self.last = -1
        self.stopped = False

    @property
    def text(self) -> str:
        """The answer so far."""
        # A list, since adding to a long text copies it each time.
        self._texts[:] = ["".join(self._texts)]
        return self._texts[0]

    def add(self, token: int) -> bool:
        """Append the newest token; True if a stop string ends the answer."""
        self.tokens += 1
        self.last = token
        if self._follows:
            self._show(self._decoder.add(token), last=False)
        else:
            self._decoder.keep(token)
        return self.stopped

    def finish(self) -> None:
        """Emit text held back for an incomplete character or a possible stop string."""
        if not self.stopped:
            self._show(self._decoder.flush(), last=True)

    def _show(self, new_text: str, *, last: bool) -> None:
        text = self._pending + new_text
        stops = [at for at in (text.find(string) for string in self._stop) if at >= 0]
        if stops:
            self.stopped = True
            text, self._pending = text[: min(stops)], ""
        else:
            pending = 0 if last else self._possible_stop(text)
            text, self._pending = text[: len(text) - pending], text[len(text) - pending :]
        if text:
            self._texts.append(text)
            if self._emit is not None:
                self._emit(text)

    def _possible_stop(self, text: str) -> int:
        """Return the length of the longest suffix of `text` that begins a stop string."""
        longest = max((len(string) for string in self._stop), default=1) - 1
        for length in range(min(longest, len(text)), 0, -1):
            if any(string.startswith(text[-length:]) for string in self._stop):
                return length
        return 0


class GumbelSampler:
    """Adds Gumbel noise to logits, so that the largest is a sample at a temperature.

    `generate` would sample from torch's global generator, which other threads advance. This one
    has its own, so a seed gives the same answer whatever else runs.
    """

    def __init__(self, temperature: float, seed: int | None, device: Any) -> None:
        import torch

        self._temperature = temperature
        self._generator = torch.Generator(device=device)
        if seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(seed)

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """Return `scores` (1, vocabulary) over the temperature, plus noise."""
        import torch

        noise = torch.empty(scores.shape, dtype=torch.float32, device=scores.device)
        noise.exponential_(generator=self._generator)
        return scores.float() / self._temperature - noise.log()


class RowSamplers:
    """Logits processor of a batch: each sampled row has its own noise.

    Args:
        rows: for each row its noise, or None.
        logprobs: for each row where log-probabilities of its tokens are kept, or None.
    """

    def __init__(
        self, rows: Sequence[GumbelSampler | None], logprobs: Sequence[list[float] | None] = ()
    ) -> None:
        self._rows = rows
        self._logprobs = [*logprobs, *[None] * (len(rows) - len(logprobs))]

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """Return `scores` (rows, vocabulary) with noise added to the sampled rows."""
        raw = scores
        if any(self._rows):
            scores = scores.float().clone()
            for i, sampler in enumerate(self._rows):
                if sampler is not None:
                    scores[i : i + 1] = sampler(None, scores[i : i + 1])
        for i, logprobs in enumerate(self._logprobs):
            if logprobs is not None:
                token = scores[i].argmax()
                logprobs.append(float(raw[i].float().log_softmax(dim=-1)[token]))
        return scores


class RowStopping:
    """Stopping criterion of a batch: each row ends by itself.

    Args:
        advance: one function per row: newest token → whether the row ends.
    """

    def __init__(self, advance: Sequence[Callable[[int], bool]]) -> None:
        self._advance = advance
        self._done = [False] * len(advance)

    def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
        """Pass on the newest tokens of `input_ids` (rows, length); return which rows ended."""
        import torch

        for i, token in enumerate(input_ids[:, -1].tolist()):
            if not self._done[i]:
                self._done[i] = self._advance[i](token)
        return torch.tensor(self._done, device=input_ids.device)
