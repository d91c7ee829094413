"""Experts served elsewhere, behind an endpoint that speaks OpenAI's chat protocol."""

from __future__ import annotations

import contextlib
import functools
import logging
import time
from collections.abc import AsyncGenerator, Generator
from typing import TYPE_CHECKING, Any, ClassVar

from tryage.consent import NO_CONSENT, Consent
from tryage.dispatch import current_scope
from tryage.errors import ExpertError, ExpertTimeoutError, RefusedRequestError
from tryage.experts import TEXT_GENERATION, Expert
from tryage.runtime.answer import Answer
from tryage.runtime.chat_protocol import Reply, request_body
from tryage.runtime.endpoint_http import MAX_ERROR_BODY, CallError, EndpointHttp, EndpointOptions
from tryage.runtime.endpoint_streams import AsyncEndpointStream, EndpointStream
from tryage.runtime.inputs import Prompt, read_options

if TYPE_CHECKING:
    import tenacity

logger = logging.getLogger(__name__)


class EndpointPipeline:
    """An expert behind an OpenAI-compatible endpoint, with the methods of a local pipeline.

    Errors name the expert and the status, never the address or the key.

    Attributes:
        expert: the expert's record in the library.
        options: time-outs and retries.
        consent: which keys may go where.
    """

    task: ClassVar[str] = TEXT_GENERATION

    def __init__(
        self, expert: Expert, options: EndpointOptions, consent: Consent = NO_CONSENT
    ) -> None:
        self.expert = expert
        self.options = options
        self.consent = consent
        self._http = EndpointHttp(expert, options, consent)
        self._retries = options.retry_policy

    def __repr__(self) -> str:
        return f"<EndpointPipeline {self.expert.name!r}>"

    @property
    def loaded(self) -> bool:
        """Always True: there is nothing to load."""
        return True

    @property
    def connected(self) -> bool:
        """Whether connections are kept open for the next blocking call."""
        return self._http.connected

    def close(self) -> None:
        """Close the connections; the next call opens new ones."""
        self._http.close()

    def generate(self, prompt: Prompt, **options: Any) -> Answer:
        """Answer one prompt; options as those of a local pipeline, without `chat`.

        Raises:
            PromptError: the prompt is empty.
            RefusedRequestError: the server refused the request.
            ExpertError: the endpoint failed, or its response is not an answer.
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
        reply = Reply(whole=not stream, largest=self.options.largest_answer)
        return EndpointStream(reply, self._pieces(body, reply))

    def _astream(
        self, prompt: Prompt, options: dict[str, Any], *, stream: bool
    ) -> AsyncEndpointStream:
        body = self._body(prompt, options, stream=stream)
        reply = Reply(whole=not stream, largest=self.options.largest_answer)
        return AsyncEndpointStream(reply, self._apieces(body, reply))

    def _body(self, prompt: Prompt, options: dict[str, Any], *, stream: bool) -> dict[str, Any]:
        endpoint = self.expert.endpoint
        model = endpoint.model if endpoint is not None and endpoint.model else self.expert.model
        return request_body(model, prompt, read_options(**options), stream=stream)

    def _pieces(self, body: dict[str, Any], reply: Reply) -> Generator[str, None, None]:
        """Yield the pieces of an answer, retrying the request until the first one came."""
        failure, attempts = None, 0
        loop = self._retries.retrying(
            functools.partial(_may_retry, reply), sleep=self._sleep, **self._retry_hooks(reply)
        )
        try:
            for attempt in loop:
                attempts = attempt.retry_state.attempt_number
                with attempt:
                    yield from self._attempt(body, reply)
        except CallError as error:
            failure = error
        if failure is not None:
            # Outside of `except`: the client's own error holds the request, and so the key.
            raise self._error(failure, attempts, reply)

    def _attempt(self, body: dict[str, Any], reply: Reply) -> Generator[str, None, None]:
        bounds = self._http.bounds(current_scope(), stream=not reply.whole)
        with self._http.post(body, bounds) as response:
            error_body = bytearray()
            for chunk in response.chunks:
                if response.status == 200:
                    events = reply.events
                    yield from reply.read(chunk)
                    if reply.events > events:
                        bounds.progress()
                else:
                    error_body += chunk
                    if len(error_body) > MAX_ERROR_BODY:
                        break
                if reply.done:
                    self._http.drain(response, bounds)
                    break
            self._http.check_status(response, bytes(error_body))
            yield from reply.end()

    async def _apieces(self, body: dict[str, Any], reply: Reply) -> AsyncGenerator[str, None]:
        failure, attempts = None, 0
        loop = self._retries.async_retrying(
            functools.partial(_may_retry, reply), **self._retry_hooks(reply)
        )
        try:
            async for attempt in loop:
                attempts = attempt.retry_state.attempt_number
                with attempt:
                    async with contextlib.aclosing(self._aattempt(body, reply)) as pieces:
                        async for piece in pieces:
                            yield piece
        except CallError as error:
            failure = error
        if failure is not None:
            raise self._error(failure, attempts, reply)

    async def _aattempt(self, body: dict[str, Any], reply: Reply) -> AsyncGenerator[str, None]:
        bounds = self._http.bounds(None, stream=not reply.whole)
        async with self._http.apost(body, bounds) as response:
            error_body = bytearray()
            async for chunk in response.chunks:
                if response.status == 200:
                    events = reply.events
                    for piece in reply.read(chunk):
                        yield piece
                    if reply.events > events:
                        bounds.progress()
                else:
                    error_body += chunk
                    if len(error_body) > MAX_ERROR_BODY:
                        break
                if reply.done:
                    break
            self._http.check_status(response, bytes(error_body))
            for piece in reply.end():
                yield piece

    def _retry_hooks(self, reply: Reply) -> dict[str, Any]:
        def before_sleep(state: tenacity.RetryCallState) -> None:
            failure = None if state.outcome is None else state.outcome.exception()
            logger.info("%s; try %d follows", self._failed(failure), state.attempt_number + 1)
            reply.clear()

        return {"stop": _no_time_left, "before_sleep": before_sleep}

    def _sleep(self, seconds: float) -> None:
        scope = current_scope()
        if scope is None:
            time.sleep(seconds)
        elif scope.given_up.wait(seconds):
            raise ExpertTimeoutError(f"expert {self.expert.name!r}: nobody waits for it any more")

    def _failed(self, failure: BaseException | None) -> str:
        reason = self._http.masked(str(failure))
        return f"expert {self.expert.name!r}: its endpoint failed: {reason}"

    def _error(self, failure: CallError, attempts: int, reply: Reply) -> ExpertError:
        """Return what the caller sees of the last failure."""
        message = self._failed(failure)
        if _may_retry(reply, failure) and attempts <= self._retries.retries:
            return ExpertError(f"{message} (no time left for another try)")
        if attempts > 1:
            message += f" (after {attempts} tries)"
        if failure.timed_out:
            return ExpertTimeoutError(message)
        return RefusedRequestError(message) if failure.refused else ExpertError(message)


def _may_retry(reply: Reply, error: BaseException) -> bool:
    """Whether to try again: the failure may pass, and no text has gone out yet."""
    return isinstance(error, CallError) and error.transient and not reply.begun


def _no_time_left(state: tenacity.RetryCallState) -> bool:
    """Whether the next wait would end after the caller's deadline."""
    scope = current_scope()
    return scope is not None and state.upcoming_sleep >= scope.left
