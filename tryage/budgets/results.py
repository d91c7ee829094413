"""The result of a calibration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tryage.goals import Goals


@dataclass(frozen=True, init=False)
class Calibration(Goals):
    """Goals with the weights that a calibration found; hand it to `Router.route` as `goals`.

    Attributes:
        attained: budget → its figures on the prompts: `value` and its interval `ci95`, the
            `limit` it was held to, `met`, and where it is not met the nearest `attainable`; of a
            budget that fails only because of the others, what it could attain `alone`.
        met: whether every budget is met.
        shares: expert → share of the prompts that go to it.
    """

    attained: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    met: bool = False
    shares: Mapping[str, float] = field(default_factory=dict)

    def __init__(
        self,
        goals: Goals,
        weights: Mapping[str, float],
        attained: Mapping[str, Mapping[str, Any]],
        shares: Mapping[str, float],
    ) -> None:
        super().__init__(limits=goals.limits, custom=tuple(goals.custom.values()))
        object.__setattr__(self, "weights", dict(goals.with_weights(weights).weights))
        object.__setattr__(self, "attained", dict(attained))
        object.__setattr__(self, "met", all(row["met"] for row in attained.values()))
        object.__setattr__(self, "shares", dict(shares))

    def __hash__(self) -> int:
        return super().__hash__()

    def to_dict(self) -> dict[str, Any]:
        """Return what ``tryage calibrate --json`` prints."""
        return {
            "weights": dict(self.weights),
            "attained": {text: dict(row) for text, row in self.attained.items()},
            "met": self.met,
        }
