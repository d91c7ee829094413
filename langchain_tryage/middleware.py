"""`TryageMiddleware`: chooses the model of a LangChain agent, and the next one if it fails.

With `_agent_calls` and `_cache_markers` the only module here that needs `langchain` itself.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, Unpack

from langchain.agents.middleware.types import (
    AgentMiddleware,
    AgentState,
    ExtendedModelResponse,
    ModelRequest,
    ModelResponse,
    OmitFromInput,
)
from langchain.agents.structured_output import AutoStrategy, ToolStrategy
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langgraph.errors import GraphBubbleUp
from langgraph.types import Command

from langchain_tryage._agent_calls import (
    FailedCall,
    FinalError,
    ModelAttempt,
    OtherModelAnswer,
    Response,
    model_call,
)
from langchain_tryage._chat_experts import ChatExpert, chat_pipeline
from langchain_tryage._inputs import TextFrom, TextSource
from langchain_tryage._metadata import annotated_message, metadata
from langchain_tryage._plans import Planner, Request, call_goals
from langchain_tryage._tools import Needs, NeutralTool
from langchain_tryage._views import message_view
from tryage import Decision, Router
from tryage.binding import (
    LAST_MESSAGE,
    CallOptions,
    Conversation,
    Sticky,
    Views,
    bind,
    check_arguments,
    check_flags_from,
    check_options,
    each_expert,
    off_loop,
    stay,
)
from tryage.dispatch import AnswerView, DispatchedDecision

_MOST_FAILED = 256
"""Most failed model calls that are remembered, in case outer middleware tries again."""

Choose = Literal["run", "call"]


class TryageState(AgentState[Any]):
    """The agent's state, with the decision that its last model call followed."""

    tryage: NotRequired[Annotated[dict[str, Any] | None, OmitFromInput]]


class TryageMiddleware(AgentMiddleware[TryageState, Any, Any]):
    """Sends an agent's model calls to the expert that a router chooses; if it fails, to the next.

    One expert serves a whole agent run by default, which keeps its vendor's prefix cache warm and
    its tool calls consistent. The state's ``tryage`` and every answer's
    ``response_metadata["tryage"]`` hold the decision, the model's run the tag ``expert:<name>``.

    Args:
        router: a router, a router folder, the name of a bundled router or a Hub id.
        experts: expert name → chat model, one with bound arguments, or a ``"provider:model"``
            string; None runs the library's own Hugging Face pipelines.
        text_from: which messages are routed, as in `ChatTryage`.
        choose: ``"run"`` decides once per agent run, ``"call"`` before every model call.
        sticky: as in `ChatTryage`: whether a run, or a call, stays with the expert that answered
            last in the conversation. ``choose="call"`` without it also decides anew between a tool
            and its result.
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
        sticky: Sticky = False,
        **options: Unpack[CallOptions],
    ) -> None:
        super().__init__()
        check_arguments(type(self).__name__, options, CallOptions.__annotations__)
        check_options({**options, "choose": choose, "sticky": sticky})
        flags_from = options.get("flags_from")
        check_flags_from(flags_from, "messages have")
        self._source = TextSource(flags_from=flags_from, text_from=text_from)
        self._choose = choose
        self._sticky = sticky
        self._failed: dict[str | None, FailedCall] = {}
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
        failed = self._failed_call(request)
        if failed is not None:
            return failed.answered_elsewhere(handler(request))
        agents_model = request.model
        with self._giving_up(agents_model, None):
            request, decision = self._decide(request)

        def call(name: str, expert: ChatExpert) -> _Result:
            attempt = ModelAttempt(request, name, expert, decision)
            try:
                with attempt.naming_run():
                    return attempt.result(handler(attempt.request))
            except Exception as error:
                if not attempt.ends(error):
                    raise
                return FinalError(error)

        with self._giving_up(agents_model, decision):
            return _response(*self._binding.dispatch(decision, call))

    async def awrap_model_call(
        self,
        request: ModelRequest[Any],
        handler: Callable[[ModelRequest[Any]], Awaitable[Response]],
    ) -> ExtendedModelResponse[Any]:
        """Call the chosen expert in place of the agent's own model."""
        failed = self._failed_call(request)
        if failed is not None:
            return failed.answered_elsewhere(await handler(request))
        agents_model = request.model
        with self._giving_up(agents_model, None):
            request, decision = await off_loop(self._decide, request)

        async def call(name: str, expert: ChatExpert) -> _Result:
            await expert.amake()
            attempt = ModelAttempt(request, name, expert, decision)
            try:
                with attempt.naming_run():
                    return attempt.result(await handler(attempt.request))
            except Exception as error:
                if not attempt.ends(error):
                    raise
                return FinalError(error)

        with self._giving_up(agents_model, decision):
            return _response(*await self._binding.adispatch(decision, call))

    def _failed_call(self, request: ModelRequest[Any]) -> FailedCall | None:
        """Return the call that no expert answered, if middleware outside now tries its model."""
        failed = self._failed.get(model_call())
        return None if failed is None or failed.model is request.model else failed

    @contextmanager
    def _giving_up(self, model: BaseChatModel, decision: Decision | None) -> Iterator[None]:
        """Note a model call that no expert answers.

        Args:
            model: of the request.
            decision: on the call; None while there is none.
        """
        try:
            yield
        except GraphBubbleUp:
            raise
        except Exception as error:
            task = model_call()
            if task is not None:
                if len(self._failed) >= _MOST_FAILED:
                    self._failed.clear()
                self._failed[task] = FailedCall.of(model, decision, error)
            raise

    def _decide(self, request: ModelRequest[Any]) -> tuple[ModelRequest[Any], Decision]:
        system = [] if request.system_message is None else [request.system_message]
        messages: list[BaseMessage] = [*system, *request.messages]
        tools = [*request.tools, *_answer_tools(request)]
        needs = Needs.of(messages, {"tools": tools, "tool_choice": request.tool_choice})
        afresh = self._choose == "call" and self._sticky is False
        planner = Planner(self._binding, self._source, self._sticky, loops_bind=not afresh)
        plan = planner.plan(Request(messages, call_goals(None, None), needs=needs, tools=tools))
        if plan.input is not messages:
            request = request.override(messages=list(plan.input)[len(system) :])
        if self._choose == "call":
            return request, plan.decision
        last: Any = request.state.get("tryage") or {}
        own = Conversation(last.get("answered_by"))
        return request, stay(plan.decision, own, True, self._binding.router)


_Result = Response | FinalError | OtherModelAnswer


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
    if isinstance(result, FinalError):
        return AnswerView(None, calls_tools=True)
    response = result.response if isinstance(result, OtherModelAnswer) else result
    return message_view(response.result[-1])


def _ask(expert: ChatExpert, text: str) -> str:
    return expert.model.invoke(text).text


_VIEWS = Views(_view, ask=_ask)


def _response(result: _Result, decision: DispatchedDecision) -> ExtendedModelResponse[Any]:
    if isinstance(result, FinalError):
        raise result.error
    if isinstance(result, OtherModelAnswer):
        last = replace(decision.tried[-1], error=result.reason)
        tried = (*decision.tried[:-1], last)
        decision, result = replace(decision, tried=tried, answered_by=None), result.response
    messages = [
        annotated_message(message, decision) if isinstance(message, AIMessage) else message
        for message in result.result
    ]
    answer = ModelResponse(result=messages, structured_response=result.structured_response)
    command: Command[Any] = Command(update=metadata(decision))
    return ExtendedModelResponse(model_response=answer, command=command)
