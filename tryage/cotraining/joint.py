"""Joint training: the router's gate and all experts by one gradient, as the paper words it.

For a prompt x with the experts' losses l_e(x), in bits per byte, and the gate's predictions g_e(x),

    p_e(x) = softmax_e(-g_e(x) / T)
    objective = mean_x [ sum_e p_e(x) l_e(x) + mean_e (g_e(x) - l_e(x))^2 ]
                + b m sum_e (mean_x p_e(x))^2

The first term trains experts and gate, the second the gate alone (l_e without gradient), and the
third, the load-balance term, is lowest where all experts have the same share. The temperature T
falls over the rounds, so that weighing becomes choosing. The gate is the round's router plus a
linear map of the encoder's vector that starts at zero.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from tryage.cotraining.assigning import best
from tryage.cotraining.fine_tuning import (
    CLIP,
    Trained,
    hidden_anew,
    merged,
    save_model,
    schedule_of,
    stored_dtype,
    trainable,
)
from tryage.cotraining.folder import read_json
from tryage.cotraining.measuring import loaded
from tryage.cotraining.rounds import Rounds
from tryage.encoders import resolve_encoder
from tryage.errors import ExpertError, missing_extra
from tryage.files import write_text
from tryage.labeling.rows import Row
from tryage.labeling.tokens import Encoded, Pipeline, encode_row
from tryage.labeling.window_losses import padded, predicted_places
from tryage.router import Router
from tryage.runtime.base import MODEL_FAULTS

try:
    import torch
except ImportError as error:
    raise missing_extra("hf", "training experts") from error

_JOINT = 3
"""Keeps the random draws of joint training from those of other purposes."""

_UNUSABLE = 1e4
"""Prediction, in bits per byte, for an expert that cannot read a prompt."""


class JointRounds(Rounds):
    """Rounds in which all experts are in memory together, and weighed by the gate."""

    def train_round(self, number: int, router: Router) -> dict[str, int]:
        """Train gate and experts together, then settle each expert.

        Returns:
            The sum of the gate's weights of each expert over the last epoch, rounded.
        """
        round_ = self.folder.round(number)
        trained = {n: round_.notes(n).is_file() or round_.update(n).is_file() for n in self.names}
        if not all(trained.values()) or not round_.assigned.is_file():
            self._train_together(number, router)
        served = best(self.predicted(router, self.parts.labelled))
        for column, name in enumerate(self.names):
            if not round_.update(name).is_file():
                outcome = {"trained": read_json(round_.notes(name))}
                self.settle(number, name, outcome, judged=served == column)
        lines = round_.assigned.read_text(encoding="utf-8").splitlines()
        weights = [json.loads(line)["weights"] for line in lines]
        return {name: round(sum(row[name] for row in weights)) for name in self.names}

    def _train_together(self, number: int, router: Router) -> None:
        """Train, and write new weights, the gate's weights of each prompt, and notes."""
        round_ = self.folder.round(number)
        rows = self.parts.of_round(number, self.options.per_round)
        with contextlib.ExitStack() as stack:
            pipelines = [
                stack.enter_context(
                    loaded(self.library[name], self.folder.expert(name), self.options.device)
                )
                for name in self.names
            ]
            training = _Joint(self, number, router, rows, pipelines)
            try:
                losses = training.run()
            except MODEL_FAULTS as error:
                raise ExpertError(f"joint training failed in round {number}: {error}") from error
            for name, pipeline, model in zip(self.names, pipelines, training.models, strict=True):
                dtype = stored_dtype(self.folder.expert(name))
                save_model(pipeline, merged(model, self.options), round_.expert(name), dtype)
        lines = [
            {"id": row.id, "weights": dict(zip(self.names, weights, strict=True))}
            for row, weights in zip(rows, training.weights.tolist(), strict=True)
        ]
        write_text(round_.assigned, "".join(json.dumps(line) + "\n" for line in lines))
        tenth = max(1, len(losses) // 10)
        first, last = float(np.mean(losses[:tenth])), float(np.mean(losses[-tenth:]))
        for name in self.names:
            trained = Trained(len(rows), len(losses), first, last)
            write_text(round_.notes(name), json.dumps(asdict(trained)) + "\n")


class _Joint:
    """The training of one round.

    Attributes:
        models: the experts' models, as `trainable` returns them.
        weights: (n, m) the gate's weights of each row when it was last trained on.
    """

    def __init__(
        self,
        rounds: Rounds,
        number: int,
        router: Router,
        rows: Sequence[Row],
        pipelines: Sequence[Pipeline],
    ) -> None:
        options = rounds.options
        self.rounds, self.options, self.number = rounds, options, number
        self.rows, self.pipelines = rows, pipelines
        self.models = [trainable(pipeline, options) for pipeline in pipelines]
        self.weights = np.zeros((len(rows), len(pipelines)))
        predictor = router.predictors[rounds.task]
        encoder = predictor.encoder or resolve_encoder("static")
        vectors = encoder.encode([row.prompt for row in rows])
        device = pipelines[0].model.device
        self._vectors = torch.from_numpy(np.asarray(vectors, dtype=np.float32)).to(device)
        predicted = np.nan_to_num(rounds.predicted(router, rows))
        self._predicted = torch.from_numpy(predicted).float().to(device)
        self._gate = torch.nn.Linear(self._vectors.shape[1], len(pipelines)).to(device)
        torch.nn.init.zeros_(self._gate.weight)
        torch.nn.init.zeros_(self._gate.bias)
        self._rng = np.random.default_rng([options.seed, number, _JOINT])

    def run(self) -> list[float]:
        """Train; return the objective of every step, in bits per byte."""
        options = self.options
        batches = [
            order[at : at + options.batch]
            for order in (self._rng.permutation(len(self.rows)) for _ in range(options.epochs))
            for at in range(0, len(order), options.batch)
        ][: options.max_steps]
        experts = [p for model in self.models for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(
            [
                {"params": experts, "lr": options.learning_rate},
                {"params": list(self._gate.parameters()), "lr": options.gate_rate},
            ],
            weight_decay=options.weight_decay,
        )
        schedule = schedule_of(optimizer, len(batches), options)
        advance = self.rounds.advance("training jointly")
        objectives = []
        # Dropout draws from torch's global generator: seeded here, and restored afterwards.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(self._rng.integers(2**31)))
            for model in self.models:
                model.train()
            for step, batch in enumerate(batches):
                objective = self._objective(batch, self._temperature(step / len(batches)))
                value = float(objective.detach())
                if not math.isfinite(value):
                    raise ExpertError(
                        f"the joint objective at step {step + 1} of {len(batches)} is {value:g}; "
                        f"lower the learning rate, {options.learning_rate:g}"
                    )
                objective.backward()
                for model in self.models:  # one expert's large gradient does not shrink another's
                    torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
                optimizer.step()
                optimizer.zero_grad()
                schedule.step()
                objectives.append(value)
                if advance is not None:
                    advance(step + 1, len(batches))
        return objectives

    def _temperature(self, done: float) -> float:
        """Return the temperature at a part of this round, from 0 to 1."""
        options = self.options
        share = min((self.number - 1 + done) / options.rounds, 1.0)
        return float(
            options.temperature * (options.last_temperature / options.temperature) ** share
        )

    def _objective(self, batch: Any, temperature: float) -> Any:
        """Return the objective of some rows, a scalar tensor; see the module."""
        rows = [hidden_anew(self.rows[i], self.options, self._rng) for i in batch.tolist()]
        at = torch.from_numpy(batch).to(self._vectors.device)
        columns = [
            _bits_per_byte(pipeline, model, rows, self.options.max_window)
            for pipeline, model in zip(self.pipelines, self.models, strict=True)
        ]
        losses = torch.stack(columns, dim=1)  # (batch, m), NaN where an expert cannot read a row
        usable = ~torch.isnan(losses)
        losses = torch.where(usable, losses, torch.zeros_like(losses))
        gate = self._predicted[at] + self._gate(self._vectors[at])
        logits = torch.where(usable, -gate, torch.full_like(gate, -_UNUSABLE)) / temperature
        weights = torch.softmax(logits, dim=1) * usable
        self.weights[batch] = weights.detach().cpu().numpy()
        error = ((gate - losses.detach()) ** 2 * usable).sum(dim=1) / usable.sum(dim=1).clamp(min=1)
        shares = weights.mean(dim=0)
        balance = self.options.balance * len(self.models) * (shares**2).sum()
        return ((weights * losses).sum(dim=1) + error).mean() + balance


def _bits_per_byte(pipeline: Pipeline, model: Any, rows: Sequence[Row], max_window: int) -> Any:
    """Return an expert's losses with gradient, (rows,) in bits per byte; NaN where it has none."""
    encoded: Mapping[int, Encoded] = dict(_readable(pipeline, rows, max_window))
    windows = [(i, window) for i, one in encoded.items() for window in one.windows if window.at]
    device = pipeline.model.device
    if not windows:
        return torch.full((len(rows),), math.nan, device=device)
    ids, mask = padded(pipeline, [window for _, window in windows])
    of, at = predicted_places([window for _, window in windows], device)
    owner = torch.tensor([i for i, _ in windows], device=device)[of]
    targets = torch.tensor([t for _, window in windows for t in window.targets], device=device)
    logits = model(input_ids=ids, attention_mask=mask).logits[of, at].float()
    nats = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    summed = torch.zeros(len(rows), device=device).index_add(0, owner, nats)
    sizes = torch.full((len(rows),), math.nan, device=device)
    for i in {i for i, _ in windows}:
        sizes[i] = encoded[i].size
    return summed / math.log(2) / sizes


def _readable(
    pipeline: Pipeline, rows: Sequence[Row], max_window: int
) -> list[tuple[int, Encoded]]:
    readable = []
    for i, row in enumerate(rows):
        with contextlib.suppress(ExpertError):
            readable.append((i, encode_row(pipeline, row, max_window=max_window)))
    return readable
