"""`predict` and `stream`: the chosen expert fills the template, with prompt settings of its own."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator, Mapping
from contextlib import AbstractContextManager, aclosing, closing, nullcontext
from typing import Any

from llama_index.core.base.llms.generic_utils import messages_to_prompt
from llama_index.core.base.llms.types import ChatMessage, LLMMetadata
from llama_index.core.llms import LLM
from llama_index.core.llms.llm import default_completion_to_prompt
from llama_index.core.prompts import BasePromptTemplate, ChatPromptTemplate, PromptTemplate
from llama_index.core.types import TokenAsyncGen, TokenGen

from llama_index_tryage._fields import RoutedLLM, metadata_or_reason
from llama_index_tryage._metadata import note_answer
from tryage import Decision
from tryage.binding import known_query
from tryage.dispatch import AsyncStream, Stream, present, record

Filled = tuple[BasePromptTemplate, dict[str, Any]]
"""A template and its arguments."""

_QUERIES = ("query_str", "question")
"""Arguments that hold the user's query in LlamaIndex's own templates."""


class TemplateRouting(RoutedLLM):
    """Hands templates to the chosen expert, which formats them as in a direct call.

    So an expert's `system_prompt`, `query_wrapper_prompt`, `completion_to_prompt`,
    `messages_to_prompt` and `output_parser` act as they do there. The router's own, where they
    are set, come first.
    """

    def predict(self, prompt: BasePromptTemplate, **prompt_args: Any) -> str:
        """Return the chosen expert's answer to a template."""
        messages, routed, decision = self._routed_template(prompt, prompt_args)

        def call(name: str, expert: LLM) -> str:
            template, args = self._for_expert(prompt, prompt_args, messages, routed, expert)
            return present(name, self._child(name, expert).predict(template, **args))

        text, dispatched = self._binding.dispatch(decision, call)
        note_answer(dispatched)
        return self._parse_output(text)

    async def apredict(self, prompt: BasePromptTemplate, **prompt_args: Any) -> str:
        """Return the chosen expert's answer to a template."""
        messages, routed, decision = await self._arouted_template(prompt, prompt_args)

        async def call(name: str, expert: LLM) -> str:
            template, args = self._for_expert(prompt, prompt_args, messages, routed, expert)
            return present(name, await self._child(name, expert).apredict(template, **args))

        text, dispatched = await self._binding.adispatch(decision, call)
        note_answer(dispatched)
        return self._parse_output(text)

    def stream(self, prompt: BasePromptTemplate, **prompt_args: Any) -> TokenGen:
        """Stream the chosen expert's answer to a template; its first token is awaited here."""
        self._refuse_parser(prompt)
        messages, routed, decision = self._routed_template(prompt, prompt_args)

        def call(name: str, expert: LLM) -> Iterator[str]:
            template, args = self._for_expert(prompt, prompt_args, messages, routed, expert)
            return self._child(name, expert).stream(template, **args)

        return _tokens(decision, self._binding.stream(decision, call))

    async def astream(self, prompt: BasePromptTemplate, **prompt_args: Any) -> TokenAsyncGen:
        """Stream the chosen expert's answer to a template; its first token is awaited here."""
        self._refuse_parser(prompt)
        messages, routed, decision = await self._arouted_template(prompt, prompt_args)

        async def call(name: str, expert: LLM) -> AsyncIterator[str]:
            template, args = self._for_expert(prompt, prompt_args, messages, routed, expert)
            return await self._child(name, expert).astream(template, **args)

        return await _atokens(decision, self._binding.astream(decision, call))

    def _routed_template(
        self, prompt: BasePromptTemplate, prompt_args: Mapping[str, Any]
    ) -> tuple[list[ChatMessage], Any, Decision]:
        """Decide for a filled template; return its messages, what of them is sent, the decision."""
        messages = prompt.format_messages(llm=self, **prompt_args)
        with _query(prompt, prompt_args):
            return messages, *self._routed(messages, {}, by_template=True)

    async def _arouted_template(
        self, prompt: BasePromptTemplate, prompt_args: Mapping[str, Any]
    ) -> tuple[list[ChatMessage], Any, Decision]:
        messages = prompt.format_messages(llm=self, **prompt_args)
        with _query(prompt, prompt_args):
            return messages, *await self._arouted(messages, {}, by_template=True)

    def _for_expert(
        self,
        prompt: BasePromptTemplate,
        prompt_args: dict[str, Any],
        messages: list[ChatMessage],
        routed: Any,
        expert: LLM,
    ) -> Filled:
        """Return the template for one expert, unchanged unless flags or the router change it."""
        if routed != messages:
            prompt, prompt_args = _template_of(prompt, routed), {}
        if not self._formats():
            return prompt, prompt_args
        stated = metadata_or_reason(expert)
        if isinstance(stated, LLMMetadata) and not stated.is_chat_model:
            return PromptTemplate(self._get_prompt(prompt, **prompt_args)), {}
        filled = self._get_messages(prompt, **prompt_args)
        return ChatPromptTemplate(message_templates=filled), {}

    def _formats(self) -> bool:
        """Return whether the router has its own prompt settings."""
        return bool(
            self.system_prompt
            or self.output_parser
            or self.query_wrapper_prompt
            or self.completion_to_prompt is not default_completion_to_prompt
            or self.messages_to_prompt is not messages_to_prompt
        )

    def _refuse_parser(self, prompt: BasePromptTemplate) -> None:
        if prompt.output_parser is not None or self.output_parser is not None:
            raise NotImplementedError("Output parser is not supported for streaming.")


def _query(
    prompt: BasePromptTemplate, prompt_args: Mapping[str, Any]
) -> AbstractContextManager[None]:
    """Pass on the query of a template, if it has LlamaIndex's name for it."""
    filled = {**prompt.kwargs, **prompt_args}
    candidates = (filled.get(name) for name in _QUERIES)
    query = next((text for text in candidates if isinstance(text, str) and text.strip()), None)
    return nullcontext() if query is None else known_query(query)


def _template_of(prompt: BasePromptTemplate, messages: list[ChatMessage]) -> BasePromptTemplate:
    """Return a template that gives these messages, of the kind that gave the first ones."""
    if isinstance(prompt, PromptTemplate) and len(messages) == 1:
        return PromptTemplate(messages[0].content or "")
    return ChatPromptTemplate(message_templates=messages)


def _tokens(decision: Decision, stream: Stream[str]) -> Generator[str, None, None]:
    """Wait for the first token, so that failures show in the call, and return them all."""
    first = next(stream)

    def tokens() -> Generator[str, None, None]:
        with closing(stream):
            yield first
            yield from stream
            note_answer(record(decision, stream))

    return tokens()


async def _atokens(decision: Decision, stream: AsyncStream[str]) -> AsyncGenerator[str, None]:
    """Wait for the first token, so that failures show in the call, and return them all."""
    first = await anext(stream)

    async def tokens() -> AsyncGenerator[str, None]:
        async with aclosing(stream):
            yield first
            async for token in stream:
                yield token
            note_answer(record(decision, stream))

    return tokens()
