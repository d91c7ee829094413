"""`TryageFeedback`: a callback that scores what experts answer, or lets a user do it later."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, LLMResult

from langchain_tryage._metadata import TAG, RunRecord
from tryage import Router
from tryage.binding import check_options
from tryage.errors import FeedbackError


@dataclass(frozen=True, slots=True)
class _Call:
    """A prompt, the expert that is called with it, and the message that it answered with."""

    prompt: str = field(repr=False)
    expert: str
    message_id: str | None = None


class TryageFeedback(BaseCallbackHandler):
    """Records which expert answered which prompt, in every class here but the middleware.

    With a metric it scores each answer at once; `rate` takes the score of an answer that is judged
    later. Both go to the router's feedback file. Prompts that wait for a score are kept in memory
    only. An answer that calls tools, a structured object among them, is no text and is left out.

    Args:
        router: one whose feedback is on: `Router.with_feedback`.
        metric: ``(prompt, answer) -> score`` in [0, 1], None where it cannot tell.
        keep: answers that wait for `rate` at most; then the oldest is forgotten.

    Raises:
        FeedbackError: the router's feedback is off.
    """

    def __init__(
        self,
        router: Router,
        metric: Callable[[str, str], float | None] | None = None,
        *,
        keep: int = 1024,
    ) -> None:
        check_options({"keep": keep} if metric is None else {"keep": keep, "metric": metric})
        if router.feedback_file is None:
            raise FeedbackError("the router's feedback is off; turn it on by with_feedback")
        self._router = router
        self._metric = metric
        self._keep = keep
        self._open: dict[UUID, _Call] = {}
        self._answered: OrderedDict[str, _Call] = OrderedDict()
        self._lock = threading.Lock()

    def rate(self, answer: BaseMessage | UUID | str, score: float) -> None:
        """Score an answer, by its message, its message's id, or the id of the expert's run.

        Args:
            answer: which one; it can be scored once.
            score: in [0, 1], higher is better; True and False are 1 and 0.

        Raises:
            FeedbackError: no such answer waits, or the score is out of range.
        """
        key = str(answer.id if isinstance(answer, BaseMessage) else answer)
        with self._lock:
            runs = [r for r, call in self._answered.items() if key in (r, call.message_id)]
            # Removed before the score is written, so that two threads cannot both score it.
            calls = {run: self._answered.pop(run) for run in runs}
        if not calls:
            raise FeedbackError(f"no answer {key!r} waits for a score, of the last {self._keep}")
        call = calls[runs[-1]]
        try:
            self._router.feedback({"expert": call.expert}, score, prompt=call.prompt)
        except (FeedbackError, OSError):
            with self._lock:
                self._answered.update(calls)
            raise

    def on_chat_model_start(
        self,
        serialized: dict[str, Any],
        messages: list[list[BaseMessage]],
        *,
        run_id: UUID,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Record the prompt of an expert's call, unless a structure is asked for."""
        options = kwargs.get("options") or {}
        if not options.get("ls_structured_output_format"):
            self._begin(run_id, tags, metadata)

    def on_llm_start(
        self,
        serialized: dict[str, Any],
        prompts: list[str],
        *,
        run_id: UUID,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Record the prompt of an expert's call."""
        self._begin(run_id, tags, metadata)

    def on_chain_start(
        self,
        serialized: dict[str, Any],
        inputs: Any,
        *,
        run_id: UUID,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Record the input of an expert that is a chain."""
        self._begin(run_id, tags, metadata)

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **kwargs: Any) -> None:
        """Score an answer, or keep it until it is scored."""
        generation = response.generations[0][0]
        decision = (generation.generation_info or {}).get("tryage")
        if isinstance(generation, ChatGeneration):
            decision = generation.message.response_metadata.get("tryage", decision)
            self._end(generation.message, run_id, decision)
        else:
            self._end(generation.text, run_id, decision)

    def on_chain_end(self, outputs: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """Score the answer of an expert that is a chain, or keep it until it is scored."""
        self._end(outputs, run_id, None)

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """Drop a call that failed."""
        self._open.pop(run_id, None)

    def on_chain_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """Drop a call that failed."""
        self._open.pop(run_id, None)

    def _begin(
        self, run_id: UUID, tags: Sequence[str] | None, metadata: Mapping[str, Any] | None
    ) -> None:
        # Every run inside inherits the metadata; the tag is on the expert's own run alone.
        names = [tag.removeprefix(TAG) for tag in tags or () if tag.startswith(TAG)]
        record = (metadata or {}).get("tryage")
        if not names or not isinstance(record, RunRecord):
            return
        with self._lock:
            self._open[run_id] = _Call(record.text.get_secret_value(), names[-1])

    def _end(self, answer: Any, run_id: UUID, decision: Mapping[str, Any] | None) -> None:
        with self._lock:
            call = self._open.pop(run_id, None)
        text = _text(answer)
        if call is None or text is None:
            return
        if decision is not None and decision.get("answered_by"):
            call = replace(call, expert=decision["answered_by"])
        if self._metric is not None:
            score = self._metric(call.prompt, text)
            if score is not None:
                self._router.feedback({"expert": call.expert}, score, prompt=call.prompt)
                return
        if isinstance(answer, BaseMessage):
            call = replace(call, message_id=answer.id)
        with self._lock:
            self._answered[str(run_id)] = call
            while len(self._answered) > self._keep:
                self._answered.popitem(last=False)


def _text(answer: Any) -> str | None:
    """Return the text of an answer; None where it is none, such as a call of a tool."""
    if isinstance(answer, AIMessage) and (answer.tool_calls or answer.invalid_tool_calls):
        return None
    if isinstance(answer, BaseMessage):
        return str(answer.text)
    return answer if isinstance(answer, str) else None
