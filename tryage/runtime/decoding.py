"""Turning generated tokens into text as they come, and knowing when to stop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

_TAIL = 6
"""Prompt tokens decoded along with the first new ones, so that a leading space is kept."""

_HALF_CHARACTER = "\ufffd"


class _Decoder:
    """Decodes one token after another, whole characters only.

    A token may hold part of a character, and may read differently alone than after its
    neighbours; so each is decoded together with those before it, and text that ends inside a
    character is held back.
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
        """Return the text that this token completes; often one word, sometimes nothing."""
        self._ids.append(token)
        return self._news(last=False)

    def keep(self, token: int) -> None:
        """Take a token whose text is asked for later, with `flush`."""
        self._ids.append(token)

    def flush(self) -> str:
        """Return what was held back."""
        return self._news(last=True)

    def _news(self, *, last: bool) -> str:
        before = self._decode(self._ids[self._start : self._read])
        text = self._decode(self._ids[self._start :])
        if len(text) <= len(before) or (text.endswith(_HALF_CHARACTER) and not last):
            return ""
        self._start, self._read = self._read, len(self._ids)
        return text[len(before) :]


class AnswerBuilder:
    """Looks at each new token of one answer: passes text on, finds stop strings, knows the end.

    Attributes:
        text: what may be shown so far; stop strings are left out. Where nobody reads along and
            no stop string is looked for, it is there after `finish`.
        tokens: number of tokens generated.
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
        self._held = ""
        self.text = ""
        self.tokens = 0
        self.last = -1
        self.stopped = False

    def add(self, token: int) -> bool:
        """Take the newest token; True if the answer ends here."""
        self.tokens += 1
        self.last = token
        if self._follows:
            self._show(self._decoder.add(token), last=False)
        else:
            self._decoder.keep(token)
        return self.stopped

    def finish(self) -> None:
        """Pass on what was held back because a character or a stop string might have followed."""
        if not self.stopped:
            self._show(self._decoder.flush(), last=True)

    def _show(self, news: str, *, last: bool) -> None:
        text = self._held + news
        found = [at for at in (text.find(string) for string in self._stop) if at >= 0]
        if found:
            self.stopped = True
            text, self._held = text[: min(found)], ""
        else:
            keep = 0 if last else self._could_begin_stop(text)
            text, self._held = text[: len(text) - keep], text[len(text) - keep :]
        if text:
            self.text += text
            if self._emit is not None:
                self._emit(text)

    def _could_begin_stop(self, text: str) -> int:
        """Length of the longest end of `text` that a stop string begins with."""
        longest = max((len(string) for string in self._stop), default=1) - 1
        for length in range(min(longest, len(text)), 0, -1):
            if any(string.startswith(text[-length:]) for string in self._stop):
                return length
        return 0


class GumbelSampler:
    """Adds Gumbel noise to the logits, so that the largest is a sample at the temperature given.

    `generate` itself samples from torch's global generator, which other threads move; this one
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
    """A logits processor over a batch: each row that samples has its own noise."""

    def __init__(self, rows: Sequence[GumbelSampler | None]) -> None:
        self._rows = rows

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """Return `scores` (rows, vocabulary) with the noise of the rows that sample."""
        if not any(self._rows):
            return scores
        scores = scores.float()
        for i, sampler in enumerate(self._rows):
            if sampler is not None:
                scores[i : i + 1] = sampler(None, scores[i : i + 1])
        return scores


class RowStopping:
    """A stopping criterion over a batch: every row ends by itself.

    Args:
        takes: for each row a function that takes its newest token and says whether it ends.
    """

    def __init__(self, takes: Sequence[Callable[[int], bool]]) -> None:
        self._takes = takes
        self._done = [False] * len(takes)

    def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
        """Take the newest tokens of `input_ids` (rows, length); True where a row has ended."""
        import torch

        for i, token in enumerate(input_ids[:, -1].tolist()):
            if not self._done[i]:
                self._done[i] = self._takes[i](token)
        return torch.tensor(self._done, device=input_ids.device)
