"""HTTP side of an endpoint: time-outs, key, connections, and errors that hide both."""

from __future__ import annotations

import contextlib
import functools
import os
import ssl
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tryage.consent import LOCAL_HOSTS, NO_CONSENT, Address, Consent
from tryage.dispatch import hide_secrets
from tryage.dispatch.faults import REFUSING_STATUSES
from tryage.errors import ExpertError, TaskError, missing_extra
from tryage.experts import TEXT_GENERATION, Expert
from tryage.retries import RETRIED_STATUSES, Retries
from tryage.runtime.chat_protocol import ReplyError, error_text, refuses

if TYPE_CHECKING:
    import httpx

MAX_ERROR_BODY = 2**16
"""Characters of an error's body that are read at most."""

_MAX_REASON = 200


@dataclass(frozen=True, slots=True)
class EndpointOptions:
    """Time-outs and retries of endpoints.

    Attributes:
        connect: seconds to establish a connection.
        read: seconds between two pieces of an answer; for an answer in one piece, in total.
        retries: further attempts after a failed connection or a status such as 429 or 503
            (`tryage.retries.RETRIED_STATUSES`); a stream is not retried after its first piece.
        backoff: seconds before the first retry; doubled each time, and each wait is drawn at
            random between 0 and that, so that many clients do not return at once.
        longest: upper limit of a wait in seconds, also if the server asks for more.
    """

    connect: float = 5.0
    read: float = 120.0
    retries: int = 2
    backoff: float = 0.5
    longest: float = 20.0

    def __post_init__(self) -> None:
        if not (self.connect > 0 and self.read > 0):
            raise ValueError(
                f"connect is {self.connect}, read is {self.read}; both are above 0 seconds"
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
        self._client: httpx.Client | None = None
        self._disconnect: Callable[[], object] | None = None
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<EndpointHttp {self._expert.name!r}>"

    @property
    def connected(self) -> bool:
        """Whether a pool of connections is open."""
        return self._client is not None

    def close(self) -> None:
        """Close the connections; the next request opens new ones."""
        with self._lock:
            self._client = None
            if self._disconnect is not None:
                self._disconnect()

    @contextlib.contextmanager
    def post(self, body: dict[str, Any], time_left: float | None) -> Iterator[httpx.Response]:
        """Yield the response to a request while it arrives.

        Args:
            body: what is sent, as JSON.
            time_left: seconds until the caller's deadline; None without one.

        Raises:
            CallError: the request failed, in the block too.
        """
        with self._translated_errors():
            client = self._pool()
            with client.stream("POST", self._url(), **self._request(body, time_left)) as response:
                yield response

    @contextlib.asynccontextmanager
    async def apost(self, body: dict[str, Any]) -> AsyncIterator[httpx.Response]:
        """Yield the response to a request while it arrives; errors as those of `post`."""
        httpx = _httpx(self._expert)
        with self._translated_errors():
            async with (
                httpx.AsyncClient(**self._client_options()) as client,
                client.stream("POST", self._url(), **self._request(body, None)) as response,
            ):
                yield response

    def check_status(self, response: httpx.Response, body: str) -> None:
        """Raise `CallError` unless the response is an answer."""
        if response.status_code == 200:
            return
        message = error_text(body)
        refused = response.status_code in REFUSING_STATUSES or refuses(body)
        raise CallError(
            f"status {response.status_code}" + (f": {self.masked(message)}" if message else ""),
            transient=response.status_code in RETRIED_STATUSES and not refused,
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
        httpx = _httpx(self._expert)
        try:
            yield
        except (httpx.InvalidURL, httpx.UnsupportedProtocol):
            raise CallError("its url in the library is not a web address") from None
        except httpx.ConnectTimeout:
            raise CallError("no connection in time", transient=True, timed_out=True) from None
        except httpx.TimeoutException:
            raise CallError("no answer in time", timed_out=True) from None
        except httpx.RemoteProtocolError:
            raise CallError("the connection was cut", transient=True) from None
        except httpx.HTTPError as error:
            raise CallError(f"no connection ({type(error).__name__})", transient=True) from None
        except ReplyError as error:
            raise CallError(str(error), refused=error.refused) from None

    def _pool(self) -> httpx.Client:
        httpx = _httpx(self._expert)
        with self._lock:
            if self._client is None:
                self._client = httpx.Client(**self._client_options())
                self._disconnect = weakref.finalize(self, self._client.close)
            return self._client

    def _client_options(self) -> dict[str, Any]:
        return {"verify": _ssl_context(), "trust_env": not self._is_local()}

    def _request(self, body: dict[str, Any], time_left: float | None) -> dict[str, Any]:
        read = self._options.read
        if time_left is not None:
            read = max(0.001, min(read, time_left))
        connect = min(self._options.connect, read)
        timeout = _httpx(self._expert).Timeout(read, connect=connect)
        return {"json": body, "timeout": timeout, "auth": _auth(self._expert, self._consent)}

    def _url(self) -> str:
        url = self._expert.endpoint.url if self._expert.endpoint else ""
        url = url.rstrip("/")
        return url if url.endswith("/chat/completions") else f"{url}/chat/completions"

    def _is_local(self) -> bool:
        try:
            # No proxy stands between a machine and itself.
            return urlsplit(self._url()).hostname in LOCAL_HOSTS
        except ValueError:
            return False


def _httpx(expert: Expert) -> Any:
    try:
        import httpx
    except ImportError as error:
        raise missing_extra("endpoints", f"calling expert {expert.name!r}") from error
    return httpx


@functools.cache
def _ssl_context() -> ssl.SSLContext:
    # Reading the certificates takes longer than a call; all clients share them.
    import httpx

    return httpx.create_ssl_context()


def _key(expert: Expert) -> str | None:
    variable = expert.endpoint.key_env if expert.endpoint else None
    # Keys read from files often end with a newline, which no header may hold.
    return os.environ.get(variable, "").strip() if variable else None


def _auth(expert: Expert, consent: Consent) -> Any:
    """Return a function that adds the key to a request as it is sent; nothing else holds it."""
    check_endpoint(expert, consent)

    def sign(request: Any) -> Any:
        if key := _key(expert):
            url = request.url
            # What the client connects to decides, should it read the address otherwise.
            host = url.raw_host.decode("ascii").strip("[]")
            consent.check_key(expert, Address.of(url.scheme, host, url.port))
            request.headers["Authorization"] = f"Bearer {key}"
        return request

    return sign
