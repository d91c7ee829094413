"""A router against measured results: `evaluate`, `pareto` and `calibrate` start here.

Each takes a table's prompts of one task, predicts them, and compares the predictions with the
measurements.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from tryage import budgets as budget_room
from tryage import evaluation
from tryage.budgets import Calibration
from tryage.deciding import Array, Decider, read_prompt
from tryage.errors import NoEligibleExpertError, PromptError, ScoreTableError
from tryage.evaluation import Evaluation, TaskEvaluations
from tryage.evaluation.pareto import Front, pareto
from tryage.experts import asked_task
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


def evaluate(
    decider: Decider, table: ScoreTable, train: ScoreTable | None, seed: int
) -> Evaluation | TaskEvaluations:
    """Compare the router's choices with measured results; see `Router.evaluate`."""
    trains = train.by_task(decider.library) if train is not None else {}
    evaluations = {}
    for task, part in table.by_task(decider.library).items():
        assessed = Assessment.of(decider, task, _eligible(decider, task, part))
        totals = assessed.totals()
        choices = decider.objective.choose(totals)
        columns, names = assessed.columns, assessed.table.experts
        # Experts that the prompt excludes are no choice for the reference rows either.
        excluded = np.isinf(totals[:, columns])
        open_table = replace(
            assessed.table, losses=np.where(excluded, np.nan, assessed.table.losses)
        )
        place = np.full(len(decider.library) + 1, -1)  # the last place is that of choice -1
        place[columns] = np.arange(len(columns))
        train_part = trains.get(task)
        evaluations[task] = evaluation.evaluate(
            open_table,
            place[choices],
            predicted=assessed.predicted.losses[:, columns],
            out_of_distribution=assessed.predicted.ood,
            penalties=assessed.penalties(assessed.realised),
            ranks=decider.objective.tie_rank[columns],
            train=None if train_part is None else train_part.reorder(names),
            encoder=decider.predictors[task].encoder,
            seed=seed,
        )
    return evaluation.of_tasks(evaluations)


def front(decider: Decider, table: ScoreTable, goals: Sequence[str]) -> Front:
    """Sweep the weights of goals over measured results; see `Router.pareto`."""
    task, part = single_task(decider, table)
    assessed = Assessment.of(decider, task, part)
    resolved, objective = assessed.resolved, decider.objective
    other_weights = {name: w for name, w in resolved.weights.items() if name not in goals}
    alone = [
        replace(resolved, weights=check_weights({goal: 1.0}, resolved.goals)) for goal in goals
    ]
    values = [objective.goal_values(resolved.goal(g), assessed.realised) for g in goals]
    return pareto(
        part,
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
    return budget_room.calibrate(
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
    tasks = {task} if task else {asked_task(prompt) for prompt in prompts}
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
        raise ScoreTableError(f"the table has the tasks {', '.join(parts)}; give one of them")
    ((task, part),) = parts.items()
    return task, part
