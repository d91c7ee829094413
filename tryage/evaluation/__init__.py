"""How good choices are, beside the reference rows: arrays and figures, never the router.

Its modules: `measured` estimates the cells that are missing, for every figure; `metrics` turns
choices into figures per prompt and into means, `intervals` draws the bootstrap, `references` makes
the choices of the reference rows, `reliability` judges the predicted losses, `choices` watches for
a collapse onto one expert, `doubts` says what makes figures doubtful, `evaluate` puts one task's
table together and `report` prints it; `baselines` holds other people's ways of choosing.
"""

from tryage.evaluation.evaluate import evaluate, row_of
from tryage.evaluation.report import Evaluation, Row, TaskEvaluations, of_tasks

__all__ = ["Evaluation", "Row", "TaskEvaluations", "evaluate", "of_tasks", "row_of"]
