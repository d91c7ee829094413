"""`TryageLLM`: a text model that answers with the expert a router chooses, in one run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing, closing
from functools import partial
from pathlib import Path
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseLLM, LanguageModelInput
from langchain_core.language_models.base import LangSmithParams
from langchain_core.outputs import Generation, GenerationChunk, LLMResult
from langchain_core.prompt_values import PromptValue, StringPromptValue
from langchain_core.runnables import RunnableConfig

from langchain_tryage._calls import PlannedCalls, drop_routing
from langchain_tryage._experts import Call, ask_model, with_stop
from langchain_tryage._fields import RoutedModel
from langchain_tryage._generations import TextGenerations
from langchain_tryage._metadata import annotated_text
from langchain_tryage._modalities import messages_in
from langchain_tryage._plans import PLAN, Plan, Request, Unplanned, call_goals
from langchain_tryage._text_experts import TextExpert
from langchain_tryage._tokens import areported, reported
from langchain_tryage._tools import Needs
from langchain_tryage._views import TEXT_VIEWS
from tryage import Router
from tryage.binding import Binding, Views, each_expert, off_loop, tells_logprobs
from tryage.dispatch import DispatchedDecision, amarked, marked, nothing, record
from tryage.errors import ExpertError

Row = LLMResult | ExpertError
"""The answer to one prompt of a batch, or why there is none."""


class TryageLLM(RoutedModel, PlannedCalls[str, str], TextGenerations, BaseLLM):
    """Answers text with the expert that a router chooses, and with the next one if it fails.

    To callbacks this is one run of one text model, with the tag ``expert:<name>``; generations
    carry the decision in ``generation_info["tryage"]``. ``invoke(..., model="name")`` forces an
    expert, ``tryage=Goals(...)`` and ``config={"configurable": {"tryage_goals": ...}}`` add goals.

    Attributes:
        router: a router, a router folder, the name of a bundled router or a Hub id.
        experts: expert name → text model (`BaseLLM`), or one with bound arguments; None runs the
            library's own Hugging Face pipelines.
        flags_from: where the user's own text stands, whose flags act and are taken off:
            ``"last_message"`` (or the whole text) or a function of the input. None leaves them.
        text_from: which messages are routed, as in `ChatTryage`.
        **options: those of `tryage.binding.CallOptions`, which are fields too.
        cache: off; the experts' own caches work.
        stop, temperature, max_tokens: call arguments for whichever expert answers; those bound to
            an expert replace them, and those of a call replace both.
    """

    # Without one in the class itself, type checkers take the fields for its arguments.
    def __init__(
        self, router: Router | str | Path, experts: Mapping[str, Any] | None = None, **options: Any
    ) -> None:
        super().__init__(router=router, experts=experts, **options)

    @classmethod
    def _checked(cls, fields: dict[str, Any]) -> dict[str, Any]:
        if fields.setdefault("cache", False) is not False:
            raise ValueError(
                "TryageLLM keeps no cache: LangChain's key for text models leaves out the goals "
                "of a call. Give the experts a cache of their own"
            )
        return super()._checked(fields)

    @property
    def _views(self) -> Views:
        return TEXT_VIEWS

    def _bind(self) -> Binding[TextExpert]:
        settings = self._settings
        experts = each_expert(self.experts, partial(TextExpert.of, settings=settings))
        return self._bind_experts(experts, partial(_pipeline, settings=settings))

    def _request(
        self,
        input: LanguageModelInput,
        kwargs: Mapping[str, Any],
        config: RunnableConfig | None = None,
    ) -> Request:
        goals = call_goals(kwargs.get("tryage"), config)
        prompt = self._convert_input(input)
        return Request(prompt, goals, kwargs.get("model"), Needs.of(messages_in(prompt)))

    @property
    def _llm_type(self) -> str:
        return "tryage"

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        """Name the chosen model to tracers; before a decision, or for several, the router."""
        plan = kwargs.pop(PLAN, None)
        kwargs.pop("tryage", None)
        if not isinstance(plan, Plan):
            params = super()._get_ls_params(stop=stop, **kwargs)
            params.setdefault("ls_model_name", self._label)
            return params
        name = plan.decision.expert
        expert: TextExpert = self._binding.experts[name]
        arguments = with_stop(stop, expert.kwargs, kwargs)
        params = ask_model(expert, lambda m: m._get_ls_params(**arguments), LangSmithParams())
        params.setdefault("ls_model_name", name)
        return params

    def generate_prompt(
        self,
        prompts: list[PromptValue],
        stop: list[str] | None = None,
        callbacks: Any = None,
        **kwargs: Any,
    ) -> LLMResult:
        """Answer prompts in one call; messages are routed before they are turned into text."""
        texts = self._plan_prompts(prompts, kwargs)
        return self.generate(texts, stop=stop, callbacks=callbacks, **kwargs)

    async def agenerate_prompt(
        self,
        prompts: list[PromptValue],
        stop: list[str] | None = None,
        callbacks: Any = None,
        **kwargs: Any,
    ) -> LLMResult:
        """Answer prompts in one call; messages are routed before they are turned into text."""
        if PLAN in kwargs:
            texts = self._plan_prompts(prompts, kwargs)
        else:
            texts = await off_loop(self._plan_prompts, prompts, kwargs)
        return await self.agenerate(texts, stop=stop, callbacks=callbacks, **kwargs)

    def _plan_prompts(self, prompts: Sequence[PromptValue], kwargs: dict[str, Any]) -> list[str]:
        """Put a plan for each prompt among the arguments; return the texts for the experts."""
        if PLAN not in kwargs:
            plans = [self._plan_or_error(prompt, kwargs) for prompt in prompts]
            drop_routing(kwargs)
            kwargs[PLAN] = plans
            prompts = [plan.input for plan in plans]
        return [prompt.to_string() for prompt in prompts]

    def _answers_whole(self, plan: Plan | Unplanned, *, async_api: bool) -> bool:
        if isinstance(plan, Unplanned):
            return False
        expert: TextExpert = self._binding.experts[plan.decision.expert]
        return not expert.streams(async_api=async_api)

    def _planned_texts(self, prompts: Sequence[str], kwargs: dict[str, Any]) -> list[str]:
        return self._plan_prompts([StringPromptValue(text=text) for text in prompts], kwargs)

    def _take_plans(
        self, prompts: Sequence[str], kwargs: dict[str, Any]
    ) -> tuple[list[str], list[Plan]]:
        """Take the plans from a call's arguments, or make them; return texts and plans."""
        texts = self._planned_texts(prompts, kwargs)
        plans = kwargs.pop(PLAN)
        each: list[Plan | Unplanned] = plans if isinstance(plans, list) else [plans]
        for plan in each:
            if isinstance(plan, Unplanned):
                raise plan.error
        return texts, [plan for plan in each if isinstance(plan, Plan)]

    async def _atake_plans(
        self, prompts: Sequence[str], kwargs: dict[str, Any]
    ) -> tuple[list[str], list[Plan]]:
        """Do what `_take_plans` does, off the event loop where there is something to decide."""
        if PLAN in kwargs:
            return self._take_plans(prompts, kwargs)
        return await off_loop(self._take_plans, prompts, kwargs)

    def _generate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> LLMResult:
        texts, plans = self._take_plans(prompts, kwargs)
        own = Call(stop, kwargs, run_manager, plans[0].goals)

        def call(name: str, expert: TextExpert, rows: list[int]) -> list[Row]:
            return _by_row(name, expert.generate([texts[row] for row in rows], own))

        decisions = [plan.decision for plan in plans]
        return _merged(self._binding.dispatch_batch(decisions, call))

    async def _agenerate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> LLMResult:
        texts, plans = await self._atake_plans(prompts, kwargs)
        own = Call(stop, kwargs, run_manager, plans[0].goals)

        async def call(name: str, expert: TextExpert, rows: list[int]) -> list[Row]:
            return _by_row(name, await expert.agenerate([texts[row] for row in rows], own))

        decisions = [plan.decision for plan in plans]
        return _merged(await self._binding.adispatch_batch(decisions, call))

    def _stream(
        self,
        prompt: str,
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[GenerationChunk]:
        (text,), (plan,) = self._take_plans([prompt], kwargs)
        decision, own = plan.decision, Call(stop, kwargs, run_manager, plan.goals)

        def call(_name: str, expert: TextExpert) -> Iterator[GenerationChunk]:
            return expert.stream(text, own)

        with closing(self._binding.stream(decision, call)) as stream:
            pairs = marked(stream, late=stream.is_checked_late)
            chunks = (annotated_text(c, record(decision, stream) if m else None) for c, m in pairs)
            yield from reported(chunks, run_manager)

    async def _astream(
        self,
        prompt: str,
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[GenerationChunk]:
        (text,), (plan,) = await self._atake_plans([prompt], kwargs)
        decision, own = plan.decision, Call(stop, kwargs, run_manager, plan.goals)

        def call(_name: str, expert: TextExpert) -> AsyncIterator[GenerationChunk]:
            return expert.astream(text, own)

        async with aclosing(self._binding.astream(decision, call)) as stream:
            pairs = amarked(stream, late=stream.is_checked_late)
            chunks = (
                annotated_text(c, record(decision, stream) if m else None) async for c, m in pairs
            )
            async for chunk in areported(chunks, run_manager):
                yield chunk


def _by_row(name: str, result: LLMResult) -> list[Row]:
    """Split a result by prompt; the first row keeps what applies to all prompts."""
    return [
        LLMResult(generations=[generations], llm_output=result.llm_output if row == 0 else None)
        if generations
        else nothing(name)
        for row, generations in enumerate(result.generations)
    ]


def _merged(answers: Sequence[tuple[LLMResult, DispatchedDecision] | BaseException]) -> LLMResult:
    """Join the results of several prompts; the first error is raised."""
    generations: list[list[Generation]] = []
    output: dict[str, Any] = {}
    usage: dict[str, int] = {}
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer
        result, decision = answer
        generations += [
            [annotated_text(generation, decision) for generation in row]
            for row in result.generations
        ]
        llm_output = dict(result.llm_output or {})
        for key, count in (llm_output.pop("token_usage", None) or {}).items():
            if isinstance(count, int):
                usage[key] = usage.get(key, 0) + count
        output = {**llm_output, **output}
    return LLMResult(
        generations=generations, llm_output=output | ({"token_usage": usage} if usage else {})
    )


def _pipeline(runtime: Any, expert: Any, settings: Mapping[str, Any]) -> TextExpert:
    from langchain_tryage.pipelines import TryagePipeline

    return TextExpert.of(
        expert.name,
        TryagePipeline(runtime=runtime, expert=expert.name, logprobs=tells_logprobs(expert)),
        settings,
    )
