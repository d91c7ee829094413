"""Goals: what to minimise besides loss, in which unit, and on which scale.

Its modules: `base` defines what a goal is, `builtin` holds Tryage's own goals, and
`goals` the weights and limits of one call. A goal of your own is one class::

    class Hops(Goal):
        name, unit = "hops", "network hops"

        def value(self, expert):
            return 0.0 if expert.endpoint is None else 3.0

    router.route(prompt, goals=Goals(custom=[Hops(0.2)]))
"""

from tryage.goals.base import Goal, GoalInputs, Scale, reference_date
from tryage.goals.builtin import (
    GOALS,
    Cost,
    Latency,
    Readability,
    Recency,
    Security,
    Share,
    Size,
    Verbosity,
    answer_tokens,
    find_goal,
)
from tryage.goals.goals import Goals, check_weights

__all__ = [
    "GOALS",
    "Cost",
    "Goal",
    "GoalInputs",
    "Goals",
    "Latency",
    "Readability",
    "Recency",
    "Scale",
    "Security",
    "Share",
    "Size",
    "Verbosity",
    "answer_tokens",
    "check_weights",
    "find_goal",
    "reference_date",
]
