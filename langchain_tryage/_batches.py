"""A batch of inputs: decided in one pass, dispatched grouped by expert, returned in order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.config import ContextThreadPoolExecutor

from langchain_tryage._plans import Plan
from tryage import Decision
from tryage.binding import Binding
from tryage.dispatch import DispatchedDecision

Expert = Runnable[Any, Any]
Child = Callable[[RunnableConfig, Any, Decision, str], RunnableConfig]
Answer = tuple[Any, DispatchedDecision] | BaseException


class Batch:
    """The inputs that have a plan, and their places among all inputs.

    Args:
        plans: a plan or an error for each input.
        run_managers: of the run of each input.
        configs: of each input.
        child: makes the config of an expert's run.
        input_for: makes an expert's input from that of the call.
    """

    def __init__(
        self,
        plans: Sequence[Plan | Exception],
        run_managers: Sequence[Any],
        configs: Sequence[RunnableConfig],
        child: Child,
        input_for: Callable[[Expert, Any], Any],
    ) -> None:
        self._all = plans
        self._places = [place for place, plan in enumerate(plans) if isinstance(plan, Plan)]
        self._plans = [plan for plan in plans if isinstance(plan, Plan)]
        self._decisions = [plan.decision for plan in self._plans]
        self._run_managers = run_managers
        self._configs = configs
        self._child = child
        self._input_for = input_for

    def dispatch(self, binding: Binding[Expert], kwargs: Mapping[str, Any]) -> list[Answer]:
        """Call the experts; an input that fails goes to its next expert."""

        def call(name: str, expert: Expert, rows: list[int]) -> list[Any]:
            inputs = [self._input_for(expert, self._plans[row].input) for row in rows]
            configs = self._children(name, rows)
            return expert.batch(inputs, configs, return_exceptions=True, **kwargs)

        if not self._at_once:
            return binding.dispatch_batch(self._decisions, call)
        with ContextThreadPoolExecutor(max_workers=len(self._decisions)) as executor:
            return binding.dispatch_batch(self._decisions, call, run=executor.map)

    async def adispatch(self, binding: Binding[Expert], kwargs: Mapping[str, Any]) -> list[Answer]:
        """Do what `dispatch` does, without blocking."""

        async def call(name: str, expert: Expert, rows: list[int]) -> list[Any]:
            inputs = [self._input_for(expert, self._plans[row].input) for row in rows]
            configs = self._children(name, rows)
            return await expert.abatch(inputs, configs, return_exceptions=True, **kwargs)

        return await binding.adispatch_batch(self._decisions, call, at_once=self._at_once)

    def in_order(
        self, answers: Sequence[Answer], output: Callable[[Any, DispatchedDecision], Any]
    ) -> list[Any]:
        """Return an output or an error for each input."""
        outputs: list[Any] = list(self._all)
        for place, answer in zip(self._places, answers, strict=True):
            if isinstance(answer, BaseException):
                outputs[place] = answer
            else:
                outputs[place] = output(*answer)
        return outputs

    @property
    def _at_once(self) -> bool:
        """Whether experts may run side by side without breaking `max_concurrency`.

        Each expert keeps the bound by itself, so together they keep it only if it is at least the
        size of the batch.
        """
        bound = self._configs[0].get("max_concurrency")
        experts = {decision.expert for decision in self._decisions}
        return len(experts) > 1 and (bound is None or bound >= len(self._plans))

    def _children(self, name: str, rows: list[int]) -> list[RunnableConfig]:
        """Return the configs of an expert's runs."""
        places = [(self._places[row], self._decisions[row]) for row in rows]
        return [
            self._child(self._configs[place], self._run_managers[place], decision, name)
            for place, decision in places
        ]
