"""What a pipeline hands back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal


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
        result: what the task gives beside text, in JSON types. Classification: a list of
            ``{"label", "score"}``, the likeliest first. Token classification: a list of ``{"label",
            "score", "start", "end", "text"}``, in the order of the prompt, positions in characters.
            Feature extraction: the vector as a list of floats. None for text generation and
            fill-mask.
        counted: whether the token counts are known; an endpoint may not tell them, they are 0 then.
    """

    text: str
    prompt_tokens: int
    completion_tokens: int
    seconds: float
    truncated: bool = False
    finish_reason: Literal["stop", "length", "cancelled"] = "stop"
    result: Any = None
    counted: bool = True
