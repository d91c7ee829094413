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
from tryage import Router
from tryage.errors import FeedbackError, PromptError

_TAG = "expert:"


class _Asked(NamedTuple):
    prompt: str
    expert: str


class TryageFeedback(BaseCallbackHandler):
    """Hears which expert answered which prompt, in every class of this package but the middleware.

    With a metric it scores each answer as it comes. `rate` takes the score of an answer that
    somebody judged later. Both go to the router's feedback file. Prompts wait in memory for their
    score, and nowhere else.

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
        self._open: dict[UUID, _Asked] = {}
        self._answered: OrderedDict[str, _Asked] = OrderedDict()
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
            asked = self._answered.get(key)
            names = [name for name, one in self._answered.items() if one is asked]
            for name in names:
                # Gone before it is written, so that of two threads one alone scores it.
                del self._answered[name]
        if asked is None:
            raise FeedbackError(f"no answer {key!r} waits for a score, of the last {self._keep}")
        try:
            self._router.feedback({"expert": asked.expert}, score, prompt=asked.prompt)
        except (FeedbackError, OSError):
            with self._lock:
                self._answered.update(dict.fromkeys(names, asked))
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
        """Remember what an expert is asked."""
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
        """Remember what an expert is asked."""
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
        """Remember what an expert that is a chain is asked."""
        self._begin(inputs, run_id, tags, metadata)

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **kwargs: Any) -> None:
        """Score an answer, or let it wait for its score."""
        generation = response.generations[0][0]
        told = (generation.generation_info or {}).get("tryage")
        message = None
        if isinstance(generation, ChatGeneration):
            message = generation.message
            told = message.response_metadata.get("tryage", told)
        self._end(generation.text, run_id, told, None if message is None else message.id)

    def on_chain_end(self, outputs: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """Score an answer of an expert that is a chain, or let it wait for its score."""
        told = outputs.text if isinstance(outputs, BaseMessage) else outputs
        name = outputs.id if isinstance(outputs, BaseMessage) else None
        self._end(told, run_id, None, name)

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """Forget a call that failed."""
        self._open.pop(run_id, None)

    def on_chain_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """Forget a call that failed."""
        self._open.pop(run_id, None)

    def _begin(
        self,
        given: Any,
        run_id: UUID,
        tags: Sequence[str] | None,
        metadata: Mapping[str, Any] | None,
    ) -> None:
        # The metadata go down to every run inside, the tag to the expert's own run alone.
        names = [tag.removeprefix(_TAG) for tag in tags or () if tag.startswith(_TAG)]
        if not names or "tryage" not in (metadata or {}):
            return
        try:
            prompt, _ = TextSource().read(given)
        except PromptError:
            return  # an input without a text that could be learned from, such as a dict
        with self._lock:
            self._open[run_id] = _Asked(prompt, names[-1])

    def _end(
        self, text: Any, run_id: UUID, told: Mapping[str, Any] | None, message_id: str | None
    ) -> None:
        with self._lock:
            asked = self._open.pop(run_id, None)
        if asked is None or not isinstance(text, str):
            return
        if told is not None and told.get("answered_by"):
            asked = asked._replace(expert=told["answered_by"])
        if self._metric is not None:
            score = self._metric(asked.prompt, text)
            if score is not None:
                self._router.feedback({"expert": asked.expert}, score, prompt=asked.prompt)
                return
        with self._lock:
            for name in {str(run_id), *([message_id] if message_id else [])}:
                self._answered[name] = asked
            while len(self._answered) > 2 * self._keep:
                self._answered.popitem(last=False)
