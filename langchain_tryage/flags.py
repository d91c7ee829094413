"""`TryageFlags`: takes flags off the user's own text before a chain sees it, and passes them on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

from langchain_core.runnables import Runnable, RunnableConfig, RunnableSerializable
from langchain_core.runnables.base import coerce_to_runnable
from langchain_core.runnables.graph import Graph
from langchain_core.runnables.utils import ConfigurableFieldSpec
from pydantic import ConfigDict

from langchain_tryage._fields import Saved
from tryage.binding import passing_on
from tryage.dispatch import aclose, close
from tryage.errors import PromptError, did_you_mean
from tryage.flags import Flags, parse


class TryageFlags(Saved, RunnableSerializable[Any, Any]):
    """Runs a chain on the user's text without its flags; the routers in the chain obey them.

    What the chain adds afterwards, retrieved documents above all, never sets a flag, so routers in
    it need no `flags_from`::

        chain = TryageFlags({"question": RunnablePassthrough(), "context": retriever} | prompt
                            | TryageRouter(router, experts))

    Attributes:
        chain: a runnable, or what LangChain makes one of.
        key: for inputs that are dicts, the key of the user's text; other inputs are text.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    chain: Any
    key: str | None = None

    def __init__(self, chain: Any, *, key: str | None = None, **kwargs: Any) -> None:
        given: dict[str, Any] = {"chain": coerce_to_runnable(chain), "key": key}
        super().__init__(**given, **kwargs)

    @property
    def _inner(self) -> Runnable[Any, Any]:
        inner: Runnable[Any, Any] = self.chain
        return inner

    @property
    def InputType(self) -> Any:
        """Text, or a dict that holds it."""
        return str if self.key is None else dict[str, Any]

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
        read, given = self._read(input)
        with passing_on(read):
            return self._inner.invoke(given, config, **kwargs)

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Run the chain; `config` and `kwargs` reach it."""
        read, given = self._read(input)
        with passing_on(read):
            return await self._inner.ainvoke(given, config, **kwargs)

    def stream(
        self, input: Any, config: RunnableConfig | None = None, **kwargs: Any
    ) -> Iterator[Any]:
        """Stream from the chain."""
        read, given = self._read(input)
        chunks = self._inner.stream(given, config, **kwargs)
        try:
            while (chunk := _next(chunks, read)) is not _END:
                yield chunk
        finally:
            close(chunks)

    async def astream(
        self, input: Any, config: RunnableConfig | None = None, **kwargs: Any
    ) -> AsyncIterator[Any]:
        """Stream from the chain."""
        read, given = self._read(input)
        chunks = self._inner.astream(given, config, **kwargs)
        try:
            while (chunk := await _anext(chunks, read)) is not _END:
                yield chunk
        finally:
            await aclose(chunks)

    def _read(self, given: Any) -> tuple[Flags, Any]:
        """Return the flags of the user's text, and the input without them."""
        text = given
        if self.key is not None:
            if not isinstance(given, Mapping):
                raise PromptError(f"key={self.key!r} needs a dict, found {type(given).__name__}")
            if self.key not in given:
                hint = did_you_mean(self.key, map(str, given))
                raise PromptError(f"the input has no key {self.key!r}.{hint}")
            text = given[self.key]
        if not isinstance(text, str):
            raise PromptError(
                f"flags are taken off the user's text, found {type(text).__name__}; say with key= "
                "where in a dict it is"
            )
        read = parse(text)
        return read, read.prompt if self.key is None else {**given, self.key: read.prompt}


def _next(chunks: Iterator[Any], read: Flags) -> Any:
    """Return the next chunk; while the reader has it, the flags act nowhere."""
    with passing_on(read):
        return next(chunks, _END)


async def _anext(chunks: AsyncIterator[Any], read: Flags) -> Any:
    """Do what `_next` does, without blocking."""
    with passing_on(read):
        return await anext(chunks, _END)


_END: Any = object()
