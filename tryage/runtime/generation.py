"""Text generation with a local causal language model."""

from __future__ import annotations

import copy
import functools
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from tryage.errors import PromptError
from tryage.library import TEXT_GENERATION
from tryage.runtime.answers import Answer
from tryage.runtime.base import MODEL_FAULTS, Cancelled, Pipeline, check_prompt
from tryage.runtime.decoding import Sampler, Watcher
from tryage.runtime.streams import AsyncTextStream, TextStream, run_cancellable

Prompt = str | Sequence[Mapping[str, str]]
"""Text, or chat messages: ``{"role": "user", "content": "..."}``."""


_LEAST_NEW = 64
"""Tokens of the answer that a long prompt may not take away, if the context is large enough."""


@dataclass(frozen=True, slots=True)
class _Options:
    max_new_tokens: int
    stop: tuple[str, ...]
    seed: int | None
    temperature: float
    chat: bool | None

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens must be at least 1, not {self.max_new_tokens}")
        if self.temperature < 0:
            raise ValueError(f"temperature must be 0 or more, not {self.temperature}")


def _options(
    *,
    max_new_tokens: int = 64,
    stop: str | Sequence[str] = (),
    seed: int | None = None,
    temperature: float = 0.0,
    chat: bool | None = None,
) -> _Options:
    strings = (stop,) if isinstance(stop, str) else tuple(stop)
    return _Options(max_new_tokens, strings, seed, temperature, chat)


class TextGenerationPipeline(Pipeline):
    """Answers prompts with a causal language model.

    A model whose tokenizer has a chat template is prompted through it; any other continues the
    plain text. Every method takes the same options:

    - `max_new_tokens` (64): tokens to write at most.
    - `stop` (none): strings that end the answer; they are not part of it.
    - `seed` (None): makes a sampled answer repeatable.
    - `temperature` (0.0): 0 takes the likeliest token each time; above 0 samples.
    - `chat` (None): whether to use the chat template; None means if there is one.

    Where the prompt and `max_new_tokens` do not fit the context together, fewer tokens are
    written: as many as the prompt leaves, but never fewer than 64, or a quarter of the context
    where that is less (or `max_new_tokens`, if it asks for less still). Only a prompt that leaves
    less than this loses its beginning, and the answer says so (`Answer.truncated`).
    """

    task: ClassVar[str] = TEXT_GENERATION

    def generate(self, prompt: Prompt, **options: Any) -> Answer:
        """Answer one prompt; options as in the class's description.

        Raises:
            PromptError: the prompt is empty.
            ExpertError: the model failed.
        """
        return self._answer(prompt, _options(**options), None, threading.Event())

    async def agenerate(self, prompt: Prompt, **options: Any) -> Answer:
        """Answer one prompt in a thread; cancelling the task ends the generation."""
        checked = _options(**options)
        return await run_cancellable(lambda cancel: self._answer(prompt, checked, None, cancel))

    def stream(self, prompt: Prompt, **options: Any) -> TextStream:
        """Return the answer's pieces as they come; closing the stream ends the generation."""
        return TextStream(functools.partial(self._answer, prompt, _options(**options)))

    def astream(self, prompt: Prompt, **options: Any) -> AsyncTextStream:
        """Return the answer's pieces as they come, for ``async for``."""
        return AsyncTextStream(functools.partial(self._answer, prompt, _options(**options)))

    run, arun = generate, agenerate

    def _answer(
        self,
        prompt: Prompt,
        options: _Options,
        emit: Callable[[str], None] | None,
        cancel: threading.Event,
    ) -> Answer:
        started = time.perf_counter()
        ids = self.prompt_ids(prompt, chat=options.chat)
        new = self._room(len(ids), options.max_new_tokens)
        kept = self._fit(ids, max(1, self.context - new))
        watcher = Watcher(self.tokenizer, kept, options.stop, emit, cancel)
        try:
            with self.turn(cancel):
                last = self._generate(kept, new, options, watcher)
        except Cancelled:
            last = None
        except MODEL_FAULTS as error:
            raise self.failure(error) from error
        reason: Literal["stop", "length", "cancelled"] = "length"
        if watcher.stopped or last in self._end_tokens():
            reason = "stop"
        elif cancel.is_set():
            reason = "cancelled"
        return Answer(
            text=watcher.text,
            prompt_tokens=len(kept),
            completion_tokens=watcher.tokens,
            seconds=time.perf_counter() - started,
            truncated=len(kept) < len(ids),
            finish_reason=reason,
        )

    def _generate(self, ids: list[int], new: int, options: _Options, watcher: Watcher) -> int:
        """Run the model; returns the last token."""
        import torch
        from transformers import LogitsProcessorList, StoppingCriteriaList

        device = self.model.device
        inputs = torch.tensor([ids], device=device)  # (1, prompt tokens)
        noise = [Sampler(options.temperature, options.seed, device)] if options.temperature else []
        output = self.model.generate(
            inputs,
            attention_mask=torch.ones_like(inputs),
            generation_config=self._config(new),
            logits_processor=LogitsProcessorList(noise),
            stopping_criteria=StoppingCriteriaList([watcher]),
        )
        watcher.finish()
        return int(output[0, -1])

    def _config(self, new: int) -> Any:
        """Return the model's own settings, made greedy: `Sampler` does what sampling there is."""
        config = copy.deepcopy(self.model.generation_config)
        ends = sorted(self._end_tokens())
        pad = self.tokenizer.pad_token_id
        config.update(
            do_sample=False,
            temperature=None,
            top_k=None,
            top_p=None,
            min_p=None,
            typical_p=None,
            num_beams=1,
            num_return_sequences=1,
            max_length=None,
            max_new_tokens=new,
            eos_token_id=ends or None,
            pad_token_id=pad if pad is not None else (ends[0] if ends else 0),
            return_dict_in_generate=False,
        )
        return config

    def _end_tokens(self) -> set[int]:
        found = self.model.generation_config.eos_token_id
        ends = set(found) if isinstance(found, list | tuple) else {found}
        return {int(end) for end in ends | {self.tokenizer.eos_token_id} if end is not None}

    def _room(self, prompt: int, wanted: int) -> int:
        """Tokens that may be written behind `prompt` tokens, if `wanted` are asked for."""
        floor = max(1, min(_LEAST_NEW, self.context // 4))
        return min(wanted, max(floor, self.context - prompt))

    def _fit(self, ids: list[int], room: int) -> list[int]:
        """Keep the end of a prompt that is too long, and its start token if it has one."""
        if len(ids) <= room:
            return ids
        if room > 1 and ids[0] == self.tokenizer.bos_token_id:
            return ids[:1] + ids[-(room - 1) :]
        return ids[-room:]

    @property
    def start_token(self) -> int | None:
        """The token that stands before any text: the model's start token, else its end token."""
        for token in (self.tokenizer.bos_token_id, self.tokenizer.eos_token_id):
            if token is not None:
                return int(token)
        return None

    def prompt_ids(self, prompt: Prompt, *, chat: bool | None = None) -> list[int]:
        """Return the tokens that the model is to continue, uncut.

        Raises:
            PromptError: the prompt is empty, or the messages are not messages.
            ExpertError: the chat template or the tokenizer failed.
        """
        if isinstance(prompt, str):
            check_prompt(prompt)
        else:
            prompt = _check_messages(prompt)
        template = self.tokenizer.chat_template is not None if chat is None else chat
        if template:
            return self._templated(prompt)
        text = prompt if isinstance(prompt, str) else _as_plain(prompt)
        ids = self.encode(text, special=True)
        # Some tokenizers close every text; a text that is closed cannot be continued.
        while len(ids) > 1 and ids[-1] in self._end_tokens():
            ids.pop()
        return ids

    def _templated(self, prompt: Prompt) -> list[int]:
        messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        prefill = messages[-1]["role"] == "assistant"
        try:
            text = self.tokenizer.apply_chat_template(
                list(messages),
                tokenize=False,
                add_generation_prompt=not prefill,
                continue_final_message=prefill,
            )
        except Exception as error:  # a template is a program of the model's; it may raise anything
            raise self.failure(error) from error
        return self.encode(text)


def _check_messages(prompt: object) -> Sequence[Mapping[str, str]]:
    if not isinstance(prompt, Sequence) or not prompt:
        raise PromptError("a prompt must be text or a list of messages with at least one in it")
    for number, message in enumerate(prompt, 1):
        fields = message if isinstance(message, Mapping) else {}
        if not all(isinstance(fields.get(key), str) for key in ("role", "content")):
            raise PromptError(f"message {number} must have a text 'role' and a text 'content'")
    return prompt


def _as_plain(messages: Sequence[Mapping[str, str]]) -> str:
    """Write messages for a model without a chat template: one as it is, more as a transcript."""
    if len(messages) == 1:
        return check_prompt(messages[0]["content"])
    lines = [f"{message['role'].capitalize()}: {message['content']}" for message in messages]
    return "\n".join([*lines, "Assistant:"])
