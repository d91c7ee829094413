"""`TryageFeedback`: a callback that scores what experts answer, or lets a user do it later."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatGeneration, LLMResult

from langchain_tryage._inputs import TextSource
from langchain_tryage._metadata import TAG
from tryage import Router
from tryage.errors import FeedbackError, PromptError


class _Call(NamedTuple):
    """A prompt, and the expert that is called with it."""

    prompt: str
    expert: str


class TryageFeedback(BaseCallbackHandler):
    """Records which expert answered which prompt, in every class here but the middleware.

    With a metric it scores each answer at once; `rate` takes the score of an answer that is judged
    later. Both go to the router's feedback file. Prompts that wait for a score are kept in memory
    only.

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
            pending = self._answered.get(key)
            names = [name for name, other in self._answered.items() if other is pending]
            for name in names:
                # Removed before the score is written, so that two threads cannot both score it.
                del self._answered[name]
        if pending is None:
            raise FeedbackError(f"no answer {key!r} waits for a score, of the last {self._keep}")
        try:
            self._router.feedback({"expert": pending.expert}, score, prompt=pending.prompt)
        except (FeedbackError, OSError):
            with self._lock:
                self._answered.update(dict.fromkeys(names, pending))
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
        """Record the prompt of an expert's call."""
        self._begin(messages[0], run_id, tags, metadata)

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
        self._begin(prompts[0], run_id, tags, metadata)

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
        self._begin(inputs, run_id, tags, metadata)

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **kwargs: Any) -> None:
        """Score an answer, or keep it until it is scored."""
        generation = response.generations[0][0]
        decision = (generation.generation_info or {}).get("tryage")
        message_id = None
        if isinstance(generation, ChatGeneration):
            message_id = generation.message.id
            decision = generation.message.response_metadata.get("tryage", decision)
        self._end(generation.text, run_id, decision, message_id)

    def on_chain_end(self, outputs: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """Score the answer of an expert that is a chain, or keep it until it is scored."""
        is_message = isinstance(outputs, BaseMessage)
        text, message_id = (outputs.text, outputs.id) if is_message else (outputs, None)
        self._end(text, run_id, None, message_id)

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """Drop a call that failed."""
        self._open.pop(run_id, None)

    def on_chain_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """Drop a call that failed."""
        self._open.pop(run_id, None)

    def _begin(
        self,
        input: Any,
        run_id: UUID,
        tags: Sequence[str] | None,
        metadata: Mapping[str, Any] | None,
    ) -> None:
        # Every run inside inherits the metadata; the tag is on the expert's own run alone.
        names = [tag.removeprefix(TAG) for tag in tags or () if tag.startswith(TAG)]
        if not names or "tryage" not in (metadata or {}):
            return
        try:
            prompt = TextSource().read(input).text
        except PromptError:
            return  # an input without a text to learn from, such as a dict
        with self._lock:
            self._open[run_id] = _Call(prompt, names[-1])

    def _end(
        self, text: Any, run_id: UUID, decision: Mapping[str, Any] | None, message_id: str | None
    ) -> None:
        with self._lock:
            call = self._open.pop(run_id, None)
        if call is None or not isinstance(text, str):
            return
        if decision is not None and decision.get("answered_by"):
            call = call._replace(expert=decision["answered_by"])
        if self._metric is not None:
            score = self._metric(call.prompt, text)
            if score is not None:
                self._router.feedback({"expert": call.expert}, score, prompt=call.prompt)
                return
        with self._lock:
            for name in {str(run_id), *([message_id] if message_id else [])}:
                self._answered[name] = call
            while len(self._answered) > 2 * self._keep:
                self._answered.popitem(last=False)
