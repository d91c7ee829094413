"""Dispatch: call the expert a decision chose, and the next one if it fails.

Nothing here knows what a call is: a function of the expert's name, its asynchronous twin, or one
that returns an iterator of chunks. A stream fails over until its first chunk and never after it,
since what a reader has seen cannot be taken back. Cancellation and closing pass through at once.
"""

from tryage.dispatch.batches import adispatch_batch, dispatch_batch
from tryage.dispatch.latencies import Latencies
from tryage.dispatch.records import (
    Attempt,
    Dispatch,
    DispatchedDecision,
    Outcome,
    describe_error,
    record,
)
from tryage.dispatch.streams import AsyncStream, Stream, adispatch_stream, dispatch_stream
from tryage.dispatch.walking import Errors, Failures, adispatch, dispatch, is_failure

__all__ = [
    "AsyncStream",
    "Attempt",
    "Dispatch",
    "DispatchedDecision",
    "Errors",
    "Failures",
    "Latencies",
    "Outcome",
    "Stream",
    "adispatch",
    "adispatch_batch",
    "adispatch_stream",
    "describe_error",
    "dispatch",
    "dispatch_batch",
    "dispatch_stream",
    "is_failure",
    "record",
]
