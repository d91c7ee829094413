"""What a router is, for people and as JSON: experts, training, verdict, kinds of prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tryage.distilled import distilled_from
from tryage.evaluation.verdict import Verdict
from tryage.experts import Expert
from tryage.kinds import PromptKind
from tryage.library import Library
from tryage.router_parts import RouterParts
from tryage.units import format_count

_TRAINING = (
    "fitted_on",
    "prompts",
    "cells",
    "kind",
    "holdout",
    "predictor",
    "encoder",
    "seed",
    "data_sha256",
    "experts_since",
    "distilled",
    "validation",
)
"""What a summary tells of the provenance, in this order."""

_VALIDATED = ("score", "loss", "regret", "selection_accuracy")
"""Figures of a cross-validation that are shown."""

_RUNNERS_UP = 2
"""Experts that are shown behind the best one of a kind of prompt."""


@dataclass(frozen=True, slots=True)
class RouterSummary:
    """What a router is; `str` gives it as text, `to_dict` as JSON types.

    Attributes:
        library: the experts.
        tasks: task → kind of its predictor.
        training: what it was fitted on: date, prompts, cells, hash of the table; empty where
            nothing was measured.
        policy: what the operator allows, as JSON.
        verdicts: task → verdict on held-out prompts.
        kinds: task → kinds of prompts.
        stored_prompts: how many training prompts the router keeps as text.
    """

    library: Library
    tasks: Mapping[str, str]
    training: Mapping[str, Any]
    policy: Mapping[str, Any]
    verdicts: Mapping[str, Verdict]
    kinds: Mapping[str, Sequence[PromptKind]]
    stored_prompts: int

    @classmethod
    def of(
        cls,
        router: RouterParts,
        verdicts: Mapping[str, Verdict],
        kinds: Mapping[str, Sequence[PromptKind]],
    ) -> RouterSummary:
        """Gather the parts of a router."""
        provenance = router.provenance
        return cls(
            library=router.library,
            tasks={task: predictor.kind for task, predictor in router.predictors.items()},
            training={key: provenance[key] for key in _TRAINING if key in provenance},
            policy=router.policy.to_dict(),
            verdicts=verdicts,
            kinds=kinds,
            stored_prompts=sum(len(one.prompts) for one in router.training_prompts.values()),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return what ``tryage show --json`` prints."""
        return {
            **self.library.to_dict(),
            "tasks": dict(self.tasks),
            "training": dict(self.training),
            "policy": dict(self.policy),
            "verdicts": {task: verdict.to_dict() for task, verdict in self.verdicts.items()},
            "kinds": {
                task: [kind.to_dict() for kind in kinds] for task, kinds in self.kinds.items()
            },
            "stored_prompts": self.stored_prompts,
        }

    def __str__(self) -> str:
        sections = [self._heading(), self._experts()]
        for task, verdict in self.verdicts.items():
            of_task = f" on {task}" if len(self.verdicts) > 1 else ""
            sections.append(f"Verdict{of_task}: {verdict.sentence()}\n\n{verdict.table()}")
        sections += [self._kinds_of(task) for task in self.kinds]
        return "\n\n".join(sections)

    def _heading(self) -> str:
        training = self.training
        lines = [f"{self.library.name}: a router over {len(self.library)} experts"]
        lines += [f"  {task}: predictor {kind}" for task, kind in self.tasks.items()]
        if not training:
            lines.append("Nothing was measured: it decides by goals and limits alone.")
        else:
            date = f" on {training['fitted_on']}" if "fitted_on" in training else ""
            held = f", {training['holdout']:.0%} held out" if "holdout" in training else ""
            lines.append(
                f"Fitted{date}: {training['prompts']:,} prompts, {training['cells']:,} results "
                f"({training['kind']}){held}; predictor {training['predictor']}, encoder "
                f"{training['encoder']}, seed {training['seed']}."
            )
            lines += self.distilled()
            for task, row in training.get("validation", {}).items():
                if task not in self.verdicts:  # fitted before there were verdicts
                    figures = [f"{k} {row[k]:.4f}" for k in _VALIDATED if row.get(k) is not None]
                    lines.append(f"{task}, cross-validated: {', '.join(figures) or 'no figures'}.")
            if training["data_sha256"] is not None:
                lines.append(f"Table: SHA-256 {training['data_sha256']}.")
        if "experts_since" in training:
            lines.append("Experts were added or taken out since; the others were not refitted.")
        lines.append(
            f"Keeps {self.stored_prompts:,} training prompts as text."
            if self.stored_prompts
            else "Keeps no training prompts."
        )
        lines += [f"Policy: {key.replace('_', ' ')}: {value}" for key, value in self.policy.items()]
        return "\n".join(lines)

    def distilled(self) -> list[str]:
        """Return sentences on the teacher of a distilled router; none for any other."""
        return distilled_from(self.training)

    def _experts(self) -> str:
        rows = [
            ["expert", "task", "model", "parameters", "released", "license", "context", "price"]
        ]
        rows += [
            [
                expert.name,
                expert.task,
                expert.model,
                _count(expert.parameters),
                str(expert.released or ""),
                expert.license or "",
                _count(expert.context_length),
                _price(expert),
            ]
            for expert in self.library
        ]
        several = len(self.library.tasks) > 1
        stated = [
            place
            for place, head in enumerate(rows[0])
            if any(row[place] for row in rows[1:])
            and (head != "task" or several)
            and (head != "model" or any(row[place] != row[0] for row in rows[1:]))
        ]
        return _aligned([[row[place] for place in stated] for row in rows])

    def _kinds_of(self, task: str) -> str:
        of_task = f" of {task}" if len(self.kinds) > 1 else ""
        scored = self.training.get("kind") == "scores"
        rows = [["prompts", "share", "best", "then", "groups", "typical words"]]
        for kind in self.kinds[task]:
            ranked = sorted(
                kind.losses, key=lambda name: (kind.losses[name], name != kind.best, name)
            )
            figures = [
                f"{name} {1 - kind.losses[name] if scored else kind.losses[name]:.2f}"
                for name in ranked
            ]
            best, *others = figures or ["-"]
            rows.append(
                [
                    str(kind.prompts),
                    f"{kind.share:.0%}",
                    best,
                    ", ".join(others[:_RUNNERS_UP]),
                    ", ".join(f"{group} {count}" for group, count in kind.groups.items()),
                    ", ".join(kind.words),
                ]
            )
        shown = [place for place in range(len(rows[0])) if any(row[place] for row in rows[1:])]
        title = f"Kinds of prompts{of_task}: clusters of the training prompts, mean "
        title += "scores" if scored else "losses"
        return f"{title}\n" + _aligned([[row[place] for place in shown] for row in rows])


def _count(number: float | None) -> str:
    return "" if number is None else format_count(number)


def _price(expert: Expert) -> str:
    """Return the price of a million tokens in and out."""
    if expert.price is None:
        return ""
    each = 1_000_000 / expert.price.per
    return f"{expert.price.input * each:g} + {expert.price.output * each:g} USD per 1M tokens"


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
