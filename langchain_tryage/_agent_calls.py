"""One expert's attempt at an agent's model call, and its result inside other middleware."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from langchain.agents.middleware.types import ExtendedModelResponse, ModelRequest, ModelResponse
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import BaseChatModel
from langchain_core.runnables.config import ensure_config, var_child_runnable_config
from langgraph.errors import GraphBubbleUp
from langgraph.types import Command

from langchain_tryage._cache_markers import without_foreign_markers
from langchain_tryage._chat_experts import ChatExpert
from langchain_tryage._metadata import metadata, run_config
from langchain_tryage._rate_limits import in_turn
from langchain_tryage._tools import joined_tools
from tryage import Decision
from tryage.dispatch import describe_error

Response = ModelResponse[Any]


class FinalError(NamedTuple):
    """An error after which no other expert may be tried."""

    error: Exception


class OtherModelAnswer(NamedTuple):
    """An answer of another model, which inner middleware called instead of the expert."""

    response: Response
    reason: str


class FailedCall(NamedTuple):
    """A model call that no expert answered.

    Attributes:
        model: of its request.
        record: for the state; None where nothing was decided.
    """

    model: BaseChatModel
    record: dict[str, Any] | None

    @classmethod
    def of(cls, model: BaseChatModel, decision: Decision | None, error: Exception) -> FailedCall:
        """Return the record of a failed call."""
        if decision is None:
            return cls(model, None)
        tried = [attempt.to_dict() for attempt in getattr(error, "tried", ())]
        outcome = {"tried": tried, "answered_by": None}
        return cls(model, {**metadata(decision)["tryage"], **outcome})

    def answered_elsewhere(self, response: Response) -> ExtendedModelResponse[Any]:
        """Return another model's answer to the same call; in the state no expert answered."""
        command: Command[Any] = Command(update={"tryage": self.record})
        return ExtendedModelResponse(model_response=response, command=command)


class ModelAttempt:
    """One expert's turn at a model call: its request, and whether it began to answer."""

    def __init__(
        self, request: ModelRequest[Any], name: str, expert: ChatExpert, decision: Decision
    ) -> None:
        self._watcher = _Watcher(expert.model._serialized)
        self._name = name
        self._labels = expert.labels
        self._decision = decision
        request = without_foreign_markers(request, expert.model)
        self.request = _with_bound(request, expert.kwargs).override(model=in_turn(expert.model))

    @contextmanager
    def naming_run(self) -> Iterator[None]:
        """Name the expert in the model's run, which the agent opens without a config."""
        config = run_config(None, self._decision, self._name)
        labels = self._labels  # the model adds its own labels itself
        handlers = [self._watcher, *labels.handlers]
        config["callbacks"] = _with_handlers(config.get("callbacks"), handlers)
        config["tags"] = [*config["tags"], *labels.tags]
        config["metadata"] = {**config["metadata"], **labels.metadata}
        token = var_child_runnable_config.set(config)
        try:
            yield
        finally:
            var_child_runnable_config.reset(token)

    def ends(self, error: Exception) -> bool:
        """Return whether an error ends the call, so that no other expert is tried.

        It does if it is an interrupt of the graph, or if a reader has seen the first tokens.
        """
        return isinstance(error, GraphBubbleUp) or self._watcher.has_streamed

    def result(self, response: Response) -> Response | OtherModelAnswer:
        """Return the answer, as `OtherModelAnswer` if another model gave it."""
        watcher = self._watcher
        if watcher.answered or not watcher.another_answered:
            return response
        reason = "another model was called in its place"
        if watcher.error is not None:
            reason = f"{describe_error(watcher.error)}; another model answered"
        return OtherModelAnswer(response, reason)


def model_call() -> str | None:
    """Return LangGraph's name of the model call that this code runs in; None outside a graph."""
    configurable = ensure_config().get("configurable") or {}
    task: str | None = configurable.get("__pregel_task_id")
    return task


def _with_bound(request: ModelRequest[Any], bound: Mapping[str, Any]) -> ModelRequest[Any]:
    """Return a request with the arguments bound to its expert; the request's own win."""
    settings = {**bound, **request.model_settings}
    changed: dict[str, Any] = {"model_settings": settings}
    bound_tools, choice = settings.pop("tools", None), settings.pop("tool_choice", None)
    if bound_tools:
        changed["tools"] = joined_tools(bound_tools, request.tools)
    if choice is not None and request.tool_choice is None and not request.tools:
        changed["tool_choice"] = choice
    if request.response_format is not None:
        settings.pop("response_format", None)
    return request.override(**changed)


class _Watcher(BaseCallbackHandler):
    """Records the runs of models inside one model call of an agent.

    Args:
        expert: the serialized form of the expert, which identifies its own runs.

    Attributes:
        has_streamed: whether a token was streamed.
        answered: whether the expert answered.
        another_answered: whether another model did.
        error: what the expert raised last.
    """

    def __init__(self, expert: Mapping[str, Any]) -> None:
        self.has_streamed = self.answered = self.another_answered = False
        self.error: BaseException | None = None
        self._expert = expert
        self._own_runs: set[Any] = set()

    def on_chat_model_start(
        self, serialized: Mapping[str, Any], messages: Any, *, run_id: Any, **kwargs: Any
    ) -> None:
        """Record whether a run is the expert's."""
        if serialized is self._expert or serialized == self._expert:
            self._own_runs.add(run_id)

    def on_llm_new_token(self, *args: Any, **kwargs: Any) -> None:
        """Note that a token was streamed."""
        self.has_streamed = True

    def on_llm_end(self, response: Any, *, run_id: Any, **kwargs: Any) -> None:
        """Record whether the expert or another model answered."""
        if run_id in self._own_runs:
            self.answered = True
        else:
            self.another_answered = True

    def on_llm_error(self, error: BaseException, *, run_id: Any, **kwargs: Any) -> None:
        """Note what the expert raised."""
        if run_id in self._own_runs:
            self.error = error


def _with_handlers(callbacks: Any, handlers: Sequence[BaseCallbackHandler]) -> Any:
    if callbacks is None or isinstance(callbacks, list):
        return [*(callbacks or []), *handlers]
    manager = callbacks.copy()
    for handler in handlers:
        manager.add_handler(handler, inherit=True)
    return manager
