"""OpenTelemetry spans for decisions, attempts and checks; off until `start_tracing`.

::

    from tryage.tracing import start_tracing

    start_tracing()  # the global tracer provider, or another one

Spans and their attributes; those named ``gen_ai.…`` and ``error.type`` are of OpenTelemetry's
semantic conventions:

- ``tryage.decide``: one decision, or those of a batch. ``tryage.library``, ``tryage.prompts`` (how
  many), and for a single one ``tryage.expert``, ``tryage.task``, ``tryage.predicted_loss``,
  ``tryage.out_of_distribution`` and, with a check, ``tryage.plan``.
- ``tryage.attempt EXPERT``: one call of one expert, until its answer or its last chunk.
  ``gen_ai.operation.name``, ``gen_ai.request.model`` (the expert), ``tryage.prompts``; for a stream
  an event ``tryage.first_chunk``. The spans of the expert's own client lie inside. Token counts are
  left to them, so that no token is counted twice.
- ``tryage.check NAME``: a check of one answer. ``gen_ai.evaluation.name``,
  ``gen_ai.evaluation.score.value``, ``gen_ai.evaluation.score.label`` (accepted or rejected),
  ``gen_ai.request.model``.

A span whose caller gave up (cancelled, a stream that was closed, an interrupt of an agent) is no
error; ``tryage.interrupted`` is true. No prompt, answer or message of an error is in a span, unless
``prompts=True``.
"""

from __future__ import annotations

import contextvars
import json
import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeAlias

from tryage.errors import is_control_flow, missing_extra
from tryage.masking import hide_secrets

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span, Tracer, TracerProvider

__all__ = ["start_tracing", "stop_tracing"]

LONGEST_MESSAGE = 400


def start_tracing(tracer_provider: TracerProvider | None = None, *, prompts: bool = False) -> None:
    """Make spans from now on, in this process.

    Args:
        tracer_provider: makes the tracer; None: OpenTelemetry's global one.
        prompts: put prompts into the spans of decisions, and messages of errors into every span.

    Raises:
        MissingExtraError: opentelemetry-api is not installed.
    """
    global _tracing
    try:
        from opentelemetry import trace
    except ImportError as error:
        raise missing_extra("otel", "tracing") from error
    provider = trace.get_tracer_provider() if tracer_provider is None else tracer_provider
    _tracing = _Tracing(provider.get_tracer("tryage"), prompts)


def stop_tracing() -> None:
    """Make no spans from now on; those that are open are ended as usual."""
    global _tracing
    _tracing = None


def is_tracing() -> bool:
    """Return whether spans are made."""
    return _tracing is not None


class _NoSpan:
    """What is used while tracing is off: it does nothing."""

    __slots__ = ()

    def __enter__(self) -> _NoSpan:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def current(self) -> _NoSpan:
        return self

    def event(self, name: str) -> None:
        pass

    def set(self, attributes: dict[str, Any]) -> None:
        pass

    def failures(self, values: Sequence[Any]) -> None:
        pass

    def end(self, error: BaseException | None = None) -> None:
        pass


class _TracedSpan:
    """A span. As a context manager it is current inside, and ends there."""

    def __init__(self, tracing: _Tracing, name: str, attributes: dict[str, Any]) -> None:
        self._tracing = tracing
        self._span: Span = tracing.tracer.start_span(name, attributes=attributes)
        self._inside: _Inside | None = None
        self._ended = False
        self._lock = threading.Lock()

    def __enter__(self) -> _TracedSpan:
        self._inside = _Inside(self._span)
        self._inside.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._inside is not None:
            self._inside.__exit__(kind, error, trace)
        self.end(error)

    def current(self) -> AbstractContextManager[None]:
        """Return a context manager inside of which the span is current; it does not end there."""
        return _Inside(self._span)

    def event(self, name: str) -> None:
        """Note that something happened now."""
        self._span.add_event(name)

    def set(self, attributes: dict[str, Any]) -> None:
        """Add attributes, without those that are None."""
        self._span.set_attributes({key: v for key, v in attributes.items() if v is not None})

    def failures(self, values: Sequence[Any]) -> None:
        """Note errors among the answers of a batch."""
        errors = [value for value in values if isinstance(value, BaseException)]
        if errors:
            self.set({"tryage.failed": len(errors)})
            self._note(errors[0])

    def end(self, error: BaseException | None = None) -> None:
        """End it, once; further calls do nothing."""
        with self._lock:
            if self._ended:
                return
            self._ended = True
        if error is not None and (not isinstance(error, Exception) or is_control_flow(error)):
            self.set({"tryage.interrupted": True})
        elif error is not None:
            self._note(error)
        self._span.end()

    def _note(self, error: BaseException) -> None:
        from opentelemetry.trace import Status, StatusCode

        kind = type(error)
        module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
        self.set({"error.type": f"{module}{kind.__qualname__}"})
        message = hide_secrets(str(error))[:LONGEST_MESSAGE] if self._tracing.prompts else None
        self._span.set_status(Status(StatusCode.ERROR, message))


AnySpan: TypeAlias = _TracedSpan | _NoSpan

NO_SPAN = _NoSpan()


class _Inside(AbstractContextManager[None]):
    """Makes a span current; each use is of one thread or task."""

    def __init__(self, span: Span) -> None:
        self._span = span
        self._token: contextvars.Token[Context] | None = None

    def __enter__(self) -> None:
        from opentelemetry import context, trace

        self._token = context.attach(trace.set_span_in_context(self._span))

    def __exit__(self, *_: object) -> None:
        from opentelemetry import context

        if self._token is not None:
            context.detach(self._token)


class _Tracing:
    def __init__(self, tracer: Tracer, prompts: bool) -> None:
        self.tracer = tracer
        self.prompts = prompts


_tracing: _Tracing | None = None


def decide_span(library: str, prompts: Sequence[str]) -> AnySpan:
    """Return the span of a decision, or of those of a batch."""
    if _tracing is None:
        return NO_SPAN
    attributes: dict[str, Any] = {"tryage.library": library, "tryage.prompts": len(prompts)}
    if _tracing.prompts:
        messages = [
            {"role": "user", "parts": [{"type": "text", "content": str(prompt)}]}
            for prompt in prompts
        ]
        attributes["gen_ai.input.messages"] = json.dumps(messages)
    return _TracedSpan(_tracing, "tryage.decide", attributes)


def attempt_span(expert: str, task: str, prompts: int = 1) -> AnySpan:
    """Return the span of a call of an expert."""
    if _tracing is None:
        return NO_SPAN
    attributes: dict[str, Any] = {
        "gen_ai.operation.name": "chat" if task == "text-generation" else task,
        "gen_ai.request.model": expert,
        "tryage.prompts": prompts,
    }
    return _TracedSpan(_tracing, f"tryage.attempt {expert}", attributes)


def check_span(check: str, expert: str) -> AnySpan:
    """Return the span of a check of an expert's answer."""
    if _tracing is None:
        return NO_SPAN
    attributes: dict[str, Any] = {"gen_ai.evaluation.name": check, "gen_ai.request.model": expert}
    return _TracedSpan(_tracing, f"tryage.check {check}", attributes)
