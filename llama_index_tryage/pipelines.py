"""A LlamaIndex LLM over one local Hugging Face pipeline of `tryage.runtime`.

This is what `TryageLLM` runs where no experts are given.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Mapping, Sequence
from contextlib import aclosing, closing
from typing import Any, ClassVar, NamedTuple, TypeVar

from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    ChatResponseAsyncGen,
    ChatResponseGen,
    CompletionResponse,
    CompletionResponseAsyncGen,
    CompletionResponseGen,
    LLMMetadata,
    LogProb,
    MessageRole,
)
from llama_index.core.bridge.pydantic import Field
from llama_index.core.constants import DEFAULT_CONTEXT_WINDOW
from llama_index.core.llms import LLM
from llama_index.core.llms.callbacks import llm_chat_callback, llm_completion_callback

from llama_index_tryage._inputs import routed_message
from llama_index_tryage._message_texts import read_text
from tryage import Expert
from tryage.binding import LocalModel, check_arguments
from tryage.errors import ModelNotFoundError
from tryage.experts import TEXT_GENERATION
from tryage.runtime import Answer, Runtime
from tryage.runtime.models import locate

R = TypeVar("R", ChatResponse, CompletionResponse)
Prompt = str | list[dict[str, str]]

_LONG = 2**16
"""Characters of an answer from which on its pieces are joined."""

_PARTS = 64
"""A joined part is at least this fraction of the answer so far."""

_OPTIONS = ("chat", "logprobs", "max_new_tokens", "max_tokens", "seed", "stop", "temperature")


class TryagePipeline(LocalModel, LLM):
    """An LLM over one local Hugging Face pipeline.

    Text generation goes through the model's chat template, if its tokenizer has one; fill-mask
    answers with the prompt or the user's last message, its ``[MASK]`` marks filled. Calls of one
    pipeline wait for each other; the event loop stays free.

    Attributes:
        runtime: loads the pipeline at first use.
        expert: name in the runtime's library.
        max_new_tokens: tokens to write at most; `max_tokens` in a call says the same.
        temperature: 0 takes the likeliest token each time.
        seed: makes a sampled answer repeatable.
        logprobs: whether answers carry the log-probabilities of their tokens.
        stop: texts that end an answer, unless a call names others.
    """

    modalities: ClassVar[tuple[str, ...]] = ("text",)

    runtime: Runtime = Field(exclude=True)
    expert: str
    max_new_tokens: int = 64
    temperature: float = 0.0
    seed: int | None = None
    logprobs: bool = False
    stop: list[str] | None = None

    @classmethod
    def class_name(cls) -> str:
        """Return the name under which LlamaIndex knows this class."""
        return "TryagePipeline"

    @property
    def metadata(self) -> LLMMetadata:
        """Window and name, read from the library or the model's folder; nothing is loaded."""
        return LLMMetadata(
            context_window=self._context_window(),
            num_output=self.max_new_tokens,
            is_chat_model=True,
            model_name=self._record.model,
        )

    @llm_chat_callback()
    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Answer messages."""
        return _chat(self._answer(self._prompt(messages), kwargs))

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Answer a prompt."""
        return _completion(self._answer(prompt, kwargs))

    @llm_chat_callback()
    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Answer messages."""
        return _chat(await self._aanswer(self._prompt(messages), kwargs))

    @llm_completion_callback()
    async def acomplete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponse:
        """Answer a prompt."""
        return _completion(await self._aanswer(prompt, kwargs))

    @llm_chat_callback()
    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        """Answer messages piece by piece."""
        return self._pieces(self._prompt(messages), kwargs, _chat_piece)

    @llm_completion_callback()
    def stream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponseGen:
        """Answer a prompt piece by piece."""
        return self._pieces(prompt, kwargs, _completion_piece)

    @llm_chat_callback()
    async def astream_chat(
        self, messages: Sequence[ChatMessage], **kwargs: Any
    ) -> ChatResponseAsyncGen:
        """Answer messages piece by piece."""
        return self._apieces(self._prompt(messages), kwargs, _chat_piece)

    @llm_completion_callback()
    async def astream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponseAsyncGen:
        """Answer a prompt piece by piece."""
        return self._apieces(prompt, kwargs, _completion_piece)

    @property
    def _record(self) -> Expert:
        return self.runtime.library[self.expert]

    def _context_window(self) -> int:
        record = self._record
        if record.context_length is not None:
            return record.context_length
        try:
            folder = locate(self.runtime.library, record, download=False)
        except ModelNotFoundError:
            return DEFAULT_CONTEXT_WINDOW
        try:
            config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):  # loading the model tells what is wrong
            return DEFAULT_CONTEXT_WINDOW
        config = config.get("text_config", config)
        stated = config.get("max_position_embeddings", config.get("n_positions"))
        return int(stated) if stated else DEFAULT_CONTEXT_WINDOW

    def _prompt(self, messages: Sequence[ChatMessage]) -> Prompt:
        texts = [read_text(message.blocks) for message in messages]
        if self._record.task != TEXT_GENERATION:
            return routed_message(messages).content or ""
        pairs = zip(messages, texts, strict=True)
        return [{"role": message.role.value, "content": text} for message, text in pairs]

    def _options(self, kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options of a call; what a pipeline cannot honour is refused, not dropped."""
        check_arguments("TryagePipeline", kwargs, _OPTIONS)
        stop = kwargs.get("stop")
        options = {
            "max_new_tokens": kwargs.get(
                "max_new_tokens", kwargs.get("max_tokens", self.max_new_tokens)
            ),
            "temperature": kwargs.get("temperature", self.temperature),
            "seed": kwargs.get("seed", self.seed),
            "chat": kwargs.get("chat"),
            "stop": (self.stop if stop is None else stop) or (),
        }
        # Endpoints and other tasks know no such option.
        wants_logprobs = kwargs.get("logprobs", self.logprobs)
        return options | ({"logprobs": True} if wants_logprobs else {})

    def _answer(self, prompt: Prompt, kwargs: Mapping[str, Any]) -> _Response:
        options = self._options(kwargs)
        return self._response(self.runtime.run(self.expert, self._task_input(prompt), **options))

    async def _aanswer(self, prompt: Prompt, kwargs: Mapping[str, Any]) -> _Response:
        options = self._options(kwargs)
        return self._response(
            await self.runtime.arun(self.expert, self._task_input(prompt), **options)
        )

    def _pieces(
        self, prompt: Prompt, kwargs: Mapping[str, Any], make: Callable[[_Response], R]
    ) -> Generator[R, None, None]:
        options = self._options(kwargs)
        task_input, answer = self._task_input(prompt), _GrowingAnswer()
        with closing(self.runtime.stream(self.expert, task_input, **options)) as stream:
            for piece in stream:
                for response in answer.add(piece):
                    yield make(response)
            for response in answer.remaining():
                yield make(response)
            if stream.answer is not None:
                yield make(self._response(stream.answer))

    async def _apieces(
        self, prompt: Prompt, kwargs: Mapping[str, Any], make: Callable[[_Response], R]
    ) -> AsyncGenerator[R, None]:
        options = self._options(kwargs)
        task_input, answer = self._task_input(prompt), _GrowingAnswer()
        async with aclosing(self.runtime.astream(self.expert, task_input, **options)) as stream:
            async for piece in stream:
                for response in answer.add(piece):
                    yield make(response)
            for response in answer.remaining():
                yield make(response)
            if stream.answer is not None:
                yield make(self._response(stream.answer))

    def _task_input(self, prompt: Prompt) -> Prompt:
        """Return what the expert's task takes: messages for one that writes, else text."""
        writes = self._record.task == TEXT_GENERATION
        return prompt if writes or isinstance(prompt, str) else prompt[-1]["content"]

    def _response(self, answer: Answer) -> _Response:
        prompt_tokens, completion_tokens = answer.prompt_tokens, answer.completion_tokens
        usage = {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": prompt_tokens + completion_tokens,
        }
        raw = {
            "model": self._record.model,
            "finish_reason": answer.finish_reason,
            "truncated": answer.truncated,
            "usage": usage,
        }
        return _Response(answer.text, "", raw, _logprobs(answer))


class _Response(NamedTuple):
    """A whole answer with its metadata, or an answer so far with its newest piece."""

    text: str
    delta: str
    raw: dict[str, Any] | None = None
    logprobs: list[list[LogProb]] | None = None


class _GrowingAnswer:
    """An answer that arrives piece by piece; each response carries all of it so far.

    Each response copies the text, so the pieces of a very long answer are joined to parts that
    grow with it.
    """

    def __init__(self) -> None:
        self._text = ""
        self._pieces: list[str] = []
        self._size = 0

    def add(self, piece: str) -> Iterator[_Response]:
        """Add a piece; yield the responses that are due."""
        self._pieces.append(piece)
        self._size += len(piece)
        if len(self._text) < _LONG or self._size * _PARTS >= len(self._text):
            yield from self.remaining()

    def remaining(self) -> Iterator[_Response]:
        """Yield the remaining response."""
        if self._pieces:
            delta = "".join(self._pieces)
            self._pieces.clear()
            self._size = 0
            self._text += delta
            yield _Response(self._text, delta)


def _logprobs(answer: Answer) -> list[list[LogProb]] | None:
    """Return log-probabilities in LlamaIndex's form: a list of alternatives for each token."""
    if answer.logprobs is None:
        return None
    return [[LogProb(logprob=value)] for value in answer.logprobs]


def _chat(response: _Response) -> ChatResponse:
    message = ChatMessage(response.text, role=MessageRole.ASSISTANT)
    return ChatResponse(message=message, raw=response.raw, logprobs=response.logprobs)


def _completion(response: _Response) -> CompletionResponse:
    return CompletionResponse(text=response.text, raw=response.raw, logprobs=response.logprobs)


def _chat_piece(response: _Response) -> ChatResponse:
    return _chat(response).model_copy(update={"delta": response.delta})


def _completion_piece(response: _Response) -> CompletionResponse:
    return _completion(response).model_copy(update={"delta": response.delta})
