"""LangChain models over one local Hugging Face pipeline of `tryage.runtime`.

`TryageRouter` and `ChatTryage` run `ChatTryagePipeline` where no experts are given, `TryageLLM`
runs `TryagePipeline`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator, Mapping, Sequence
from contextlib import aclosing, closing
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, BaseLLM
from langchain_core.language_models.base import BaseLanguageModel, LangSmithParams
from langchain_core.language_models.model_profile import ModelProfile
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import (
    ChatGeneration,
    ChatGenerationChunk,
    ChatResult,
    Generation,
    GenerationChunk,
    LLMResult,
)
from pydantic import ConfigDict

from langchain_tryage._inputs import role_of, routed_message
from langchain_tryage._message_texts import read_text
from langchain_tryage._tokens import areported, reported
from tryage.binding import LocalModel, check_arguments
from tryage.errors import ExpertError
from tryage.experts import TEXT_GENERATION
from tryage.runtime import Answer, Runtime
from tryage.runtime.base import Pipeline

_OPTIONS = ("chat", "logprobs", "max_new_tokens", "max_tokens", "seed", "stream", "temperature")

Prompt = str | list[dict[str, str]]


class _LocalModel(LocalModel, BaseLanguageModel[Any]):
    """Base of both models: the pipeline, and the options of a call."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    runtime: Runtime
    expert: str
    max_new_tokens: int = 64
    temperature: float = 0.0
    seed: int | None = None
    logprobs: bool = False
    stop: list[str] | None = None

    @property
    def _llm_type(self) -> str:
        return "tryage-pipeline"

    @property
    def _model_name(self) -> str:
        return self.runtime.library[self.expert].model

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {
            "model": self._model_name,
            "expert": self.expert,
            "seed": self.seed,
            "max_new_tokens": self.max_new_tokens,
            "temperature": self.temperature,
            "stop": self.stop,
            "logprobs": self.logprobs,
        }

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params: LangSmithParams = super()._get_ls_params(stop=stop, **kwargs)
        params["ls_provider"] = "huggingface"
        params["ls_model_name"] = kwargs.get("model", self._model_name)
        options = self._options(stop, {k: v for k, v in kwargs.items() if k in _OPTIONS})
        params["ls_max_tokens"] = options["max_new_tokens"]
        params["ls_temperature"] = options["temperature"]
        return params

    def get_token_ids(self, text: str) -> list[int]:
        """Return the tokens of a text, by the pipeline's own tokenizer.

        Raises:
            ExpertError: the expert is an endpoint, whose tokenizer is not at hand.
        """
        if self.custom_get_token_ids is not None:
            return self.custom_get_token_ids(text)
        pipeline = self.runtime.load(self.expert)
        if not isinstance(pipeline, Pipeline):
            raise ExpertError(
                f"expert {self.expert!r} is an endpoint, whose tokens cannot be counted here; "
                "say how with custom_get_token_ids="
            )
        return pipeline.encode(text)

    def _options(self, stop: Sequence[str] | None, kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options of a call; options that a pipeline lacks are refused, not dropped."""
        check_arguments(type(self).__name__, kwargs, _OPTIONS)
        texts = self.stop if stop is None else stop
        max_new_tokens = kwargs.get("max_new_tokens", kwargs.get("max_tokens", self.max_new_tokens))
        options = {
            "max_new_tokens": max_new_tokens,
            "temperature": kwargs.get("temperature", self.temperature),
            "seed": kwargs.get("seed", self.seed),
            "chat": kwargs.get("chat"),
            "stop": texts or (),
        }
        # Endpoints and other tasks know no such option.
        wants_logprobs = kwargs.get("logprobs", self.logprobs)
        return options | ({"logprobs": True} if wants_logprobs else {})

    def _answer(self, prompt: Prompt, stop: list[str] | None, kwargs: dict[str, Any]) -> Answer:
        options = self._options(stop, kwargs)
        return self.runtime.run(self.expert, self._task_input(prompt), **options)

    async def _aanswer(
        self, prompt: Prompt, stop: list[str] | None, kwargs: dict[str, Any]
    ) -> Answer:
        options = self._options(stop, kwargs)
        return await self.runtime.arun(self.expert, self._task_input(prompt), **options)

    def _pieces(
        self, prompt: Prompt, stop: list[str] | None, kwargs: dict[str, Any]
    ) -> Generator[str | Answer, None, None]:
        """Yield the pieces of an answer, then the whole answer."""
        options = self._options(stop, kwargs)
        value = self._task_input(prompt)
        with closing(self.runtime.stream(self.expert, value, **options)) as stream:
            yield from stream
            if stream.answer is not None:
                yield stream.answer

    async def _apieces(
        self, prompt: Prompt, stop: list[str] | None, kwargs: dict[str, Any]
    ) -> AsyncGenerator[str | Answer, None]:
        """Yield the pieces of an answer, then the whole answer."""
        options = self._options(stop, kwargs)
        value = self._task_input(prompt)
        async with aclosing(self.runtime.astream(self.expert, value, **options)) as stream:
            async for piece in stream:
                yield piece
            if stream.answer is not None:
                yield stream.answer

    def _task_input(self, prompt: Prompt) -> Prompt:
        """Return what the expert's task takes: messages for text generation, else text."""
        generates = self.runtime.library[self.expert].task == TEXT_GENERATION
        return prompt if generates or isinstance(prompt, str) else prompt[-1]["content"]

    def _response_metadata(self, answer: Answer) -> dict[str, Any]:
        metadata: dict[str, Any] = {
            "model_name": self._model_name,
            "finish_reason": answer.finish_reason,
        }
        if answer.logprobs is not None:
            # In the form of OpenAI's models.
            metadata["logprobs"] = {"content": [{"logprob": value} for value in answer.logprobs]}
        return metadata | ({"truncated": True} if answer.truncated else {})


class ChatTryagePipeline(_LocalModel, BaseChatModel):
    """A chat model over one local Hugging Face pipeline.

    Text generation uses the model's chat template, if its tokenizer has one; fill-mask answers
    with the last human message, its ``[MASK]`` marks filled. Calls of one pipeline run one after
    another; the event loop stays free.

    Attributes:
        runtime: loads the pipeline at first use.
        expert: name in the runtime's library.
        max_new_tokens: most tokens to generate; `max_tokens` says the same.
        temperature: 0 picks the likeliest token each time.
        seed: makes a sampled answer repeatable.
        logprobs: whether answers carry the log-probabilities of their tokens.
        stop: texts that end an answer, unless a call names others.
        streaming: whether `invoke` streams too, so that callbacks hear every piece.
    """

    streaming: bool = False

    def _resolve_model_profile(self) -> ModelProfile:
        profile = ModelProfile(
            text_inputs=True,
            image_inputs=False,
            audio_inputs=False,
            video_inputs=False,
            pdf_inputs=False,
            text_outputs=True,
            tool_calling=False,
            structured_output=False,
        )
        context_length = self.runtime.library[self.expert].context_length
        if context_length is not None:
            profile["max_input_tokens"] = context_length
        return profile

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return self._result(self._answer(self._prompt(messages), stop, kwargs))

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return self._result(await self._aanswer(self._prompt(messages), stop, kwargs))

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        with closing(self._pieces(self._prompt(messages), stop, kwargs)) as pieces:
            for piece in pieces:
                yield self._chunk(piece)

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        async with aclosing(self._apieces(self._prompt(messages), stop, kwargs)) as pieces:
            async for piece in pieces:
                yield self._chunk(piece)

    def _prompt(self, messages: Sequence[BaseMessage]) -> Prompt:
        if self.runtime.library[self.expert].task != TEXT_GENERATION:
            return read_text(routed_message(messages))
        return [{"role": role_of(message), "content": read_text(message)} for message in messages]

    def _result(self, answer: Answer) -> ChatResult:
        message = AIMessage(
            content=answer.text,
            response_metadata=self._response_metadata(answer),
            usage_metadata=_usage(answer),
        )
        return ChatResult(generations=[ChatGeneration(message=message)])

    def _chunk(self, piece: str | Answer) -> ChatGenerationChunk:
        if isinstance(piece, str):
            return ChatGenerationChunk(message=AIMessageChunk(content=piece))
        last = AIMessageChunk(
            content="",
            response_metadata=self._response_metadata(piece),
            usage_metadata=_usage(piece),
            chunk_position="last",
        )
        return ChatGenerationChunk(message=last)


class TryagePipeline(_LocalModel, BaseLLM):
    """A text model over one local Hugging Face pipeline: text in, the answer alone out.

    Attributes:
        runtime: loads the pipeline at first use.
        expert: name in the runtime's library.
        max_new_tokens: most tokens to generate; `max_tokens` says the same.
        temperature: 0 picks the likeliest token each time.
        seed: makes a sampled answer repeatable.
        logprobs: whether answers carry the log-probabilities of their tokens.
        stop: texts that end an answer, unless a call names others.
    """

    def _generate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> LLMResult:
        return self._result([self._answer(prompt, stop, kwargs) for prompt in prompts])

    async def _agenerate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> LLMResult:
        return self._result([await self._aanswer(prompt, stop, kwargs) for prompt in prompts])

    def _stream(
        self,
        prompt: str,
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[GenerationChunk]:
        with closing(self._pieces(prompt, stop, kwargs)) as pieces:
            yield from reported(map(self._chunk, pieces), run_manager)

    async def _astream(
        self,
        prompt: str,
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[GenerationChunk]:
        async with aclosing(self._apieces(prompt, stop, kwargs)) as pieces:
            async for chunk in areported(
                (self._chunk(piece) async for piece in pieces), run_manager
            ):
                yield chunk

    def _result(self, answers: Sequence[Answer]) -> LLMResult:
        read = sum(answer.prompt_tokens for answer in answers)
        written = sum(answer.completion_tokens for answer in answers)
        usage = {"prompt_tokens": read, "completion_tokens": written}
        return LLMResult(
            generations=[
                [Generation(text=answer.text, generation_info=self._response_metadata(answer))]
                for answer in answers
            ],
            llm_output={
                "token_usage": usage | {"total_tokens": read + written},
                "model_name": self._model_name,
            },
        )

    def _chunk(self, piece: str | Answer) -> GenerationChunk:
        if isinstance(piece, str):
            return GenerationChunk(text=piece)
        return GenerationChunk(text="", generation_info=self._response_metadata(piece))


def _usage(answer: Answer) -> UsageMetadata:
    read, written = answer.prompt_tokens, answer.completion_tokens
    return UsageMetadata(input_tokens=read, output_tokens=written, total_tokens=read + written)
