"""Retry policy of every call over the network: which statuses, how often, how long between."""

from __future__ import annotations

import datetime
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from tryage.errors import OptionError

if TYPE_CHECKING:
    import tenacity

TOO_MANY_REQUESTS = 429

RETRIED_STATUSES = frozenset({408, 409, 425, TOO_MANY_REQUESTS, *range(500, 600)}) - {501, 505}
"""HTTP statuses after which the same request may succeed: busy, timed out, or a server fault.

501 and 505 say that the server lacks the method or the protocol version, which does not pass.
"""

Predicate = Callable[[BaseException], bool]
"""Says whether the same call may succeed a little later."""


def status_of(error: BaseException) -> int | None:
    """Return the HTTP status in an exception, where the usual clients store it."""
    response = getattr(error, "response", None)
    for holder, attribute in (
        (error, "status_code"),
        (response, "status_code"),
        (error, "status"),
        (error, "code"),
    ):
        status = getattr(holder, attribute, None)
        if isinstance(status, int) and 100 <= status < 600:
            return status
    # Amazon's client keeps a dict.
    metadata = response.get("ResponseMetadata") if isinstance(response, dict) else None
    status = metadata.get("HTTPStatusCode") if isinstance(metadata, dict) else None
    return status if isinstance(status, int) else None


def retry_after(headers: Mapping[str, Any] | None) -> float | None:
    """Return the seconds that a Retry-After header asks to wait, given as seconds or as a date.

    Args:
        headers: of a response; plain dicts may spell the name in lower or title case.

    Returns:
        Seconds, 0 for a date in the past; None if the header is missing or malformed.
    """
    if headers is None:
        return None
    value = headers.get("retry-after") or headers.get("Retry-After")
    if value is None:
        return None
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        return _seconds_until(str(value))
    return seconds if math.isfinite(seconds) and seconds >= 0 else None


def _seconds_until(http_date: str) -> float | None:
    try:
        date = parsedate_to_datetime(http_date)
    except (ValueError, OverflowError):
        return None
    if date.tzinfo is None:
        # The zone "-0000" parses to a naive date; HTTP dates are in UTC.
        date = date.replace(tzinfo=datetime.UTC)
    return max(0.0, date.timestamp() - time.time())


def requested_wait(error: BaseException) -> float | None:
    """Return the seconds that a failed response, kept in an exception, asks to wait."""
    for holder in (getattr(error, "response", None), error):
        headers = getattr(holder, "headers", None)
        # Clients bring header classes of their own; some are no `Mapping`.
        seconds = retry_after(headers) if hasattr(headers, "get") else None
        if seconds is not None:
            return seconds
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Retries:
    """How often a failed call is retried, and how long to wait before each retry.

    The wait is drawn at random between 0 and an exponentially growing bound ("full jitter"), so
    that many clients do not return at once. If the server asks for more in Retry-After, the wait
    is what it asks for.

    Attributes:
        retries: calls after the first one; 0 disables retries.
        backoff: bound of the wait before the first retry, in seconds; doubles with each retry.
        longest_backoff: upper limit of that bound, in seconds.
        longest_retry_after: upper limit of a wait that the server asks for, in seconds.
    """

    retries: int = 2
    backoff: float = 0.5
    longest_backoff: float = 20.0
    longest_retry_after: float = 20.0

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if not value >= 0:
                raise OptionError(f"{name} is {value}; it is at least 0")

    def retrying(self, is_transient: Predicate, **options: Any) -> tenacity.Retrying:
        """Return a tenacity loop: ``for attempt in ...: with attempt: ...``.

        The last exception is raised as it is.

        Args:
            is_transient: says whether an exception may pass.
            options: further options of `tenacity.Retrying`, such as `sleep` or `before_sleep`;
                a `stop` is added to the limit on retries.
        """
        import tenacity

        return tenacity.Retrying(**self._options(is_transient, options))

    def async_retrying(self, is_transient: Predicate, **options: Any) -> tenacity.AsyncRetrying:
        """Return `retrying` for an event loop: ``async for attempt in ...: with attempt: ...``."""
        import tenacity

        return tenacity.AsyncRetrying(**self._options(is_transient, options))

    def _options(self, is_transient: Predicate, options: dict[str, Any]) -> dict[str, Any]:
        import tenacity

        stop: Any = tenacity.stop_after_attempt(self.retries + 1)
        if "stop" in options:
            stop = tenacity.stop_any(stop, options["stop"])
        own = {
            "retry": tenacity.retry_if_exception(is_transient),
            "wait": self._wait,
            "reraise": True,
        }
        return options | own | {"stop": stop}

    def _wait(self, state: tenacity.RetryCallState) -> float:
        import tenacity

        draw = tenacity.wait_random_exponential(multiplier=self.backoff, max=self.longest_backoff)
        error = state.outcome.exception() if state.outcome is not None else None
        requested = requested_wait(error) if error is not None else None
        return max(draw(state), min(requested or 0.0, self.longest_retry_after))
