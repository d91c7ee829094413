"""Distillation: a fast student learns a slow teacher's predictions beside measured results.

`lessons` holds what a teacher predicts of prompts, and keeps it in a file; `students` trains the
student of one task and chooses what the teacher weighs beside measured values; `distilling` makes
the parts of the student's router.
"""

from tryage.distilling.distilling import distill_parts
from tryage.distilling.lessons import Lessons, PredictionFile, teach, teacher_fingerprint
from tryage.distilling.students import (
    DEFAULT_STUDENT,
    DEFAULT_WEIGHT,
    WEIGHTS,
    Agreement,
    Distillation,
    Student,
    train_student,
)

__all__ = [
    "DEFAULT_STUDENT",
    "DEFAULT_WEIGHT",
    "WEIGHTS",
    "Agreement",
    "Distillation",
    "Lessons",
    "PredictionFile",
    "Student",
    "distill_parts",
    "teach",
    "teacher_fingerprint",
    "train_student",
]
