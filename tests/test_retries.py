"""One retry policy for endpoints, labelling and the Hub."""

import asyncio
import random
import statistics
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from types import SimpleNamespace

import pytest
import tenacity

from tryage.errors import OptionError
from tryage.retries import RETRIED_STATUSES, Retries, requested_wait, retry_after, status_of


class Refused(Exception):
    """An error with the response that a client keeps in it."""

    def __init__(self, status=503, headers=None):
        super().__init__(f"status {status}")
        self.response = SimpleNamespace(status_code=status, headers=headers or {})


def http_date(seconds):
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


def is_transient(error):
    return status_of(error) in RETRIED_STATUSES


def waits(policy, errors, **options):
    """Return the waits before each retry of a call that fails with `errors`, then succeeds."""
    slept, pending = [], list(errors)
    for attempt in policy.retrying(is_transient, sleep=slept.append, **options):
        with attempt:
            if pending:
                raise pending.pop(0)
    return [float(seconds) for seconds in slept]


def test_the_statuses_that_are_retried():
    server_faults = {502, 503, 504, 507, 508, 520, 522, 524, 529, 599}
    assert {408, 409, 425, 429, 500} | server_faults <= RETRIED_STATUSES
    final = {200, 301, 400, 401, 403, 404, 410, 413, 422, 499, 501, 505, 600}
    assert not final & RETRIED_STATUSES


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("3", 3),
        (" 3 ", 3),
        ("0", 0),
        ("1.5", 1.5),
        (7, 7),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0),
        ("-3", None),
        ("nan", None),
        ("inf", None),
        ("soon", None),
        ("Wed, 99", None),
        ("", None),
    ],
)
def test_retry_after_in_seconds_and_in_no_form_at_all(value, seconds):
    assert retry_after({"retry-after": value}) == seconds
    assert retry_after({"Retry-After": value}) == seconds


def test_retry_after_as_a_date():
    assert retry_after({"retry-after": http_date(30)}) == pytest.approx(29.5, abs=1)
    # A date without a zone is in UTC, wherever this machine stands.
    without_zone = http_date(30).replace("GMT", "-0000")
    assert retry_after({"retry-after": without_zone}) == pytest.approx(29.5, abs=1)


def test_no_header_asks_for_nothing():
    assert retry_after(None) is None
    assert retry_after({}) is None
    assert requested_wait(ValueError("no response")) is None


@pytest.mark.parametrize(
    "error",
    [
        Refused(429, {"retry-after": "4"}),
        type("Own", (Exception,), {"status_code": 429, "headers": {"Retry-After": "4"}})(),
        type("Aio", (Exception,), {"status": 429, "headers": {"Retry-After": "4"}})(),
        type("Urllib", (Exception,), {"code": 429, "headers": {"Retry-After": "4"}})(),
    ],
)
def test_status_and_wait_are_found_where_clients_store_them(error):
    assert status_of(error) == 429
    assert requested_wait(error) == 4


def test_exceptions_without_a_status():
    assert status_of(OSError("cut")) is None
    assert status_of(type("Exit", (Exception,), {"code": 2})()) is None


def test_waits_double_up_to_the_longest_and_are_drawn_at_random():
    random.seed(0)
    policy = Retries(retries=5, backoff=1, longest_backoff=5)
    rows = [waits(policy, [Refused()] * 5) for _ in range(300)]
    columns = list(zip(*rows, strict=True))
    for column, bound in zip(columns, (1, 2, 4, 5, 5), strict=True):
        assert 0.9 * bound < max(column) <= bound
        assert statistics.mean(column) == pytest.approx(bound / 2, rel=0.15)


def test_the_server_may_ask_for_a_longer_wait_up_to_a_limit():
    policy = Retries(retries=1, backoff=0.01, longest_backoff=0.02, longest_retry_after=60)
    assert waits(policy, [Refused(429, {"retry-after": "3"})]) == [3]
    assert waits(policy, [Refused(429, {"retry-after": "1000"})]) == [60]
    [until] = waits(policy, [Refused(503, {"retry-after": http_date(30)})])
    assert until == pytest.approx(29.5, abs=1)
    for nothing in ("soon", "-3", "0", http_date(-100)):
        assert max(waits(policy, [Refused(503, {"retry-after": nothing})])) <= 0.01


def test_the_backoff_stays_where_the_server_asks_for_less():
    random.seed(1)
    policy = Retries(retries=1, backoff=8, longest_retry_after=0.5)
    headers = {"retry-after": "0.5"}
    assert max(waits(policy, [Refused(429, headers)])[0] for _ in range(20)) > 2


def test_it_gives_up_after_its_retries_with_the_last_error_itself():
    calls = []

    def call():
        calls.append(1)
        raise Refused(502)

    with pytest.raises(Refused, match="status 502"):
        Retries(retries=2, backoff=0).retrying(is_transient)(call)
    assert len(calls) == 3


def test_what_does_not_pass_is_not_retried():
    for error in (Refused(404), Refused(501), KeyError("x")):
        with pytest.raises(type(error)):
            waits(Retries(backoff=0), [error] * 2)
    with pytest.raises(Refused):
        waits(Retries(retries=0), [Refused(503)])


def test_a_further_stop_is_added_to_the_limit():
    stop = tenacity.stop_before_delay(2)
    with pytest.raises(Refused):
        waits(Retries(), [Refused(429, {"retry-after": "10"})], stop=stop)
    with pytest.raises(Refused):
        waits(Retries(retries=1, backoff=0), [Refused()] * 2, stop=stop)


async def test_the_same_for_an_event_loop():
    slept, errors = [], [Refused(429, {"retry-after": "3"}), Refused(503)]

    async def sleep(seconds):
        slept.append(float(seconds))
        await asyncio.sleep(0)

    policy = Retries(backoff=0, retries=2)
    async for attempt in policy.async_retrying(is_transient, sleep=sleep):
        with attempt:
            if errors:
                raise errors.pop(0)
    assert slept == [3, 0]

    async def call():
        raise Refused(400)

    with pytest.raises(Refused):
        await policy.async_retrying(is_transient, sleep=sleep)(call)


@pytest.mark.parametrize("name", ["retries", "backoff", "longest_backoff", "longest_retry_after"])
@pytest.mark.parametrize("value", [-1, float("nan")])
def test_options_out_of_range(name, value):
    with pytest.raises(OptionError, match=f"{name} is {value}"):
        Retries(**{name: value})
