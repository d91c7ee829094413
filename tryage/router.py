"""The router: library, predictor and objective. It decides; it does not call experts."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from tryage import growth, persistence
from tryage.assessed import AssessedRouter
from tryage.checks import Check, Function
from tryage.deciding import Array, Decider, FlagMode, Request, without_unmeasured
from tryage.decision import Decision
from tryage.encoders import Encoder
from tryage.errors import TryageWarning
from tryage.experts import Expert
from tryage.folders import Folders
from tryage.forecast import Forecast
from tryage.goals import Goals
from tryage.library import Library
from tryage.objective import Objective
from tryage.persistence import RouterState
from tryage.plans import JointSuccess, Rates
from tryage.policy import Policy
from tryage.predictors import Predictor, UnmeasuredPredictor

if TYPE_CHECKING:
    from tryage.scores import ScoreTable
    from tryage.scores.feedback import FeedbackFile


class Router(AssessedRouter):
    """Decides which expert a prompt goes to.

    Deciding is pure: no network, no change of state, safe from many threads at once.

    Attributes:
        library: the experts.
        objective: goals on the scales fixed at fitting.
        predictors: task → fitted predictor.
        policy: what the operator allows.
        provenance: where the predictors come from (table hash, counts, seed, validation).
        joint: task → how its experts fail together, which plans follow from.
        check_rates: check's name → expert → measured (accepts_right, accepts_wrong).
        feedback_file: where scores of answers are kept; None, as usual, keeps none.
    """

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
        feedback_file: FeedbackFile | None = None,
    ) -> None:
        self.library = library
        self.predictors = dict(predictors)
        self.objective = without_unmeasured(objective, self.predictors)
        self.policy = policy or Policy()
        self.provenance = dict(provenance or {})
        self.joint = dict(joint or {})
        self.check_rates = dict(check_rates or {})
        self.feedback_file = feedback_file
        self._decider = Decider(
            library,
            self.predictors,
            self.objective,
            self.policy,
            self.joint,
            self.check_rates,
            scored=self.provenance.get("kind") != "losses",
        )

    def __repr__(self) -> str:
        kinds = ", ".join(f"{task}: {p.kind}" for task, p in self.predictors.items())
        return f"Router({self.library.name!r}, {len(self.library)} experts, {kinds})"

    @classmethod
    def from_pretrained(
        cls, name: str | Path, *, policy: Policy | None = None, folders: Folders = ()
    ) -> Router:
        """Load a router from a folder, or a bundled one by name.

        Args:
            name: a router folder, or a bundled router's name.
            policy: what the operator allows; by default the policy that was saved with the router.
            folders: folders outside the router's own whose models it may use.

        Raises:
            ConsentError: its encoder lies in another folder, and it is not allowed.
            RouterNotFoundError: there is no such folder or bundled router.
            FormatVersionError: a newer Tryage wrote it.
            DamagedFileError: a file of it is missing, cut or changed.
        """
        state = persistence.load(persistence.find_router(name), folders=folders)
        return cls(**{**_parts(state), "policy": policy or state.policy})

    @classmethod
    def fit(
        cls,
        table: ScoreTable,
        *,
        library: Library,
        predictor: str = "auto",
        encoder: str | Encoder = "static",
        seed: int = 0,
        policy: Policy | None = None,
    ) -> Router:
        """Fit a router on measured results, task by task.

        Args:
            table: prompts × experts; cells may be missing.
            library: the experts; those of a task that occurs in the table must be measured.
            predictor: "auto", or a key of `tryage.predictors.PREDICTORS`.
            encoder: ``"static"``, a sentence-transformers id or folder, or an encoder.
            seed: makes fitting repeatable.
            policy: what the operator allows.

        Raises:
            ScoreTableError: table and library do not name the same experts.
            PredictorError: the predictor is unknown, or cannot be fitted on this table.
            EncoderError: the encoder is unknown.
        """
        from tryage import training
        from tryage.encoders import resolve_encoder
        from tryage.plans.fitting import fit_joint

        training.check_kind(predictor)  # an unknown kind fails before the encoder loads
        predictors, objective, provenance = training.fit_tasks(
            table, library, predictor, resolve_encoder(encoder), seed
        )
        joint = fit_joint(table, library, seed)
        return cls(
            library,
            predictors,
            objective=objective,
            policy=policy,
            provenance=provenance,
            joint=joint,
        )

    @classmethod
    def from_library(cls, library: Library, *, policy: Policy | None = None) -> Router:
        """Return a router for a library without measurements.

        It decides by goals and limits alone, then by price and name, and its decisions say so:
        their losses are unknown.
        """
        predictors: dict[str, Predictor] = {
            task: UnmeasuredPredictor().learn_names(library.of_task(task).names)
            for task in library.tasks
        }
        objective = Objective.fit(library, dict.fromkeys(library.tasks, 1.0))
        return cls(library, predictors, objective=objective, policy=policy)

    def save_pretrained(self, folder: str | Path, *, card: str | None = None) -> None:
        """Save the router as a folder of JSON and safetensors, whole or not at all.

        Custom goals of the policy are code, and exclusions are temporary, so neither is saved. A
        warning names what is left out.

        Args:
            folder: a new folder, an empty one, or an old router's, which is replaced.
            card: text of the folder's README.md; by default provenance and validation.

        Raises:
            OutputFolderError: the folder holds something else.
        """
        from tryage.cards import model_card

        for part in persistence.left_out(self.policy, self.objective, self.tasks):
            warnings.warn(f"{folder}: saved without {part}", TryageWarning, stacklevel=2)
        state = RouterState(**_parts(self))
        persistence.save(state, Path(folder), card or model_card(state))

    @property
    def tasks(self) -> tuple[str, ...]:
        """Tasks that prompts can be routed for."""
        return tuple(self.predictors)

    def with_policy(self, policy: Policy) -> Router:
        """Return a router that decides under another policy."""
        return self.replace(policy=policy)

    def with_feedback(self, path: str | Path, *, store_prompts: bool = False) -> Router:
        """Return a router that stores `feedback` in a score table.

        The path is not saved with the router; set it again after loading.

        Args:
            path: a JSONL file for `ScoreTable.read`, which is created or appended to.
            store_prompts: must be True: the file contains the prompts' texts, which fitting needs.

        Raises:
            FeedbackError: prompts may not be stored, the file is not a score table, or the router
                was fitted on losses, which do not mix with scores.
        """
        return growth.with_feedback(self, path, store_prompts)

    def excluding(self, reasons: Mapping[str, str]) -> Router:
        """Return a router that never chooses some experts.

        Args:
            reasons: expert → the reason that decisions give.

        Raises:
            LibraryError: the library has no expert of that name.
        """
        for name in reasons:
            self.library.index(name)
        unavailable = {**self.objective.unavailable, **reasons}
        return self.replace(objective=replace(self.objective, unavailable=unavailable))

    def add_expert(self, expert: Expert, probes: ScoreTable) -> Router:
        """Return a router with one more expert; the others are not refitted.

        Args:
            expert: the new expert, of a task that the router knows.
            probes: its measured results on prompts like those the router was fitted on; a
                few hundred suffice, more if it differs little from the others. Results of known
                experts on the same prompts improve the estimate. Scales of goals do not change.

        Raises:
            LibraryError: the library has an expert of that name.
            ScoreTableError: the probes do not measure the expert.
            PredictorError: nothing is known of its task, or the probes lack a target.
        """
        return growth.add_expert(self, expert, probes)

    def without(self, *names: str) -> Router:
        """Return a router without some experts; the others are not refitted.

        Raises:
            LibraryError: the library has no expert of that name, or none is left.
        """
        return growth.without(self, *names)

    def replace(self, **changes: Any) -> Self:
        """Return a router with some parts replaced, named as in the constructor."""
        parts = {**_parts(self), "feedback_file": self.feedback_file}
        return type(self)(**{**parts, **changes})

    def route(
        self,
        prompt: str,
        *,
        goals: Goals | None = None,
        task: str | None = None,
        flags: FlagMode = True,
        observed: Mapping[str, float] | None = None,
        check: Check | Function | None = None,
        max_attempts: int | None = None,
        sent_chars: int | None = None,
    ) -> Decision:
        """Decide which expert a prompt goes to, or with a check, which plan to follow.

        Args:
            prompt: text; flags in it act as far as the policy lets them.
            goals: weights and limits of this call.
            task: a Transformers task; by default fill-mask where the prompt holds ``[MASK]``,
                else text-generation.
            flags: read flags and raise on unknown words (True), warn of them (``"warn"``), or
                leave the text as it is (False). `Flags` that were parsed before act like those of
                a prompt; unknown words in them warn.
            observed: expert → recent seconds of its calls, such as a snapshot of
                `tryage.dispatch.Health`; the goal latency uses them.
            check: accepts or rejects answers; the decision then holds a `plan`.
            max_attempts: most experts in a plan; None means 3.
            sent_chars: characters of everything that is sent with the prompt: system prompt,
                history, documents, tools. Context lengths and costs follow from them; None means
                that the prompt is sent alone.

        Raises:
            PromptError: the prompt is empty or not text.
            FlagError: a flag holds unknown words.
            GoalError: a limit cannot be checked, or a goal cannot be computed.
            NoEligibleExpertError: limits exclude every expert.
            CheckError: a check has no meaning for this router, or is wrong.
        """
        sent = None if sent_chars is None else [sent_chars]
        request = Request.of(goals, task, flags, observed, check, max_attempts, sent)
        return self._decider.decide([prompt], request)[0]

    def route_batch(
        self,
        prompts: Sequence[str],
        *,
        goals: Goals | None = None,
        task: str | None = None,
        flags: FlagMode = True,
        observed: Mapping[str, float] | None = None,
        check: Check | Function | None = None,
        max_attempts: int | None = None,
        sent_chars: Sequence[int] | None = None,
    ) -> list[Decision]:
        """Decide for many prompts in one pass; arguments and errors as `route`, a prompt each.

        A prompt gets the expert it would get alone, unless totals differ by less than 1e-5.
        """
        request = Request.of(goals, task, flags, observed, check, max_attempts, sent_chars)
        return self._decider.decide(prompts, request)

    def feedback(
        self,
        decision: Decision | Mapping[str, Any],
        score: float,
        *,
        prompt: str | None = None,
    ) -> None:
        """Store the score of an answer for the next fit; `with_feedback` enables this.

        Safe from many threads and processes. The score is the answering expert's, which is not
        the chosen one where that failed.

        Args:
            decision: a decision, or its record in the metadata of an answer.
            score: in [0, 1], higher is better; True and False are 1 and 0.
            prompt: the prompt without flags; by default the decision's.

        Raises:
            FeedbackError: feedback is not enabled, the prompt is unknown, the router has no such
                expert, or the score is out of range.
            OSError: the line cannot be written; the file is unchanged.
        """
        growth.keep_feedback(self, decision, score, prompt)

    def refit(
        self,
        *tables: ScoreTable,
        library: Library | None = None,
        predictor: str | None = None,
        encoder: str | Encoder | None = None,
        seed: int | None = None,
    ) -> Router:
        """Return a router refitted on old and newer results.

        Args:
            tables: the table it was fitted on, and newer ones, such as feedback; where several
                tables have the same cell, the last one counts.
            library: the experts; by default this router's.
            predictor: as in `fit`; by default what this router was fitted with.
            encoder: as in `fit`; by default this router's.
            seed: as in `fit`; by default this router's.

        Raises:
            ScoreTableError: there is no table, they do not fit together, or not to the library.
            PredictorError, EncoderError: as `fit`.
        """
        return growth.refit(self, tables, library, predictor, encoder, seed)

    def predict(self, prompts: Sequence[str], *, task: str) -> Array:
        """Return predicted losses over the whole library.

        Args:
            prompts: n texts; flags in them are not read.
            task: one of `tasks`.

        Returns:
            float64 (n, m), lower is better; NaN for experts of another task. Prompts that are out
            of distribution get the experts' averages.
        """
        return self.forecast(prompts, task=task).losses

    def forecast(self, prompts: Sequence[str], *, task: str) -> Forecast:
        """Return everything that is predicted of prompts; arguments as `predict`."""
        return self._decider.forecast(prompts, task)


def _parts(owner: Router | RouterState) -> dict[str, Any]:
    """Return what a saved router is made of, by name."""
    return {part.name: getattr(owner, part.name) for part in fields(RouterState)}
