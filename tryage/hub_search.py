"""Pages of the Hub's listing of models.

`huggingface_hub.HfApi.list_models` follows the link to the next page wherever it leads, with the
user's token, and does not say where it stands. So pages are asked for here, with its session and
its headers: an answer never decides to which host the next request goes, its size and time are
bounded, and the place reached can be kept.
"""

from __future__ import annotations

import importlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urljoin, urlsplit

from tryage.consent import Address
from tryage.errors import OptionError, did_you_mean
from tryage.hub import (
    HubError,
    HubOfflineError,
    HubUnreachableError,
    hub_api,
    hub_errors,
)
from tryage.retries import RETRIED_STATUSES, TOO_MANY_REQUESTS, Retries, requested_wait

PAGE = 500
"""Models on a page."""

MOST_BYTES = 64 * 2**20
"""Bytes of a page, unpacked, that are read."""

TIMEOUT = 60.0
"""Seconds that the Hub may take for a page."""

RETRIES = Retries(retries=5, backoff=1.0, longest_backoff=30.0, longest_retry_after=600.0)
"""The Hub counts requests in windows of five minutes."""

_PROPERTIES = (
    "cardData",
    "config",
    "createdAt",
    "gated",
    "pipeline_tag",
    "safetensors",
    "sha",
    "siblings",
    "tags",
)
_SORTS = {
    "created_at": "createdAt",
    "downloads": "downloads",
    "last_modified": "lastModified",
    "likes": "likes",
    "trending_score": "trendingScore",
}
SORTS = tuple(_SORTS)
"""What a listing may be sorted by, the largest first."""

_LONGEST_QUERY = 8192

Waiting = Callable[[str], None]
"""Called with what is waited for before a page is asked for again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HubSearch:
    """Which models of the Hub are listed.

    Attributes:
        search: text in their ids.
        task: a Transformers pipeline task.
        author: user or organization.
        tags: each model has all of them.
        sort: one of `SORTS`; None leaves the order to the Hub.
    """

    search: str | None = None
    task: str | None = None
    author: str | None = None
    tags: tuple[str, ...] = ()
    sort: str | None = None

    def __post_init__(self) -> None:
        if self.sort is not None and self.sort not in _SORTS:
            hint = did_you_mean(self.sort, SORTS) or f" Known: {', '.join(SORTS)}."
            raise OptionError(f"a listing cannot be sorted by {self.sort!r}.{hint}")

    def query(self, page: int = PAGE) -> str:
        """Return the query of the first page of that many models."""
        pairs = [
            ("search", self.search),
            ("pipeline_tag", self.task),
            ("author", self.author),
            *(("filter", tag) for tag in self.tags),
            ("sort", None if self.sort is None else _SORTS[self.sort]),
            ("limit", str(page)),
            *(("expand", name) for name in _PROPERTIES),
        ]
        return urlencode([(name, value) for name, value in pairs if value is not None])


@dataclass(frozen=True, slots=True)
class HubPage:
    """One page of a listing.

    Attributes:
        entries: what the Hub says about each model, as it came.
        following: query of the next page; None at the end.
        elsewhere: the address to which the link to the next page leads, where that is not this
            Hub's; nothing is asked for there.
    """

    entries: list[Any]
    following: str | None
    elsewhere: str | None = None


class HubBusyError(HubUnreachableError):
    """The Hub asks to come back later.

    Attributes:
        headers: of its answer, as far as they tell when.
    """

    def __init__(self, message: str, headers: Mapping[str, str]) -> None:
        super().__init__(message)
        self.headers = headers


class HubPages:
    """Fetches pages of a listing, at ``HF_ENDPOINT`` if it is set.

    Args:
        timeout: seconds that the Hub may take for one.
        retries: how often one is asked for again, and when.
        waiting: called before every wait.

    Attributes:
        endpoint: address of the Hub.

    Raises:
        ImportError: huggingface_hub is not installed.
    """

    def __init__(
        self,
        *,
        timeout: float = TIMEOUT,
        retries: Retries = RETRIES,
        waiting: Waiting | None = None,
    ) -> None:
        self.endpoint = str(hub_api().endpoint).rstrip("/")
        self._url = f"{self.endpoint}/api/models"
        self._timeout = timeout
        self._retries = retries
        self._waiting = waiting

    def page(self, query: str) -> HubPage:
        """Return the page of a query.

        Raises:
            HubError: the Hub cannot be reached, refuses, or sends what is no page.
        """
        loop = self._retries.retrying(self._passes, before_sleep=self._before_sleep)
        page: HubPage = loop(self._page, query)
        return page

    def _passes(self, error: BaseException) -> bool:
        """Tell whether a page may be had later, within the wait that is agreed to."""
        if not isinstance(error, HubUnreachableError) or isinstance(error, HubOfflineError):
            return False
        return (requested_wait(error) or 0.0) <= self._retries.longest_retry_after

    def _before_sleep(self, state: Any) -> None:
        if self._waiting is not None:
            seconds = state.next_action.sleep
            self._waiting(f"{state.outcome.exception()}; asking again in {seconds:.0f} s")

    def _page(self, query: str) -> HubPage:
        from huggingface_hub import get_session

        end = time.monotonic() + self._timeout
        with (
            hub_errors(timeout=self._timeout),
            get_session().stream(
                "GET",
                f"{self._url}?{query}",
                headers=_headers(),
                timeout=self._timeout,
                follow_redirects=False,
            ) as response,
        ):
            _check_status(response)
            data = self._read(response, end)
            link = response.links.get("next", {}).get("url")
        try:
            entries = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise HubError("the Hub's answer is not JSON") from error
        if not isinstance(entries, list):
            raise HubError(f"the Hub's answer is a JSON {type(entries).__name__}, not a list")
        return self._linked(entries, link)

    def _read(self, response: Any, end: float) -> bytes:
        packing = response.headers.get("content-encoding", "identity").lower()
        if packing not in ("identity", "gzip"):
            raise HubError(f"the Hub packs its answer as {packing[:40]!r}, which was not asked for")
        parts, length = [], 0
        for part in response.iter_bytes():
            length += len(part)
            if length > MOST_BYTES:
                raise HubError(f"the Hub's answer has more than {MOST_BYTES:,} bytes")
            if time.monotonic() > end:
                raise HubUnreachableError(f"the Hub did not send a page in {self._timeout:g} s")
            parts.append(part)
        return b"".join(parts)

    def _linked(self, entries: list[Any], link: str | None) -> HubPage:
        """Return a page with the query of the next one, which is all that its link may say."""
        if not link:
            return HubPage(entries, None)
        own = urlsplit(self._url)
        try:
            url = urljoin(self._url, link)
            parts = urlsplit(url)
            address = Address.of_url(url)
        except ValueError:
            return HubPage(entries, None, "an address that cannot be read")
        if address != Address.of_url(self._url) or parts.path != own.path:
            place = f"{address}{parts.path}" if address == Address.of_url(self._url) else address
            return HubPage(entries, None, str(place)[:200])
        query = parts.query
        if len(query) > _LONGEST_QUERY or not (query.isascii() and query.isprintable()):
            return HubPage(entries, None, "an address that cannot be read")
        return HubPage(entries, query)


def _hub_utils() -> Any:
    return importlib.import_module("huggingface_hub.utils")


def _headers() -> dict[str, str]:
    # Without other packings, a few bytes cannot stand for more than a thousand times as many.
    return {**_hub_utils().build_hf_headers(), "Accept-Encoding": "gzip"}


def _check_status(response: Any) -> None:
    status = int(response.status_code)
    if status == 200:
        return
    if status in RETRIED_STATUSES:
        headers = {"retry-after": response.headers.get("retry-after", "")}
        window = _hub_utils().parse_ratelimit_headers(response.headers)
        if not headers["retry-after"] and status == TOO_MANY_REQUESTS and window is not None:
            headers = {"retry-after": str(window.reset_in_seconds)}
        busy = "has had too many requests" if status == TOO_MANY_REQUESTS else "fails"
        seconds = requested_wait(HubBusyError("", headers))
        when = "" if seconds is None else f" and asks to wait {seconds:.0f} s"
        raise HubBusyError(f"the Hub {busy} (status {status}){when}", headers)
    if 300 <= status < 400:
        raise HubError(
            f"the Hub sends its listing elsewhere (status {status}), where it is not asked for; "
            "set HF_ENDPOINT to the Hub's own address"
        )
    if status in (401, 403):
        raise HubError(
            f"the Hub refuses its listing (status {status}); the token that you logged in with may "
            "have expired: log in again with `hf auth login`"
        )
    raise HubError(f"the Hub refuses this search (status {status})")
