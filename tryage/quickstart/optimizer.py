"""The optimizer of the starter experts: Muon for the layers' matrices, Adam for the rest.

In the few hundred steps of a training, Muon reduces the loss about twice as far as Adam alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from tryage.errors import missing_extra

try:
    import torch

    from tryage.predictors.optimizer_state import Tensors, load_state_tensors, state_tensors
except ImportError as error:
    raise missing_extra("hf", "training experts") from error

_BETAS = (0.9, 0.98)

_RISE = 0.05
"""Share of the steps over which the learning rate rises."""

_FLOOR = 0.05
"""Share of the highest learning rate that the last step has."""


class Optimizer:
    """Updates a model's parameters from their gradients on a schedule of learning rates.

    Matrices move along their orthogonalized momentum (Muon); embeddings, which are the output
    layer too, norms and biases by Adam.

    Args:
        parameters: name → parameter.
        rate: highest learning rate.
        steps: steps of the whole training.
    """

    def __init__(
        self, parameters: Mapping[str, torch.nn.Parameter], rate: float, steps: int
    ) -> None:
        matrices = {n: p for n, p in parameters.items() if p.ndim == 2 and "embed" not in n}
        others = [p for n, p in parameters.items() if n not in matrices]
        self._total = steps
        self._optimizers: dict[str, torch.optim.Optimizer] = {}
        if matrices:
            muon = torch.optim.Muon(matrices.values(), lr=rate, weight_decay=0.0)
            self._optimizers["matrices"] = muon
        if others:
            self._optimizers["others"] = torch.optim.Adam(others, lr=rate, betas=_BETAS)
        self._schedule_from(0)

    def step(self) -> None:
        """Move every parameter against its gradient, then clear the gradients."""
        for optimizer in self._optimizers.values():
            optimizer.step()
            optimizer.zero_grad()
        for schedule in self._schedules:
            schedule.step()
        self.steps += 1

    def state(self) -> Tensors:
        """Return the state as named tensors."""
        return {
            f"{name}.{key}": value
            for name, optimizer in self._optimizers.items()
            for key, value in state_tensors(optimizer).items()
        }

    def load(self, state: Mapping[str, torch.Tensor], steps: int) -> None:
        """Continue from the state after `steps` steps; other tensors in it are ignored."""
        for name, optimizer in self._optimizers.items():
            prefix = f"{name}."
            tensors = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
            load_state_tensors(optimizer, tensors)
        self._schedule_from(steps)

    def _schedule_from(self, steps: int) -> None:
        self.steps = steps
        self._schedules = [
            torch.optim.lr_scheduler.LambdaLR(optimizer, self._share, last_epoch=steps - 1)
            for optimizer in self._optimizers.values()
        ]

    def _share(self, step: int) -> float:
        """Return a step's share of the highest rate: a short rise, then half a cosine down."""
        rise = min(1.0, (step + 1) / (_RISE * self._total + 1))
        cosine = 0.5 * (1 + math.cos(math.pi * step / self._total))
        return rise * (_FLOOR + (1 - _FLOOR) * cosine)
