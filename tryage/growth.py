"""Fitting a router and growing it: new experts, feedback on answers, refits on newer results."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from tryage.decision import Decision
from tryage.encoders import Encoder
from tryage.errors import FeedbackError, PredictorError, ScoreTableError
from tryage.experts import Expert
from tryage.library import Library
from tryage.plans import JointSuccess
from tryage.policy import Policy
from tryage.predictors import PREDICTORS, Predictor
from tryage.progress import Progress
from tryage.prompts import Prompts
from tryage.router_parts import RouterParts
from tryage.scores import ScoreTable
from tryage.scores.feedback import FeedbackFile
from tryage.sources import LibrarySource, TableSource


class GrowingRouter(RouterParts):
    """Base of `Router`: fitting it on results, and changing it by new ones."""

    @classmethod
    def fit(
        cls,
        table: TableSource,
        *,
        library: LibrarySource = None,
        predictor: str = "auto",
        encoder: str | Encoder = "static",
        seed: int = 0,
        policy: Policy | None = None,
        holdout: float | None = None,
        keep_prompts: bool = False,
        keep_words: bool = False,
        choose_on: int | None = None,
        progress: Progress | bool | None = None,
    ) -> Self:
        """Fit a router on measured results, task by task.

        Args:
            table: prompts × experts, cells may be missing: a `ScoreTable`, or what
                `ScoreTable.read` takes, such as a path or rows.
            library: the experts: a `Library`, the path of its YAML file, a bundled router's name
                for that router's library, or experts or their names as a list; by default the
                table's experts, of which nothing but the names is known. Those of a task that
                occurs in the table must be measured.
            predictor: "auto", or a key of `tryage.predictors.PREDICTORS`.
            encoder: ``"static"``, a sentence-transformers id or folder, or an encoder.
            seed: makes fitting repeatable.
            policy: what the operator allows.
            holdout: share of the prompts, such as 0.2, that the router is not fitted on but judged
                by (`verdict`); by default it is judged by cross-validation.
            keep_prompts: keep the table's prompts and results in the router, also where it is
                saved, so that `similar` can show them. Off, because prompts may be private.
            keep_words: store words that five or more prompts of a kind share; see `kinds`.
            choose_on: different prompts that "auto" compares predictors on, by default 20,000; of
                more it draws a sample by group, and fits what it chose on all. Verdict and
                summary say so. The number of the table's prompts compares on all of them.
            progress: by default a bar is drawn where standard error is a terminal, with what is at
                work and the time left; True also prints lines where it is not, False shows
                nothing, and a function is called with what is at work, how many steps are done,
                and how many there are.

        Raises:
            ScoreTableError: table and library do not name the same experts.
            PredictorError: the predictor is unknown, or cannot be fitted on this table.
            OptionError: `choose_on` is below 100.
            EncoderError: the encoder is unknown.
        """
        from tryage.fitting import fit_parts

        parts = fit_parts(
            table,
            library,
            predictor,
            encoder,
            seed,
            holdout=holdout,
            keep_prompts=keep_prompts,
            keep_words=keep_words,
            choose_on=choose_on,
            progress=progress,
        )
        return cls(**parts, policy=policy)

    def refit(
        self,
        *tables: TableSource,
        library: LibrarySource = None,
        predictor: str | None = None,
        encoder: str | Encoder | None = None,
        seed: int | None = None,
        holdout: float | None = None,
        choose_on: int | None = None,
        progress: Progress | bool | None = None,
    ) -> Self:
        """Return a router refitted on old and newer results.

        Args:
            tables: the table it was fitted on, and newer ones, such as feedback; where several
                tables have the same cell, the last one counts. Paths and rows as in `fit`.
            library: the experts; by default this router's.
            predictor: as in `fit`; by default what this router was fitted with.
            encoder: as in `fit`; by default this router's.
            seed: as in `fit`; by default this router's.
            holdout: as in `fit`.
            choose_on: as in `fit`; by default this router's.
            progress: as in `fit`.

        Raises:
            ScoreTableError: there is no table, they do not fit together, or not to the library.
            PredictorError, EncoderError: as `fit`.
        """
        if not tables:
            raise ScoreTableError("there is no table to fit on; give the old one and newer ones")
        kind = predictor or str(self.provenance.get("predictor", "auto"))
        fitted = self.fit(
            functools.reduce(lambda old, newer: old.join(newer), map(ScoreTable.of, tables)),
            library=library or self.library,
            predictor=kind,
            encoder=encoder or self._encoder_for(kind),
            seed=int(self.provenance.get("seed", 0)) if seed is None else seed,
            policy=self.policy,
            holdout=holdout,
            keep_prompts=bool(self.training_prompts),
            keep_words=self._keeps_words,
            choose_on=self.provenance.get("choose_on") if choose_on is None else choose_on,
            progress=progress,
        )
        return fitted.replace(feedback_file=self.feedback_file, decision_log=self.decision_log)

    def distill(
        self,
        prompts: Prompts,
        table: TableSource | None = None,
        *,
        student: str = "embedding-bag",
        encoder: str | Encoder = "static",
        seed: int = 0,
        teacher_weight: float | None = None,
        holdout: float | None = 0.2,
        predictions: str | Path | None = None,
        progress: Progress | None = None,
    ) -> Self:
        """Return a fast router that learned from this slow one.

        The student learns what this router predicts of prompts that nobody measured, and measured
        results beside that. Prompts that this router finds out of distribution are left out.
        Library, scales, policy, check rates and the averages for unknown prompts stay the same;
        predictors that are fast already do, too.

        Args:
            prompts: the unlabelled prompts, as `read_prompts` takes them; several tasks may be
                mixed.
            table: measured results, such as those that this router was fitted on, of the same
                experts. Paths and rows as in `fit`.
            student: kind of the student's predictor, one that decides fast.
            encoder: of the student; a static one.
            seed: makes everything repeatable.
            teacher_weight: weight of this router's prediction beside a measured value, from 0 (the
                measured value alone) to 1 (the prediction alone). By default 0, 0.5 or 1, whichever
                has the least regret on the held-out part of the table.
            holdout: share of the table's prompts that the student does not learn from but is
                judged by (`verdict`); None learns from all of them. Where this router was fitted
                on these prompts, a warning says so: its predictions carry what it learned there.
            predictions: a file that keeps this router's predictions, so that an interrupted run
                goes on; it holds hashes of the prompts, no texts.
            progress: called with a part's name, how much of it is done, and how much there is.

        Raises:
            PredictorError: this router is fast already, or was fitted on no results.
            PromptError: there are no prompts, or none of a task, or a line is wrong.
            ScoreTableError: the table does not name the same experts, or is of another kind.
            OptionError: student, encoder, weight or file cannot serve.
            EncoderError: this router's encoder is not there.
            MissingExtraError: torch or transformers is not installed.
        """
        from tryage.distilling import Distillation, PredictionFile, distill_parts
        from tryage.encoders import resolve_encoder
        from tryage.training import Candidate

        how = Distillation(
            Candidate(student),
            resolve_encoder(encoder),
            seed=seed,
            teacher_weight=teacher_weight,
            holdout=holdout,
        )
        file = None if predictions is None else PredictionFile(predictions)
        return self.replace(
            **distill_parts(self, prompts, table, how, file=file, progress=progress)
        )

    def add_expert(self, expert: Expert, probes: TableSource) -> Self:
        """Return a router with one more expert; the others are not refitted.

        Args:
            expert: the new expert, of a task that the router knows.
            probes: its measured results on random prompts like those the router was fitted on;
                fifty show an expert that is much better, a few hundred one that is better on some
                kinds of prompt. Results of known experts on the same prompts improve the estimate;
                a router that keeps its training prompts has them for those. Scales of goals do not
                change. A path or rows as in `fit`.

        Raises:
            LibraryError: the library has an expert of that name.
            ScoreTableError: the probes do not measure the expert.
            PredictorError: nothing is known of its task, or the probes lack a target.
        """
        probes = ScoreTable.of(probes)
        library = Library(
            (*self.library.experts, expert), name=self.library.name, root=self.library.root
        )
        predictor = self.predictors.get(expert.task)
        if predictor is None:
            raise PredictorError(
                f"expert {expert.name!r} is of task {expert.task!r}, but the router was fitted on "
                f"{', '.join(self.predictors)}; fit one for that task"
            )
        known_names = [name for name in probes.experts if name in predictor.experts_]
        columns = probes.reorder([expert.name, *known_names])
        columns = columns.select(~np.isnan(columns.losses[:, 0]))
        if expert.task in self.training_prompts:
            columns = self.training_prompts[expert.task].fill(columns)
        grown = predictor.with_expert(columns.prompts, columns)
        return self._with_library(library, {**self.predictors, expert.task: grown})

    def without(self, *names: str) -> Self:
        """Return a router without some experts; the others are not refitted.

        Raises:
            LibraryError: the library has no expert of that name, or none is left.
        """
        for name in names:
            self.library.index(name)
        remaining = [expert for expert in self.library if expert.name not in names]
        library = Library(remaining, name=self.library.name, root=self.library.root)
        predictors = dict(self.predictors)
        for name in names:
            task = self.library[name].task
            predictor = predictors.get(task)
            if predictor is not None and len(predictor.experts_) > 1:
                predictors[task] = predictor.without_expert(name)
            else:
                predictors.pop(task, None)
        return self._with_library(library, predictors)

    def with_feedback(self, path: str | Path, *, store_prompts: bool = False) -> Self:
        """Return a router that stores `feedback` in a score table.

        The path is not saved with the router; set it again after loading.

        Args:
            path: a JSONL file for `ScoreTable.read`, which is created or appended to.
            store_prompts: must be True: the file contains the prompts' texts, which fitting needs.

        Raises:
            FeedbackError: prompts may not be stored, the file is not a score table, or the router
                was fitted on losses, which do not mix with scores.
        """
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
        return self.replace(feedback_file=FeedbackFile(path))

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
        if self.feedback_file is None:
            raise FeedbackError(
                "feedback is off; router.with_feedback(PATH, store_prompts=True) returns a router "
                "that keeps it"
            )
        record = decision if isinstance(decision, Mapping) else decision.to_dict(top=0)
        text = prompt or (decision.prompt if isinstance(decision, Decision) else None)
        if text is None:
            raise FeedbackError("metadata hold no prompt; say with prompt= what was answered")
        expert = record.get("answered_by") or record.get("expert")
        if not isinstance(expert, str) or expert not in self.library:
            raise FeedbackError(f"library {self.library.name!r} has no expert {expert!r}")
        self.feedback_file.append(text, self.library[expert].task, expert, score)

    def _with_library(self, library: Library, predictors: Mapping[str, Predictor]) -> Self:
        """Return a router over another library, on the same scales."""
        reasons = {n: why for n, why in self.objective.unavailable.items() if n in library}
        return self.replace(
            library=library,
            predictors=predictors,
            objective=replace(self.objective, library=library, unavailable=reasons),
            provenance=self.provenance | {"experts_since": list(library.names)},
            joint={task: _for(library, self.library, old) for task, old in self.joint.items()},
            training_prompts={
                task: prompts.without([name for name in prompts.experts if name not in library])
                for task, prompts in self.training_prompts.items()
            },
        )

    @property
    def _keeps_words(self) -> bool:
        kinds = self.provenance.get("kinds", {})
        return any(one["words"] for of_task in kinds.values() for one in of_task)

    def _encoder_for(self, kind: str) -> str | Encoder:
        """Return the encoder to refit a kind of predictor with."""
        encoders = [p.encoder for p in self.predictors.values() if p.encoder is not None]
        trains_its_own = kind in PREDICTORS and PREDICTORS[kind].slow
        if encoders and not trains_its_own:
            return encoders[0]
        return str(self.provenance.get("encoder", "static"))


def _for(library: Library, old: Library, joint: JointSuccess) -> JointSuccess:
    """Return how the experts of another library fail together; a new one as the others do."""
    usual = float(np.mean(joint.shared))
    shares = [joint.shared[old.index(name)] if name in old else usual for name in library.names]
    return JointSuccess(np.array(shares, dtype=np.float64))
