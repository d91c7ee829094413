"""What a co-training returns: the figures of its rounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tryage.cotraining.assigning import mutual_information


@dataclass(frozen=True, kw_only=True)
class Round:
    """The figures of one round; losses are in bits per byte, lower is better.

    Attributes:
        round: its number; 0 is the state before any training.
        held_out_loss: mean loss of the expert that the router chooses, over held-out prompts.
        labelled_loss: the same over the labelling sample, on which the router was fitted.
        best_loss: mean loss of each held-out prompt's best expert: the bound of any router.
        single_loss: mean held-out loss of the one expert that is best on the labelling sample.
        shares: share of the held-out prompts that the router sends to each expert.
        trained: how many prompts of the stream each expert was trained on in this round.
        rolled_back: experts whose update was undone.
        reasons: why, by expert.
        matrix: mean held-out loss by group and expert.
        choices: number of held-out prompts by group and chosen expert.
        mutual_information: of group and chosen expert, in bits.
        steps: steps of each update.
        seconds: how long the round took; not compared.
    """

    round: int
    held_out_loss: float
    labelled_loss: float
    best_loss: float
    single_loss: float
    shares: Mapping[str, float]
    trained: Mapping[str, int] = field(default_factory=dict)
    rolled_back: tuple[str, ...] = ()
    reasons: Mapping[str, str] = field(default_factory=dict)
    matrix: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    choices: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    mutual_information: float = 0.0
    steps: Mapping[str, int] = field(default_factory=dict)
    seconds: float = field(default=0.0, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """Return the object that ``tryage cotrain --json`` prints."""
        return {**asdict(self), "rolled_back": list(self.rolled_back)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Round:
        """Return the round that `to_dict` described; unknown keys are ignored."""
        names = {one.name for one in fields(cls)}
        values = {name: value for name, value in data.items() if name in names}
        return cls(**{**values, "rolled_back": tuple(values.get("rolled_back", ()))})


@dataclass(frozen=True)
class CotrainingRun:
    """A co-training and its folder.

    Attributes:
        folder: holds ``router/`` and ``experts/NAME/``.
        rounds: figures of all rounds, from 0.
    """

    folder: Path
    rounds: tuple[Round, ...]

    @property
    def router(self) -> Path:
        """Folder of the last router."""
        return self.folder / "router"

    def __str__(self) -> str:
        """Two sentences for people, and why it did not pay where it did not."""
        first, last = self.rounds[0], self.rounds[-1]
        before, after = first.held_out_loss, last.held_out_loss
        change = (after - before) / before if before else 0.0
        count = len(self.rounds) - 1
        text = (
            f"{count} round{'s' if count > 1 else ''}: the routed held-out loss went from "
            f"{before:.4f} to {after:.4f} bits per byte ({change:+.1%}). The router is in "
            f"{self.router}."
        )
        if after <= before:
            return text
        if last.best_loss < first.best_loss:
            return (
                f"{text} It did not pay: each prompt's best expert improved, from "
                f"{first.best_loss:.4f} to {last.best_loss:.4f}, but the router that was fitted "
                "again chooses worse than the first one; label a larger share of more prompts."
            )
        return f"{text} It did not pay: the experts did not improve on the held-out prompts."


def by_group(
    groups: Sequence[str], names: Sequence[str], losses: NDArray[np.float64]
) -> dict[str, dict[str, float]]:
    """Return the mean loss by group and expert; what was not measured is left out.

    Args:
        groups: of n prompts.
        names: m experts.
        losses: (n, m), NaN where not measured.
    """
    of = np.array(groups)
    means: dict[str, dict[str, float]] = {}
    for group in sorted(set(groups)):
        row = {name: _mean(losses[of == group, i]) for i, name in enumerate(names)}
        means[group] = {name: loss for name, loss in row.items() if not np.isnan(loss)}
    return means


def chosen_by_group(
    groups: Sequence[str], names: Sequence[str], choices: NDArray[np.int64]
) -> dict[str, dict[str, int]]:
    """Return how often each expert was chosen in each group."""
    of = np.array(groups)
    return {
        group: {
            name: int((choices[of == group] == column).sum()) for column, name in enumerate(names)
        }
        for group in sorted(set(groups))
    }


def figures(
    number: int,
    names: Sequence[str],
    labelled: tuple[NDArray[np.float64], NDArray[np.int64]],
    held_out: tuple[NDArray[np.float64], NDArray[np.int64]],
    groups: Sequence[str],
    **more: Any,
) -> Round:
    """Return a round's figures.

    Args:
        number: of the round.
        names: m experts.
        labelled: losses (n, m) on the labelling sample, and the router's choices (n,).
        held_out: the same on the held-out prompts.
        groups: of the held-out prompts.
        **more: further attributes of `Round`.
    """
    losses, choices = held_out
    counts = np.bincount(choices, minlength=len(names))
    averages = [_mean(column) for column in labelled[0].T]
    best_on_sample = int(np.nanargmin(averages))
    return Round(
        round=number,
        held_out_loss=_routed(losses, choices),
        labelled_loss=_routed(*labelled),
        best_loss=_mean(_lowest(losses)),
        single_loss=_mean(losses[:, best_on_sample]),
        shares={name: float(counts[i] / len(choices)) for i, name in enumerate(names)},
        matrix=by_group(groups, names, losses),
        choices=chosen_by_group(groups, names, choices),
        mutual_information=mutual_information(groups, choices),
        **more,
    )


def _routed(losses: NDArray[np.float64], choices: NDArray[np.int64]) -> float:
    return _mean(losses[np.arange(len(choices)), choices])


def _lowest(losses: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the lowest loss of each row; NaN where none was measured."""
    lowest = np.where(np.isnan(losses), np.inf, losses).min(axis=1)
    return np.where(np.isinf(lowest), np.nan, lowest)


def _mean(values: NDArray[np.float64]) -> float:
    """Mean of what was measured; NaN where nothing was."""
    measured = values[~np.isnan(values)]
    return float(measured.mean()) if len(measured) else float("nan")
