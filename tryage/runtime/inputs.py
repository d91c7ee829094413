"""Inputs of text generation: the prompt, and the options of the answer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real

from tryage.errors import OptionError, PromptError
from tryage.runtime.base import check_characters, check_prompt

Prompt = str | Sequence[Mapping[str, str]]
"""Text, or chat messages: ``{"role": "user", "content": "..."}``."""


@dataclass(frozen=True, slots=True)
class Options:
    """Options of text generation; `GenerationPipeline` describes each."""

    max_new_tokens: int
    stop: tuple[str, ...]
    seed: int | None
    temperature: float
    chat: bool | None
    logprobs: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.max_new_tokens, Integral) or self.max_new_tokens < 1:
            raise OptionError(f"max_new_tokens must be at least 1, not {self.max_new_tokens!r}")
        is_finite = isinstance(self.temperature, Real) and math.isfinite(self.temperature)
        if not is_finite or self.temperature < 0:
            raise OptionError(f"temperature must be 0 or more, not {self.temperature!r}")
        if not all(isinstance(text, str) and text for text in self.stop):
            raise OptionError(f"stop must be texts, not {self.stop!r}")


def read_options(
    *,
    max_new_tokens: int = 64,
    stop: str | Sequence[str] = (),
    seed: int | None = None,
    temperature: float = 0.0,
    chat: bool | None = None,
    logprobs: bool = False,
) -> Options:
    """Check the options of a call and fill in the defaults.

    Raises:
        OptionError: one is out of range.
    """
    strings = (stop,) if isinstance(stop, str) else tuple(stop)
    return Options(max_new_tokens, strings, seed, temperature, chat, logprobs)


def check_messages(prompt: object) -> Sequence[Mapping[str, str]]:
    """Return chat messages after checking their form.

    Raises:
        PromptError: the form is wrong, or there is no message.
    """
    if not isinstance(prompt, Sequence) or not prompt:
        raise PromptError("a prompt must be text or a list of messages with at least one in it")
    for number, message in enumerate(prompt, 1):
        fields = message if isinstance(message, Mapping) else {}
        if not all(isinstance(fields.get(key), str) for key in ("role", "content")):
            raise PromptError(f"message {number} must have a text 'role' and a text 'content'")
        check_characters(fields["role"] + fields["content"])
    return prompt


def alternating(messages: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """Return messages for a chat template that knows two roles, which take turns.

    What the system says goes before the first message that follows it, results of tools become the
    user's, and neighbours of one role are one message. Texts are separated by an empty line.
    """
    turns: list[dict[str, str]] = []
    for message in messages:
        role = "assistant" if message["role"] == "assistant" else "user"
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] = f"{turns[-1]['content']}\n\n{message['content']}"
        else:
            turns.append({"role": role, "content": message["content"]})
    return turns


def as_transcript(messages: Sequence[Mapping[str, str]]) -> str:
    """Join messages for a model without a chat template; a single one stays as it is."""
    if len(messages) == 1:
        return check_prompt(messages[0]["content"])
    lines = [f"{message['role'].capitalize()}: {message['content']}" for message in messages]
    return "\n".join([*lines, "Assistant:"])
