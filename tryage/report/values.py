"""What a report shows, as plain values: everything is computed before anything is drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tryage.evaluation import Evaluation
from tryage.evaluation.pareto import PlacedFront
from tryage.evaluation.plans import PlanFront

Array = NDArray[np.float64]
Indices = NDArray[np.intp]
Interval = tuple[float, float]


@dataclass(frozen=True)
class PromptRows:
    """Figures of every judged prompt, (n,) each, in the order of the table.

    Attributes:
        group: position of its group among `TaskValues.groups`.
        chosen: column of the chosen expert; -1 where none may answer.
        best: column of the best measured expert.
        loss: measured loss of the choice, lower is better; NaN where not measured.
        regret: objective of the choice minus the best one's, 0 and above; NaN where not measured.
        ood: whether the router marked the prompt as out of distribution.
        beginning: start of each prompt, control characters made visible; None without prompts.
    """

    group: Indices
    chosen: Indices
    best: Indices
    loss: Array
    regret: Array
    ood: NDArray[np.bool_]
    beginning: tuple[str, ...] | None = field(repr=False)

    def __len__(self) -> int:
        return len(self.group)


@dataclass(frozen=True)
class GroupTable:
    """Means of the experts on each group.

    Attributes:
        mean: (groups, experts) mean measured score, or loss; NaN where nothing is measured.
        cells: (groups, experts) measured cells behind each mean.
        chosen: (groups, experts) share of the group's prompts that the expert is chosen for.
        prompts: (groups,) number of prompts.
    """

    mean: Array
    cells: Indices
    chosen: Array
    prompts: Indices


@dataclass(frozen=True)
class ReliabilityBins:
    """Predicted against measured losses, in bins of equally many cells; (k,) each.

    Attributes:
        predicted: mean predicted loss.
        measured: mean measured loss.
        error: standard error of `measured`.
        cells: measured cells in the bin.
    """

    predicted: Array
    measured: Array
    error: Array
    cells: Indices


@dataclass(frozen=True)
class Separation:
    """How well kinds of prompt separate in the router's view, without their names being used.

    Attributes:
        measure: what it is, "purity" or "silhouette".
        value: on the prompts as they are.
        ci95: bootstrap over prompts.
        shuffled: the same with the groups permuted among the prompts, its mean.
        shuffled_ci95: the central 95 % of the permutations.
    """

    measure: str
    value: float
    ci95: Interval
    shuffled: float
    shuffled_ci95: Interval


@dataclass(frozen=True)
class LatentMap:
    """The router's view of the prompts, in two dimensions.

    Attributes:
        rows: (k,) rows of `PromptRows` that are drawn.
        places: (k, 2) coordinates; distances far apart mean little.
        predicted: (k, m) predicted losses of these prompts, lower is better.
        method: how the coordinates came about.
        view: what the router sees of a prompt, such as an encoder's vectors.
        separation: figures over all prompts of the table; empty without groups.
    """

    rows: Indices
    places: Array
    predicted: Array
    method: str
    view: str
    separation: tuple[Separation, ...]


@dataclass(frozen=True)
class WorstChoice:
    """A prompt on which the router chose badly.

    Attributes:
        row: of `PromptRows`.
        explanation: why it was chosen so, as `Decision.explain` says it.
    """

    row: int
    explanation: str


@dataclass(frozen=True)
class Fallback:
    """What became of the prompts out of distribution, where the experts' averages decided.

    Attributes:
        prompts: how many there are.
        averages: mean regret of what was chosen, lower is better.
        predictions: the same, had the predictions decided.
        difference: `predictions` minus `averages`: positive where falling back was right.
        ci95: of the difference, bootstrap over prompts.
    """

    prompts: int
    averages: float
    predictions: float
    difference: float
    ci95: Interval


@dataclass(frozen=True)
class TaskValues:
    """Everything that a report shows of one task.

    Attributes:
        task: what the prompts ask for.
        experts: the m experts, in the order of every column.
        groups: names of the groups; one where the table has none.
        grouped: whether the table has groups.
        evaluation: figures of the router and the reference rows.
        prompts: figures of every prompt.
        by_group: the heat maps.
        reliability: None where no loss is predicted.
        fronts: of cost and size, where they can be drawn.
        latent: None where the router does not look at prompts.
        worst: the worst choices, by regret.
        fallback: None where no prompt is out of distribution, or it is unknown.
        missing: what is not shown → why.
        measured: (m,) measured cells of every expert.
        plans: what plans with a check attain, as ``tryage evaluate --check --json``; or None.
        plan_front: their front; or None.
    """

    task: str
    experts: tuple[str, ...]
    groups: tuple[str, ...]
    grouped: bool
    evaluation: Evaluation
    prompts: PromptRows
    by_group: GroupTable
    reliability: ReliabilityBins | None
    fronts: tuple[PlacedFront, ...]
    latent: LatentMap | None
    worst: tuple[WorstChoice, ...]
    fallback: Fallback | None
    missing: Mapping[str, str]
    measured: Indices
    plans: Mapping[str, Any] | None = None
    plan_front: PlanFront | None = None

    @property
    def scored(self) -> bool:
        """Whether means are shown as scores, higher is better."""
        return self.evaluation.kind == "scores"

    @property
    def measure(self) -> str:
        """The word for the means that are shown."""
        return "score" if self.scored else "loss"


@dataclass(frozen=True)
class ReportValues:
    """A report before it is drawn.

    Attributes:
        title: of the page.
        tasks: one or more.
        notes: what a reader must know first, such as that the router was fitted on this table.
        origins: name → where the figures come from: table, router, seeds, versions.
    """

    title: str
    tasks: tuple[TaskValues, ...]
    notes: tuple[str, ...]
    origins: Mapping[str, str]
