"""A router bound to callables: what both adapters share.

It checks the names, loads the router at first use, makes the library's own pipelines where no
experts are given, and decides. What a callable is, is the adapter's business.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

from tryage.decision import Decision
from tryage.errors import LibraryError, did_you_mean
from tryage.goals import Goals
from tryage.library import Expert, Library
from tryage.persistence import find_router
from tryage.policy import Policy
from tryage.router import Router

if TYPE_CHECKING:
    from tryage.runtime import Runtime

T = TypeVar("T")

NO_CALLABLE = "no callable was given for it"


class Binding(Generic[T]):
    """A router, and the callable that runs each of its experts.

    Args:
        router: a router, a router folder, or the name of a bundled router. A folder is looked for
            at once and loaded at first use or by `load`.
        experts: expert name → callable. None runs the library's own Hugging Face pipelines, each
            made by `factory`.
        aliases: name in `experts` → name in the library.
        policy: replaces the router's policy.
        factory: makes a callable of one expert of the library.

    Raises:
        RouterNotFoundError: there is no such folder or bundled router.
        LibraryError: `experts` or `aliases` name an expert that the library lacks. With a router
            given by name this is found out when it is loaded.
    """

    def __init__(
        self,
        router: Router | str | Path,
        experts: Mapping[str, T] | None,
        *,
        aliases: Mapping[str, str] | None = None,
        policy: Policy | None = None,
        factory: Callable[[Runtime, Expert], T] | None = None,
    ) -> None:
        self._source = router if isinstance(router, Router) else find_router(router)
        self._given = experts
        self._aliases = dict(aliases or {})
        self._policy = policy
        self._factory = factory
        self._lock = threading.Lock()
        self._router: Router | None = None
        self._experts: dict[str, T] = {}
        if isinstance(router, Router):
            self.load()

    def load(self) -> Router:
        """Load the router, once; safe from many threads."""
        with self._lock:
            if self._router is None:
                source = self._source
                router = source if isinstance(source, Router) else Router.from_pretrained(source)
                if self._policy is not None:
                    router = router.with_policy(self._policy)
                self._experts = self._bind(router.library)
                without = {n: NO_CALLABLE for n in router.library.names if n not in self._experts}
                self._router = router.excluding(without) if without else router
            return self._router

    @property
    def router(self) -> Router:
        """The router, loaded; experts without a callable are not eligible in it."""
        return self._router or self.load()

    @property
    def experts(self) -> Mapping[str, T]:
        """Library name → callable."""
        self.load()
        return self._experts

    def decide(
        self,
        text: str,
        *,
        goals: Goals | None = None,
        task: str | None = None,
        flags: bool = False,
    ) -> Decision:
        """Decide for one text.

        Args:
            text: what the router reads.
            goals: weights and limits of this call.
            task: a Transformers task, or None to see it from the text.
            flags: whether the text is the user's own, so that its flags act. Unknown flags warn,
                unless the policy makes them an error.

        Raises:
            PromptError, FlagError, GoalError, NoEligibleExpertError: as `Router.route`.
        """
        mode: Literal["warn", False] = "warn" if flags else False
        return self.router.route(text, goals=goals, task=task, flags=mode)

    def decide_batch(
        self,
        texts: Sequence[str],
        *,
        goals: Goals | None = None,
        task: str | None = None,
        flags: bool = False,
    ) -> list[Decision]:
        """Decide for many texts in one pass; arguments and errors as `decide`."""
        mode: Literal["warn", False] = "warn" if flags else False
        return self.router.route_batch(texts, goals=goals, task=task, flags=mode)

    def _bind(self, library: Library) -> dict[str, T]:
        if self._given is None:
            return self._pipelines(library)
        bound: dict[str, T] = {}
        for alias in self._aliases:
            if alias not in self._given:
                hint = did_you_mean(alias, self._given)
                raise LibraryError(f"aliases name {alias!r}, which is not among the experts.{hint}")
        for given, callable_ in self._given.items():
            name = self._aliases.get(given, given)
            library.index(name)
            if name in bound:
                raise LibraryError(f"expert {name!r} of the library has two callables")
            bound[name] = callable_
        if not bound:
            raise LibraryError("experts is empty; give at least one, or leave it out")
        return bound

    def _pipelines(self, library: Library) -> dict[str, T]:
        from tryage.runtime import Runtime

        if self._factory is None:
            raise LibraryError("experts is needed: there is nothing to make them of")
        runtime = Runtime(library)
        return {expert.name: self._factory(runtime, expert) for expert in library}


def unknown_expert(name: str, known: Iterable[str]) -> LibraryError:
    """Return the error for a forced expert that is not there."""
    known = tuple(known)
    hint = did_you_mean(name, known) or f" Known: {', '.join(known)}."
    return LibraryError(f"there is no expert {name!r}.{hint}")
