"""A router against measured results: `evaluate`, `pareto` and `calibrate` start here.

Each takes a table's prompts of one task, predicts them, and compares the predictions with the
measurements.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tryage import budgets as budget_search
from tryage import evaluation
from tryage.budgets import Calibration
from tryage.deciding import Array, Decider, read_prompt
from tryage.errors import GoalError, NoEligibleExpertError, PromptError, ScoreTableError
from tryage.evaluation import Evaluation, TaskEvaluations
from tryage.evaluation.pareto import Front, pareto
from tryage.experts import task_of_prompt
from tryage.files import repeated
from tryage.forecast import Forecast, measured_over
from tryage.goals import GoalInputs, Goals, check_weights
from tryage.policy import ResolvedGoals
from tryage.scores import ScoreTable


@dataclass(frozen=True, slots=True)
class Assessment:
    """A table of one task, and the router's predictions of it.

    Attributes:
        decider: of the router, m experts.
        task: what the prompts ask for.
        table: n prompts under the assessed experts.
        columns: their places in the library.
        predicted: forecast of the prompts, over the whole library.
        expected: goal inputs from predictions, as the router decides by.
        realised: goal inputs with measured targets in place of predicted ones.
        resolved: the policy's weights and limits.
    """

    decider: Decider
    task: str
    table: ScoreTable
    columns: list[int]
    predicted: Forecast
    expected: GoalInputs
    realised: GoalInputs
    resolved: ResolvedGoals

    @classmethod
    def of(cls, decider: Decider, task: str, table: ScoreTable) -> Assessment:
        """Predict a table's prompts, and take its measured targets for the realised inputs."""
        columns = [decider.library.index(name) for name in table.experts]
        predicted = decider.forecast(table.prompts, task)
        measured = measured_over(predicted, table, columns)
        return cls(
            decider,
            task,
            table,
            columns,
            predicted,
            decider.goal_inputs(table.prompts, predicted),
            decider.goal_inputs(table.prompts, measured),
            decider.policy.combine(None, None),
        )

    def totals(self, resolved: ResolvedGoals | None = None) -> Array:
        """Return the totals that the router decides by, (n, m), inf where not eligible."""
        return self.decider.objective.totals(
            self.predicted.losses, self.task, resolved or self.resolved, self.expected
        )

    def place(self, columns: NDArray[np.intp]) -> NDArray[np.intp]:
        """Return columns of the library, -1 for none, as columns of the table, (n,)."""
        places = np.full(len(self.decider.library) + 1, -1)  # the last place is that of -1
        places[self.columns] = np.arange(len(self.columns))
        return places[columns]

    def penalties(self, inputs: GoalInputs, resolved: ResolvedGoals | None = None) -> Array:
        """Return what goals add to the loss of the table's experts, (k,) or (n, k)."""
        added = self.decider.objective.penalties(resolved or self.resolved, self.task, inputs)
        return added[..., self.columns]


def _eligible(decider: Decider, task: str, table: ScoreTable) -> ScoreTable:
    """Return the table of the experts that the policy allows.

    Raises:
        NoEligibleExpertError: it allows none.
    """
    limits = decider.policy.combine(None, None).limits
    reasons = decider.objective.eligibility(task, limits).reasons
    names = [name for name in table.experts if name not in reasons]
    if not names:
        raise NoEligibleExpertError(f"no expert may answer prompts of {task}:", reasons)
    return table.reorder(names)


@dataclass(frozen=True, slots=True)
class Judged:
    """The router's choices on a table of one task, within what the policy and prompts allow.

    Attributes:
        assessed: the table and the predictions, k experts.
        open_table: the table; losses are NaN where an expert may not answer the prompt, so that it
            is no choice for the reference rows either.
        open_cells: (n, k) where an expert may answer.
        totals: (n, k) what the router decided by, inf where an expert may not answer.
        choices: (n,) column of the expert chosen for each prompt; -1 where none may answer.
        penalties: what the goals add to each loss, (k,) or (n, k).
        ranks: (k,) place of each expert where totals tie.
    """

    assessed: Assessment
    open_table: ScoreTable
    open_cells: NDArray[np.bool_]
    totals: Array
    choices: NDArray[np.intp]
    penalties: Array
    ranks: NDArray[np.int64]

    @classmethod
    def of(cls, decider: Decider, task: str, table: ScoreTable) -> Judged:
        """Decide for a table's prompts.

        Raises:
            NoEligibleExpertError: the policy allows no expert of the task.
        """
        assessed = Assessment.of(decider, task, _eligible(decider, task, table))
        totals = assessed.totals()
        columns = assessed.columns
        own, losses = totals[:, columns], assessed.table.losses
        return cls(
            assessed,
            replace(assessed.table, losses=np.where(np.isinf(own), np.nan, losses)),
            ~np.isinf(own),
            own,
            assessed.place(decider.objective.choose(totals)),
            assessed.penalties(assessed.realised),
            decider.objective.tie_rank[columns],
        )

    def evaluate(self, train: ScoreTable | None, seed: int) -> Evaluation:
        """Compare the choices with what was measured; `train` holds the task's training table."""
        assessed = self.assessed
        names = assessed.table.experts
        losses = assessed.predicted.losses[:, assessed.columns]
        return evaluation.evaluate(
            self.open_table,
            self.choices,
            predicted=losses if assessed.predicted.measured else None,
            out_of_distribution=assessed.predicted.ood,
            penalties=self.penalties,
            ranks=self.ranks,
            open_cells=self.open_cells,
            train=None if train is None else train.reorder(names),
            encoder=assessed.decider.predictors[assessed.task].encoder,
            seed=seed,
        )


def evaluate(
    decider: Decider, table: ScoreTable, train: ScoreTable | None, seed: int
) -> Evaluation | TaskEvaluations:
    """Compare the router's choices with measured results; see `Router.evaluate`."""
    trains = train.by_task(decider.library) if train is not None else {}
    return evaluation.of_tasks(
        {
            task: Judged.of(decider, task, part).evaluate(trains.get(task), seed)
            for task, part in table.by_task(decider.library).items()
        }
    )


def front(decider: Decider, table: ScoreTable, goals: Sequence[str]) -> Front:
    """Sweep the weights of goals over measured results; see `Router.pareto`."""
    twice = repeated(goals)
    if twice is not None:
        raise GoalError(f"the goal {twice[0]!r} is given twice; name two different ones, or one")
    task, part = single_task(decider, table)
    return front_of(Assessment.of(decider, task, part), goals)


def front_of(assessed: Assessment, goals: Sequence[str]) -> Front:
    """Sweep the weights of goals over an assessed table; errors as `Router.pareto`."""
    resolved, objective = assessed.resolved, assessed.decider.objective
    other_weights = {name: w for name, w in resolved.weights.items() if name not in goals}
    alone = [
        replace(resolved, weights=check_weights({goal: 1.0}, resolved.goals)) for goal in goals
    ]
    values = [objective.goal_values(resolved.goal(g), assessed.realised) for g in goals]
    return pareto(
        assessed.table,
        goals,
        predicted=assessed.totals(replace(resolved, weights=other_weights))[:, assessed.columns],
        penalties=[assessed.penalties(assessed.expected, goal) for goal in alone],
        values=[goal_values[..., assessed.columns] for goal_values in values],
        realised=[assessed.penalties(assessed.realised, goal) for goal in alone],
    )


def calibrate(
    decider: Decider,
    prompts: Sequence[str],
    budgets: Sequence[str],
    *,
    goals: Goals | None,
    task: str | None,
    seed: int,
) -> Calibration:
    """Find weights that meet budgets; see `Router.calibrate`."""
    task = task_of_prompts(prompts, task)
    predicted = decider.forecast(prompts, task)
    return budget_search.calibrate(
        decider.objective,
        predicted,
        task,
        decider.policy.combine(goals, None),
        decider.goal_inputs(prompts, predicted),
        budgets,
        goals=goals or Goals(),
        scored=decider.scored,
        seed=seed,
    )


def task_of_prompts(prompts: Sequence[str], task: str | None) -> str:
    """Return the one task of prompts: the given one, or what all of them ask for.

    Raises:
        PromptError: a prompt is empty, there is none, or they ask for several tasks.
    """
    for prompt in prompts:
        read_prompt(prompt, False)
    tasks = {task} if task else {task_of_prompt(prompt) for prompt in prompts}
    if len(tasks) != 1:
        problem = "there are no prompts" if not tasks else f"prompts ask for {', '.join(tasks)}"
        raise PromptError(f"{problem}; calibrate on prompts of one task")
    return tasks.pop()


def single_task(decider: Decider, table: ScoreTable) -> tuple[str, ScoreTable]:
    """Return the task of a table, and the table in the library's terms.

    Raises:
        ScoreTableError: it has several tasks.
    """
    parts = table.by_task(decider.library)
    if len(parts) != 1:
        raise ScoreTableError(
            f"the table has the tasks {', '.join(parts)}; choose one with task= (--task)"
        )
    ((task, part),) = parts.items()
    return task, part
