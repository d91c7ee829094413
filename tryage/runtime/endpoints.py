"""Experts that are served elsewhere, behind an endpoint that speaks OpenAI's chat protocol."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import logging
import os
import random
import ssl
import threading
import time
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, ClassVar

from tryage.dispatch import current_scope, hide_secrets
from tryage.errors import ExpertError, ExpertTimeoutError, TaskError, missing_extra
from tryage.experts import TEXT_GENERATION, Expert
from tryage.runtime.answer import Answer
from tryage.runtime.chat_protocol import Reply, ReplyError, error_text, request_body
from tryage.runtime.inputs import Prompt, read_options

if TYPE_CHECKING:
    import httpx

logger = logging.getLogger(__name__)

_RETRIED = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
"""Statuses of a server that may do better a moment later."""

_LONGEST_REASON = 200
_LONGEST_ERROR = 2**16
"""Characters of an error's body that are read at most."""

_LOCAL = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class EndpointOptions:
    """Time-outs and retries of endpoints.

    Attributes:
        connect: seconds until a connection stands.
        read: seconds between two pieces of an answer; for an answer in one piece, until it comes.
        retries: further tries after a connection that failed or a status such as 429 or 503; a
            stream is not tried again once its first piece is out.
        backoff: seconds before the first retry; doubled each time, and each wait is drawn at
            random between 0 and that, so that many clients do not return at once.
        longest: seconds that a wait takes at most, also where the server asks for more.
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
        least = min(self.retries, self.backoff, self.longest)
        if not least >= 0:
            raise ValueError(
                f"retries is {self.retries}, backoff is {self.backoff}, longest is {self.longest}; "
                "all are 0 or more"
            )

    def wait(self, attempt: int, asked: str | None) -> float:
        """Return the seconds to wait before retry number `attempt`, counted from 0.

        Args:
            attempt: which retry.
            asked: the server's Retry-After header: seconds, or a date.
        """
        drawn = random.uniform(0, min(self.longest, self.backoff * 2**attempt))
        return min(self.longest, max(drawn, _seconds(asked or "")))


def _seconds(asked: str) -> float:
    """Return the seconds that a Retry-After header asks for; 0 where it makes no sense."""
    if asked.strip().isdecimal():
        return float(asked)
    try:
        return parsedate_to_datetime(asked).timestamp() - time.time()
    except (ValueError, OverflowError):
        return 0.0


def check_endpoint(expert: Expert) -> None:
    """Look whether an endpoint could be called, without calling it.

    Raises:
        TaskError: its task is not text generation.
        ExpertError: its key is not in the environment.
    """
    if expert.task != TEXT_GENERATION:
        raise TaskError(
            f"expert {expert.name!r}: an endpoint does {TEXT_GENERATION}, not {expert.task!r}"
        )
    named = expert.endpoint.key_env if expert.endpoint else None
    if named and not _key(expert):
        raise ExpertError(f"expert {expert.name!r}: its key is not in the environment; set {named}")


class _Failure(Exception):
    """A call that failed; says whether another try may do better, and when."""

    def __init__(
        self, reason: str, *, again: bool = False, slow: bool = False, after: str | None = None
    ) -> None:
        super().__init__(reason)
        self.again = again
        self.slow = slow
        self.after = after


class EndpointPipeline:
    """An expert behind an OpenAI-compatible endpoint, with the methods of a local pipeline.

    The key is read from the environment variable that the library names, at every call, and is
    kept nowhere. Redirects are not followed, since they would carry the key along. Errors name
    the expert and the status, never the address or the key.

    Blocking calls share a pool of connections; each asynchronous call has a connection of its
    own, so that nothing outlives its event loop.

    Attributes:
        expert: the expert's record in the library.
        options: time-outs and retries.
    """

    task: ClassVar[str] = TEXT_GENERATION

    def __init__(self, expert: Expert, options: EndpointOptions) -> None:
        self.expert = expert
        self.options = options
        self._client: httpx.Client | None = None
        self._disconnect: Callable[[], object] | None = None
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<EndpointPipeline {self.expert.name!r}>"

    @property
    def loaded(self) -> bool:
        """Whether calls can be made at once, which is always so."""
        return True

    def close(self) -> None:
        """Close the connections; the next call opens new ones."""
        with self._lock:
            self._client = None
            if self._disconnect is not None:
                self._disconnect()

    def generate(self, prompt: Prompt, **options: Any) -> Answer:
        """Answer one prompt; options as those of a local pipeline, without `chat`.

        Raises:
            PromptError: the prompt is empty.
            ExpertError: the endpoint failed, or what it sent is no answer.
            ExpertTimeoutError: it did not answer in time.
        """
        with contextlib.closing(self._stream(prompt, options, stream=False)) as stream:
            for _ in stream:
                pass
        return stream.whole()

    async def agenerate(self, prompt: Prompt, **options: Any) -> Answer:
        """Answer one prompt; cancelling the task closes the connection."""
        async with contextlib.aclosing(self._astream(prompt, options, stream=False)) as stream:
            async for _ in stream:
                pass
        return stream.whole()

    def stream(self, prompt: Prompt, **options: Any) -> EndpointStream:
        """Return the answer's pieces as they come; closing the stream closes the connection."""
        return self._stream(prompt, options, stream=True)

    def astream(self, prompt: Prompt, **options: Any) -> AsyncEndpointStream:
        """Return the answer's pieces as they come, for ``async for``."""
        return self._astream(prompt, options, stream=True)

    run, arun = generate, agenerate

    def _stream(self, prompt: Prompt, options: dict[str, Any], *, stream: bool) -> EndpointStream:
        body = self._body(prompt, options, stream=stream)
        reply = Reply(whole=not stream)
        return EndpointStream(reply, self._pieces(body, reply))

    def _astream(
        self, prompt: Prompt, options: dict[str, Any], *, stream: bool
    ) -> AsyncEndpointStream:
        body = self._body(prompt, options, stream=stream)
        reply = Reply(whole=not stream)
        return AsyncEndpointStream(reply, self._apieces(body, reply))

    def _body(self, prompt: Prompt, options: dict[str, Any], *, stream: bool) -> dict[str, Any]:
        endpoint = self.expert.endpoint
        model = endpoint.model if endpoint is not None and endpoint.model else self.expert.model
        return request_body(model, prompt, read_options(**options), stream=stream)

    def _pieces(self, body: dict[str, Any], reply: Reply) -> Generator[str, None, None]:
        for attempt in itertools.count():
            failure = None
            try:
                yield from self._tried(body, reply)
            except _Failure as error:
                failure = error
            if failure is None:
                return
            # Outside of `except`: the client's own error holds the request, and so the key.
            self._sleep(self._pause(failure, attempt, reply))

    def _tried(self, body: dict[str, Any], reply: Reply) -> Generator[str, None, None]:
        scope = current_scope()
        with self._failures():
            client = self._connected()
            timeout = self._timeout(None if scope is None else scope.left)
            with client.stream(
                "POST", self._url(), json=body, timeout=timeout, auth=_auth(self.expert)
            ) as response:
                told = ""
                for chunk in response.iter_text():
                    if scope is not None and scope.given_up.is_set():
                        raise _Failure("nobody waits for the answer any more")
                    if response.status_code == 200:
                        self._check_time(reply)
                        yield from reply.read(chunk)
                    elif len(told := told + chunk) > _LONGEST_ERROR:
                        break
                self._check_status(response, told)
            yield from reply.read("\n")
            reply.end()

    async def _apieces(self, body: dict[str, Any], reply: Reply) -> AsyncGenerator[str, None]:
        for attempt in itertools.count():
            failure = None
            try:
                async with contextlib.aclosing(self._atried(body, reply)) as pieces:
                    async for piece in pieces:
                        yield piece
            except _Failure as error:
                failure = error
            if failure is None:
                return
            await asyncio.sleep(self._pause(failure, attempt, reply))

    async def _atried(self, body: dict[str, Any], reply: Reply) -> AsyncGenerator[str, None]:
        httpx = _httpx(self.expert)
        with self._failures():
            async with (
                httpx.AsyncClient(verify=_trusted(), trust_env=not self._is_local()) as client,
                client.stream(
                    "POST",
                    self._url(),
                    json=body,
                    timeout=self._timeout(None),
                    auth=_auth(self.expert),
                ) as response,
            ):
                told = ""
                async for chunk in response.aiter_text():
                    if response.status_code == 200:
                        self._check_time(reply)
                        for piece in reply.read(chunk):
                            yield piece
                    elif len(told := told + chunk) > _LONGEST_ERROR:
                        break
                self._check_status(response, told)
            for piece in reply.read("\n"):
                yield piece
            reply.end()

    @contextlib.contextmanager
    def _failures(self) -> Iterator[None]:
        """Turn the client's errors into failures that say what happened, not to whom."""
        httpx = _httpx(self.expert)
        try:
            yield
        except (httpx.InvalidURL, httpx.UnsupportedProtocol):
            raise _Failure("its url in the library is not a web address") from None
        except httpx.ConnectTimeout:
            raise _Failure("no connection in time", again=True, slow=True) from None
        except httpx.TimeoutException:
            raise _Failure("no answer in time", slow=True) from None
        except httpx.RemoteProtocolError:
            raise _Failure("the connection was cut", again=True) from None
        except httpx.HTTPError as error:
            raise _Failure(f"no connection ({type(error).__name__})", again=True) from None
        except ReplyError as error:
            raise _Failure(str(error)) from None

    def _check_time(self, reply: Reply) -> None:
        """End an answer in one piece that comes byte by byte, without end."""
        if reply.whole and reply.seconds > self.options.read:
            raise _Failure("no answer in time", slow=True)

    def _check_status(self, response: httpx.Response, body: str) -> None:
        if response.status_code == 200:
            return
        told = error_text(body)
        raise _Failure(
            f"status {response.status_code}" + (f": {self._masked(told)}" if told else ""),
            again=response.status_code in _RETRIED,
            after=response.headers.get("retry-after"),
        )

    def _masked(self, text: str) -> str:
        key = _key(self.expert)
        return hide_secrets(text.replace(key, "***") if key else text)[:_LONGEST_REASON]

    def _pause(self, failure: _Failure, attempt: int, reply: Reply) -> float:
        """Return the seconds until the next try.

        Raises:
            ExpertError: there is no next try.
        """
        told = f"expert {self.expert.name!r}: its endpoint failed: {self._masked(str(failure))}"
        if reply.text or not failure.again or attempt >= self.options.retries:
            tries = f" (after {attempt + 1} tries)" if attempt else ""
            raise (ExpertTimeoutError if failure.slow else ExpertError)(told + tries)
        seconds = self.options.wait(attempt, failure.after)
        scope = current_scope()
        if scope is not None and seconds >= scope.left:
            raise ExpertError(f"{told} (no time left for another try)")
        reply.clear()
        logger.info("%s; try %d follows", told, attempt + 2)
        return seconds

    def _sleep(self, seconds: float) -> None:
        scope = current_scope()
        if scope is None:
            time.sleep(seconds)
        elif scope.given_up.wait(seconds):
            raise ExpertTimeoutError(f"expert {self.expert.name!r}: nobody waits for it any more")

    def _connected(self) -> httpx.Client:
        httpx = _httpx(self.expert)
        with self._lock:
            if self._client is None:
                self._client = httpx.Client(verify=_trusted(), trust_env=not self._is_local())
                self._disconnect = weakref.finalize(self, self._client.close)
            return self._client

    def _timeout(self, left: float | None) -> httpx.Timeout:
        client = _httpx(self.expert)
        options = self.options
        read = options.read if left is None else max(0.001, min(options.read, left))
        timeout: httpx.Timeout = client.Timeout(read, connect=min(options.connect, read))
        return timeout

    def _url(self) -> str:
        url = self.expert.endpoint.url if self.expert.endpoint else ""
        url = url.rstrip("/")
        return url if url.endswith("/chat/completions") else f"{url}/chat/completions"

    def _is_local(self) -> bool:
        from urllib.parse import urlsplit

        try:
            # No proxy stands between a machine and itself.
            return urlsplit(self._url()).hostname in _LOCAL
        except ValueError:
            return False


class EndpointStream(Iterator[str]):
    """Pieces of an answer as they arrive; closing it closes the connection.

    Nothing is sent before the first piece is asked for. Joined, the pieces are `answer.text`.

    Attributes:
        answer: the whole answer with its counts, once the last piece was read; else None.
    """

    def __init__(self, reply: Reply, pieces: Generator[str, None, None]) -> None:
        self._reply = reply
        self._pieces = pieces
        self.answer: Answer | None = None

    def __next__(self) -> str:
        try:
            return next(self._pieces)
        except StopIteration:
            if self._reply.done:
                self.answer = self._reply.answer()
            raise

    def whole(self) -> Answer:
        """Return the answer, once the last piece was read."""
        return self._reply.answer()

    def close(self) -> None:
        """End the answer and its connection."""
        self._pieces.close()

    def __enter__(self) -> EndpointStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncEndpointStream(AsyncIterator[str]):
    """`EndpointStream` for an event loop.

    Attributes:
        answer: the whole answer with its counts, once the last piece was read; else None.
    """

    def __init__(self, reply: Reply, pieces: AsyncGenerator[str, None]) -> None:
        self._reply = reply
        self._pieces = pieces
        self.answer: Answer | None = None

    def __aiter__(self) -> AsyncEndpointStream:
        return self

    async def __anext__(self) -> str:
        try:
            return await anext(self._pieces)
        except StopAsyncIteration:
            if self._reply.done:
                self.answer = self._reply.answer()
            raise

    def whole(self) -> Answer:
        """Return the answer, once the last piece was read."""
        return self._reply.answer()

    async def aclose(self) -> None:
        """End the answer and its connection."""
        await self._pieces.aclose()

    async def __aenter__(self) -> AsyncEndpointStream:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


def _httpx(expert: Expert) -> Any:
    try:
        import httpx
    except ImportError as error:
        raise missing_extra("endpoints", f"calling expert {expert.name!r}") from error
    return httpx


@functools.cache
def _trusted() -> ssl.SSLContext:
    # Reading the certificates takes longer than a call; all clients share them.
    import httpx

    return httpx.create_ssl_context()


def _key(expert: Expert) -> str | None:
    named = expert.endpoint.key_env if expert.endpoint else None
    # Keys that are read off files often end with a line's end, which no header may hold.
    return os.environ.get(named, "").strip() if named else None


def _auth(expert: Expert) -> Any:
    """Return what puts the key on a request as it is sent, so that nothing else holds it."""
    check_endpoint(expert)

    def sign(request: Any) -> Any:
        if key := _key(expert):
            request.headers["Authorization"] = f"Bearer {key}"
        return request

    return sign
