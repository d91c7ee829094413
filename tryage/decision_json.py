"""Decisions read from the JSON that pydantic writes of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tryage.errors import DecisionError
from tryage.plans import Plan

_TEXTS = {"type": "array", "items": {"type": "string"}}

DECISION_PROPERTIES = {
    "expert": {"type": "string"},
    "ranking": {"type": "array", "items": {"type": "object"}},
    "weights": {"type": "object", "additionalProperties": {"type": "number"}},
    "flags": _TEXTS,
    "out_of_distribution": {"type": "boolean"},
    "task": {"type": "string"},
    "limits": _TEXTS,
    "measured": {"type": "boolean"},
    "names": _TEXTS,
}
"""JSON schema of a decision, by key."""


def decision_fields(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a `Decision` but its text.

    Args:
        data: keys of ``tryage route --json`` with the whole ranking, and task, limits, names and
            whether losses were measured.

    Raises:
        DecisionError: something is missing, or of another type.
    """
    try:
        return _fields(data)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DecisionError(
            "this is no decision in JSON, as pydantic writes it: "
            f"{type(error).__name__}: {str(error)[:200]}"
        ) from error


def _fields(data: Mapping[str, Any]) -> dict[str, Any]:
    rows = {row["expert"]: row for row in data["ranking"]}
    ranked = [rows[name] for name in data["names"]]
    goals = ranked[0]["values"]
    plan, question = data.get("plan"), data.get("question")
    fields = {
        "expert": data["expert"],
        "task": data["task"],
        "names": tuple(data["names"]),
        "losses": _column([row["loss"] for row in ranked], math.nan),
        "std": _column([row["std"] for row in ranked], math.nan),
        "totals": _column([row["total"] for row in ranked], math.inf),
        "values": {
            goal: _column([row["values"][goal] for row in ranked], math.nan) for goal in goals
        },
        "reasons": {name: rows[name]["reason"] for name in data["names"] if "reason" in rows[name]},
        "weights": dict(data["weights"]),
        "limits": tuple(data["limits"]),
        "flags": tuple(data["flags"]),
        "out_of_distribution": bool(data["out_of_distribution"]),
        "measured": bool(data["measured"]),
        "plan": None if plan is None else Plan.from_dict(plan),
        "question": None if question is None else tuple(question),
    }
    if fields["expert"] not in rows:
        raise ValueError(f"{fields['expert']!r} is not among names")
    return fields


def _column(values: Sequence[float | None], absent: float) -> NDArray[np.float64]:
    """Return the values of all experts, (m,), with `absent` where there is none."""
    return np.array([absent if value is None else value for value in values], dtype=np.float64)
