"""The answer of an expert."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer of one expert to one prompt.

    Attributes:
        text: the answer without the prompt; for fill-mask the prompt with its marks filled.
        prompt_tokens: tokens read.
        completion_tokens: tokens written.
        seconds: wall time of the call, including the wait for the pipeline.
        truncated: whether the prompt was cut to the model's context: a causal model keeps its end,
            any other its beginning.
        finish_reason: ``"stop"`` at the model's end token or a stop string, ``"length"`` at the
            limit of tokens, ``"cancelled"`` if the caller gave up.
        result: the structured result of the task, in JSON types; None for text generation and
            fill-mask. Classification: a list of ``{"label", "score"}``, the most probable first.
            Token classification: a list of ``{"label", "score", "start", "end", "text"}``, in the
            order of the prompt, positions in characters. Feature extraction: the vector as a list
            of floats.
        logprobs: natural logarithms of the probabilities of the tokens written, before temperature
            and noise; None where they were not asked for, or nobody tells them.
        counted: whether the token counts are known; if an endpoint omits them, they are 0.
    """

    text: str
    prompt_tokens: int
    completion_tokens: int
    seconds: float
    truncated: bool = False
    finish_reason: Literal["stop", "length", "cancelled"] = "stop"
    result: Any = None
    counted: bool = True
    logprobs: tuple[float, ...] | None = None
