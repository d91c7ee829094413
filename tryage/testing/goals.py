"""`check_goal`: what the router relies on of a goal."""

from __future__ import annotations

import copy
import datetime
from collections.abc import Collection, Mapping

import numpy as np

from tryage.goals import GOALS, Goal, GoalInputs, Goals, reference_date
from tryage.goals.base import Array, checked_values
from tryage.library import Library
from tryage.router import Router
from tryage.testing.contracts import (
    in_threads,
    require,
    require_close,
    require_unchanged,
    run_contracts,
    snapshot,
)

QUESTION = "Is 7 a prime number?"

WEIGHTS = (0.05, 0.2, 0.5, 1.0, 5.0, 100.0)


def small_library() -> Library:
    """Return a library of five experts, of which the last states nothing but its name."""
    rows = [
        {
            "name": f"expert-{number}",
            "model": f"org/expert-{number}",
            "parameters": size,
            "released": released,
            "license": "apache-2.0",
            "context_length": 8192 * (number + 1),
            "price": {"input": 0.1 * (number + 1), "output": 0.4 * (number + 1), "per": 1_000_000},
        }
        for number, (size, released) in enumerate(
            [
                ("1B", "2023-05-01"),
                ("7B", "2024-02-01"),
                ("8B", "2024-11-20"),
                ("70B", "2025-03-04"),
            ]
        )
    ]
    rows.append({"name": "expert-4", "model": "org/expert-4"})
    return Library.from_dict({"name": "made-up", "experts": rows})


def check_goal(goal: Goal, *, library: Library | None = None, skip: Collection[str] = ()) -> None:
    """Test that a goal keeps what the router relies on.

    Args:
        goal: the goal; it is itself not changed.
        library: experts to give values to, two or more; by default five made-up ones, of which one
            states nothing but its name.
        skip: names of contracts that are not tested.

    Raises:
        ContractError: a contract is broken; the message and `contract` name it.
        OptionError: `skip` names no contract.
    """
    suite = _Suite(goal, small_library() if library is None else library)
    run_contracts(
        goal,
        (
            suite.names,
            suite.shapes,
            suite.determinism,
            suite.batch_equals_single,
            suite.permutation_of_experts,
            suite.no_mutation,
            suite.sums,
            suite.monotone_scale,
            suite.not_stated_is_worst,
            suite.monotone_weights,
            suite.formatting,
            suite.threads,
        ),
        skip,
    )


class _Suite:
    def __init__(self, goal: Goal, library: Library) -> None:
        self.goal = copy.copy(goal)
        self._attributes = _plain(vars(goal))
        self.library = library
        self.inputs = _inputs(library)

    def values(self) -> Array:
        return checked_values(self.goal, self.library, self.inputs)

    def names(self) -> None:
        for key in ("name", "unit"):
            text = getattr(self.goal, key, None)
            require(isinstance(text, str) and bool(text), f"{key} is {text!r}, not a text")
        require(
            self.goal.missing in ("worst", "error"),
            f"missing is {self.goal.missing!r}; it is 'worst' or 'error'",
        )

    def shapes(self) -> None:
        self.values()
        if type(self.goal).values is Goal.values:
            for expert in self.library:
                value = self.goal.value(expert)
                require(
                    isinstance(value, int | float | np.number) and not np.isinf(value),
                    f"value({expert.name!r}) is {value!r}; give a finite number, or NaN where it "
                    "is not stated",
                )

    def determinism(self) -> None:
        require_close(self.values(), self.values(), "values, computed twice", within=0.0)

    def batch_equals_single(self) -> None:
        together = self._wide(self.values())
        for row in range(len(self.inputs.prompt_tokens)):
            alone = checked_values(self.goal, self.library, self.inputs.row(row))
            what = "values of a prompt in a batch and alone"
            require_close(
                together[row], np.broadcast_to(alone, (1, len(self.library)))[0], what, within=1e-9
            )

    def permutation_of_experts(self) -> None:
        experts = list(self.library)[::-1]
        targets = {name: values[:, ::-1] for name, values in self.inputs.targets.items()}
        inputs = GoalInputs(
            self.inputs.reference, self.inputs.prompt_tokens, targets, self.inputs.observed
        )
        turned = self._wide(checked_values(self.goal, Library(experts), inputs))
        what = "values of a library and of the same in another order"
        require_close(self._wide(self.values())[:, ::-1], turned, what, within=1e-9)

    def no_mutation(self) -> None:
        before = snapshot(self.inputs.prompt_tokens, dict(self.inputs.targets))
        experts = list(self.library)
        self.goal.scaled(self.values(), self.goal.fit(self.values()))
        require_unchanged(
            before, self.inputs.prompt_tokens, dict(self.inputs.targets), what="values"
        )
        require(list(self.library) == experts, "values changed the library")
        require(
            self._attributes == _plain(vars(self.goal)), "values, fit or scaled changed the goal"
        )

    def sums(self) -> None:
        if not self.goal.adds_up:
            return
        require(not self.goal.log, "adds_up and log exclude each other: logarithms do not add up")
        lowest = np.nanmin(self.values(), initial=0.0)
        require(bool(lowest >= 0), f"adds_up, but a value is {lowest:g}; what adds up is 0 or more")

    def monotone_scale(self) -> None:
        values = self._stated()
        if not values.size:
            return
        scale = self.goal.fit(values)
        require(scale.low <= scale.high, f"fit gave the scale {scale}, whose low end is above")
        scaled = self.goal.scaled(np.sort(values), scale)
        require(bool(np.isfinite(scaled).all()), "scaled gives numbers that are not finite")
        require(bool((np.diff(scaled) >= 0).all()), "scaled must not fall where the value rises")
        require(
            bool(scaled.min() > -1e-9 and scaled.max() < 1 + 1e-9),
            f"scaled maps the values that it was fitted on to {scaled.min():g} to "
            f"{scaled.max():g}; they must lie in [0, 1]",
        )

    def not_stated_is_worst(self) -> None:
        values = np.append(self._stated(), np.nan)
        scaled = self.goal.scaled(values, self.goal.fit(values))
        require(
            bool(np.isfinite(scaled).all() and scaled[-1] >= scaled.max()),
            f"scaled gives {scaled[-1]} to a value that is not stated; it must count as the worst",
        )

    def monotone_weights(self) -> None:
        """A higher weight never chooses an expert that is worse on the goal."""
        values = checked_values(self.goal, self.library, GoalInputs(self.inputs.reference))
        values = np.broadcast_to(values, (1, len(self.library)))[0]
        experts = [e for e, value in zip(self.library, values, strict=True) if value == value]
        if len(experts) < 2:
            return
        router = Router.from_library(Library(experts))
        last = np.inf
        for weight in WEIGHTS:
            decision = router.route(QUESTION, goals=self._goals(weight), flags=False)
            value = float(decision.values[self.goal.name][decision.names.index(decision.expert)])
            require(
                value <= last,
                f"at the weight {weight:g} the chosen expert has {value:g} {self.goal.unit}; at a "
                f"lower weight it had {last:g}",
            )
            last = value

    def _goals(self, weight: float) -> Goals:
        """Return the goal with a weight, and another one that opposes it where there is one."""
        opposing = {} if self.goal.name == "size" else {"size": 0.3}
        if self.goal.name in GOALS:
            return Goals().with_weights(opposing | {self.goal.name: weight})
        weighted = copy.copy(self.goal)
        weighted.weight = weight
        return Goals(custom=[weighted]).with_weights(opposing)

    def formatting(self) -> None:
        for value in self._stated()[:5]:
            text = self.goal.format(float(value))
            require(isinstance(text, str) and bool(text), f"format({value:g}) gave {text!r}")

    def threads(self) -> None:
        expected = self.values()
        for values in in_threads(self.values):
            require_close(expected, values, "values in several threads", within=0.0)

    def _wide(self, values: Array) -> Array:
        return np.broadcast_to(values, (len(self.inputs.prompt_tokens), len(self.library)))

    def _stated(self) -> Array:
        values = self.values().ravel()
        return values[~np.isnan(values)]


def _inputs(library: Library) -> GoalInputs:
    rng = np.random.default_rng(0)
    chars = np.array([20.0, 1_500.0, 90_000.0])
    shape = (len(chars), len(library))
    targets = {
        "cost": rng.uniform(1e-5, 1e-2, shape),
        "response_chars": rng.uniform(50, 3_000, shape),
        "readability": rng.uniform(3, 14, shape),
        "latency": rng.uniform(0.1, 5, shape),
    }
    reference = reference_date(library)
    if reference == datetime.date.min:
        reference = datetime.date(2025, 1, 1)
    return GoalInputs(reference, chars, targets, {library.names[0]: 0.7})


def _plain(state: Mapping[str, object]) -> dict[str, str]:
    return {name: repr(value) for name, value in state.items()}
