"""`TryageFlags`: takes flags off the user's own text, for the routers in a chain to apply."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any, cast

from langchain_core.language_models import LanguageModelInput
from langchain_core.runnables import Runnable, RunnableConfig, RunnableSerializable
from langchain_core.runnables.base import coerce_to_runnable
from langchain_core.runnables.graph import Graph
from langchain_core.runnables.utils import ConfigurableFieldSpec
from pydantic import ConfigDict

from langchain_tryage._fields import Saved
from langchain_tryage._inputs import TextSource
from tryage.binding import (
    LAST_MESSAGE,
    astream_passing_on,
    check_options,
    passing_on,
    stream_passing_on,
)
from tryage.dispatch import aclose
from tryage.errors import PromptError
from tryage.flags import Flags


class TryageFlags(Saved, RunnableSerializable[Any, Any]):
    """Runs a chain on the user's text without its flags; the routers in the chain apply them.

    The text is the input, its last message of the user, or either of these under a dict's key.

    The routers route by that text, whatever a template builds around it, unless they say with
    `text_from`, `flags_from` or `key` which text of theirs it is. Text that the chain adds later,
    such as retrieved documents, never sets a flag::

        chain = TryageFlags({"question": RunnablePassthrough(), "context": retriever} | prompt
                            | TryageRouter(router, experts))

    Attributes:
        chain: a runnable, or a function or dict that LangChain turns into one.
        key: for inputs that are dicts, the key of the user's text, prompt or messages.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    chain: Any
    key: str | None = None

    def __init__(self, chain: Any, *, key: str | None = None, **kwargs: Any) -> None:
        check_options({"key": key})
        fields: dict[str, Any] = {"chain": coerce_to_runnable(chain), "key": key}
        super().__init__(**fields, **kwargs)

    @property
    def _inner(self) -> Runnable[Any, Any]:
        inner: Runnable[Any, Any] = self.chain
        return inner

    @property
    def InputType(self) -> Any:
        """Text, a prompt or messages, or a dict that holds one of these."""
        return LanguageModelInput if self.key is None else dict[str, Any]

    @property
    def OutputType(self) -> Any:
        """What the chain returns."""
        return self._inner.OutputType

    @property
    def config_specs(self) -> list[ConfigurableFieldSpec]:
        """What the chain lets a config set."""
        return self._inner.config_specs

    def get_graph(self, config: RunnableConfig | None = None) -> Graph:
        """Return the chain's graph."""
        return self._inner.get_graph(config)

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Run the chain; `config` and `kwargs` reach it."""
        flags, value = self._read(input, config)
        with passing_on(flags):
            return self._inner.invoke(value, config, **kwargs)

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Run the chain; `config` and `kwargs` reach it."""
        flags, value = self._read(input, config)
        with passing_on(flags):
            return await self._inner.ainvoke(value, config, **kwargs)

    def stream(
        self, input: Any, config: RunnableConfig | None = None, **kwargs: Any
    ) -> Iterator[Any]:
        """Stream from the chain."""
        flags, value = self._read(input, config)
        yield from stream_passing_on(flags, self._inner.stream(value, config, **kwargs))

    async def astream(
        self, input: Any, config: RunnableConfig | None = None, **kwargs: Any
    ) -> AsyncIterator[Any]:
        """Stream from the chain."""
        flags, value = self._read(input, config)
        chunks = astream_passing_on(flags, self._inner.astream(value, config, **kwargs))
        try:
            async for chunk in chunks:
                yield chunk
        finally:
            await aclose(chunks)

    def _read(self, value: Any, config: RunnableConfig | None) -> tuple[Flags, Any]:
        """Return the flags of the user's text, and the input without them.

        It has no run of its own, unless there is no such text: then one opens to tell the error.
        """
        source = TextSource(self.key, LAST_MESSAGE)
        try:
            return source.take_flags(value)
        except PromptError:
            run: Any = self._call_with_config(source.take_flags, value, config)
            return cast(tuple[Flags, Any], run)
