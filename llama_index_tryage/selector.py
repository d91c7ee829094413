"""`TryageSelector`: picks the tool that a router chooses, for LlamaIndex's router engines."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from llama_index.core.base.base_selector import BaseSelector, SelectorResult, SingleSelection
from llama_index.core.prompts.mixin import PromptDictType
from llama_index.core.schema import QueryBundle
from llama_index.core.tools import ToolMetadata

from tryage import Decision, Goals, Policy, Router
from tryage.binding import LAST_MESSAGE, flag_mode, own_text
from tryage.errors import LibraryError, did_you_mean
from tryage.persistence import find_router

_MOST_KEPT = 64


class TryageSelector(BaseSelector):
    """Picks one of several tools, each of which stands for an expert of a router.

    A tool is an expert by its name; where it has no name, or one that is no expert's, by its
    description; or by its place, where `experts` names one for each. Experts that no tool stands
    for are not eligible. The query itself goes on to the tool as it is, flags included.

    Args:
        router: a router, a router folder or the name of a bundled router.
        experts: the expert of each choice by place; by default names and descriptions tell.
        aliases: name or description of a tool → name in the router's library.
        policy: replaces the router's policy.
        goals: weights and limits of every selection.
        task: a Transformers task, or None to see it from the query.
        flags_from: ``"last_message"`` if the query is the user's own text, whose flags act, or a
            function of the query bundle that returns that text. None leaves flags alone.
    """

    def __init__(
        self,
        router: Router | str | Path,
        *,
        experts: Sequence[str] | None = None,
        aliases: Mapping[str, str] | None = None,
        policy: Policy | None = None,
        goals: Goals | None = None,
        task: str | None = None,
        flags_from: str | Callable[[QueryBundle], str] | None = None,
    ) -> None:
        if isinstance(flags_from, str) and flags_from != LAST_MESSAGE:
            raise ValueError(f"flags_from is {flags_from!r}; a query has no such key")
        # One look that a named folder is there; it is loaded at first use.
        self._source = router if isinstance(router, Router) else find_router(router)
        self._experts = None if experts is None else tuple(experts)
        self._aliases = dict(aliases or {})
        self._policy = policy
        self._goals = goals
        self._task = task
        self._flags_from = flags_from
        self._lock = threading.Lock()
        self._loaded: Router | None = None
        self._restricted: dict[tuple[str, ...], Router] = {}

    def load(self) -> Router:
        """Load the router now instead of at first use; safe from many threads."""
        with self._lock:
            if self._loaded is None:
                source = self._source
                router = source if isinstance(source, Router) else Router.from_pretrained(source)
                self._loaded = router if self._policy is None else router.with_policy(self._policy)
            return self._loaded

    def _get_prompts(self) -> PromptDictType:
        return {}

    def _update_prompts(self, prompts_dict: PromptDictType) -> None:
        """Do nothing: no prompt is used."""

    def _select(self, choices: Sequence[ToolMetadata], query: QueryBundle) -> SelectorResult:
        names = self._names(choices)
        decision = self._decide(names, query)
        reason = (
            f"{decision.explain().splitlines()[0]}; predicted loss {decision.predicted_loss:.4f}"
        )
        index = names.index(decision.expert)
        return SelectorResult(selections=[SingleSelection(index=index, reason=reason)])

    async def _aselect(self, choices: Sequence[ToolMetadata], query: QueryBundle) -> SelectorResult:
        return await asyncio.to_thread(self._select, choices, query)

    def _decide(self, names: tuple[str, ...], query: QueryBundle) -> Decision:
        text, own = query.query_str, self._flags_from is not None
        if callable(self._flags_from):
            text = own_text(self._flags_from, query)
        router = self._router_of(names)
        return router.route(text, goals=self._goals, task=self._task, flags=flag_mode(own))

    def _router_of(self, names: tuple[str, ...]) -> Router:
        """Return the router in which only these experts are eligible."""
        found = self._restricted.get(names)
        if found is None:
            router = self.load()
            others = (name for name in router.library.names if name not in names)
            found = router.excluding(dict.fromkeys(others, "no tool stands for it"))
            if len(self._restricted) >= _MOST_KEPT:
                self._restricted.clear()
            self._restricted[names] = found
        return found

    def _names(self, choices: Sequence[ToolMetadata]) -> tuple[str, ...]:
        """Return the expert that each choice stands for.

        Raises:
            LibraryError: a choice stands for none, or two stand for the same.
        """
        if not choices:
            raise LibraryError("there are no choices to select from")
        if self._experts is not None and len(self._experts) != len(choices):
            raise LibraryError(
                f"experts names {len(self._experts)}, but there are {len(choices)} choices"
            )
        names: list[str] = []
        for place, choice in enumerate(choices):
            name = self._name(place, choice)
            if name in names:
                raise LibraryError(f"choices {names.index(name)} and {place} are both {name!r}")
            names.append(name)
        return tuple(names)

    def _name(self, place: int, choice: ToolMetadata) -> str:
        library = self.load().library
        if self._experts is not None:
            return library.names[library.index(self._experts[place])]
        told = [word for word in (choice.name, choice.description) if word]
        for word in told:
            name = self._aliases.get(word, word)
            if name in library:
                return name
        word = told[0] if told else ""
        hint = did_you_mean(word, library.names) or f" It has: {', '.join(library.names[:20])}."
        raise LibraryError(
            f"choice {place}, {word!r}, is no expert of library {library.name!r}.{hint} Name the "
            "tools like experts, or say with aliases= or experts= which expert each one is."
        )
