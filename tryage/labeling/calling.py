"""Call models that run anywhere: rate-limited, timed and retried."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import inspect
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, Literal, Self

from tryage.dispatch import DEFAULT_OPTIONS, describe_error, is_request_fault, mask_error
from tryage.dispatch.scopes import acall_within, within
from tryage.errors import ExpertError, OptionError, did_you_mean
from tryage.retries import RETRIED_STATUSES, TOO_MANY_REQUESTS, Retries, status_of
from tryage.runtime import Answer

if TYPE_CHECKING:
    import tenacity

Reply = str | Answer
Call = Callable[[str], Reply | Awaitable[Reply]]
"""A model: text → its answer. A plain text states no tokens; an `Answer` may."""

_LASTING = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    FileNotFoundError,
    ImportError,
    LookupError,
    NameError,
    NotImplementedError,
    PermissionError,
    TypeError,
    ValueError,
)
"""Exceptions that the same call would raise again."""

_LONGEST_BACKOFF = 60.0
_LONGEST_RETRY_AFTER = 300.0


@dataclass(frozen=True, slots=True)
class Calling:
    """How models are called.

    Attributes:
        concurrency: calls at once, per model.
        per_minute: calls that may start in a minute, per model, spread evenly; a mapping names
            models (the judge's is ``"judge"``, which then is no expert's name), those left out have
            no bound. None has none.
        retries: how often a call is retried that failed in a way that may pass.
        backoff: upper bound of the wait before the first retry, in seconds; it doubles with each
            retry, up to a minute. The wait is drawn at random below it. A service that asks for a
            longer wait in ``Retry-After`` gets it, up to five minutes.
        timeout: seconds that one call may take; None for ever.
        give_up_after: cells in a row that fail before a model is left alone for the rest of the
            run; None never.
    """

    concurrency: int = 8
    per_minute: float | Mapping[str, float] | None = None
    retries: int = 3
    backoff: float = 1.0
    timeout: float | None = 120.0
    give_up_after: int | None = 20

    def __post_init__(self) -> None:
        per_minute = self.per_minute
        rates = per_minute.values() if isinstance(per_minute, Mapping) else [per_minute]
        for name, low, kind, value in (
            ("concurrency", 1, Integral, self.concurrency),
            ("retries", 0, Integral, self.retries),
            ("backoff", 0, Real, self.backoff),
            ("give_up_after", 1, Integral, self.give_up_after),
        ):
            if value is None and name == "give_up_after":
                continue
            if not isinstance(value, kind):
                what = "a whole number" if kind is Integral else "a number"
                raise OptionError(f"{name} is {value!r}; it is {what}")
            if not value >= low:
                raise OptionError(f"{name} is {value}; it is at least {low}")
        for name, values in (("timeout", [self.timeout]), ("per_minute", rates)):
            for value in values:
                if value is not None and not isinstance(value, Real):
                    raise OptionError(f"{name} is {value!r}; it is a number, or None for no bound")
                if value is not None and not value > 0:
                    raise OptionError(f"{name} is {value}; it is above 0, or None for no bound")

    @property
    def retry_policy(self) -> Retries:
        """The retries and their waits."""
        return Retries(
            retries=self.retries,
            backoff=self.backoff,
            longest_backoff=_LONGEST_BACKOFF,
            longest_retry_after=_LONGEST_RETRY_AFTER,
        )

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Self:
        """Return the settings that options describe.

        Raises:
            OptionError: an option is unknown or out of range.
        """
        fields = [field.name for field in dataclasses.fields(cls)]
        for name in options:
            if name not in fields:
                raise OptionError(f"unknown option {name!r}.{did_you_mean(name, fields)}")
        return cls(**options)

    def check_names(self, models: Sequence[str]) -> None:
        """Refuse a rate for an unknown name: a misspelt model would have no bound.

        Raises:
            OptionError: names it.
        """
        for name in self.per_minute if isinstance(self.per_minute, Mapping) else ():
            if name not in models:
                raise OptionError(
                    f"per_minute names {name!r}, which is neither an expert nor the judge."
                    f"{did_you_mean(name, list(models))}"
                )

    def rate(self, name: str) -> float | None:
        """Return the calls of a model that may start in a minute."""
        per_minute = self.per_minute
        return per_minute.get(name) if isinstance(per_minute, Mapping) else per_minute


class Pacer:
    """Spreads the starts of calls evenly over time.

    Args:
        per_minute: starts in a minute; None lets every call start at once.
        clock: seconds that only go forward.
    """

    def __init__(
        self, per_minute: float | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._gap = 0.0 if per_minute is None else 60.0 / per_minute
        self._clock = clock
        self._free = clock()

    def wait(self) -> float:
        """Reserve the next start; return the seconds until it comes."""
        now = self._clock()
        start = max(now, self._free)
        self._free = start + self._gap
        return start - now

    def hold(self, seconds: float) -> None:
        """Let no call start for a while."""
        self._free = max(self._free, self._clock() + seconds)


class Caller:
    """Calls one model, and retries calls whose failure may pass.

    It belongs to one event loop. A function runs in a thread of its own, which is left behind
    if it hangs; a coroutine function runs in the loop, and is cancelled.

    Args:
        name: the model's, for errors.
        call: the model.
        options: how it is called.

    Attributes:
        refusal: why the model is left alone for the rest of the run; None while it is called.
    """

    def __init__(self, name: str, call: Call, options: Calling) -> None:
        self._name = name
        self._call = call
        self._options = options
        self._pacer = Pacer(options.rate(name))
        self._room = asyncio.Semaphore(options.concurrency)
        self._failed_in_a_row = 0
        self.refusal: str | None = None

    async def ask(self, text: str) -> Answer:
        """Return the answer to a text; its seconds are those of the successful call.

        Raises:
            ExpertError: the model failed; the message is its error, without secrets.
        """
        async with self._room:
            if self.refusal is not None:
                raise ExpertError(self.refusal)
            return await self._try(text)

    async def _try(self, text: str) -> Answer:
        try:
            try:
                answer = await self._attempt(text)
            except Exception as error:  # noqa: BLE001 - the policy decides which ones are retried
                answer = await self._retry(text, error)
        except BaseException as error:
            if not DEFAULT_OPTIONS.is_failure(error):
                raise
            raise self._failure(error) from mask_error(error)
        self._failed_in_a_row = 0
        return answer

    async def _attempt(self, text: str) -> Answer:
        await asyncio.sleep(self._pacer.wait())
        started = time.perf_counter()
        answer = _as_answer(await self._call_once(text))
        return dataclasses.replace(answer, seconds=time.perf_counter() - started)

    async def _retry(self, text: str, first_error: Exception) -> Answer:
        """Return the answer of a later attempt, or raise the last error.

        The loop starts with the first error, so a call that succeeds at once does without it.
        """
        errors = [first_error]
        loop = self._options.retry_policy.async_retrying(
            is_transient, before_sleep=self._pause_after_429
        )
        async for attempt in loop:
            with attempt:
                if errors:
                    raise errors.pop()
                return await self._attempt(text)
        raise first_error

    def _pause_after_429(self, state: tenacity.RetryCallState) -> None:
        """Delay the model's other calls too: they would be refused as well."""
        error = None if state.outcome is None else state.outcome.exception()
        if error is not None and status_of(error) == TOO_MANY_REQUESTS:
            self._pacer.hold(state.upcoming_sleep)

    async def _call_once(self, text: str) -> Any:
        seconds = self._options.timeout
        call = self._call
        own = getattr(call, "__call__", None)  # noqa: B004 - an object may be called like one
        if inspect.iscoroutinefunction(call) or inspect.iscoroutinefunction(own):
            return await within(self._name, seconds, _awaitable(call, text))
        value = await acall_within(self._name, seconds, functools.partial(_plain, call, text))
        return await within(self._name, seconds, value) if inspect.isawaitable(value) else value

    def _failure(self, error: BaseException) -> ExpertError:
        reason = describe_error(error)
        if not is_request_fault(error):
            self._failed_in_a_row += 1
        most = self._options.give_up_after
        if most is not None and self._failed_in_a_row >= most:
            self.refusal = f"left alone after {most} failures in a row, at last with {reason}"
        return ExpertError(reason)


def is_transient(error: BaseException) -> bool:
    """Whether the same call may succeed a little later."""
    if not DEFAULT_OPTIONS.is_failure(error):
        return False
    status = status_of(error)
    return not isinstance(error, _LASTING) if status is None else status in RETRIED_STATUSES


async def _awaitable(call: Call, text: str) -> Any:
    value = call(text)
    return await value if inspect.isawaitable(value) else value


def _plain(call: Call, text: str) -> Any:
    try:
        return call(text)
    except StopIteration as error:  # no future takes it
        raise RuntimeError(f"StopIteration: {error}") from error


_OUT_OF_TOKENS = ("length", "max_tokens")
_END_KEYS = ("finish_reason", "stop_reason", "done_reason")
_INPUT_KEYS = ("input_tokens", "prompt_tokens", "prompt_token_count")
_OUTPUT_KEYS = ("output_tokens", "completion_tokens", "candidates_token_count")
_MOST_TOKENS = 1 << 62


def token_count(value: Any) -> int | None:
    """Return a number of tokens as a model states it; None if that is no number of tokens."""
    if isinstance(value, bool) or not isinstance(value, str | Real):
        return None
    number: Any = value
    try:
        count = int(number)
    except (ValueError, OverflowError):  # "many", NaN, infinity
        return None
    return count if 0 <= count < _MOST_TOKENS else None


def stated_tokens(*reports: Any) -> tuple[int, int] | None:
    """Return the tokens read and written by the first report that states both; else None.

    Args:
        *reports: mappings or objects with the fields of the usual services; anything else is
            skipped. Zero for both is what services send that do not count.
    """
    for report in reports:
        read, written = _first_count(report, _INPUT_KEYS), _first_count(report, _OUTPUT_KEYS)
        if read is not None and written is not None and read + written > 0:
            return read, written
    return None


def _first_count(report: Any, keys: Sequence[str]) -> int | None:
    counts = (token_count(report_field(report, key)) for key in keys)
    return next((count for count in counts if count is not None), None)


def stated_end(*reports: Any) -> Literal["stop", "length"]:
    """Return ``"length"`` if a report states that the answer ran out of tokens.

    Args:
        *reports: as for `stated_tokens`.
    """
    ends = {str(report_field(report, key)).lower() for report in reports for key in _END_KEYS}
    return "length" if ends.intersection(_OUT_OF_TOKENS) else "stop"


def report_field(report: Any, key: str) -> Any:
    """Return a field of a mapping or an object; None if it is missing."""
    return report.get(key) if isinstance(report, Mapping) else getattr(report, key, None)


def _as_answer(value: Any) -> Answer:
    """Return a model's reply as an answer whose text can be written to a file."""
    answer = value if isinstance(value, Answer) else Answer(value, 0, 0, 0.0, counted=False)
    if not isinstance(answer.text, str):
        raise TypeError(f"it returned {type(answer.text).__name__}, not text")
    # No file takes half a character.
    text = answer.text.encode("utf-8", "replace").decode("utf-8")
    return dataclasses.replace(answer, text=text)
