"""`TryageFeedback`: scores what experts answer, as it comes, through LlamaIndex's spans."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from typing import Any

from llama_index.core.base.llms.types import ChatResponse, CompletionResponse
from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index_instrumentation.span import BaseSpan
from llama_index_instrumentation.span_handlers import BaseSpanHandler

from llama_index_tryage._fields import RoutedLLM
from llama_index_tryage._metadata import last_answer
from llama_index_tryage._views import response_view
from tryage import Router
from tryage.binding import check_options
from tryage.dispatch import AnswerView, DispatchedDecision, describe_error
from tryage.errors import FeedbackError

_logger = logging.getLogger(__name__)


class TryageFeedback(BaseSpanHandler[BaseSpan]):
    """Scores each whole answer of `TryageLLM` and `TryageFunctionCallingLLM`.

    Those that a query engine asks for count too. Streams and answers that call tools are left out.

    Add it by ``get_dispatcher().add_span_handler(TryageFeedback(router, metric))``. The scores go
    to the router's feedback file. The metric runs before the answer is handed on, so it should be
    quick; an answer that a user scores later goes to `Router.feedback`, with the
    record in ``response.additional_kwargs["tryage"]``.

    Args:
        router: one whose feedback is on: `Router.with_feedback`.
        metric: ``(prompt, answer) -> score`` in [0, 1], None where it cannot tell. Where it
            raises, a warning is logged.

    Raises:
        FeedbackError: the router's feedback is off.
    """

    _router: Router = PrivateAttr()
    _metric: Callable[[str, str], float | None] = PrivateAttr()

    def __init__(self, router: Router, metric: Callable[[str, str], float | None]) -> None:
        check_options({"metric": metric})
        if router.feedback_file is None:
            raise FeedbackError("the router's feedback is off; turn it on by with_feedback")
        super().__init__()
        self._router = router
        self._metric = metric

    @classmethod
    def class_name(cls) -> str:
        """Return the name under which LlamaIndex knows this handler."""
        return "TryageFeedback"

    def new_span(self, *args: Any, **kwargs: Any) -> None:
        """Keep nothing of a call that begins."""

    def prepare_to_drop_span(self, *args: Any, **kwargs: Any) -> None:
        """Keep nothing of a call that failed."""

    def prepare_to_exit_span(
        self,
        id_: str,
        bound_args: inspect.BoundArguments,
        instance: Any | None = None,
        result: Any | None = None,
        **kwargs: Any,
    ) -> None:
        """Score the answer of a call, if it is one of an LLM that routes."""
        if not isinstance(instance, RoutedLLM):
            return
        if not isinstance(result, ChatResponse | CompletionResponse | str):
            return
        decision = last_answer()
        if decision is None:
            return
        view = AnswerView(result) if isinstance(result, str) else response_view(result)
        if view.calls_tools:
            return  # no text to score yet
        try:
            self._score(decision, str(view.answer))
        except Exception as error:  # noqa: BLE001 - the metric is the user's own, the answer stands
            _logger.warning("an answer was not scored: %s", describe_error(error))

    def _score(self, decision: DispatchedDecision, answer: str) -> None:
        score = self._metric(decision.prompt, answer)
        if score is not None:
            self._router.feedback(decision, score)
