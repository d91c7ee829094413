"""Fill-mask with a local masked language model."""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Iterator
from typing import ClassVar

from tryage.errors import ExpertError, PromptError
from tryage.experts import FILL_MASK, MASK
from tryage.runtime.answer import Answer
from tryage.runtime.base import MODEL_FAULTS, Pipeline, check_prompt
from tryage.runtime.batching import CallCancellation
from tryage.runtime.streams import run_in_thread
from tryage.runtime.windows import frame, windows

_CANDIDATES = 50
"""Most probable tokens among which a whole word is looked for."""


class FillMaskPipeline(Pipeline):
    """Fills the marks of a prompt, each with the most probable token that fits as a word.

    All marks are filled in one pass, each with the others masked. A prompt longer than the model's
    context is read in consecutive windows; nothing is left out.
    """

    task: ClassVar[str] = FILL_MASK

    def prepare(self) -> None:
        """Store what calls need from the loaded model."""
        super().prepare()
        self.prefix, self.suffix = frame(self.tokenizer)
        if self.window < 1:
            raise ExpertError(
                f"expert {self.expert.name!r}: a context of {self.context} tokens leaves no room "
                f"for text beside {len(self.prefix) + len(self.suffix)} special tokens"
            )

    @property
    def window(self) -> int:
        """Tokens of text that the model reads at once, without special tokens."""
        return self.context - len(self.prefix) - len(self.suffix)

    def fill(self, prompt: str) -> Answer:
        """Return the prompt with every `[MASK]` replaced by a word.

        Raises:
            PromptError: the prompt is empty or holds no `[MASK]`.
            ExpertError: the model failed.
        """
        return self._fill(prompt, CallCancellation())

    async def afill(self, prompt: str) -> Answer:
        """Fill the prompt's marks in a thread; the event loop is not blocked."""
        return await run_in_thread(functools.partial(self._fill, prompt))

    run, arun = fill, afill

    def _fill(self, prompt: str, cancel: CallCancellation) -> Answer:
        started = time.perf_counter()
        if MASK not in check_prompt(prompt):
            raise PromptError(f"a fill-mask prompt must hold {MASK} where a word is missing")
        # The tokenizer reads the expert's own mask token as a mark too.
        try:
            with self.turn(cancel):
                mark = f"{re.escape(MASK)}|{re.escape(self.mask_token)}"
                marks = list(re.finditer(mark, prompt))
                ids = self.encode(prompt.replace(MASK, self.mask_token))
                candidates = list(self._candidates(ids))
        except ExpertError:
            raise
        except MODEL_FAULTS as error:
            raise self.failure(error) from error
        if len(candidates) != len(marks):
            raise ExpertError(
                f"expert {self.expert.name!r}: {len(marks)} marks in the prompt became "
                f"{len(candidates)} mask tokens; its tokenizer splits {self.mask_token!r}"
            )
        return Answer(
            text=self._filled(prompt, marks, candidates),
            prompt_tokens=len(ids) + len(self.prefix) + len(self.suffix),
            completion_tokens=len(marks),
            seconds=time.perf_counter() - started,
        )

    @property
    def mask_token(self) -> str:
        """The expert's own mask token.

        Raises:
            ExpertError: its tokenizer has none.
        """
        token = self.tokenizer.mask_token
        if token is None:
            raise ExpertError(
                f"expert {self.expert.name!r}: its tokenizer has no mask token, so it cannot do "
                f"{self.task}; correct 'task' in the library"
            )
        return str(token)

    def _candidates(self, ids: list[int]) -> Iterator[list[str]]:
        """For each mask token, yield the text of the most probable tokens, best first."""
        import torch

        mask = self.tokenizer.mask_token_id
        for start, end in windows(len(ids), self.window):
            if mask not in ids[start:end]:
                continue
            row = [*self.prefix, *ids[start:end], *self.suffix]
            inputs = torch.tensor([row], device=self.model.device)  # (1, window)
            logits = self.model(inputs, attention_mask=torch.ones_like(inputs)).logits[0]
            logits = logits[inputs[0] == mask].float()  # (masks, vocabulary)
            special = [i for i in self.tokenizer.all_special_ids if i < logits.shape[-1]]
            logits[:, special] = float("-inf")
            for row_best in logits.topk(min(_CANDIDATES, logits.shape[-1])).indices.tolist():
                yield [self._token_text(token) for token in row_best]

    def _token_text(self, token: int) -> str:
        text: str = self.tokenizer.decode([token], clean_up_tokenization_spaces=False)
        piece = self.tokenizer.convert_ids_to_tokens(token)
        # The decoder drops the space that a piece begins with.
        return " " + text if isinstance(piece, str) and piece.startswith("▁") else text

    def _filled(self, prompt: str, marks: list[re.Match[str]], candidates: list[list[str]]) -> str:
        text, end = "", 0
        for mark, words in zip(marks, candidates, strict=True):
            text += prompt[end : mark.start()]
            text += fitting_word(words, before=text[-1:])
            end = mark.end()
        return text + prompt[end:]


def fitting_word(candidates: list[str], before: str) -> str:
    """Return the first candidate that fits after the character `before`, with one space."""
    inside = before.isalnum()
    for candidate in candidates:
        # WordPiece writes a piece that continues a word as "##ing".
        word = candidate[2:] if inside and candidate.startswith("##") else candidate
        if word.strip() and not word.startswith("##") and "\ufffd" not in word:
            return word if before and not before.isspace() else word.lstrip()
    return candidates[0].strip()
