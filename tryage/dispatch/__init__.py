"""Dispatch: call the expert a decision chose, and the next one if it fails.

Nothing here knows what a call is: a function of the expert's name, its asynchronous twin, or one
that returns an iterator of chunks. A stream fails over until its first chunk and never after it,
since what a reader has seen cannot be taken back. Cancellation and closing pass through at once.

`Health` goes with the calls of one set of experts: it averages what their answers take, and its
circuit breaker leaves those alone that keep failing.
"""

from tryage.dispatch.batches import adispatch_batch, dispatch_batch
from tryage.dispatch.checking import AnswerView, Checker
from tryage.dispatch.failover import adispatch, dispatch
from tryage.dispatch.faults import blame_request, blaming_request, is_request_fault
from tryage.dispatch.health import Breaker, Health, Snapshot
from tryage.dispatch.marks import amarked, marked
from tryage.dispatch.options import DEFAULT_OPTIONS, DispatchOptions, Errors, Failures
from tryage.dispatch.records import (
    Attempt,
    Dispatch,
    DispatchedDecision,
    Outcome,
    describe_error,
    nothing,
    present,
    record,
)
from tryage.dispatch.scopes import Scope, current_scope, off_the_clock
from tryage.dispatch.sources import aclose, close
from tryage.dispatch.streams import AsyncStream, Stream, adispatch_stream, dispatch_stream
from tryage.masking import hide_secrets, mask_error

__all__ = [
    "DEFAULT_OPTIONS",
    "AnswerView",
    "AsyncStream",
    "Attempt",
    "Breaker",
    "Checker",
    "Dispatch",
    "DispatchOptions",
    "DispatchedDecision",
    "Errors",
    "Failures",
    "Health",
    "Outcome",
    "Scope",
    "Snapshot",
    "Stream",
    "aclose",
    "adispatch",
    "adispatch_batch",
    "adispatch_stream",
    "amarked",
    "blame_request",
    "blaming_request",
    "close",
    "current_scope",
    "describe_error",
    "dispatch",
    "dispatch_batch",
    "dispatch_stream",
    "hide_secrets",
    "is_request_fault",
    "marked",
    "mask_error",
    "nothing",
    "off_the_clock",
    "present",
    "record",
]
