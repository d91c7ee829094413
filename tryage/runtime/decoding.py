"""Turning generated tokens into text as they come, and knowing when to stop."""

from __future__ import annotations

import threading
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


class Watcher:
    """Looks at each new token: passes text on, finds stop strings, honours cancellation.

    It is handed to `generate` as a stopping criterion, which is called once per token.

    Attributes:
        text: what may be shown so far; stop strings are left out.
        tokens: number of tokens generated.
        stopped: whether a stop string was found.
    """

    def __init__(
        self,
        tokenizer: Any,
        prompt_ids: Sequence[int],
        stop: Sequence[str],
        emit: Callable[[str], None] | None,
        cancel: threading.Event,
    ) -> None:
        self._decoder = _Decoder(tokenizer, prompt_ids)
        self._stop = tuple(string for string in stop if string)
        self._emit = emit
        self._cancel = cancel
        self._held = ""
        self.text = ""
        self.tokens = 0
        self.stopped = False

    def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
        """Take the newest token of `input_ids` (1, length); True ends the generation."""
        import torch

        self.tokens += 1
        self._show(self._decoder.add(int(input_ids[0, -1])), last=False)
        done = self.stopped or self._cancel.is_set()
        return torch.full((1,), done, dtype=torch.bool, device=input_ids.device)

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


class Sampler:
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
