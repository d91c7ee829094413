"""Faults of the request: errors that say nothing about the expert that raised them."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from tryage.errors import (
    ExpertTimeoutError,
    OptionError,
    PromptError,
    RefusedRequestError,
)
from tryage.retries import status_of

E = TypeVar("E", bound=Exception)

REFUSING_STATUSES = frozenset({400, 413, 414, 422, 431})
"""HTTP statuses that refuse what was sent: malformed, too large, or not to be processed."""

_REFUSING_CODES = frozenset(
    {
        "badrequesterror",
        "content_filter",
        "content_policy_violation",
        "context_length_exceeded",
        "exceed_context_size_error",
        "invalid_function_parameters",
        "invalid_prompt",
        "model_context_window_exceeded",
        "moderation_blocked",
        "request_too_large",
        "responsibleaipolicyviolation",
        "string_above_max_length",
        "validationexception",
    }
)
"""Codes in the errors of well-known servers that refuse the request, in lower case."""

_REFUSING_CLASSES = frozenset(
    {
        "BadRequestError",
        "BlockedPromptException",
        "ContentFilterFinishReasonError",
        "ContentPolicyViolationError",
        "ContextOverflowError",
        "ContextWindowExceededError",
        "InvalidArgument",
        "InvalidRequestError",
        "LengthFinishReasonError",
        "ModelInvalidRequestError",
        "RejectedRequestError",
        "RequestTooLargeError",
        "StopCandidateException",
        "UnprocessableEntityError",
    }
)
"""Names of exceptions of well-known clients that refuse the request."""

_TOO_LONG = re.compile(
    r"maximum context|context (?:length|size|window)|prompt is too long|input is too long",
    re.IGNORECASE,
)
_READ_OF_A_MESSAGE = 2000
_LONGEST_CHAIN = 10
_MARK = "_tryage_request_fault"


def is_request_fault(error: BaseException) -> bool:
    """Tell whether the request is at fault: another one may do well on the same expert.

    So it is where the prompt is no text that can be sent, or a server refuses what it was sent:
    its form, its length, its tools or what it says. Errors of vendors' clients are known by their
    status, their code or the name of their class, in the exception or in its causes.
    """
    link: BaseException | None = error
    for _ in range(_LONGEST_CHAIN):
        if link is None:
            return False
        verdict = _verdict(link)
        if verdict is not None:
            return verdict
        link = link.__cause__
    return False


@contextlib.contextmanager
def blaming_request(*others: type[Exception]) -> Iterator[None]:
    """Mark what a block raises as a fault of the request; it stays the exception that it is.

    Args:
        others: exceptions of the block that are not.
    """
    try:
        yield
    except Exception as error:
        if not isinstance(error, others):
            blame_request(error)
        raise


def blame_request(error: E) -> E:
    """Return an exception, marked as a fault of the request for `is_request_fault`."""
    # Some exceptions have slots.
    with contextlib.suppress(AttributeError):
        setattr(error, _MARK, True)
    return error


def refusing_code(fields: Any) -> bool:
    """Tell whether the fields of a server's error hold a code that refuses the request."""
    if not isinstance(fields, Mapping):
        return False
    inner = fields.get("error", fields.get("Error"))
    values = [fields.get(key) for key in ("code", "Code", "type")]
    if any(isinstance(value, str) and value.lower() in _REFUSING_CODES for value in values):
        return True
    if any(type(value) is int and value in REFUSING_STATUSES for value in values):
        return True
    return isinstance(inner, Mapping) and refusing_code({**inner, "error": None})


def _verdict(error: BaseException) -> bool | None:
    """Judge one exception of a chain; None if it does not decide."""
    if isinstance(error, PromptError | RefusedRequestError | OptionError) or hasattr(error, _MARK):
        return True
    if isinstance(error, ExpertTimeoutError):
        return False
    if isinstance(error, UnicodeEncodeError):
        # Half a surrogate pair is no character; any other is one that a header cannot hold.
        return any("\ud800" <= letter <= "\udfff" for letter in error.object[error.start :][:1])
    body = getattr(error, "body", None) or getattr(error, "response", None)
    if refusing_code({"code": getattr(error, "code", None)}) or refusing_code(body):
        return True
    status = status_of(error)
    if status is not None:
        return status in REFUSING_STATUSES
    if any(kind.__name__ in _REFUSING_CLASSES for kind in type(error).__mro__):
        return True
    return True if _TOO_LONG.search(str(error)[:_READ_OF_A_MESSAGE]) else None
