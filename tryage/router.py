"""The router: library, predictor and objective. It decides; it does not call experts."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from tryage import flags as flag_reader
from tryage import persistence
from tryage.decision import Decision
from tryage.encoders import Encoder
from tryage.errors import (
    FeedbackError,
    NoEligibleExpertError,
    PredictorError,
    PromptError,
    ScoreTableError,
    TryageWarning,
)
from tryage.experts import Expert, asked_task
from tryage.flags import Flags
from tryage.forecast import Forecast, Forecaster, measured_over
from tryage.goals import GoalInputs, Goals, check_weights
from tryage.library import Library
from tryage.objective import Objective
from tryage.persistence import RouterState
from tryage.policy import Policy, ResolvedGoals
from tryage.predictors import PREDICTORS, Predictor, UnmeasuredPredictor

if TYPE_CHECKING:
    from tryage.budgets import Calibration
    from tryage.evaluation import Evaluation, TaskEvaluations
    from tryage.evaluation.pareto import Front
    from tryage.scores import ScoreTable
    from tryage.scores.feedback import FeedbackFile

Array = NDArray[np.float64]
FlagMode = bool | Literal["warn"] | Flags


class Router:
    """Decides which expert a prompt goes to.

    Deciding is pure: no network, no change of state, safe from many threads at once.

    Attributes:
        library: the experts.
        objective: goals on the scales fixed at fitting.
        predictors: task → fitted predictor.
        policy: what the operator allows.
        provenance: where the predictors come from (table hash, counts, seed, validation).
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
        feedback_file: FeedbackFile | None = None,
    ) -> None:
        self.library = library
        self.predictors = dict(predictors)
        self.objective = _without_unmeasured(objective, self.predictors)
        self.policy = policy or Policy()
        self.provenance = dict(provenance or {})
        self.feedback_file = feedback_file
        self._forecasters = {
            task: Forecaster(predictor, library) for task, predictor in self.predictors.items()
        }

    def __repr__(self) -> str:
        kinds = ", ".join(f"{task}: {p.kind}" for task, p in self.predictors.items())
        return f"Router({self.library.name!r}, {len(self.library)} experts, {kinds})"

    @classmethod
    def from_pretrained(cls, name: str | Path, *, policy: Policy | None = None) -> Router:
        """Load a router from a folder, or a bundled one by name.

        Args:
            name: a router folder, or a bundled router's name.
            policy: what the operator allows; by default the policy that was saved with the router.

        Raises:
            RouterNotFoundError: there is no such folder or bundled router.
            FormatVersionError: a newer Tryage wrote it.
            DamagedFileError: a file of it is missing, cut or changed.
        """
        state = persistence.load(persistence.find_router(name))
        return cls(
            state.library,
            state.predictors,
            objective=state.objective,
            policy=policy or state.policy,
            provenance=state.provenance,
        )

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

        training.check_kind(predictor)  # an unknown kind fails before the encoder loads
        predictors, objective, provenance = training.fit_tasks(
            table, library, predictor, resolve_encoder(encoder), seed
        )
        return cls(library, predictors, objective=objective, policy=policy, provenance=provenance)

    @classmethod
    def from_library(cls, library: Library, *, policy: Policy | None = None) -> Router:
        """Return a router for a library of which nothing is measured yet.

        It decides by goals and limits alone, the cheaper first and then by name where they leave
        several, and its decisions say so: their losses are not known.
        """
        predictors: dict[str, Predictor] = {
            task: UnmeasuredPredictor().learn_names(library.of_task(task).names)
            for task in library.tasks
        }
        objective = Objective.fit(library, dict.fromkeys(library.tasks, 1.0))
        return cls(library, predictors, objective=objective, policy=policy)

    def save_pretrained(self, folder: str | Path, *, card: str | None = None) -> None:
        """Save the router as a folder of JSON and safetensors, whole or not at all.

        The policy is part of it, except goals of your own, which are code; exclusions are not,
        since they tell of the moment. A warning names what is left out.

        Args:
            folder: a new folder, an empty one, or an old router's, which is replaced.
            card: text of the folder's README.md; by default provenance and validation.

        Raises:
            OutputFolderError: the folder holds something else.
        """
        from tryage.cards import model_card

        for told in self._left_out():
            warnings.warn(f"{folder}: saved without {told}", TryageWarning, stacklevel=2)
        state = RouterState(
            self.library, self.objective, self.predictors, self.provenance, self.policy
        )
        persistence.save(state, Path(folder), card or model_card(state))

    def _left_out(self) -> list[str]:
        """Return what saving leaves out, each with the way to have it again."""
        told = []
        if self.policy.goals:
            names = ", ".join(self.policy.goals)
            told.append(
                f"the policy's own goals ({names}) and its weights on them, which are code; pass "
                "policy= to from_pretrained"
            )
        measured = [n for n in self.objective.unavailable if self.library[n].task in self.tasks]
        if measured:
            told.append(f"the exclusion of {', '.join(measured)}; call excluding again")
        return told

    @property
    def tasks(self) -> tuple[str, ...]:
        """Tasks that prompts can be routed for."""
        return tuple(self.predictors)

    def with_policy(self, policy: Policy) -> Router:
        """Return a router that decides under another policy."""
        return self._with(policy=policy)

    def with_feedback(self, path: str | Path, *, store_prompts: bool = False) -> Router:
        """Return a router that keeps what `feedback` tells it, in a score table.

        A saved router does not say where; turn it on again after loading.

        Args:
            path: a JSONL file, which is made or gone on with; what `ScoreTable.read` reads.
            store_prompts: prompts are what is learned from, so their texts are kept there. Say
                True to allow it.

        Raises:
            FeedbackError: prompts may not be kept, the file is none, or the router was fitted on
                losses, which scores cannot stand beside.
        """
        from tryage.scores.feedback import FeedbackFile

        if not store_prompts:
            raise FeedbackError(
                f"feedback keeps the texts of prompts in {str(path)!r}, since a router is fitted "
                "on them; allow it with store_prompts=True"
            )
        if self.provenance.get("kind") == "losses":
            raise FeedbackError(
                "the router was fitted on a table of losses, and feedback gives scores in [0, 1]; "
                "the two cannot stand in one table. Fit a router on scores for it"
            )
        return self._with(feedback_file=FeedbackFile(path))

    def excluding(self, reasons: Mapping[str, str]) -> Router:
        """Return a router that never chooses some experts.

        Args:
            reasons: expert → why not; decisions give it as the reason.

        Raises:
            LibraryError: the library has no expert of that name.
        """
        for name in reasons:
            self.library.index(name)
        unavailable = {**self.objective.unavailable, **reasons}
        return self._with(objective=replace(self.objective, unavailable=unavailable))

    def add_expert(self, expert: Expert, probes: ScoreTable) -> Router:
        """Return a router that knows one more expert; the others are not fitted again.

        Args:
            expert: the new expert, of a task that the router knows.
            probes: its measured results on prompts like those the router was fitted on; a few
                hundred do, and more where it differs little from the others. Results of known
                experts on the same prompts make the most of them. Scales of goals stay as they are.

        Raises:
            LibraryError: the library has an expert of that name.
            ScoreTableError: the probes do not measure the expert.
            PredictorError: nothing is known of its task, or the probes lack a target.
        """
        library = Library(
            (*self.library.experts, expert), name=self.library.name, root=self.library.root
        )
        predictor = self.predictors.get(expert.task)
        if predictor is None:
            raise PredictorError(
                f"expert {expert.name!r} is of task {expert.task!r}, but the router was fitted on "
                f"{', '.join(self.predictors)}; fit one for that task"
            )
        told = [name for name in probes.experts if name in predictor.experts_]
        columns = probes.reorder([expert.name, *told])
        columns = columns.select(~np.isnan(columns.losses[:, 0]))
        grown = predictor.with_expert(columns.prompts, columns)
        return self._changed(library, {**self.predictors, expert.task: grown})

    def without(self, *names: str) -> Router:
        """Return a router whose library lacks some experts; the others are not fitted again.

        Raises:
            LibraryError: the library has no expert of that name, or none is left.
        """
        for name in names:
            self.library.index(name)
        rest = [expert for expert in self.library if expert.name not in names]
        library = Library(rest, name=self.library.name, root=self.library.root)
        predictors = dict(self.predictors)
        for name in names:
            task = self.library[name].task
            known = predictors.get(task)
            if known is not None and len(known.experts_) > 1:
                predictors[task] = known.without_expert(name)
            else:
                predictors.pop(task, None)
        return self._changed(library, predictors)

    def _changed(self, library: Library, predictors: Mapping[str, Predictor]) -> Router:
        """Return a router over another library, on the same scales."""
        kept = {n: why for n, why in self.objective.unavailable.items() if n in library}
        return self._with(
            library=library,
            predictors=predictors,
            objective=replace(self.objective, library=library, unavailable=kept),
            provenance=self.provenance | {"experts_since": list(library.names)},
        )

    def _with(self, **changed: Any) -> Router:
        """Return a router of which some parts are others."""
        parts = {
            "library": self.library,
            "predictors": self.predictors,
            "objective": self.objective,
            "policy": self.policy,
            "provenance": self.provenance,
            "feedback_file": self.feedback_file,
        }
        return Router(**{**parts, **changed})

    def route(
        self,
        prompt: str,
        *,
        goals: Goals | None = None,
        task: str | None = None,
        flags: FlagMode = True,
        observed: Mapping[str, float] | None = None,
    ) -> Decision:
        """Decide which expert a prompt goes to.

        Args:
            prompt: text; flags in it act as far as the policy lets them.
            goals: weights and limits of this call.
            task: a Transformers task; by default fill-mask where the prompt holds ``[MASK]``,
                else text-generation.
            flags: read flags and raise on unknown words (True), warn of them (``"warn"``), or
                leave the text as it is (False). `Flags` that were read elsewhere, off the user's
                own text, act like those of a prompt; unknown words in them warn.
            observed: expert → seconds that its calls took of late, a snapshot such as
                `tryage.dispatch.Health` gives; the goal latency looks at it.

        Raises:
            PromptError: the prompt is empty or not text.
            FlagError: a flag holds unknown words.
            GoalError: a limit cannot be checked, or a goal cannot be computed.
            NoEligibleExpertError: limits exclude every expert.
        """
        read = self._read(prompt, flags)
        return self._decide([read], goals, task, flags, observed)[0]

    def route_batch(
        self,
        prompts: Sequence[str],
        *,
        goals: Goals | None = None,
        task: str | None = None,
        flags: FlagMode = True,
        observed: Mapping[str, float] | None = None,
    ) -> list[Decision]:
        """Decide for many prompts in one pass; arguments and errors as `route`.

        A prompt gets the expert it would get alone, unless totals differ by less than 1e-5.
        """
        reads = [self._read(prompt, flags) for prompt in prompts]
        return self._decide(reads, goals, task, flags, observed)

    def feedback(
        self,
        decision: Decision | Mapping[str, Any],
        score: float,
        *,
        prompt: str | None = None,
    ) -> None:
        """Keep how good an answer was, for the next fit; `with_feedback` turns this on.

        Safe from many threads and processes. The score is the answering expert's, which is not
        the chosen one where that failed.

        Args:
            decision: a decision, or what the metadata of an answer carry of it.
            score: in [0, 1], higher is better; True and False are 1 and 0.
            prompt: what the expert answered, without flags; the decision's own where it has one.

        Raises:
            FeedbackError: feedback is off, the prompt is not known, the expert is none of the
                router's, or the score is out of range.
            OSError: the line cannot be written; nothing is left of it.
        """
        if self.feedback_file is None:
            raise FeedbackError(
                "feedback is off; router.with_feedback(PATH, store_prompts=True) returns a router "
                "that keeps it"
            )
        told = decision if isinstance(decision, Mapping) else decision.to_dict(top=0)
        text = prompt or (decision.prompt if isinstance(decision, Decision) else None)
        if text is None:
            raise FeedbackError("metadata hold no prompt; say with prompt= what was answered")
        expert = told.get("answered_by") or told.get("expert")
        if not isinstance(expert, str) or expert not in self.library:
            raise FeedbackError(f"expert {expert!r} is none of library {self.library.name!r}")
        self.feedback_file.append(text, self.library[expert].task, expert, score)

    def refit(
        self,
        *tables: ScoreTable,
        library: Library | None = None,
        predictor: str | None = None,
        encoder: str | Encoder | None = None,
        seed: int | None = None,
    ) -> Router:
        """Return a router fitted anew on old and newer results.

        Args:
            tables: the table it was fitted on, and newer ones, such as feedback; of a number that
                several hold, the last one's counts.
            library: the experts; by default this router's.
            predictor: as in `fit`; by default what this router was fitted with.
            encoder: as in `fit`; by default this router's.
            seed: as in `fit`; by default this router's.

        Raises:
            ScoreTableError: there is no table, they do not fit together, or not to the library.
            PredictorError, EncoderError: as `fit`.
        """
        if not tables:
            raise ScoreTableError("there is no table to fit on; give the old one and newer ones")
        kind = predictor or str(self.provenance.get("predictor", "auto"))
        fitted = Router.fit(
            functools.reduce(lambda old, newer: old.join(newer), tables),
            library=library or self.library,
            predictor=kind,
            encoder=encoder or self._encoder_for(kind),
            seed=int(self.provenance.get("seed", 0)) if seed is None else seed,
            policy=self.policy,
        )
        return fitted._with(feedback_file=self.feedback_file)

    def _encoder_for(self, kind: str) -> str | Encoder:
        """Return the encoder to fit a kind of predictor anew with."""
        known = [one.encoder for one in self.predictors.values() if one.encoder is not None]
        trains_its_own = kind in PREDICTORS and PREDICTORS[kind].slow
        if known and not trains_its_own:
            return known[0]
        return str(self.provenance.get("encoder", "static"))

    def predict(self, prompts: Sequence[str], *, task: str) -> Array:
        """Return predicted losses over the whole library.

        Args:
            prompts: n texts, taken as they are.
            task: one of `tasks`.

        Returns:
            float64 (n, m), lower is better; NaN for experts of another task. Prompts that are out
            of distribution get the experts' averages.
        """
        return self.forecast(prompts, task=task).losses

    def forecast(self, prompts: Sequence[str], *, task: str) -> Forecast:
        """Return everything that is predicted of prompts; arguments as `predict`."""
        known = self._forecasters.get(task)
        return (known or Forecaster(None, self.library))(prompts)

    def evaluate(
        self, table: ScoreTable, *, train: ScoreTable | None = None, seed: int = 0
    ) -> Evaluation | TaskEvaluations:
        """Compare the router's choices with measured results, beside the reference rows.

        The policy holds for all of them: an expert that it excludes is nobody's choice.

        Args:
            table: measured results the router was not fitted on.
            train: the table it was fitted on; some reference rows are fitted on it.
            seed: of the bootstrap.

        Returns:
            An `Evaluation`, or one per task where the table has several.

        Raises:
            ScoreTableError: table and library do not name the same experts.
        """
        from tryage import evaluation

        resolved = self.policy.combine(None, None)
        trains = train.by_task(self.library) if train is not None else {}
        found = {}
        for task, part in table.by_task(self.library).items():
            reasons = self.objective.eligibility(task, resolved.limits).reasons
            eligible = [name for name in part.experts if name not in reasons]
            if not eligible:
                raise NoEligibleExpertError(f"no expert may answer prompts of {task}:", reasons)
            part, train_part = part.reorder(eligible), trains.get(task)
            columns = [self.library.index(name) for name in eligible]
            predicted = self.forecast(part.prompts, task=task)
            inputs = self._goal_inputs(part.prompts, predicted)
            totals = self.objective.totals(predicted.losses, task, resolved, inputs)
            choices = self.objective.choose(totals)
            # What the prompt itself excludes is no choice for the reference rows either.
            part = replace(part, losses=np.where(np.isinf(totals[:, columns]), np.nan, part.losses))
            column_of = np.full(len(self.library) + 1, -1)
            column_of[columns] = np.arange(len(columns))
            realised = self._goal_inputs(part.prompts, measured_over(predicted, part, columns))
            penalties = self.objective.penalties(resolved, task, realised)
            found[task] = evaluation.evaluate(
                part,
                column_of[choices],
                predicted=predicted.losses[:, columns],
                penalties=penalties[..., columns],
                ranks=self.objective.tie_rank[columns],
                train=None if train_part is None else train_part.reorder(eligible),
                encoder=self.predictors[task].encoder,
                seed=seed,
            )
        return evaluation.of_tasks(found)

    def pareto(self, table: ScoreTable, *goals: str) -> Front:
        """Sweep the weights of goals over measured results; see `tryage.evaluation.pareto`.

        Args:
            table: measured results of one task that the router was not fitted on.
            goals: one goal or two, such as ``"cost"``.

        Raises:
            GoalError: a goal is unknown or cannot be computed.
            ScoreTableError: table and library do not fit, several tasks, or nothing measured.
        """
        from tryage.evaluation.pareto import pareto

        parts = table.by_task(self.library)
        if len(parts) != 1:
            raise ScoreTableError(f"the table has the tasks {', '.join(parts)}; give one of them")
        ((task, part),) = parts.items()
        columns = [self.library.index(name) for name in part.experts]
        resolved = self.policy.combine(None, None)
        base = {name: w for name, w in resolved.weights.items() if name not in goals}
        alone = [replace(resolved, weights=check_weights({g: 1.0}, resolved.goals)) for g in goals]
        predicted = self.forecast(part.prompts, task=task)
        guessed = self._goal_inputs(part.prompts, predicted)
        measured = self._goal_inputs(part.prompts, measured_over(predicted, part, columns))
        objective = self.objective
        totals = objective.totals(predicted.losses, task, replace(resolved, weights=base), guessed)
        values = [objective.goal_values(resolved.goal(name), measured) for name in goals]
        return pareto(
            part,
            goals,
            predicted=totals[:, columns],
            penalties=[objective.penalties(w, task, guessed)[..., columns] for w in alone],
            values=[found[..., columns] for found in values],
            realised=[objective.penalties(w, task, measured)[..., columns] for w in alone],
        )

    def calibrate(
        self,
        prompts: Sequence[str],
        *budgets: str,
        goals: Goals | None = None,
        task: str | None = None,
        seed: int = 0,
    ) -> Calibration:
        """Find weights with which the router meets budgets on prompts like these.

        Args:
            prompts: past prompts, taken as they are (flags in them do not act).
            budgets: ``"mean cost <= 0.40 USD per 1000 prompts"``, ``"score >= 95% of best"``
                (the best single expert by predicted mean), ``"share(NAME) <= 20%"``; several hold
                together.
            goals: weights and limits that hold besides.
            task: what the prompts ask for; by default what each asks for itself.
            seed: of the bootstrap.

        Returns:
            Goals with the weights found, and what they attain; where a budget cannot be met, the
            nearest attainable.

        Raises:
            GoalError: a budget cannot be read, or speaks of what is not known.
            PromptError: there is no prompt, or prompts ask for several tasks.
        """
        from tryage import budgets as budget_room

        for prompt in prompts:
            self._read(prompt, False)
        tasks = {task} if task else {asked_task(prompt) for prompt in prompts}
        if len(tasks) != 1:
            told = "there are no prompts" if not tasks else f"prompts ask for {', '.join(tasks)}"
            raise PromptError(f"{told}; calibrate on prompts of one task")
        asked = tasks.pop()
        predicted = self.forecast(prompts, task=asked)
        return budget_room.calibrate(
            self.objective,
            predicted,
            asked,
            self.policy.combine(goals, None),
            self._goal_inputs(prompts, predicted),
            budgets,
            goals=goals or Goals(),
            scored=self.provenance.get("kind") == "scores",
            seed=seed,
        )

    def _read(self, prompt: str, flags: FlagMode) -> Flags:
        if not isinstance(prompt, str):
            raise PromptError(f"a prompt is text, found {type(prompt).__name__}")
        if isinstance(flags, Flags):
            read = replace(flags, prompt=prompt)
        else:
            read = flag_reader.parse(prompt) if flags else Flags(prompt)
        if not read.prompt.strip():
            what = "the prompt is empty" if not prompt.strip() else "the prompt holds only flags"
            raise PromptError(f"{what}; there is nothing to route")
        return read

    def _decide(
        self,
        reads: Sequence[Flags],
        goals: Goals | None,
        task: str | None,
        flags: FlagMode,
        observed: Mapping[str, float] | None,
    ) -> list[Decision]:
        warns = flags == "warn" or isinstance(flags, Flags)
        unknown: Literal["error", "warn"] = "warn" if warns else "error"
        resolved = [
            self.policy.combine(goals, read if flags is not False else None, unknown=unknown)
            for read in reads
        ]
        tasks = [task or asked_task(read.prompt) for read in reads]
        decisions: list[Decision | None] = [None] * len(reads)
        for name in dict.fromkeys(tasks):
            rows = [row for row, asked in enumerate(tasks) if asked == name]
            prompts = [reads[row].prompt for row in rows]
            predicted = self.forecast(prompts, task=name)
            inputs = self._goal_inputs(prompts, predicted, observed)
            for place, row in enumerate(rows):
                decisions[row] = self._decision(
                    reads[row].prompt, resolved[row], name, predicted, inputs, place
                )
        return [decision for decision in decisions if decision is not None]

    def _decision(
        self,
        prompt: str,
        resolved: ResolvedGoals,
        task: str,
        predicted: Forecast,
        inputs: GoalInputs,
        place: int,
    ) -> Decision:
        objective, inputs = self.objective, inputs.row(place)
        losses = predicted.losses[place]
        values = objective.shown(resolved, inputs)
        totals = objective.totals(losses[None, :], task, resolved, inputs, values)
        chosen = int(objective.choose(totals)[0])
        reasons = objective.reasons(task, resolved, inputs, values)
        if chosen < 0:
            raise NoEligibleExpertError(
                f"no expert of library {self.library.name!r} may answer:", reasons
            )
        return Decision(
            expert=self.library.experts[chosen].name,
            task=task,
            prompt=prompt,
            names=self.library.names,
            losses=losses,
            std=predicted.std[place],
            totals=totals[0],
            values={name: v if v.ndim == 1 else v[0] for name, v in values.items()},
            reasons=reasons,
            weights=resolved.weights,
            limits=tuple(str(limit) for limit in resolved.limits),
            flags=resolved.flags,
            out_of_distribution=bool(predicted.ood[place]),
            goals=resolved.goals,
            measured=predicted.measured,
        )

    def _goal_inputs(
        self,
        prompts: Sequence[str],
        predicted: Forecast,
        observed: Mapping[str, float] | None = None,
    ) -> GoalInputs:
        lengths = np.array([len(prompt) for prompt in prompts], dtype=np.float64)
        return self.objective.goal_inputs(lengths, predicted.targets, observed)


def _without_unmeasured(objective: Objective, predictors: Mapping[str, Predictor]) -> Objective:
    """Make experts of a task that nothing was measured on unavailable, with that reason."""
    reasons = {
        expert.name: f"nothing was measured on its task {expert.task}"
        for expert in objective.library
        if expert.task not in predictors
    }
    if not reasons:
        return objective
    return replace(objective, unavailable={**objective.unavailable, **reasons})
