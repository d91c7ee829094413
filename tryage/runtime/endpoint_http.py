"""HTTP side of an endpoint: time-outs, key, connections, and errors that hide both."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from tryage.consent import NO_CONSENT, Address, Consent
from tryage.dispatch import Scope, hide_secrets
from tryage.dispatch.faults import REFUSING_STATUSES
from tryage.errors import ExpertError, TaskError, missing_extra
from tryage.experts import TEXT_GENERATION, Expert
from tryage.retries import RETRIED_STATUSES, Retries
from tryage.runtime.chat_protocol import ReplyError, error_text, refuses
from tryage.runtime.connections import async_pool, blocking_pool, web_address
from tryage.runtime.deadlines import (
    BoundError,
    Bounds,
    DeadlineError,
    GivenUpError,
    SizeError,
)

if TYPE_CHECKING:
    import httpcore
    import httpx

MAX_ERROR_BODY = 2**16
"""Bytes of an error's body that are read at most."""

_MAX_HEAD = 2**18
"""Bytes of the status line and the headers at most, provisional responses included."""

_MAX_REASON = 200

_HEADERS = (
    (b"Accept", b"*/*"),
    (b"Accept-Encoding", b"identity"),
    (b"Connection", b"keep-alive"),
    (b"Content-Type", b"application/json"),
    (b"User-Agent", b"tryage"),
)


@dataclass(frozen=True, slots=True)
class EndpointOptions:
    """Time-outs and retries of endpoints.

    Attributes:
        connect: seconds to establish a connection.
        read: seconds until a stream begins and between two of its events; for an answer in one
            piece, in total. Bytes and comments that complete no event do not count as one.
        total: seconds that one request may take in all, a stream too; the time that the reader of
            a stream takes is not part of it.
        retries: further attempts after a failed connection or a status such as 429 or 503
            (`tryage.retries.RETRIED_STATUSES`); a stream is not retried after its first piece.
        backoff: seconds before the first retry; doubled each time, and each wait is drawn at
            random between 0 and that, so that many clients do not return at once.
        longest: upper limit of a wait in seconds, also if the server asks for more.
        largest_answer: bytes of an answer in one piece, or of one event of a stream.
        largest_stream: bytes that a server may send for one streamed answer, all counted.
    """

    connect: float = 5.0
    read: float = 120.0
    total: float = 900.0
    retries: int = 2
    backoff: float = 0.5
    longest: float = 20.0
    largest_answer: int = 16 * 2**20
    largest_stream: int = 64 * 2**20

    def __post_init__(self) -> None:
        if not min(self.connect, self.read, self.total) > 0:
            raise ValueError(
                f"connect is {self.connect}, read is {self.read}, total is {self.total}; all are "
                "above 0 seconds"
            )
        if not min(self.largest_answer, self.largest_stream) > 0:
            raise ValueError(
                f"largest_answer is {self.largest_answer}, largest_stream is "
                f"{self.largest_stream}; both are above 0 bytes"
            )
        if not min(self.retries, self.backoff, self.longest) >= 0:
            raise ValueError(
                f"retries is {self.retries}, backoff is {self.backoff}, longest is {self.longest}; "
                "all are 0 or more"
            )

    @property
    def retry_policy(self) -> Retries:
        """The same retries as a policy."""
        return Retries(
            retries=self.retries,
            backoff=self.backoff,
            longest_backoff=self.longest,
            longest_retry_after=self.longest,
        )


def check_endpoint(expert: Expert, consent: Consent = NO_CONSENT) -> None:
    """Check that an endpoint could be called, without calling it.

    Raises:
        TaskError: its task is not text generation.
        ConsentError: a file names the key and where to send it, and the operator did not allow it.
        ExpertError: its key is not in the environment.
    """
    if expert.task != TEXT_GENERATION:
        raise TaskError(
            f"expert {expert.name!r}: an endpoint does {TEXT_GENERATION}, not {expert.task!r}"
        )
    consent.check_key(expert)
    variable = expert.endpoint.key_env if expert.endpoint else None
    if variable and not _key(expert):
        raise ExpertError(
            f"expert {expert.name!r}: its key is not in the environment; set {variable}"
        )


class CallError(Exception):
    """A failed call.

    Attributes:
        transient: whether a retry may succeed.
        timed_out: whether it ran into a time-out.
        refused: whether the server refused what it was sent.
        headers: of the response, as far as retries need them.
    """

    def __init__(
        self,
        reason: str,
        *,
        transient: bool = False,
        timed_out: bool = False,
        refused: bool = False,
        retry_after: str | None = None,
    ) -> None:
        super().__init__(reason)
        self.transient = transient
        self.timed_out = timed_out
        self.refused = refused
        self.headers = {"retry-after": retry_after}


class Response(NamedTuple):
    """A response while it arrives: status, headers with names in lower case, and its bytes."""

    status: int
    headers: Mapping[str, str]
    chunks: Iterator[bytes]


class AsyncResponse(NamedTuple):
    """`Response` for an event loop."""

    status: int
    headers: Mapping[str, str]
    chunks: AsyncIterator[bytes]


class EndpointHttp:
    """Sends chat requests of one expert.

    The key is read from the environment variable that the library names, at every request, and is
    never stored. Redirects are not followed, since they would carry the key along.

    Blocking requests share a pool of connections; each asynchronous one has a connection of its
    own, so that nothing outlives its event loop.
    """

    def __init__(
        self, expert: Expert, options: EndpointOptions, consent: Consent = NO_CONSENT
    ) -> None:
        self._expert = expert
        self._consent = consent
        self._options = options
        self._connections: httpcore.ConnectionPool | None = None
        self._disconnect: Callable[[], object] | None = None
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<EndpointHttp {self._expert.name!r}>"

    @property
    def connected(self) -> bool:
        """Whether a pool of connections is open."""
        return self._connections is not None

    def close(self) -> None:
        """Close the connections; the next request opens new ones."""
        with self._lock:
            self._connections = None
            if self._disconnect is not None:
                self._disconnect()

    def bounds(self, scope: Scope | None, *, stream: bool) -> Bounds:
        """Return the bounds of one request.

        Args:
            scope: of the dispatched call; None without one.
            stream: whether the answer comes in pieces.
        """
        options = self._options
        return Bounds(
            connect=options.connect,
            idle=options.read,
            total=options.total if stream else min(options.read, options.total),
            most=_MAX_HEAD,
            scope=scope,
        )

    @contextlib.contextmanager
    def post(self, body: dict[str, Any], bounds: Bounds) -> Iterator[Response]:
        """Yield the response to a request while it arrives.

        Args:
            body: what is sent, as JSON.
            bounds: on time and bytes; once the headers are there, they allow the answer's bytes.

        Raises:
            CallError: the request failed, in the block too.
        """
        with self._translated_errors():
            url, target = web_address(self._url())
            with self._pool(url).stream(
                "POST", target, **self._request(url, body, bounds)
            ) as response:
                headers = self._read_head(response, bounds, stream="stream" in body)
                yield Response(response.status, headers, response.iter_stream())

    @contextlib.asynccontextmanager
    async def apost(self, body: dict[str, Any], bounds: Bounds) -> AsyncIterator[AsyncResponse]:
        """Yield the response to a request while it arrives; as `post`."""
        with self._translated_errors():
            url, target = web_address(self._url())
            async with (
                async_pool(url) as pool,
                pool.stream("POST", target, **self._request(url, body, bounds)) as response,
            ):
                headers = self._read_head(response, bounds, stream="stream" in body)
                yield AsyncResponse(response.status, headers, response.aiter_stream())

    def drain(self, response: Response, bounds: Bounds) -> None:
        """Read what follows the end of an answer, so that the connection can be used again.

        A server that does not end there costs a moment and its connection, not the answer.
        """
        import httpcore

        errors = (BoundError, httpcore.NetworkError, httpcore.ProtocolError)
        with contextlib.suppress(*errors, httpcore.TimeoutException):
            bounds.linger()
            for _ in response.chunks:
                pass

    def check_status(self, response: Response | AsyncResponse, body: bytes) -> None:
        """Raise `CallError` unless the response is an answer."""
        if response.status == 200:
            return
        body = body if _is_plain(response.headers) else b""
        message = error_text(body)
        refused = response.status in REFUSING_STATUSES or refuses(body)
        raise CallError(
            f"status {response.status}" + (f": {self.masked(message)}" if message else ""),
            transient=response.status in RETRIED_STATUSES and not refused,
            refused=refused,
            retry_after=response.headers.get("retry-after"),
        )

    def masked(self, text: str) -> str:
        """Return the beginning of a text without the key, or anything else that looks like one."""
        key = _key(self._expert)
        return hide_secrets(text.replace(key, "***") if key else text)[:_MAX_REASON]

    @contextlib.contextmanager
    def _translated_errors(self) -> Iterator[None]:
        """Turn the client's errors into `CallError`s, which hold neither address nor key."""
        _check_installed(self._expert)
        import httpcore
        import httpx

        try:
            yield
        except (httpx.InvalidURL, httpcore.UnsupportedProtocol, UnicodeError):
            raise CallError("its url in the library is not a web address") from None
        except httpcore.ConnectTimeout:
            raise CallError("no connection in time", transient=True, timed_out=True) from None
        except GivenUpError:
            raise CallError("nobody waits for the answer any more", timed_out=True) from None
        except (DeadlineError, httpcore.TimeoutException):
            raise CallError("no answer in time", timed_out=True) from None
        except httpcore.ProtocolError:
            raise CallError("the connection was cut", transient=True) from None
        except (httpcore.NetworkError, httpcore.ProxyError) as error:
            raise CallError(f"no connection ({type(error).__name__})", transient=True) from None
        except SizeError as error:
            raise CallError(str(error)) from None
        except ReplyError as error:
            raise CallError(str(error), refused=error.refused) from None

    def _pool(self, url: httpx.URL) -> httpcore.ConnectionPool:
        with self._lock:
            if self._connections is None:
                self._connections = blocking_pool(url)
                self._disconnect = weakref.finalize(self, self._connections.close)
            return self._connections

    def _request(self, url: httpx.URL, body: dict[str, Any], bounds: Bounds) -> dict[str, Any]:
        text = json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        return {
            "headers": [*_HEADERS, *_authorization(self._expert, self._consent, url)],
            "content": text.encode("utf-8"),
            "extensions": bounds.extensions,
        }

    def _read_head(self, response: Any, bounds: Bounds, *, stream: bool) -> Mapping[str, str]:
        """Return the headers, their names in lower case, and let the body's bytes in."""
        headers = {
            name.lower().decode("latin-1"): value.decode("latin-1")
            for name, value in response.headers
        }
        if response.status != 200:
            bounds.allow(2 * MAX_ERROR_BODY)
        elif not _is_plain(headers):
            # Nothing unpacks it, so a small answer cannot become a large one.
            raise CallError("it sent an encoded answer, which was not asked for")
        elif stream:
            bounds.allow(self._options.largest_stream)
            bounds.progress()
        else:
            # A chunk of a byte takes six to send.
            bounds.allow(8 * self._options.largest_answer)
        return headers

    def _url(self) -> str:
        url = self._expert.endpoint.url if self._expert.endpoint else ""
        url = url.rstrip("/")
        return url if url.endswith("/chat/completions") else f"{url}/chat/completions"


def _is_plain(headers: Mapping[str, str]) -> bool:
    """Tell whether a body is sent as it is."""
    return headers.get("content-encoding", "").strip().lower() in ("", "identity")


def _check_installed(expert: Expert) -> None:
    try:
        import httpcore  # noqa: F401
        import httpx  # noqa: F401
    except ImportError as error:
        raise missing_extra("endpoints", f"calling expert {expert.name!r}") from error


def _key(expert: Expert) -> str | None:
    variable = expert.endpoint.key_env if expert.endpoint else None
    # Keys read from files often end with a newline, which no header may hold.
    return os.environ.get(variable, "").strip() if variable else None


def _authorization(expert: Expert, consent: Consent, url: httpx.URL) -> list[tuple[bytes, bytes]]:
    """Return the header that holds the key; nothing else holds it.

    Raises:
        CallError: no header can hold it.
    """
    check_endpoint(expert, consent)
    key = _key(expert)
    if not key:
        return []
    # What the client connects to decides, should it read the address otherwise.
    host = url.raw_host.decode("ascii").strip("[]")
    consent.check_key(expert, Address.of(url.scheme, host, url.port))
    if not (key.isascii() and key.isprintable()):
        raise CallError("its key holds a character that no header can hold")
    return [(b"Authorization", f"Bearer {key}".encode("ascii"))]
