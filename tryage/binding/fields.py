"""The constructor arguments that both adapters' classes share, and the binding made of them."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from operator import is_
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, NamedTuple, TypedDict, TypeVar

from pydantic import BaseModel, PrivateAttr

from tryage.binding.binding import Binding
from tryage.binding.inputs import FlagsFrom
from tryage.binding.views import DEFAULT_VIEWS, Views
from tryage.checks import Check, Function
from tryage.dispatch import Breaker, DispatchOptions, Failures
from tryage.goals import Goals
from tryage.policy import Policy
from tryage.router import Router

T = TypeVar("T")

_DISPATCH = tuple(field.name for field in dataclasses.fields(DispatchOptions))
_DECIDING = ("aliases", "policy", "goals", "task", "download")
_BINDING = ("router", "experts", *_DECIDING, *_DISPATCH)
"""Fields that a binding is made of."""

_SHARED = _BINDING[:3]
"""Those that say which router and which experts it is of."""


class RouterOptions(TypedDict, total=False):
    """Keyword arguments of every class that decides, beside router and experts.

    Attributes:
        aliases: name in `experts` → name in the router's library.
        policy: replaces the router's policy.
        goals: weights and limits of every call.
        task: a Transformers task, or None to see it from the text.
        download: whether a router named by its Hub id, and the models of the library's own
            pipelines, may be fetched from the Hub.
        flags_from: where the user's own text stands, whose flags act and are taken off:
            ``"last_message"`` or a function of the input; a dict key, for inputs that are dicts.
            None leaves flags alone.
    """

    aliases: Mapping[str, str] | None
    policy: Policy | None
    goals: Goals | None
    task: str | None
    download: bool
    flags_from: FlagsFrom


class CallOptions(RouterOptions, total=False):
    """Keyword arguments of every class that also calls experts.

    Those of `RouterOptions`, and those of `tryage.dispatch.DispatchOptions`, which describes them.
    """

    max_attempts: int | None
    errors: Failures
    timeout: float | None
    total_timeout: float | None
    breaker: bool | Breaker | None
    check: Check | Function | None
    on_rejected: Literal["return", "raise"]
    stream_unchecked: bool
    keep_verdicts: bool


class Bound(NamedTuple, Generic[T]):
    """A binding, and the fields it was made of.

    It is never changed, so a copy of a model may hold the same one until its own fields differ.
    """

    fields: tuple[Any, ...]
    binding: Binding[T]


_COPIED: ContextVar[Bound[Any] | None] = ContextVar("tryage_copied", default=None)


@contextlib.contextmanager
def made_like(model: DecidingModel) -> Iterator[None]:
    """Let a copy that is made inside the block share what the copied model has loaded.

    Frameworks copy a model so for one call, with other options; what was learned of the experts,
    such as which of them is down, would end with the call.
    """
    token = _COPIED.set(model._bound)
    try:
        yield
    finally:
        _COPIED.reset(token)


class DecidingModel(BaseModel):
    """A framework's object that routes: its fields, and the binding made of them.

    Frameworks assign fields and copy models, so the binding follows the fields: it is made anew
    where one of them is another object.
    """

    router: Any
    experts: Any = None
    aliases: Any = None
    policy: Any = None
    goals: Any = None
    task: str | None = None
    download: bool = False
    flags_from: Any = None

    _bound_fields: ClassVar[tuple[str, ...]] = _BINDING
    """Fields that the binding is made of."""

    _bound: Bound[Any] | None = PrivateAttr(default=None)

    @property
    def _binding(self) -> Binding[Any]:
        """The binding of the fields as they are now."""
        # Asked for several times a call, so pydantic's slow way to private attributes is not taken.
        private, values = self.__pydantic_private__, self.__dict__
        bound: Bound[Any] | None = private["_bound"] if private else None
        fields = tuple(map(values.get, self._bound_fields))
        if bound is None or not all(map(is_, bound.fields, fields)):
            bound = self._bound = Bound(fields, self._bind())
        return bound.binding

    def _bind(self) -> Binding[Any]:
        """Return a binding of the fields."""
        raise NotImplementedError

    def _bind_experts(
        self, experts: Mapping[str, T] | None, factory: Callable[[Any, Any], T]
    ) -> Binding[T]:
        """Return a binding of these callables and the other fields."""
        earlier = self._earlier_binding()
        return bind(self.router, experts, factory, self.__dict__, self._views, earlier)

    def _earlier_binding(self) -> Binding[Any] | None:
        """Return the binding that this one follows, if it is of the same router and experts."""
        bound = self._bound or _COPIED.get()
        if bound is None:
            return None
        now = [getattr(self, name) for name in _SHARED]
        return bound.binding if all(map(is_, bound.fields, now)) else None

    @property
    def _views(self) -> Views:
        """How answers are shown to a check."""
        return DEFAULT_VIEWS

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        """Name router and experts; what the experts hold is not for logs."""
        yield "router", self.router
        yield "experts", list(self.experts) if self.experts else None

    def load(self) -> Router:
        """Load the router now instead of at first use."""
        return self._binding.load()


class DispatchingModel(DecidingModel):
    """A `DecidingModel` that also calls the experts."""

    max_attempts: int | None = None
    errors: Any = (Exception,)
    timeout: float | None = None
    total_timeout: float | None = None
    breaker: Any = None
    check: Any = None
    on_rejected: Literal["return", "raise"] = "return"
    stream_unchecked: bool = False
    keep_verdicts: bool = False


def bind(
    router: Router | str | Path,
    experts: Mapping[str, T] | None,
    factory: Callable[[Any, Any], T],
    options: Mapping[str, Any],
    views: Views = DEFAULT_VIEWS,
    earlier: Binding[Any] | None = None,
) -> Binding[T]:
    """Return a binding of a router and callables.

    Args:
        router: a router, a router folder, the name of a bundled router, or a Hub id.
        experts: expert name → callable, or None.
        factory: makes a callable of one expert of the library.
        options: those of `CallOptions` that are given; others are ignored.
        views: how answers are shown to a check.
        earlier: a binding of the same router and experts that this one follows.
    """
    return Binding(
        router,
        experts,
        factory=factory,
        options=DispatchOptions(**{n: options[n] for n in _DISPATCH if n in options}),
        views=views,
        earlier=earlier,
        **{n: options[n] for n in _DECIDING if n in options},
    )
