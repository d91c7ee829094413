"""What a router does with measured results and budgets: the methods of `Router` that judge it."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from tryage.checks import Check, Function
from tryage.errors import TryageWarning
from tryage.goals import Goals
from tryage.plans import MAX_ATTEMPTS
from tryage.prompts import prompt_list
from tryage.router_parts import RouterParts

if TYPE_CHECKING:
    from tryage.budgets import Calibration
    from tryage.check_rates import CheckReport, ScoredAnswer
    from tryage.evaluation import Evaluation, TaskEvaluations
    from tryage.evaluation.pareto import Front
    from tryage.evaluation.plans import PlanFront
    from tryage.report import Report
    from tryage.scores import ScoreTable

    Table = ScoreTable | str | Path
    """A table, or the file or folder of one."""


class AssessedRouter(RouterParts):
    """Base of `Router`: evaluation, fronts, plans on measured results, calibration."""

    def evaluate(
        self,
        table: Table,
        *,
        train: Table | None = None,
        seed: int = 0,
        task: str | None = None,
    ) -> Evaluation | TaskEvaluations:
        """Compare the router's choices with measured results, beside the reference rows.

        The policy holds for all rows: no row chooses an expert that it excludes.

        Args:
            table: measured results the router was not fitted on.
            train: the table it was fitted on; some reference rows are fitted on it.
            seed: of the bootstrap.
            task: of the prompts to evaluate; by default every task.

        Returns:
            An `Evaluation`, or one per task where the table has several.

        Raises:
            ScoreTableError: table and library do not name the same experts.
        """
        from tryage import assessment

        measured = self._measured(table, task)
        self._warn_of(measured)
        fitted_on = None if train is None else self._measured(train, task)
        return assessment.evaluate(self._decider, measured, fitted_on, seed)

    def _measured(self, table: Table, task: str | None) -> ScoreTable:
        """Return a table, or its part of one task."""
        from tryage.scores import ScoreTable

        whole = ScoreTable.of(table)
        return whole if task is None else whole.part_of(self.library, task)

    def report(
        self,
        table: Table,
        *,
        train: Table | None = None,
        seed: int = 0,
        prompts: bool = True,
        check: Check | Function | None = None,
        max_attempts: int = MAX_ATTEMPTS,
        task: str | None = None,
    ) -> Report:
        """Show what the router does on measured results; ``write`` makes it one HTML file.

        Args:
            table: measured results the router was not fitted on.
            train: the table it was fitted on; some reference rows are fitted on it.
            seed: of intervals, samples and the map.
            prompts: whether the report may hold the beginnings of prompts.
            check: adds what plans with this check attain.
            max_attempts: experts in a plan at most.
            task: of the prompts to report on; by default every task.

        Raises:
            MissingExtraError: the extra `report` is not installed.
            ScoreTableError: table and library do not name the same experts.
        """
        from tryage.report import Report
        from tryage.report.gathering import Settings

        wrapped = None if check is None else Check.of(check)
        fitted_on = None if train is None else self._measured(train, task)
        settings = Settings(fitted_on, seed, prompts, wrapped, max_attempts)
        return Report.of(self._decider, self._measured(table, task), self.provenance, settings)

    def evaluate_plans(
        self,
        table: Table,
        check: Check | Function,
        *,
        max_attempts: int = MAX_ATTEMPTS,
        train: Table | None = None,
        seed: int = 0,
        task: str | None = None,
    ) -> dict[str, Any]:
        """Evaluate plans with a check on measured scores: exact expected values.

        Args:
            table: measured scores and costs of one task that the router was not fitted on.
            check: only its rates matter here.
            max_attempts: experts in a plan at most.
            train: the table it was fitted on; the best fixed plan is chosen on it.
            seed: of the bootstrap.
            task: of the prompts, where the tables have several.

        Returns:
            What ``tryage evaluate --check --json`` prints: rows of the router, of the best single
            expert, of the choice without a check, of the best fixed plan and of the oracle.

        Raises:
            CheckError: the router or the table holds losses, not scores.
            ScoreTableError: no prompt is completely measured.
        """
        from tryage.plan_assessment import evaluate_plans

        measured = self._measured(table, task)
        self._warn_of(measured)
        fitted_on = None if train is None else self._measured(train, task)
        return evaluate_plans(
            self._decider, measured, Check.of(check), max_attempts, fitted_on, seed
        )

    def measure_check(
        self, check: Check | Function, answers: str | Path | Iterable[ScoredAnswer]
    ) -> tuple[Self, CheckReport]:
        """Measure a check on scored answers; return a router with its rates, and a report.

        Args:
            check: the rates are stored under its name.
            answers: the folder of a run that labelled with ``keep_answers``, or the answers.

        Raises:
            CheckError: there are no answers, or none right or none wrong.
        """
        from tryage.check_rates import measure, read_answers

        if isinstance(answers, str | Path):
            answers = read_answers(answers)
        report = measure(Check.of(check), answers)
        rates = {**self.check_rates, report.check: report.rates}
        return self.replace(check_rates=rates), report

    def plan_front(
        self,
        table: Table,
        check: Check | Function,
        *,
        goal: str = "cost",
        max_attempts: int = MAX_ATTEMPTS,
        train: Table | None = None,
        task: str | None = None,
    ) -> PlanFront:
        """Sweep the weight of a goal over plans with a check; arguments as `evaluate_plans`.

        Args:
            table: measured scores of one task that the router was not fitted on.
            check: only its rates matter here.
            goal: one that adds up over attempts: cost or latency.
            max_attempts: experts in a plan at most.
            train: the table it was fitted on; fixed plans are chosen on it.
            task: of the prompts, where the tables have several.

        Raises:
            CheckError: the goal does not add up, or the table holds losses, not scores.
            ScoreTableError: no prompt is completely measured.
        """
        from tryage.plan_assessment import plan_front

        measured = self._measured(table, task)
        self._warn_of(measured)
        fitted_on = None if train is None else self._measured(train, task)
        return plan_front(self._decider, measured, goal, Check.of(check), max_attempts, fitted_on)

    def pareto(self, table: Table, *goals: str, task: str | None = None) -> Front:
        """Sweep the weights of goals over measured results; see `tryage.evaluation.pareto`.

        Args:
            table: measured results of one task that the router was not fitted on.
            goals: one goal or two, such as ``"cost"``.
            task: of the prompts, where the table has several.

        Raises:
            GoalError: a goal is unknown or cannot be computed.
            ScoreTableError: table and library do not fit, several tasks, or nothing measured.
        """
        from tryage import assessment

        measured = self._measured(table, task)
        self._warn_of(measured)
        return assessment.front(self._decider, measured, goals)

    def calibrate(
        self,
        prompts: Iterable[str],
        *budgets: str,
        goals: Goals | None = None,
        task: str | None = None,
        seed: int = 0,
        check: Check | Function | None = None,
        max_attempts: int = MAX_ATTEMPTS,
    ) -> Calibration:
        """Find weights with which the router meets budgets on prompts like these.

        Args:
            prompts: past prompts; flags in them are not read.
            budgets: ``"mean cost <= 0.40 USD per 1000 prompts"``, ``"score >= 95% of best"``
                (the best single expert by predicted mean), ``"share(NAME) <= 20%"``; several hold
                together.
            goals: other weights and limits.
            task: of the prompts; by default it is inferred from each.
            seed: of the bootstrap.
            check: plans then answer the prompts, and one budget, on cost, latency, score or loss,
                counts all expected attempts.
            max_attempts: experts in a plan at most.

        Returns:
            Goals with the weights found, and what they attain: where a budget cannot be met, the
            nearest value.

        Raises:
            GoalError: a budget is malformed, or is on something that is not known.
            PromptError: there is no prompt, or prompts ask for several tasks.
        """
        texts = prompt_list(prompts)
        if check is not None:
            from tryage.plan_budgets import calibrate_plans

            return calibrate_plans(
                self._decider,
                texts,
                budgets,
                Check.of(check),
                max_attempts,
                goals=goals,
                task=task,
                seed=seed,
            )
        from tryage import assessment

        return assessment.calibrate(
            self._decider, texts, budgets, goals=goals, task=task, seed=seed
        )

    def _warn_of(self, table: ScoreTable) -> None:
        """Warn where figures on a table mislead: the router was fitted on it, or it is doubtful."""
        from tryage.evaluation.doubts import doubts
        from tryage.fingerprints import seen_among

        sentences = [seen_among(self.provenance, table.prompts, table.hash), *doubts(table)]
        for doubt in filter(None, sentences):
            warnings.warn(doubt, TryageWarning, stacklevel=3)
