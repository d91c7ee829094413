"""How a decision is made: flags, policy, prediction, objective, and a plan for a check.

`Router` is the public class. A `Decider` is immutable, so that many threads may use one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tryage.checks import Check, Function
from tryage.decision import Decision, HiddenText
from tryage.errors import CheckError, NoEligibleExpertError, PromptError
from tryage.experts import TEXT_GENERATION, task_of_prompt
from tryage.flags import Flags, parse
from tryage.forecast import Forecast, Forecaster
from tryage.goals import GoalInputs, Goals
from tryage.library import Library
from tryage.objective import Objective
from tryage.plans import MAX_ATTEMPTS, JointSuccess, Plan, Rates, make_plan, reliability
from tryage.policy import Policy, ResolvedGoals
from tryage.predictors import Predictor
from tryage.ranking import is_wide
from tryage.searching import Search
from tryage.tokens import count_tokens

Array = NDArray[np.float64]
FlagMode = bool | Literal["warn"] | Flags
"""True raises on unknown words, "warn" warns, False reads no flags; or flags parsed before."""


class Request(NamedTuple):
    """The arguments of a call, except its prompts.

    Attributes:
        goals: weights and limits.
        task: a Transformers task; None infers it from each prompt.
        flags: how flags are treated.
        observed: expert → recent seconds of its calls.
        check: accepts or rejects answers; None plans nothing.
        max_attempts: experts in a plan at most.
        sent_tokens: tokens of everything that is sent for each prompt; None sends the prompt.
    """

    goals: Goals | None = None
    task: str | None = None
    flags: FlagMode = True
    observed: Mapping[str, float] | None = None
    check: Check | None = None
    max_attempts: int = MAX_ATTEMPTS
    sent_tokens: Sequence[float] | None = None

    @classmethod
    def of(
        cls,
        goals: Goals | None,
        task: str | None,
        flags: FlagMode,
        observed: Mapping[str, float] | None,
        check: Check | Function | None,
        max_attempts: int | None,
        sent_tokens: Sequence[float] | None = None,
    ) -> Request:
        """Return the request of a call's arguments."""
        wrapped = None if check is None else Check.of(check)
        attempts = MAX_ATTEMPTS if max_attempts is None else max_attempts
        return cls(goals, task, flags, observed, wrapped, attempts, sent_tokens)


@dataclass(frozen=True)
class Decider:
    """Everything that decisions depend on.

    Attributes:
        library: m experts.
        predictors: task → fitted predictor.
        objective: goals on fixed scales.
        policy: what the operator allows.
        joint: task → how experts fail together.
        check_rates: check's name → measured rates.
        scored: whether losses are 1 - score, so that plans have a meaning.
        scripts: of the training prompts; None where they are not known.
    """

    library: Library
    predictors: Mapping[str, Predictor]
    objective: Objective
    policy: Policy
    joint: Mapping[str, JointSuccess] = field(default_factory=dict)
    check_rates: Mapping[str, Rates] = field(default_factory=dict)
    scored: bool = True
    scripts: tuple[str, ...] | None = None
    _forecasters: dict[str, Forecaster] = field(init=False, repr=False, compare=False)
    _search: Search = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        forecasters = {
            task: Forecaster(
                p, self.library, finds_questions=task == TEXT_GENERATION, scripts=self.scripts
            )
            for task, p in self.predictors.items()
        }
        object.__setattr__(self, "_forecasters", forecasters)
        object.__setattr__(self, "_search", Search(self.objective))

    def forecast(self, prompts: Sequence[str], task: str) -> Forecast:
        """Return everything that is predicted of prompts of one task."""
        forecaster = self._forecasters.get(task) or Forecaster(None, self.library)
        return forecaster(prompts)

    def goal_inputs(
        self,
        prompts: Sequence[str],
        predicted: Forecast,
        observed: Mapping[str, float] | None = None,
        sent_tokens: Sequence[float] | None = None,
    ) -> GoalInputs:
        """Return what goals may look at for these prompts; `sent_tokens` as in `Request`."""
        tokens = np.array([count_tokens(prompt) for prompt in prompts], dtype=np.float64)
        if sent_tokens is not None:
            tokens = np.maximum(tokens, np.array(sent_tokens, dtype=np.float64))
        return self.objective.goal_inputs(tokens, predicted.targets, observed)

    def decide(self, prompts: Sequence[str], request: Request) -> list[Decision]:
        """Decide for prompts in one pass.

        Raises:
            PromptError, FlagError, GoalError, NoEligibleExpertError, CheckError: see
                `Router.route`.
        """
        self._check_plans(request)
        parsed_prompts = [read_prompt(prompt, request.flags) for prompt in prompts]
        resolved = [self._resolve(parsed, request) for parsed in parsed_prompts]
        tasks = [request.task or task_of_prompt(parsed.prompt) for parsed in parsed_prompts]
        rows_of: dict[str, list[int]] = {}
        for row, task in enumerate(tasks):
            rows_of.setdefault(task, []).append(row)
        decisions: dict[int, Decision] = {}
        for task, rows in rows_of.items():
            texts = [parsed_prompts[row].prompt for row in rows]
            predicted = self.forecast(texts, task)
            sent = request.sent_tokens and [request.sent_tokens[row] for row in rows]
            inputs = self.goal_inputs(texts, predicted, request.observed, sent)
            for place, row in enumerate(rows):
                decisions[row] = self._decision(
                    parsed_prompts[row],
                    resolved[row],
                    task,
                    predicted.row(place),
                    inputs.row(place),
                    request,
                )
        return [decisions[row] for row in range(len(parsed_prompts))]

    def plans(
        self,
        predicted: Forecast,
        inputs: GoalInputs,
        task: str,
        resolved: ResolvedGoals,
        request: Request,
    ) -> list[Plan]:
        """Return the plan of every predicted prompt, without making decisions.

        Raises:
            CheckError: the router was fitted on losses, or there is no check.
            NoEligibleExpertError: no expert may answer some prompt.
        """
        self._check_plans(request)
        plans = []
        for number in range(len(predicted.ood)):
            row, row_inputs = predicted.row(number), inputs.row(number)
            values = self.objective.shown(resolved, row_inputs)
            totals = self.objective.totals(row.losses, task, resolved, row_inputs, values)[0]
            if np.isinf(totals).all():
                reasons = self.objective.reasons(task, resolved, row_inputs, values)
                raise NoEligibleExpertError(f"no expert may answer prompt {number + 1}:", reasons)
            flat = {name: v if v.ndim == 1 else v[0] for name, v in values.items()}
            plan = self._plan(request, resolved, task, row.losses[0], totals, flat)
            if plan is None:
                raise CheckError("plans are made for a check; give check=")
            plans.append(plan)
        return plans

    def _check_plans(self, request: Request) -> None:
        if request.check is not None and not self.scored:
            raise CheckError(
                "the router was fitted on losses without an upper bound, such as bits per byte, "
                "where no answer is right or wrong, so a check has no meaning; fit a router on "
                "scores from 0 to 1, or leave check= out"
            )

    def _resolve(self, parsed: Flags, request: Request) -> ResolvedGoals:
        warns = request.flags == "warn" or isinstance(request.flags, Flags)
        flags = parsed if request.flags is not False else None
        return self.policy.combine(request.goals, flags, unknown="warn" if warns else "error")

    def _decision(
        self,
        parsed: Flags,
        resolved: ResolvedGoals,
        task: str,
        predicted: Forecast,
        inputs: GoalInputs,
        request: Request,
    ) -> Decision:
        objective = self.objective
        values = objective.shown(resolved, inputs)
        deferred = None
        if is_wide(self.library.names) and request.check is None:
            ranked = self._search(predicted, task, resolved, inputs, values)
            column, losses, std, totals, deferred = ranked
        else:
            losses, std = predicted.losses[0], predicted.std[0]
            (totals,) = all_totals = objective.totals(
                predicted.losses, task, resolved, inputs, values
            )
            column = int(objective.choose(all_totals)[0])
        reasons = objective.reasons(task, resolved, inputs, values)
        if column < 0:
            raise NoEligibleExpertError(
                f"no expert of library {self.library.name!r} may answer:", reasons
            )
        directives = None
        if request.flags == "warn" and resolved.flags:
            directives = replace(parsed, prompt="", unknown=())
        row_values = {name: v if v.ndim == 1 else v[0] for name, v in values.items()}
        plan = None
        if request.check is not None:
            if not predicted.measured:
                raise CheckError(
                    "nothing is measured yet, so no plan can be made of how often an expert is "
                    "right; fit a router on scores, or leave the check out"
                )
            plan = self._plan(request, resolved, task, losses, totals, row_values)
        expert = self.library.names[column] if plan is None else plan.attempts[0].expert
        decision = Decision(
            expert=expert,
            task=task,
            text=HiddenText(parsed.prompt),
            names=self.library.names,
            losses=losses,
            std=std,
            totals=totals,
            values=row_values,
            reasons=reasons,
            weights=resolved.weights,
            limits=tuple(str(limit) for limit in resolved.limits),
            flags=resolved.flags,
            out_of_distribution=bool(predicted.ood[0]),
            goals=resolved.goals,
            measured=predicted.measured,
            plan=plan,
            question=next(iter(predicted.questions), None),
            directives=directives,
        )
        return decision if deferred is None else decision.defer(deferred)

    def _plan(
        self,
        request: Request,
        resolved: ResolvedGoals,
        task: str,
        losses: Array,
        totals: Array,
        values: Mapping[str, Array],
    ) -> Plan | None:
        check = request.check
        if check is None:
            return None
        names = self.library.names
        for name in check.asks:
            self.library.index(name)  # raises for an unknown expert before any call
        return make_plan(
            check,
            reliability(check, names, self.check_rates.get(check.name)),
            names=names,
            losses=losses,
            totals=totals,
            attempt_prices=self.objective.attempt_prices(resolved, task, values),
            costs=values.get("cost"),
            tie_rank=self.objective.tie_rank,
            joint=self.joint.get(task) or JointSuccess.cautious(len(names)),
            max_attempts=request.max_attempts,
        )


def read_prompt(prompt: str, flags: FlagMode) -> Flags:
    """Parse the flags of a prompt; the result holds the prompt without them.

    Raises:
        PromptError: it is empty, not text, or holds only flags.
    """
    if not isinstance(prompt, str):
        raise PromptError(f"a prompt is text, found {type(prompt).__name__}")
    if isinstance(flags, Flags):
        parsed = replace(flags, prompt=prompt)
    else:
        parsed = parse(prompt) if flags else Flags(prompt)
    if not parsed.prompt.strip():
        problem = "the prompt is empty" if not prompt.strip() else "the prompt holds only flags"
        raise PromptError(f"{problem}; there is nothing to route")
    return parsed


def without_unmeasured(objective: Objective, predictors: Mapping[str, Predictor]) -> Objective:
    """Mark experts of a task without measurements as unavailable, with that reason."""
    reasons = {
        expert.name: f"nothing was measured on its task {expert.task}"
        for expert in objective.library
        if expert.task not in predictors
    }
    if not reasons:
        return objective
    return replace(objective, unavailable={**objective.unavailable, **reasons})
