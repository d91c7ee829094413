"""`TryageMiddleware`: chooses the model of a LangChain agent, and the next one if it fails.

With `_cache_markers` the only module here that needs `langchain` itself.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, NotRequired, Unpack

from langchain.agents.middleware.types import (
    AgentMiddleware,
    AgentState,
    ExtendedModelResponse,
    ModelRequest,
    ModelResponse,
    OmitFromInput,
)
from langchain.agents.structured_output import AutoStrategy, ToolStrategy
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.runnables.config import var_child_runnable_config
from langgraph.errors import GraphBubbleUp
from langgraph.types import Command

from langchain_tryage._cache_markers import without_foreign_markers
from langchain_tryage._chat_experts import ChatExpert, chat_pipeline
from langchain_tryage._inputs import TextFrom, TextSource
from langchain_tryage._metadata import annotated_message, metadata, run_config
from langchain_tryage._plans import Planner, Request, call_goals, stay_with
from langchain_tryage._tools import Needs, NeutralTool, joined_tools
from langchain_tryage._views import message_view
from tryage import Decision, Router
from tryage.binding import (
    LAST_MESSAGE,
    CallOptions,
    Views,
    bind,
    check_arguments,
    check_flags_from,
    each_expert,
    off_loop,
)
from tryage.dispatch import AnswerView, DispatchedDecision

Choose = Literal["run", "call"]
Response = ModelResponse[Any]


class TryageState(AgentState[Any]):
    """The agent's state, with the decision that its last model call followed."""

    tryage: NotRequired[Annotated[dict[str, Any] | None, OmitFromInput]]


class TryageMiddleware(AgentMiddleware[TryageState, Any, Any]):
    """Sends an agent's model calls to the expert that a router chooses; if it fails, to the next.

    One expert serves a whole agent run by default, which keeps its vendor's prefix cache warm and
    its tool calls consistent. The state's ``tryage`` and every answer's
    ``response_metadata["tryage"]`` hold the decision, the model's run the tag ``expert:<name>``.

    Args:
        router: a router, a router folder or the name of a bundled router.
        experts: expert name → chat model, one with bound arguments, or a ``"provider:model"``
            string; None runs the library's own Hugging Face pipelines.
        text_from: which messages are routed, as in `ChatTryage`.
        choose: ``"run"`` decides once per agent run, ``"call"`` before every model call.
        **options: those of `tryage.binding.CallOptions`;
            ``config["configurable"]["tryage_goals"]`` adds goals of one run.
    """

    state_schema = TryageState

    def __init__(
        self,
        router: Router | str | Path,
        experts: Mapping[str, Any] | None = None,
        *,
        text_from: TextFrom = LAST_MESSAGE,
        choose: Choose = "run",
        **options: Unpack[CallOptions],
    ) -> None:
        super().__init__()
        if choose not in ("run", "call"):
            raise ValueError(f"choose is {choose!r}; it is 'run' or 'call'")
        check_arguments(type(self).__name__, options, CallOptions.__annotations__)
        flags_from = options.get("flags_from")
        check_flags_from(flags_from, "messages have")
        self._source = TextSource(flags_from=flags_from, text_from=text_from)
        self._choose = choose
        self._binding = bind(
            router, each_expert(experts, ChatExpert), chat_pipeline, options, _VIEWS
        )

    def load(self) -> Router:
        """Load the router now instead of at first use."""
        return self._binding.load()

    def before_agent(self, state: TryageState, runtime: Any) -> dict[str, Any] | None:
        """Drop the last run's decision, which a checkpointer kept."""
        return {"tryage": None} if state.get("tryage") else None

    async def abefore_agent(self, state: TryageState, runtime: Any) -> dict[str, Any] | None:
        """Drop the last run's decision, which a checkpointer kept."""
        return self.before_agent(state, runtime)

    def wrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], Response]
    ) -> ExtendedModelResponse[Any]:
        """Call the chosen expert in place of the agent's own model."""
        request, decision = self._decide(request)

        def call(name: str, expert: ChatExpert) -> _Result:
            attempt = _Attempt(request, name, expert, decision)
            try:
                with attempt.named():
                    return handler(attempt.request)
            except Exception as error:
                if not attempt.ends(error):
                    raise
                return _Final(error)

        return _response(*self._binding.dispatch(decision, call))

    async def awrap_model_call(
        self,
        request: ModelRequest[Any],
        handler: Callable[[ModelRequest[Any]], Awaitable[Response]],
    ) -> ExtendedModelResponse[Any]:
        """Call the chosen expert in place of the agent's own model."""
        request, decision = await off_loop(self._decide, request)

        async def call(name: str, expert: ChatExpert) -> _Result:
            await expert.amake()
            attempt = _Attempt(request, name, expert, decision)
            try:
                with attempt.named():
                    return await handler(attempt.request)
            except Exception as error:
                if not attempt.ends(error):
                    raise
                return _Final(error)

        return _response(*await self._binding.adispatch(decision, call))

    def _decide(self, request: ModelRequest[Any]) -> tuple[ModelRequest[Any], Decision]:
        system = [] if request.system_message is None else [request.system_message]
        messages: list[BaseMessage] = [*system, *request.messages]
        tools = [*request.tools, *_answer_tools(request)]
        needs = Needs.of(messages, {"tools": tools, "tool_choice": request.tool_choice})
        planner = Planner(self._binding, self._source)
        plan = planner.plan(Request(messages, call_goals(None, None), needs=needs, tools=tools))
        if plan.input is not messages:
            request = request.override(messages=list(plan.input)[len(system) :])
        if self._choose == "call":
            return request, plan.decision
        last: Any = request.state.get("tryage") or {}
        return request, stay_with(plan.decision, last.get("answered_by"), True)


class _Final(NamedTuple):
    """An error after which no other expert may be tried."""

    error: Exception


_Result = Response | _Final


class _Attempt:
    """One expert's turn at a model call: its request, and whether it began to answer."""

    def __init__(
        self, request: ModelRequest[Any], name: str, expert: ChatExpert, decision: Decision
    ) -> None:
        self._watcher = _Watcher()
        self._name = name
        self._labels = expert.labels
        self._decision = decision
        request = without_foreign_markers(request, expert.model)
        self.request = _with_bound(request, expert.kwargs).override(model=expert.model)

    @contextmanager
    def named(self) -> Iterator[None]:
        """Name the expert in the model's run, which the agent opens without a config."""
        config = run_config(None, self._decision, self._name)
        labels = self._labels  # those of the model itself are its own business
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
        return isinstance(error, GraphBubbleUp) or self._watcher.seen


def _with_bound(request: ModelRequest[Any], bound: Mapping[str, Any]) -> ModelRequest[Any]:
    """Return a request with the arguments bound to its expert; what the request says holds."""
    settings = {**bound, **request.model_settings}
    changed: dict[str, Any] = {"model_settings": settings}
    own, choice = settings.pop("tools", None), settings.pop("tool_choice", None)
    if own:
        changed["tools"] = joined_tools(own, request.tools)
    if choice is not None and request.tool_choice is None and not request.tools:
        changed["tool_choice"] = choice
    if request.response_format is not None:
        settings.pop("response_format", None)
    return request.override(**changed)


class _Watcher(BaseCallbackHandler):
    """Notes whether a token was streamed."""

    seen = False

    def on_llm_new_token(self, *args: Any, **kwargs: Any) -> None:
        """Note it."""
        self.seen = True


def _with_handlers(callbacks: Any, handlers: Sequence[BaseCallbackHandler]) -> Any:
    if callbacks is None or isinstance(callbacks, list):
        return [*(callbacks or []), *handlers]
    manager = callbacks.copy()
    for handler in handlers:
        manager.add_handler(handler, inherit=True)
    return manager


def _answer_tools(request: ModelRequest[Any]) -> list[Any]:
    """Return the tools by which the agent asks for structured output.

    A plain schema (`AutoStrategy`) counts as one: whatever the model does with it, it binds it.
    """
    strategy = request.response_format
    if isinstance(strategy, AutoStrategy):
        strategy = ToolStrategy(strategy.schema)
    specs = strategy.schema_specs if isinstance(strategy, ToolStrategy) else []
    return [NeutralTool(name=spec.name, parameters=spec.json_schema) for spec in specs]


def _view(result: _Result) -> AnswerView:
    """Return what a check sees of a model call; an error that ends the call is not checked."""
    if isinstance(result, _Final):
        return AnswerView(None, calls_tools=True)
    return message_view(result.result[-1])


def _ask(expert: ChatExpert, text: str) -> str:
    return expert.model.invoke(text).text


_VIEWS = Views(_view, ask=_ask)


def _response(result: _Result, decision: DispatchedDecision) -> ExtendedModelResponse[Any]:
    if isinstance(result, _Final):
        raise result.error
    messages = [
        annotated_message(message, decision) if isinstance(message, AIMessage) else message
        for message in result.result
    ]
    answer = ModelResponse(result=messages, structured_response=result.structured_response)
    command: Command[Any] = Command(update=metadata(decision))
    return ExtendedModelResponse(model_response=answer, command=command)
