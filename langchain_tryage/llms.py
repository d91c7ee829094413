"""`TryageLLM`: a text model that answers with the expert a router chooses, in one run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing, closing
from pathlib import Path
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseLLM, LanguageModelInput
from langchain_core.language_models.base import LangSmithParams
from langchain_core.outputs import Generation, GenerationChunk, LLMResult
from langchain_core.prompt_values import PromptValue, StringPromptValue
from langchain_core.runnables import Runnable, RunnableConfig

from langchain_tryage._experts import TextExpert, with_stop
from langchain_tryage._fields import RoutedModel
from langchain_tryage._metadata import TOP, run_config
from langchain_tryage._plans import PLAN, Plan, call_goals
from tryage import Decision, Router
from tryage.binding import Binding, each_expert, off_loop
from tryage.dispatch import DispatchedDecision, nothing, record
from tryage.errors import ExpertError

Row = LLMResult | ExpertError
"""What one prompt of a batch came to."""


class TryageLLM(RoutedModel, BaseLLM):
    """Answers text with the expert that a router chooses, and with the next one if it fails.

    To callbacks this is one run of one text model, with the tag ``expert:<name>``; generations
    carry the decision in ``generation_info["tryage"]``. ``invoke(..., model="name")`` forces an
    expert, ``tryage=Goals(...)`` and ``config={"configurable": {"tryage_goals": ...}}`` add goals.

    Attributes:
        router: a router, a router folder or the name of a bundled router.
        experts: expert name → text model (`BaseLLM`), or one with bound arguments; None runs the
            library's own Hugging Face pipelines.
        aliases: name in `experts` → name in the router's library.
        policy: replaces the router's policy.
        goals: weights and limits of every call.
        task: a Transformers task, or None to see it from the text.
        flags_from: where the user's own text stands, whose flags act and are taken off:
            ``"last_message"`` (or the whole text) or a function of the input. None leaves them.
        text_from: which messages are routed, as in `ChatTryage`.
        max_attempts: how many experts to try at most; None tries every eligible one.
        errors: exceptions on which the next expert is tried; others are raised at once.
        timeout: seconds that one call, or one chunk of a stream, may take; then the next expert is
            tried. None waits for ever.
        total_timeout: seconds that all calls for one input may take together.
        breaker: leaves an expert alone for a while that keeps failing; True for the usual
            `tryage.dispatch.Breaker`, or one of your own.
        cache: off; the experts' own caches work.
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

    def _bind(self) -> Binding[TextExpert]:
        return self._bind_experts(each_expert(self.experts, TextExpert.of), _pipeline)

    @property
    def _llm_type(self) -> str:
        return "tryage"

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        """Tell tracers the model that was chosen; before a decision, the router's name."""
        plans: list[Plan[str]] = kwargs.pop(PLAN, None) or []
        if len(plans) != 1:
            params = super()._get_ls_params(stop=stop, **kwargs)
            params.setdefault("ls_model_name", self._label)
            return params
        name = plans[0].decision.expert
        expert: TextExpert = self._binding.experts[name]
        params = expert.model._get_ls_params(**with_stop(stop, expert.kwargs, kwargs))
        params.setdefault("ls_model_name", name)
        return params

    def invoke(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> str:
        """Answer with the chosen expert; ``model="name"`` forces one."""
        # Decided before the run opens, so that its tags and metadata name the expert.
        plan = self._plan(self._convert_input(input), kwargs, config)
        config = run_config(config, plan.decision)
        return super().invoke(plan.input, config, stop=stop, **{PLAN: [plan]}, **kwargs)

    async def ainvoke(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> str:
        """Answer with the chosen expert; ``model="name"`` forces one."""
        plan = await off_loop(self._plan, self._convert_input(input), kwargs, config)
        config = run_config(config, plan.decision)
        return await super().ainvoke(plan.input, config, stop=stop, **{PLAN: [plan]}, **kwargs)

    def stream(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> Iterator[str]:
        """Stream from the chosen expert; another takes over only before the first chunk."""
        plan = self._plan(self._convert_input(input), kwargs, config)
        config = run_config(config, plan.decision)
        yield from super().stream(plan.input, config, stop=stop, **{PLAN: [plan]}, **kwargs)

    async def astream(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[str]:
        """Stream from the chosen expert; another takes over only before the first chunk."""
        plan = await off_loop(self._plan, self._convert_input(input), kwargs, config)
        config = run_config(config, plan.decision)
        chunks: Any = super().astream(plan.input, config, stop=stop, **{PLAN: [plan]}, **kwargs)
        async with aclosing(chunks):
            async for chunk in chunks:
                yield chunk

    def batch(
        self,
        inputs: list[LanguageModelInput],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[str]:
        """Answer every input in a run of its own, side by side up to `max_concurrency`."""
        # `BaseLLM.batch` opens all runs with the arguments of one call, so with one decision.
        return Runnable.batch(self, inputs, config, return_exceptions=return_exceptions, **kwargs)

    async def abatch(
        self,
        inputs: list[LanguageModelInput],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[str]:
        """Answer every input in a run of its own, side by side up to `max_concurrency`."""
        return await Runnable.abatch(
            self, inputs, config, return_exceptions=return_exceptions, **kwargs
        )

    def generate_prompt(
        self,
        prompts: list[PromptValue],
        stop: list[str] | None = None,
        callbacks: Any = None,
        **kwargs: Any,
    ) -> LLMResult:
        """Answer prompts in one call; of messages, the user's own are seen before they are text."""
        kwargs[PLAN] = plans = self._plan_all(prompts, kwargs)
        return self.generate([p.input for p in plans], stop=stop, callbacks=callbacks, **kwargs)

    async def agenerate_prompt(
        self,
        prompts: list[PromptValue],
        stop: list[str] | None = None,
        callbacks: Any = None,
        **kwargs: Any,
    ) -> LLMResult:
        """Answer prompts in one call; of messages, the user's own are seen before they are text."""
        kwargs[PLAN] = plans = await off_loop(self._plan_all, prompts, kwargs)
        texts = [plan.input for plan in plans]
        return await self.agenerate(texts, stop=stop, callbacks=callbacks, **kwargs)

    def _plan_all(self, prompts: Sequence[PromptValue], kwargs: dict[str, Any]) -> list[Plan[str]]:
        """Return the call's plans, made here if absent; the router's arguments leave `kwargs`."""
        plans = kwargs.pop(PLAN, None)
        if plans is None:
            plans = [self._plan(prompt, dict(kwargs)) for prompt in prompts]
        kwargs.pop("tryage", None)
        kwargs.pop("model", None)
        return list(plans)

    def _plan(
        self, value: PromptValue, kwargs: dict[str, Any], config: RunnableConfig | None = None
    ) -> Plan[str]:
        """Decide on one input; the router's own arguments leave `kwargs`."""
        plans: list[Plan[str]] | None = kwargs.pop(PLAN, None)
        if plans is not None:  # a stream that LangChain turns into a whole answer
            return plans[0]
        goals, only = kwargs.pop("tryage", None), kwargs.pop("model", None)
        text, flags = self._source.read(value)
        decision = self._binding.decide(
            text, flags=flags, only=only, goals=call_goals(goals, config)
        )
        return Plan(self._source.strip(value, decision).to_string(), decision)

    def _plan_texts(self, prompts: Sequence[str], kwargs: dict[str, Any]) -> list[Plan[str]]:
        """Return the plans of texts that LangChain hands on; made here if absent."""
        plans = self._plan_all([StringPromptValue(text=text) for text in prompts], kwargs)
        return [Plan(text, p.decision) for text, p in zip(prompts, plans, strict=True)]

    def _generate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> LLMResult:
        plans = self._plan_texts(prompts, kwargs)

        def call(name: str, expert: TextExpert, rows: list[int]) -> list[Row]:
            return _by_row(name, expert.generate([plans[row].input for row in rows], stop, kwargs))

        return _merged(self._binding.dispatch_batch([plan.decision for plan in plans], call))

    async def _agenerate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> LLMResult:
        plans = await off_loop(self._plan_texts, prompts, kwargs)

        async def call(name: str, expert: TextExpert, rows: list[int]) -> list[Row]:
            return _by_row(
                name, await expert.agenerate([plans[row].input for row in rows], stop, kwargs)
            )

        return _merged(await self._binding.adispatch_batch([plan.decision for plan in plans], call))

    def _stream(
        self,
        prompt: str,
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[GenerationChunk]:
        (plan,) = self._plan_texts([prompt], kwargs)

        def call(_name: str, expert: TextExpert) -> Iterator[GenerationChunk]:
            return expert.stream(plan.input, stop, kwargs)

        with closing(self._binding.stream(plan.decision, call)) as stream:
            answered: DispatchedDecision | None = None
            for chunk in stream:
                if answered is None:
                    answered = record(plan.decision, stream)
                    chunk = _annotated(chunk, answered)
                if run_manager is not None:
                    run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                yield chunk

    async def _astream(
        self,
        prompt: str,
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[GenerationChunk]:
        (plan,) = await off_loop(self._plan_texts, [prompt], kwargs)

        def call(_name: str, expert: TextExpert) -> AsyncIterator[GenerationChunk]:
            return expert.astream(plan.input, stop, kwargs)

        async with aclosing(self._binding.astream(plan.decision, call)) as stream:
            answered: DispatchedDecision | None = None
            async for chunk in stream:
                if answered is None:
                    answered = record(plan.decision, stream)
                    chunk = _annotated(chunk, answered)
                if run_manager is not None:
                    await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                yield chunk


def _annotated(generation: Any, decision: Decision) -> Any:
    """Return a copy that carries the decision; the expert's cache may hold the generation."""
    info = {**(generation.generation_info or {}), "tryage": decision.to_dict(top=TOP)}
    return generation.model_copy(update={"generation_info": info})


def _by_row(name: str, result: LLMResult) -> list[Row]:
    """Split a result by prompt; what it says of all prompts stays with the first."""
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
        generations += [[_annotated(one, decision) for one in row] for row in result.generations]
        told = dict(result.llm_output or {})
        for key, count in (told.pop("token_usage", None) or {}).items():
            if isinstance(count, int):
                usage[key] = usage.get(key, 0) + count
        output = {**told, **output}
    return LLMResult(
        generations=generations, llm_output=output | ({"token_usage": usage} if usage else {})
    )


def _pipeline(runtime: Any, expert: Any) -> TextExpert:
    from langchain_tryage.pipelines import TryagePipeline

    return TextExpert.of(expert.name, TryagePipeline(runtime=runtime, expert=expert.name))
