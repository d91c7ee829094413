"""Fine-tuning of a network with one output per expert (extra `hf`).

Imported only when a network is trained, because it needs torch.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from tryage.encoders.base import prepare_all
from tryage.errors import PredictorError
from tryage.files import replacing_folder
from tryage.predictors.optimizer_state import load_state_tensors, state_tensors

logger = logging.getLogger(__name__)

Floats = NDArray[np.float64]

_SOFTNESS = 0.2
"""Temperature of the softmax over losses, in units of their standard deviation."""

_WARM_UP = 0.1
"""Share of the steps over which the learning rate rises."""

STATE_FILE = "state.json"


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a network is trained.

    Attributes:
        epochs: most epochs over the training prompts.
        patience: epochs without a better held-out objective before training stops.
        batch: prompts in a step.
        rate: highest learning rate of the network.
        head_rate: highest learning rate of the outputs.
        regret: weight of the regret beside the squared error.
        held_out: share of the prompts that early stopping watches.
    """

    epochs: int = 5
    patience: int = 1
    batch: int = 32
    rate: float = 5e-5
    head_rate: float = 3e-3
    regret: float = 1.0
    held_out: float = 0.1


@dataclass(slots=True)
class Progress:
    """Where training stands: what a checkpoint's `state.json` holds.

    Attributes:
        key: fingerprint of prompts, losses, recipe and seed.
        epoch: epochs done.
        best: lowest held-out objective so far, infinity before the first epoch.
        best_epoch: the epoch that reached it.
        history: held-out objective of every epoch.
    """

    key: str
    epoch: int = 0
    best: float = float("inf")
    best_epoch: int = 0
    history: list[float] = field(default_factory=list)


class Trainable(Protocol):
    """A network that `FineTuning` trains: a torch module behind vectors of texts."""

    model: Any
    """The `torch.nn.Module` whose weights are trained."""

    @property
    def dim(self) -> int:
        """Length of a vector."""

    def config(self) -> dict[str, Any]:
        """Return what tells one network from another, as JSON types."""

    def vectors(self, texts: Sequence[str]) -> Any:
        """Return vectors as a torch tensor with gradients, (n, dim)."""


class FineTuning:
    """Trains a network and its outputs, one per expert, on measured losses.

    The objective is the squared error of the losses, in units of their deviation, plus `regret`
    times the expected distance to the best expert when choosing by a softmax over the predicted
    losses, both over measured cells. Equal for a seed on equal software and thread counts.

    Args:
        network: where training starts; it is changed.
        prompts: n texts.
        losses: (n, n_experts), lower is better, NaN where not measured.
        recipe: how to train.
        seed: drives the split, the order of prompts and dropout.
        checkpoints: folder of the last epoch's checkpoint, from which training resumes; None
            stores none.
        on_epoch: called with epochs done and most epochs, before the first one too.
    """

    def __init__(
        self,
        network: Trainable,
        prompts: Sequence[str],
        losses: Floats,
        recipe: Recipe,
        *,
        seed: int,
        checkpoints: Path | None = None,
        on_epoch: Callable[[int, int], None] | None = None,
    ) -> None:
        self.network = network
        self._on_epoch = on_epoch
        self.recipe = recipe
        self.seed = seed
        self.checkpoints = checkpoints
        self._texts = prepare_all(prompts)
        self._average = np.nanmean(losses, axis=0)
        self._spread = float(np.nanstd(losses)) or 1.0
        self._scaled = torch.from_numpy((losses - self._average) / self._spread).float()
        # Regret compares experts, so it needs the averages back.
        self._levels = torch.from_numpy(self._average / self._spread).float()
        self._head = torch.nn.Linear(network.dim, losses.shape[1])
        torch.nn.init.zeros_(self._head.weight)
        torch.nn.init.zeros_(self._head.bias)
        order = np.random.default_rng([seed, 8]).permutation(len(prompts))
        # Equal prompts stay on one side, or early stopping would watch memorised prompts.
        count = round(recipe.held_out * len(prompts))
        watched = {self._texts[row] for row in order[:count].tolist()}
        self._watched = np.array([row for row in order if self._texts[row] in watched], dtype=int)
        self._training = np.array(
            [row for row in order if self._texts[row] not in watched], dtype=int
        )
        if not len(self._training):
            self._training, self._watched = order, order[:0]
        self._epoch_steps = -(-len(self._training) // recipe.batch)
        self._optimizer = torch.optim.AdamW(
            [
                {"params": list(network.model.parameters()), "lr": recipe.rate},
                {"params": list(self._head.parameters()), "lr": recipe.head_rate},
            ],
            weight_decay=0.01,
        )
        self._schedule_from(0)

    def run(self) -> tuple[Floats, Floats, list[float]]:
        """Train; the network ends with the weights of its best epoch.

        Returns:
            Coefficients (dim, n_experts) and intercepts (n_experts,) of the losses on the
            network's vectors, and the held-out objective of every epoch.

        Raises:
            PredictorError: the checkpoint folder holds another training's.
        """
        progress = self._resume() or Progress(self._key())
        best = self._weights() if progress.epoch == 0 else self._best
        while progress.epoch < self.recipe.epochs:
            if self._on_epoch is not None:
                self._on_epoch(progress.epoch, self.recipe.epochs)
            self._train_epoch(progress.epoch)
            progress.epoch += 1
            objective = self._held_out_objective()
            progress.history.append(objective)
            logger.info("epoch %d: held-out objective %.4f", progress.epoch, objective)
            if objective < progress.best:
                progress.best, progress.best_epoch = objective, progress.epoch
                best = self._weights()
            self._save(progress, best)
            if progress.epoch - progress.best_epoch >= self.recipe.patience:
                break
        self._load(best)
        self.network.model.eval()
        weight = self._head.weight.detach().double().numpy()
        bias = self._head.bias.detach().double().numpy()
        return weight.T * self._spread, bias * self._spread + self._average, progress.history

    def _train_epoch(self, epoch: int) -> None:
        recipe = self.recipe
        rng = np.random.default_rng([self.seed, 9, epoch])
        batches = _batches(rng.permutation(self._training), self._texts, recipe.batch, rng)
        self.network.model.train()
        # Dropout draws from torch's global generator: seeded here, and restored afterwards.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(rng.integers(2**31)))
            for rows in batches:
                self._optimizer.zero_grad()
                self._objective(rows).backward()
                torch.nn.utils.clip_grad_norm_(self.network.model.parameters(), 1.0)
                self._optimizer.step()
                self._schedule.step()

    def _schedule_from(self, epoch: int) -> None:
        """Set the learning rates of the first step of an epoch: a rise, then a straight fall."""
        total = max(self._epoch_steps * self.recipe.epochs, 1)

        def share(step: int) -> float:
            return min((step + 1) / max(_WARM_UP * total, 1.0), 1.0 - step / total)

        self._schedule = torch.optim.lr_scheduler.LambdaLR(
            self._optimizer, share, last_epoch=epoch * self._epoch_steps - 1
        )

    def _objective(self, rows: NDArray[Any]) -> Any:
        """Return squared error plus weighted regret of some prompts, a scalar tensor."""
        predicted = self._head(self.network.vectors([self._texts[row] for row in rows.tolist()]))
        measured = self._scaled[rows]
        is_measured = ~torch.isnan(measured)
        actual = torch.nan_to_num(measured)
        count = is_measured.sum().clamp(min=1)
        error = (((predicted - actual) ** 2) * is_measured).sum() / count
        levels = predicted + self._levels
        chance = torch.softmax((-levels / _SOFTNESS).masked_fill(~is_measured, -1e9), dim=1)
        losses = actual + self._levels
        lowest = losses.masked_fill(~is_measured, float("inf")).min(dim=1, keepdim=True).values
        # A prompt without labels has no lowest loss and no regret.
        regret = torch.where(is_measured, losses - lowest, torch.zeros_like(losses))
        return error + self.recipe.regret * (chance * regret).sum(dim=1).mean()

    def _held_out_objective(self) -> float:
        """Return the objective on the held-out prompts; without any, it falls with every epoch."""
        if not len(self._watched):
            return float(-self._optimizer.state[self._head.bias]["step"])
        self.network.model.eval()
        total = 0.0
        with torch.inference_mode():
            for start in range(0, len(self._watched), 64):
                rows = self._watched[start : start + 64]
                total += float(self._objective(rows)) * len(rows)
        return total / len(self._watched)

    def _weights(self) -> dict[str, Any]:
        """Return a copy of all weights by name."""
        weights = {f"network.{k}": v for k, v in self.network.model.state_dict().items()}
        weights |= {f"head.{k}": v for k, v in self._head.state_dict().items()}
        return {name: value.detach().clone().contiguous() for name, value in weights.items()}

    def _load(self, weights: dict[str, Any]) -> None:
        for prefix, module in (("network.", self.network.model), ("head.", self._head)):
            module.load_state_dict(
                {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
            )

    def _key(self) -> str:
        digest = hashlib.sha256(json.dumps([asdict(self.recipe), self.seed]).encode())
        for text in self._texts:
            digest.update(text.encode() + b"\0")
        digest.update(self._scaled.numpy().tobytes())
        digest.update(json.dumps(self.network.config(), sort_keys=True).encode())
        return digest.hexdigest()

    def _save(self, progress: Progress, best: dict[str, Any]) -> None:
        """Write a checkpoint, whole or not at all."""
        if self.checkpoints is None:
            return
        with replacing_folder(self.checkpoints) as folder:
            save_file(self._weights(), folder / "weights.safetensors")
            save_file(best, folder / "best.safetensors")
            save_file(state_tensors(self._optimizer), folder / "optimizer.safetensors")
            text = json.dumps(asdict(progress), indent=1)
            (folder / STATE_FILE).write_text(text + "\n", encoding="utf-8")

    def _resume(self) -> Progress | None:
        """Load the checkpoint, if there is one."""
        if self.checkpoints is None or not (self.checkpoints / STATE_FILE).is_file():
            return None
        progress = Progress(
            **json.loads((self.checkpoints / STATE_FILE).read_text(encoding="utf-8"))
        )
        if progress.key != self._key():
            raise PredictorError(
                f"{self.checkpoints} holds checkpoints of another training (other prompts, losses, "
                "network, recipe or seed); name another folder, or remove it"
            )
        self._load(load_file(self.checkpoints / "weights.safetensors"))
        self._best = load_file(self.checkpoints / "best.safetensors")
        load_state_tensors(self._optimizer, load_file(self.checkpoints / "optimizer.safetensors"))
        self._schedule_from(progress.epoch)
        if progress.epoch - progress.best_epoch >= self.recipe.patience:
            # Early stopping had ended this training.
            progress.epoch = self.recipe.epochs
        return progress


def _batches(
    order: NDArray[Any], texts: Sequence[str], size: int, rng: np.random.Generator
) -> list[NDArray[Any]]:
    """Split prompts into batches of similar length, in random order."""
    chunk = 16 * size
    rows: list[NDArray[Any]] = []
    for start in range(0, len(order), chunk):
        part = order[start : start + chunk]
        part = part[np.argsort([len(texts[row]) for row in part.tolist()], kind="stable")]
        rows += [part[at : at + size] for at in range(0, len(part), size)]
    return [rows[number] for number in rng.permutation(len(rows))]
