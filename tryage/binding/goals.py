"""Goals of an adapter and of one call, joined."""

from __future__ import annotations

from tryage.goals import Goals


def joined_goals(base: Goals | None, call: Goals | None) -> Goals | None:
    """Join goals: the call's weights override the base's, and the limits of both hold."""
    if base is None or call is None:
        return call if base is None else base
    custom = {**base.custom, **call.custom}
    weights = {**base.weights, **call.weights}
    joined = Goals(limits=(*base.limits, *call.limits), custom=tuple(custom.values()))
    return joined.with_weights(weights)
