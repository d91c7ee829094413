"""Structured output: the chosen expert makes it in its own way."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator, Sequence
from contextlib import aclosing, closing
from typing import Any, TypeVar

from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    ChatResponseAsyncGen,
    ChatResponseGen,
)
from llama_index.core.bridge.pydantic import BaseModel
from llama_index.core.llms import LLM
from llama_index.core.llms.structured_llm import StructuredLLM
from llama_index.core.prompts import BasePromptTemplate, ChatPromptTemplate
from llama_index.core.types import Model, PydanticProgramMode
from llama_index_instrumentation.dispatcher import DISPATCHER_SPAN_DECORATED_ATTR

from llama_index_tryage._metadata import annotate, last_decision, note_answer
from llama_index_tryage._templates import Filled, TemplateRouting
from tryage.dispatch import present, record

Method = TypeVar("Method", bound=Callable[..., Any])


class StructuredRouting(TemplateRouting):
    """Hands structured prediction to the chosen expert, which may be able to do it natively.

    An expert whose answer does not fit the output class has failed, and the next one is tried.
    Where `pydantic_program_mode` is set, the program of that mode runs over the router itself.
    """

    def structured_predict(
        self,
        output_cls: type[Model],
        prompt: BasePromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Model:
        """Return an object of `output_cls`, made by the chosen expert."""
        if self._by_program():
            answer: Model = super().structured_predict(
                output_cls, prompt, llm_kwargs, **prompt_args
            )
            return answer
        messages, routed, decision = self._routed_template(prompt, prompt_args)

        def call(name: str, expert: LLM) -> Model:
            template, args = self._ask(prompt, prompt_args, messages, routed)
            child = self._child(name, expert)
            answer: Model = child.structured_predict(
                output_cls, template, _copy(llm_kwargs), **args
            )
            return present(name, answer)

        made_by_expert, dispatched = self._binding.dispatch(decision, call)
        note_answer(dispatched)
        return made_by_expert

    async def astructured_predict(
        self,
        output_cls: type[Model],
        prompt: BasePromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Model:
        """Return an object of `output_cls`, made by the chosen expert."""
        if self._by_program():
            answer: Model = await super().astructured_predict(
                output_cls, prompt, llm_kwargs, **prompt_args
            )
            return answer
        messages, routed, decision = await self._arouted_template(prompt, prompt_args)

        async def call(name: str, expert: LLM) -> Model:
            template, args = self._ask(prompt, prompt_args, messages, routed)
            child = self._child(name, expert)
            predict = child.astructured_predict
            answer: Model = await predict(output_cls, template, _copy(llm_kwargs), **args)
            return present(name, answer)

        made_by_expert, dispatched = await self._binding.adispatch(decision, call)
        note_answer(dispatched)
        return made_by_expert

    def stream_structured_predict(
        self,
        output_cls: type[Model],
        prompt: BasePromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Generator[Any, None, None]:
        """Yield the object as it grows; another expert takes over only before its first state."""
        if self._by_program():
            return super().stream_structured_predict(output_cls, prompt, llm_kwargs, **prompt_args)
        messages, routed, decision = self._routed_template(prompt, prompt_args)

        def call(name: str, expert: LLM) -> Iterator[Any]:
            template, args = self._ask(prompt, prompt_args, messages, routed)
            child = self._child(name, expert)
            return child.stream_structured_predict(output_cls, template, _copy(llm_kwargs), **args)

        def states() -> Generator[Any, None, None]:
            with closing(self._binding.stream(decision, call)) as stream:
                for number, state in enumerate(stream):
                    if number == 0:
                        note_answer(record(decision, stream))
                    yield state
                note_answer(record(decision, stream))

        return states()

    async def astream_structured_predict(
        self,
        output_cls: type[Model],
        prompt: BasePromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> AsyncGenerator[Any, None]:
        """Yield the object as it grows; another expert takes over only before its first state."""
        if self._by_program():
            return await super().astream_structured_predict(
                output_cls, prompt, llm_kwargs, **prompt_args
            )
        messages, routed, decision = await self._arouted_template(prompt, prompt_args)

        async def call(name: str, expert: LLM) -> AsyncIterator[Any]:
            template, args = self._ask(prompt, prompt_args, messages, routed)
            child = self._child(name, expert)
            return await child.astream_structured_predict(
                output_cls, template, _copy(llm_kwargs), **args
            )

        async def states() -> AsyncGenerator[Any, None]:
            async with aclosing(self._binding.astream(decision, call)) as stream:
                is_noted = False
                async for state in stream:
                    if not is_noted:
                        note_answer(record(decision, stream))
                        is_noted = True
                    yield state
                note_answer(record(decision, stream))

        return states()

    def as_structured_llm(self, output_cls: type[BaseModel], **kwargs: Any) -> RoutedStructuredLLM:
        """Return an LLM that answers with objects of `output_cls`, and the decision with them."""
        return RoutedStructuredLLM(llm=self, output_cls=output_cls, **kwargs)

    def _by_program(self) -> bool:
        return self.pydantic_program_mode != PydanticProgramMode.DEFAULT

    def _ask(
        self,
        prompt: BasePromptTemplate,
        prompt_args: dict[str, Any],
        messages: list[ChatMessage],
        routed: Any,
    ) -> Filled:
        """Return what one expert is asked: the prompt itself, or the messages as they were routed.

        A copy each time, because LlamaIndex's programs write their parser into the prompt.
        """
        if routed == messages and not self.system_prompt:
            return prompt.model_copy(), prompt_args
        return ChatPromptTemplate(message_templates=self._extend_messages(routed)), {}


def _in_span_of_super(method: Method) -> Method:
    """Let LlamaIndex open no span for a method, because the overridden one opens it."""
    setattr(method, DISPATCHER_SPAN_DECORATED_ATTR, True)
    return method


class RoutedStructuredLLM(StructuredLLM):
    """What `as_structured_llm` returns: responses carry the decision, as every router's do.

    LlamaIndex makes completions of chats, with their decision.
    """

    @classmethod
    def class_name(cls) -> str:
        """Return the name under which LlamaIndex knows this class."""
        return "tryage_structured_llm"

    @_in_span_of_super
    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Return an object, in `raw` and as JSON."""
        response: ChatResponse = super().chat(messages, **kwargs)
        return annotate(response, _record())

    @_in_span_of_super
    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Return an object, in `raw` and as JSON."""
        response: ChatResponse = await super().achat(messages, **kwargs)
        return annotate(response, _record())

    @_in_span_of_super
    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        """Yield the object as it grows; each state carries the decision."""
        record = None
        for response in super().stream_chat(messages, **kwargs):
            record = record or _record()
            yield annotate(response, record)

    @_in_span_of_super
    async def astream_chat(
        self, messages: Sequence[ChatMessage], **kwargs: Any
    ) -> ChatResponseAsyncGen:
        """Yield the object as it grows; each state carries the decision."""
        responses = await super().astream_chat(messages, **kwargs)

        async def annotated() -> ChatResponseAsyncGen:
            record = None
            async for response in responses:
                record = record or _record()
                yield annotate(response, record)

        return annotated()


def _record() -> dict[str, Any]:
    """Return the record of the call that was just made in this context."""
    return last_decision() or {}


def _copy(llm_kwargs: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return a copy, because LlamaIndex's programs take entries out."""
    return None if llm_kwargs is None else dict(llm_kwargs)
