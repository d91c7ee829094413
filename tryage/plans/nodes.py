"""Cases in which experts succeed, and are accepted, independently of one another.

A case is a level of difficulty. Where the check compares answers with those of a reference expert,
verdicts also depend on whether the reference is right, so a case is a level and that. With s the
chance that a right answer matches the reference's right one, and c the chance that a wrong answer
matches its wrong one,

    accepts_right = s P(reference right | expert right),
    accepts_wrong = c P(reference wrong | expert wrong),

from which s and c follow.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tryage.plans.joint import LEVELS, JointSuccess

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """The expert that answers are compared with.

    Attributes:
        chance: predicted chance that it is right.
        shared: share of its successes that follows the common difficulty.
        column: its place among the experts of the plan; None where it is not eligible.
    """

    chance: float
    shared: float
    column: int | None


@dataclass(frozen=True, slots=True, eq=False)
class Nodes:
    """Chances in every case; in a case all experts are independent.

    Attributes:
        weights: (k,) chance of the case, sum 1.
        right: (m, k) chance that an expert is right.
        accepts_right: (m, k) chance that the check accepts its right answer.
        accepts_wrong: (m, k) chance that it accepts its wrong answer.
    """

    weights: Array
    right: Array
    accepts_right: Array
    accepts_wrong: Array

    @classmethod
    def of(
        cls,
        losses: Array,
        accepts_right: Array,
        accepts_wrong: Array,
        joint: JointSuccess,
        reference: Reference | None = None,
    ) -> Nodes:
        """Return the cases of m experts.

        Args:
            losses: (m,) predicted losses in [0, 1].
            accepts_right: (m,) chance that the check accepts a right answer of each expert.
            accepts_wrong: (m,) chance that it accepts a wrong one.
            joint: how the experts fail together.
            reference: the expert that the check compares answers with; None for other checks.
        """
        right = joint.by_level(1.0 - losses)
        if reference is None:
            shape = right.shape
            yes = np.broadcast_to(accepts_right[:, None], shape)
            no = np.broadcast_to(accepts_wrong[:, None], shape)
            return cls(np.full(LEVELS, 1.0 / LEVELS), right, yes, no)
        sure = JointSuccess(np.array([reference.shared])).by_level(np.array([reference.chance]))[0]
        both_right = (right * sure).mean(axis=1)
        both_wrong = ((1.0 - right) * (1.0 - sure)).mean(axis=1)
        same_right = _share(accepts_right * (1.0 - losses), both_right)
        same_wrong = _share(accepts_wrong * losses, both_wrong)
        doubled = np.hstack([right, right])
        yes, no = np.zeros(doubled.shape), np.zeros(doubled.shape)
        yes[:, :LEVELS], no[:, LEVELS:] = same_right[:, None], same_wrong[:, None]
        if reference.column is not None:  # its answer always matches itself
            doubled[reference.column] = np.repeat([1.0, 0.0], LEVELS)
            yes[reference.column] = no[reference.column] = 1.0
        weights = np.concatenate([sure, 1.0 - sure]) / LEVELS
        return cls(weights, doubled, yes, no)

    @property
    def accepted(self) -> Array:
        """(m, k) chance that an expert's answer is accepted."""
        accepted: Array = self.accepts_right * self.right + self.accepts_wrong * (1.0 - self.right)
        return accepted


def _share(part: Array, whole: Array) -> Array:
    return np.clip(np.divide(part, whole, out=np.ones_like(part), where=whole > 1e-12), 0.0, 1.0)
