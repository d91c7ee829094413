"""Whether a conversation stays with the expert that answered last, and what that is worth.

A vendor reads what it has read before from its prompt cache, at a lower price. With
``sticky="price"`` the expert that answered last has that advantage: of the n tokens that it has
read or written before, it pays n · cached_input where another one pays n · input, from
`CACHED_FROM` tokens on and where the library states both prices. The money counts as much as the
weight on the goal cost makes it count; the expert stays while its total, so corrected, is not above
the chosen one's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tryage.decision import Decision
from tryage.goals import GOALS
from tryage.router import Router
from tryage.ties import TIE

Sticky = bool | float | Literal["price"]

PRICE: Literal["price"] = "price"

CACHED_FROM = 1024
"""Tokens of a prefix from which vendors keep it in their caches."""

COST = "cost"

_ENCRYPTED = frozenset(
    {
        "encrypted_content",
        "redacted_thinking",
        "signature",
        "thinking_signature",
        "thought_signature",
        "thought_signatures",
        "thoughtSignature",
        "__gemini_function_call_thought_signatures__",
    }
)
"""Keys and kinds under which vendors put reasoning that they alone can read back."""

_ARGUMENTS = frozenset({"args", "arguments", "input", "tool_calls", "tool_kwargs"})
"""Keys of what a tool is called with, which may have any names."""

_DEEPEST = 8


@dataclass(frozen=True, slots=True)
class Conversation:
    """What a call's messages say of the calls before it.

    Attributes:
        answered_by: the expert that answered last; None where no routed answer is among them.
        read_tokens: estimated tokens of everything up to that answer, tools included.
        is_bound: whether another expert could not go on: the model waits for a tool's result, or
            encrypted reasoning of a vendor is among the messages.
    """

    answered_by: str | None = None
    read_tokens: float = 0.0
    is_bound: bool = False


def stay(
    decision: Decision, conversation: Conversation, sticky: Sticky, router: Router
) -> Decision:
    """Return the decision for the expert that answered last, if it is to stay.

    Args:
        decision: what the router chose.
        conversation: so far.
        sticky: False stays only while the conversation is bound; True while the expert is
            eligible; a number while its total is at most that much above the lowest; "price" by
            the prices of cached tokens. In a bound conversation an eligible expert always stays.
        router: made the decision.
    """
    expert = conversation.answered_by
    if expert is None or expert == decision.expert:
        return decision
    # With a plan the check says who goes on; it also rules out staying.
    if decision.plan is not None or expert not in decision.names:
        return decision
    column = decision.names.index(expert)
    excess = decision.totals[column] - np.min(decision.totals)
    if not np.isfinite(excess):
        return decision
    if sticky is True or conversation.is_bound:
        stays = True
    elif sticky is False:
        stays = False
    elif sticky == PRICE:
        chosen = decision.names.index(decision.expert)
        gain = decision.totals[column] - decision.totals[chosen]
        stays = gain <= cache_value(decision, conversation, router) + TIE
    else:
        stays = excess <= sticky
    return replace(decision, expert=expert) if stays else decision


def cache_value(decision: Decision, conversation: Conversation, router: Router) -> float:
    """Return what the cache of the expert that answered last is worth, in units of loss.

    It is the cost of what was read before under the chosen expert less that under the one with the
    cache, beyond what the totals hold of it already; 0 where the prices do not say.
    """
    weight = decision.weights.get(COST, 0.0)
    if not weight or conversation.read_tokens < CACHED_FROM or conversation.answered_by is None:
        return 0.0
    library = router.library
    own = library.index(conversation.answered_by)
    chosen = library.index(decision.expert)
    inputs = library.token_prices[0] * library.token_factors
    cached = library.cached_prices * library.token_factors
    # Predicted costs are those of single prompts: they hold nothing of the conversation.
    predictor = router.predictors.get(decision.task)
    predicted = predictor is not None and COST in predictor.targets_
    saved = (inputs[chosen] if predicted else inputs[own]) - cached[own]
    if not np.isfinite(saved):
        return 0.0
    return float(saved * conversation.read_tokens * weight * _loss_per_usd(decision, router))


def _loss_per_usd(decision: Decision, router: Router) -> float:
    goal = decision.goals.get(COST) or GOALS[COST]
    dollar: NDArray[np.float64] = np.array([0.0, 1.0])
    nothing, one = router.objective.unit_penalty(goal, decision.task, dollar)
    return float(one - nothing)


def holds_encrypted(value: Any, depth: int = _DEEPEST) -> bool:
    """Return whether a message's content or fields hold reasoning that one vendor alone can read.

    Args:
        value: lists and mappings of any depth.
        depth: how deep to look.
    """
    if depth == 0:
        return False
    if isinstance(value, Mapping):
        if value.get("type") in _ENCRYPTED:
            return True
        return any(
            (key in _ENCRYPTED and bool(inner)) or holds_encrypted(inner, depth - 1)
            for key, inner in value.items()
            if key not in _ARGUMENTS
        )
    if isinstance(value, list | tuple):
        return any(holds_encrypted(inner, depth - 1) for inner in value)
    return False
