"""`generate` called directly: each of its runs names the expert, as those of `invoke` do."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.callbacks import BaseCallbackManager
from langchain_core.outputs import LLMResult

from langchain_tryage._metadata import TAG, run_metadata
from langchain_tryage._plans import PLAN, Plan, Unplanned
from tryage.binding import off_loop


def labelled(
    plan: Plan | Unplanned, tags: Sequence[str] | None, metadata: Mapping[str, Any] | None
) -> tuple[list[str], dict[str, Any]]:
    """Return tags and metadata of a run, with those of the decision and of the chosen expert."""
    own_tags, own_metadata = list(tags or ()), dict(metadata or {})
    if isinstance(plan, Unplanned):
        return own_tags, own_metadata
    tag = f"{TAG}{plan.decision.expert}"
    own_tags += [each for each in (tag, *plan.tags) if each not in own_tags]
    return own_tags, {**own_metadata, **run_metadata(plan.decision), **plan.metadata}


class ChatGenerations:
    """`generate` and `agenerate` of a chat model that plans: one run for each conversation."""

    def generate(
        self,
        messages: list[Any],
        stop: list[str] | None = None,
        callbacks: Any = None,
        **kwargs: Any,
    ) -> LLMResult:
        """Answer conversations, one after the other; arguments as `BaseChatModel.generate`."""
        model: Any = super()
        if PLAN in kwargs or not messages:
            answer: LLMResult = model.generate(messages, stop, callbacks, **kwargs)
            return answer
        return self._joined(
            [
                model.generate(call_messages, stop, callbacks, **call)
                for call_messages, call in self._calls_of(messages, kwargs)
            ]
        )

    async def agenerate(
        self,
        messages: list[Any],
        stop: list[str] | None = None,
        callbacks: Any = None,
        **kwargs: Any,
    ) -> LLMResult:
        """Answer conversations side by side; arguments as `BaseChatModel.agenerate`."""
        model: Any = super()
        if PLAN in kwargs or not messages:
            answer: LLMResult = await model.agenerate(messages, stop, callbacks, **kwargs)
            return answer
        calls = await off_loop(self._calls_of, messages, kwargs)
        results = await asyncio.gather(
            *(model.agenerate(m, stop, callbacks, **call) for m, call in calls),
            return_exceptions=True,
        )
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return self._joined([result for result in results if isinstance(result, LLMResult)])

    def _calls_of(
        self, messages: list[Any], kwargs: Mapping[str, Any]
    ) -> list[tuple[list[Any], dict[str, Any]]]:
        """Return messages and arguments of one call for each conversation, decided in one pass."""
        options = dict(kwargs)
        labels = {name: options.pop(name, None) for name in ("tags", "metadata")}
        run_id = options.pop("run_id", None)
        model: Any = self
        calls = []
        for number, planned in enumerate(model._plan_batch(messages, None, options)):
            call = dict(options)
            plan = model._plan_call(planned, call, None)
            call["tags"], call["metadata"] = labelled(plan, labels["tags"], labels["metadata"])
            call["run_id"] = run_id if number == 0 else None
            calls.append(([plan.input], call))
        return calls

    def _joined(self, results: Sequence[LLMResult]) -> LLMResult:
        model: Any = self
        return LLMResult(
            generations=[row for result in results for row in result.generations],
            llm_output=model._combine_llm_outputs([result.llm_output for result in results]),
            run=[run for result in results for run in result.run or ()],
        )


class TextGenerations:
    """`generate` and `agenerate` of a text model that plans: the run of each prompt has its own."""

    def generate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        callbacks: Any = None,
        **kwargs: Any,
    ) -> LLMResult:
        """Answer prompts in one call; arguments as `BaseLLM.generate`."""
        model: Any = super()
        if _is_one_run(prompts, kwargs):
            answer: LLMResult = model.generate(prompts, stop, callbacks, **kwargs)
            return answer
        prompts = self._planned_texts(prompts, kwargs)
        callbacks = _for_each(prompts, callbacks, kwargs)
        result: LLMResult = model.generate(prompts, stop, callbacks, **kwargs)
        return result

    async def agenerate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        callbacks: Any = None,
        **kwargs: Any,
    ) -> LLMResult:
        """Answer prompts in one call; arguments as `BaseLLM.agenerate`."""
        model: Any = super()
        if _is_one_run(prompts, kwargs):
            answer: LLMResult = await model.agenerate(prompts, stop, callbacks, **kwargs)
            return answer
        prompts = await off_loop(self._planned_texts, prompts, kwargs)
        callbacks = _for_each(prompts, callbacks, kwargs)
        result: LLMResult = await model.agenerate(prompts, stop, callbacks, **kwargs)
        return result

    def _planned_texts(self, prompts: list[str], kwargs: dict[str, Any]) -> list[str]:
        """Put a plan for each prompt among the arguments; return the texts for the experts."""
        raise NotImplementedError


def _is_one_run(prompts: Any, kwargs: Mapping[str, Any]) -> bool:
    """Whether LangChain's own method can do it: the plan was made with the config of `invoke`."""
    return (
        not isinstance(prompts, list)
        or not prompts
        or isinstance(kwargs.get(PLAN), Plan | Unplanned)
    )


def _for_each(prompts: list[str], callbacks: Any, kwargs: dict[str, Any]) -> Any:
    """Return the callbacks of each prompt's run; its tags and metadata go among the arguments."""
    count = len(prompts)
    first = callbacks[0] if isinstance(callbacks, list) and callbacks else count
    is_each = first is None or isinstance(first, list | BaseCallbackManager)
    options = {name: kwargs.get(name) for name in ("tags", "metadata", "run_name")}
    if not is_each:
        callbacks = [callbacks] * count
        options = {name: None if v is None else [v] * count for name, v in options.items()}
    tags, metadata = options["tags"] or [None] * count, options["metadata"] or [None] * count
    if len(tags) != count or len(metadata) != count:
        return callbacks  # LangChain says so
    labels = [labelled(*each) for each in zip(kwargs[PLAN], tags, metadata, strict=True)]
    kwargs["tags"] = [each for each, _ in labels]
    kwargs["metadata"] = [each for _, each in labels]
    kwargs["run_name"] = options["run_name"]
    return callbacks
