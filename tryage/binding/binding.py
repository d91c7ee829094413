"""A router bound to callables.

It checks the names, loads the router at first use, makes the library's own pipelines where no
experts are given, and decides. The adapter defines what a callable is.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tryage.binding.calls import ExpertCalls
from tryage.binding.checking import check_kinds
from tryage.binding.familiarity import Familiarity
from tryage.binding.goals import joined_goals
from tryage.binding.passing import flag_mode
from tryage.binding.views import DEFAULT_VIEWS, Checkers, Views
from tryage.decision import Decision
from tryage.dispatch import (
    DEFAULT_OPTIONS,
    DispatchOptions,
    Health,
)
from tryage.encoders import StaticEncoder
from tryage.errors import LibraryError, did_you_mean, is_control_flow
from tryage.experts import Expert
from tryage.goals import Goals
from tryage.hub_routers import HubRouter, find
from tryage.library import Library
from tryage.policy import Policy
from tryage.router import Router

if TYPE_CHECKING:
    from tryage.runtime import Runtime

T = TypeVar("T")
R = TypeVar("R")

NO_CALLABLE = "no callable was given for it"

_MOST_NARROWED = 64


class Binding(ExpertCalls[T]):
    """A router, and the callable that runs each of its experts.

    Args:
        router: a router, a router folder, the name of a bundled router, or a Hub id. A folder
            must exist; it, or the Hub's router, is loaded at first use or by `load`.
        experts: expert name → callable. None runs the library's own Hugging Face pipelines, each
            made by `factory`.
        aliases: name in `experts` → name in the library.
        policy: replaces the router's policy.
        factory: makes a callable of one expert of the library.
        goals: weights and limits of every decision.
        task: a Transformers task; None infers it from the text.
        download: whether a router named by its Hub id, and the models of the library's own
            pipelines, may be fetched from the Hub.
        options: attempts, errors, time-outs and breaker. Control flow of frameworks, such as
            LangGraph's interrupts, is never a failure of an expert.
        views: how answers are shown to the check of `options`, if there is one.
        earlier: a binding of the same router and experts under other options, whose loaded router,
            pipelines and health are shared.

    A copy or a pickle holds the arguments, and loads them again at first use.

    Attributes:
        health: latencies and failures of every expert; decisions get its snapshot for the goal
            latency.

    Raises:
        TypeError, ValueError: an argument is of a wrong type, or out of range.
        RouterNotFoundError: there is no such folder or bundled router.
        LibraryError: `experts` or `aliases` name an expert that the library lacks. For a
            router given by name this is checked when it is loaded.
    """

    def __init__(
        self,
        router: Router | str | Path,
        experts: Mapping[str, T] | None,
        *,
        aliases: Mapping[str, str] | None = None,
        policy: Policy | None = None,
        factory: Callable[[Runtime, Expert], T] | None = None,
        goals: Goals | None = None,
        task: str | None = None,
        download: bool = False,
        options: DispatchOptions = DEFAULT_OPTIONS,
        views: Views = DEFAULT_VIEWS,
        earlier: Binding[Any] | None = None,
    ) -> None:
        check_kinds(router=router, aliases=aliases, policy=policy, goals=goals, task=task)
        self._source = router if isinstance(router, Router) else find(router)
        self._callables = experts
        self._aliases = dict(aliases or {})
        self._policy = policy
        self._factory = factory
        self.goals = goals
        self._task = task
        self._download = download
        self.options = options
        self._views = views
        self.health = Health(options.circuit_breaker)
        self._reset()
        if earlier is not None:
            self._continue_from(earlier)
        if isinstance(router, Router):
            self.load()

    def _reset(self) -> None:
        """Unload everything."""
        self._loaded = _Loaded()
        self._router: Router | None = None
        self._experts: dict[str, T] = {}
        self._narrowed: dict[frozenset[tuple[str, str]], Router] = {}
        self._dispatch_options = replace(self.options, errors=self._is_failure)
        self._familiarity = Familiarity()
        self._checkers = Checkers(
            self.options, self._views, lambda: self.experts, self._keep_verdict
        )

    def __getstate__(self) -> dict[str, Any]:
        """Return the arguments; locks and loaded pipelines cannot be pickled."""
        loaded = (
            "_loaded",
            "_router",
            "_experts",
            "_narrowed",
            "_dispatch_options",
            "_checkers",
            "_familiarity",
        )
        return {name: value for name, value in self.__dict__.items() if name not in loaded}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore the arguments."""
        self.__dict__.update(state)
        self._reset()

    def _continue_from(self, earlier: Binding[Any]) -> None:
        """Share the loaded router, pipelines and health of an earlier binding."""
        self._loaded = earlier._loaded
        self._familiarity = earlier._familiarity
        if earlier.options.circuit_breaker == self.options.circuit_breaker:
            self.health = earlier.health

    def load(self) -> Router:
        """Load the router, once; safe from many threads."""
        with self._loaded.lock:
            if self._router is None:
                router = self._loaded.router_of(self._source, self._download)
                if self._policy is not None:
                    router = router.with_policy(self._policy)
                tasks = router.library.tasks
                if self._task is not None and self._task not in tasks:
                    hint = did_you_mean(self._task, tasks) or f" It has: {', '.join(tasks)}."
                    raise LibraryError(
                        f"task is {self._task!r}; library {router.library.name!r} has no expert of "
                        f"that task.{hint}"
                    )
                self._experts = self._bind(router.library)
                without = {n: NO_CALLABLE for n in router.library.names if n not in self._experts}
                self._router = router.excluding(without) if without else router
            return self._router

    @property
    def router(self) -> Router:
        """The router, loaded; experts without a callable are not eligible in it."""
        return self._router or self.load()

    @property
    def known_experts(self) -> Mapping[str, T]:
        """Name → callable, as given; only pipelines need the router loaded first."""
        return self.experts if self._callables is None else self._callables

    @property
    def experts(self) -> Mapping[str, T]:
        """Library name → callable."""
        if self._router is None:
            self.load()
        return self._experts

    @property
    def is_quick(self) -> bool:
        """Whether a decision takes well under a millisecond, less than a change of threads.

        True for a loaded router with static encoders only.
        """
        router = self._router
        return router is not None and all(
            isinstance(predictor.encoder, StaticEncoder) for predictor in router.predictors.values()
        )

    def decide(
        self,
        text: str,
        *,
        flags: bool = False,
        only: str | None = None,
        goals: Goals | None = None,
        without: Mapping[str, str] | None = None,
        sent_tokens: float | None = None,
    ) -> Decision:
        """Decide for one text.

        Args:
            text: the text to route.
            flags: whether the text is the user's own, so that its flags act. Unknown flags warn,
                unless the policy makes them an error.
            only: the one expert that may answer; limits still hold for it.
            goals: of this call, joined with the binding's.
            without: expert → why it cannot answer this call.
            sent_tokens: tokens of everything that is sent, as `Router.route` takes them.

        Raises:
            PromptError, FlagError, GoalError, NoEligibleExpertError: as `Router.route`.
            LibraryError: there is no expert `only`.
        """
        router = self._router_for(only, without or {})
        call_goals = joined_goals(self.goals, goals)
        observed = self.health.snapshot()
        decision = router.route(
            text,
            goals=call_goals,
            task=self._task,
            flags=flag_mode(flags),
            observed=observed,
            check=self.options.check,
            max_attempts=self.options.max_attempts,
            sent_tokens=sent_tokens,
        )
        self._familiarity.note([decision.out_of_distribution])
        return decision

    def decide_batch(
        self,
        texts: Sequence[str],
        *,
        flags: bool = False,
        only: str | None = None,
        goals: Goals | None = None,
        without: Mapping[str, str] | None = None,
        sent_tokens: Sequence[float] | None = None,
    ) -> list[Decision]:
        """Decide for many texts in one pass; arguments and errors as `decide`."""
        router = self._router_for(only, without or {})
        call_goals = joined_goals(self.goals, goals)
        observed = self.health.snapshot()
        decisions = router.route_batch(
            texts,
            goals=call_goals,
            task=self._task,
            flags=flag_mode(flags),
            observed=observed,
            check=self.options.check,
            max_attempts=self.options.max_attempts,
            sent_tokens=sent_tokens,
        )
        self._familiarity.note([decision.out_of_distribution for decision in decisions])
        return decisions

    def _keep_verdict(self, decision: Decision, expert: str, score: float) -> None:
        record = {"expert": expert}
        self.router.feedback(record, score, prompt=decision.prompt)

    def _is_failure(self, error: BaseException) -> bool:
        return self.options.is_failure(error) and not is_control_flow(error)

    def _router_for(self, only: str | None, without: Mapping[str, str]) -> Router:
        """Return the router for calls that some experts cannot answer."""
        reasons = dict(without)
        if only is not None:
            name = self._aliases.get(only, only)
            if name not in self.experts:
                raise unknown_expert(only, [*self.experts, *self._aliases])
            others = (other for other in self.experts if other != name)
            reasons |= dict.fromkeys(others, f"the call asks for {name}")
        if not reasons:
            return self.router
        key = frozenset(reasons.items())
        router = self._narrowed.get(key)
        if router is None:
            router = self.router.excluding(reasons)
            # Calls differ in what they need, so the cache is bounded.
            if len(self._narrowed) >= _MOST_NARROWED:
                self._narrowed.clear()
            self._narrowed[key] = router
        return router

    def _bind(self, library: Library) -> dict[str, T]:
        if self._callables is None:
            return self._pipelines(library)
        bound: dict[str, T] = {}
        check_experts([self._aliases.get(name, name) for name in self._callables], library)
        for alias in self._aliases:
            if alias not in self._callables:
                hint = did_you_mean(alias, self._callables)
                raise LibraryError(f"aliases name {alias!r}, which is not among the experts.{hint}")
        for alias_or_name, callable_ in self._callables.items():
            name = self._aliases.get(alias_or_name, alias_or_name)
            if name in bound:
                raise LibraryError(f"expert {name!r} of the library has two callables")
            bound[name] = callable_
        if not bound:
            raise LibraryError("experts is empty; give at least one, or leave it out")
        return bound

    def _pipelines(self, library: Library) -> dict[str, T]:
        if self._factory is None:
            raise LibraryError("experts is needed: there is nothing to make them of")
        for name in self._aliases.values():
            library.index(name)
        runtime = self._loaded.runtime_of(library, self._download)
        return {expert.name: self._factory(runtime, expert) for expert in library}


class _Loaded:
    """The router and the runtime that bindings of the same experts share.

    Attributes:
        lock: held while one of them loads.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._router: Router | None = None
        self._runtime: Runtime | None = None

    def router_of(self, source: Router | Path | HubRouter, download: bool) -> Router:
        """Return the router, read from its folder or the Hub at the first call."""
        if isinstance(source, Router):
            return source
        if self._router is None:
            name = str(source) if isinstance(source, HubRouter) else source
            self._router = Router.from_pretrained(name, download=download)
        return self._router

    def runtime_of(self, library: Library, download: bool) -> Runtime:
        """Return the runtime of the library's own pipelines."""
        from tryage.runtime import Runtime

        if self._runtime is None:
            self._runtime = Runtime(library, download=download)
        return self._runtime


def check_experts(names: Iterable[str], library: Library) -> None:
    """Check that a library has all experts that somebody wants to call.

    Raises:
        LibraryError: it lacks some; the message says how one gets a router for one's own models.
    """
    lacking = [name for name in names if name not in library]
    if not lacking:
        return
    hint = did_you_mean(lacking[0], library.names) or f" It has: {', '.join(library.names[:20])}."
    raise LibraryError(
        f"library {library.name!r} has no expert {', '.join(map(repr, lacking))}.{hint} A router "
        "knows only the models that it was fitted on. If one of them has another name here, pass "
        "aliases={name here: name in the library}. For models of your own fit a router on their "
        "results, Router.fit(table) or `tryage label` and `tryage fit`, or start without results: "
        "Router.from_library(Library([Expert(name=..., model=...)]))"
    )


def unknown_expert(name: str, names: Iterable[str]) -> LibraryError:
    """Return the error for a forced expert that does not exist."""
    names = tuple(names)
    hint = did_you_mean(name, names) or f" Known: {', '.join(names)}."
    return LibraryError(f"there is no expert {name!r}.{hint}")
