"""Goals of an adapter and of one call, joined."""

from __future__ import annotations

from tryage.goals import Goals


def joined_goals(own: Goals | None, given: Goals | None) -> Goals | None:
    """Join two sets of goals: a weight is the second's where it names one, limits all hold."""
    if own is None or given is None:
        return given if own is None else own
    custom = {**own.custom, **given.custom}
    weights = {**own.weights, **given.weights}
    joined = Goals(limits=(*own.limits, *given.limits), custom=tuple(custom.values()))
    return joined.with_weights(weights)
