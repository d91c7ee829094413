"""State of a torch optimizer as named tensors, as safetensors files hold it (extra `hf`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

Tensors = dict[str, torch.Tensor]


def state_tensors(optimizer: torch.optim.Optimizer) -> Tensors:
    """Return what an optimizer accumulated: "parameter number.name" → tensor."""
    return {
        f"{number}.{name}": value
        for number, state in optimizer.state_dict()["state"].items()
        for name, value in state.items()
    }


def load_state_tensors(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Any]) -> None:
    """Put back what `state_tensors` returned; learning rates stay as they are.

    Args:
        optimizer: one over the same parameters in the same order.
        tensors: "parameter number.name" → tensor.
    """
    state: dict[int, Tensors] = {}
    for key, value in tensors.items():
        number, _, name = key.partition(".")
        state.setdefault(int(number), {})[name] = value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
