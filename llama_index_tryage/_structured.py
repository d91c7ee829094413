"""Structured output: the chosen expert makes it in its own way."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from contextlib import aclosing, closing
from typing import Any

from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.llms import LLM
from llama_index.core.prompts import BasePromptTemplate, ChatPromptTemplate
from llama_index.core.types import Model, PydanticProgramMode

from llama_index_tryage._answers import note_answer
from llama_index_tryage._templates import Filled, TemplateRouting
from tryage.dispatch import present, record


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
            made: Model = super().structured_predict(output_cls, prompt, llm_kwargs, **prompt_args)
            return made
        messages, routed, decision = self._routed_template(prompt, prompt_args)

        def call(name: str, expert: LLM) -> Model:
            asked, args = self._ask(prompt, prompt_args, messages, routed)
            child = self._child(name, expert)
            made: Model = child.structured_predict(output_cls, asked, _copy(llm_kwargs), **args)
            return present(name, made)

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
            made: Model = await super().astructured_predict(
                output_cls, prompt, llm_kwargs, **prompt_args
            )
            return made
        messages, routed, decision = await self._arouted_template(prompt, prompt_args)

        async def call(name: str, expert: LLM) -> Model:
            asked, args = self._ask(prompt, prompt_args, messages, routed)
            child = self._child(name, expert)
            predict = child.astructured_predict
            made: Model = await predict(output_cls, asked, _copy(llm_kwargs), **args)
            return present(name, made)

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
            asked, args = self._ask(prompt, prompt_args, messages, routed)
            child = self._child(name, expert)
            return child.stream_structured_predict(output_cls, asked, _copy(llm_kwargs), **args)

        def states() -> Generator[Any, None, None]:
            with closing(self._binding.stream(decision, call)) as stream:
                yield from stream
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
            asked, args = self._ask(prompt, prompt_args, messages, routed)
            child = self._child(name, expert)
            return await child.astream_structured_predict(
                output_cls, asked, _copy(llm_kwargs), **args
            )

        async def states() -> AsyncGenerator[Any, None]:
            async with aclosing(self._binding.astream(decision, call)) as stream:
                async for state in stream:
                    yield state
                note_answer(record(decision, stream))

        return states()

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


def _copy(llm_kwargs: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return a copy, because LlamaIndex's programs take entries out."""
    return None if llm_kwargs is None else dict(llm_kwargs)
