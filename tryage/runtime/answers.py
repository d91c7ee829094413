"""What a pipeline hands back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer of one expert to one prompt.

    Attributes:
        text: the answer alone, without the prompt; for fill-mask the prompt with its marks filled.
        prompt_tokens: tokens read.
        completion_tokens: tokens written.
        seconds: wall time of the call, the wait for the pipeline included.
        truncated: whether the beginning of the prompt was left out because the model's context
            could not hold it; the end of the prompt was kept.
        finish_reason: ``"stop"`` if the model ended or a stop string came, ``"length"`` if it
            ran out of tokens, ``"cancelled"`` if the caller gave up.
    """

    text: str
    prompt_tokens: int
    completion_tokens: int
    seconds: float
    truncated: bool = False
    finish_reason: Literal["stop", "length", "cancelled"] = "stop"
