"""Plans: sequences of experts to try until a check accepts an answer.

`joint` says how likely experts are right together, `nodes` in which cases they are independent,
`search` finds the plan with the least expected
objective, `planning` makes it for a prompt, `measured` tells what plans would have scored.
"""

from tryage.plans.joint import LEVELS, JointSuccess
from tryage.plans.measured import realised
from tryage.plans.nodes import Nodes, Reference
from tryage.plans.plan import Expected, Plan, PlannedAttempt, expect
from tryage.plans.planning import MAX_ATTEMPTS, Rates, Reliability, make_plan, reliability
from tryage.plans.search import PlanInputs, best_plan

__all__ = [
    "LEVELS",
    "MAX_ATTEMPTS",
    "Expected",
    "JointSuccess",
    "Nodes",
    "Plan",
    "PlanInputs",
    "PlannedAttempt",
    "Rates",
    "Reference",
    "Reliability",
    "best_plan",
    "expect",
    "make_plan",
    "realised",
    "reliability",
]
