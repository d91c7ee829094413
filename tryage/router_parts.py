"""The parts of a router, and how a router with other parts is made of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Self

from tryage.deciding import Decider, without_unmeasured
from tryage.decision_log import DecisionLog
from tryage.drawing.notebook import html_table
from tryage.library import Library
from tryage.objective import Objective
from tryage.persistence import RouterState
from tryage.plans import JointSuccess, Rates
from tryage.policy import Policy
from tryage.predictors import Predictor
from tryage.similar import TrainingPrompts

if TYPE_CHECKING:
    from tryage.scores.feedback import FeedbackFile


class RouterParts:
    """Base of `Router`: what it is made of, and copies with other parts; see there."""

    def __init__(
        self,
        library: Library,
        predictors: Mapping[str, Predictor],
        *,
        objective: Objective,
        policy: Policy | None = None,
        provenance: Mapping[str, Any] | None = None,
        joint: Mapping[str, JointSuccess] | None = None,
        check_rates: Mapping[str, Rates] | None = None,
        training_prompts: Mapping[str, TrainingPrompts] | None = None,
        feedback_file: FeedbackFile | None = None,
        decision_log: DecisionLog | None = None,
    ) -> None:
        self.library = library
        self.predictors = dict(predictors)
        self.objective = without_unmeasured(objective, self.predictors)
        self.policy = policy or Policy()
        self.provenance = dict(provenance or {})
        self.joint = dict(joint or {})
        self.check_rates = dict(check_rates or {})
        self.training_prompts = dict(training_prompts or {})
        self.feedback_file = feedback_file
        self.decision_log = decision_log
        self._decider = Decider(
            library,
            self.predictors,
            self.objective,
            self.policy,
            self.joint,
            self.check_rates,
            scored=self.provenance.get("kind") != "losses",
            scripts=_scripts(self.provenance.get("scripts")),
        )

    def __repr__(self) -> str:
        kinds = ", ".join(f"{task}: {p.kind}" for task, p in self.predictors.items())
        return f"Router({self.library.name!r}, {len(self.library)} experts, {kinds})"

    def _repr_html_(self) -> str:
        rows = [
            (
                task,
                predictor.kind,
                f"{len(predictor.experts_):,}",
                "–" if predictor.encoder is None else predictor.encoder.name,
            )
            for task, predictor in self.predictors.items()
        ]
        prompts = self.provenance.get("prompts")
        fitted = "" if prompts is None else f", fitted on {prompts:,} prompts"
        return html_table(
            f"Router of library {self.library.name!r}{fitted}",
            ["task", "predictor", "experts", "encoder"],
            rows,
        )

    @property
    def tasks(self) -> tuple[str, ...]:
        """Tasks that prompts can be routed for."""
        return tuple(self.predictors)

    def replace(self, **changes: Any) -> Self:
        """Return a router with some parts replaced, named as in the constructor."""
        files = {"feedback_file": self.feedback_file, "decision_log": self.decision_log}
        parts = {**saved_parts(self), **files}
        return type(self)(**{**parts, **changes})


def _scripts(names: Any) -> tuple[str, ...] | None:
    """Return the scripts that a provenance states; None where it states none."""
    return tuple(map(str, names)) if isinstance(names, list) and names else None


def saved_parts(owner: RouterParts | RouterState) -> dict[str, Any]:
    """Return the parts that a router's folder holds, named as in the constructor."""
    return {part.name: getattr(owner, part.name) for part in fields(RouterState)}
