"""Checks: accept or reject an answer before it goes out.

A check is any function ``(prompt, answer) -> bool | float | None``, sync or async, wrapped in
`Check` where its reliability is known. `builtin` holds some that need no code.
"""

from tryage.checks.builtin import (
    agrees_with,
    all_of,
    any_of,
    confident,
    judged_by,
    matches,
    same_words,
    valid_json,
)
from tryage.checks.check import (
    ASSUMED_RIGHT,
    ASSUMED_WRONG,
    Check,
    CheckedAnswer,
    Examiner,
    Finding,
    Function,
    Verdict,
)

__all__ = [
    "ASSUMED_RIGHT",
    "ASSUMED_WRONG",
    "Check",
    "CheckedAnswer",
    "Examiner",
    "Finding",
    "Function",
    "Verdict",
    "agrees_with",
    "all_of",
    "any_of",
    "confident",
    "judged_by",
    "matches",
    "same_words",
    "valid_json",
]
