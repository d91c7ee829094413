"""Budgets: the weights that meet a mean cost, a share of an expert, or a score.

A budget on a goal's mean is met by a weight on that goal. The weights sought are those of the
Lagrangian of "least mean predicted loss within the budgets": each is raised no further than its
budget asks, found by bisection, one budget's inside another's.
"""

from tryage.budgets.parser import Budget, parse_budget
from tryage.budgets.results import Calibration
from tryage.budgets.search import calibrate

__all__ = ["Budget", "Calibration", "calibrate", "parse_budget"]
