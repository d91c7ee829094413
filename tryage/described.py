"""What a router tells about itself: its kinds of prompts, and similar prompts behind a choice."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tryage.decision import Decision
from tryage.errors import PredictorError, PromptError
from tryage.evaluation.verdict import Verdict
from tryage.router_parts import RouterParts
from tryage.runner_up import RunnerUp, runner_up
from tryage.similar import SimilarPrompt, explain_similar

if TYPE_CHECKING:
    from tryage.kinds import PromptKind
    from tryage.router_summary import RouterSummary


class DescribedRouter(RouterParts):
    """Base of `Router`: what it was fitted on, and why it chooses."""

    @property
    def verdicts(self) -> dict[str, Verdict]:
        """Task → verdict on held-out prompts; empty where nothing was measured."""
        stored: Mapping[str, Any] = self.provenance.get("verdicts", {})
        return {task: Verdict.from_dict(one) for task, one in stored.items()}

    @property
    def verdict(self) -> Verdict:
        """The verdict on held-out prompts of a router for one task.

        Raises:
            PredictorError: it was fitted on several tasks (see `verdicts`), or on none.
        """
        verdicts = self.verdicts
        if len(verdicts) != 1:
            raise PredictorError(
                f"the router has verdicts of {', '.join(verdicts)}; read router.verdicts[TASK]"
                if verdicts
                else "the router has no verdict: nothing was measured, or it was fitted by an "
                "earlier version of Tryage; fit it on a score table"
            )
        return next(iter(verdicts.values()))

    def summary(self) -> RouterSummary:
        """Return what the router is: experts, training, verdicts, kinds of prompts.

        ``print(router.summary())`` shows it as text, `RouterSummary.to_dict` gives JSON types.
        """
        from tryage.router_summary import RouterSummary

        return RouterSummary.of(self, self.verdicts, self.kinds)

    @property
    def kinds(self) -> dict[str, tuple[PromptKind, ...]]:
        """Task → kinds of training prompts, the largest first; empty where none were stored.

        They hold typical words only where the router was fitted with ``keep_words=True``.
        """
        from tryage.kinds import PromptKind

        stored: Mapping[str, Any] = self.provenance.get("kinds", {})
        return {
            task: tuple(PromptKind.from_dict(one).among(self.library.names) for one in kinds)
            for task, kinds in stored.items()
        }

    def similar(self, decision: Decision, count: int = 3) -> list[SimilarPrompt]:
        """Return the training prompts most like the one that a decision is about.

        Args:
            decision: of this router.
            count: how many at most.

        Raises:
            PromptError: the router keeps no prompts (``fit(keep_prompts=True)`` does), or `count`
                is below 1.
        """
        prompts = self.training_prompts.get(decision.task)
        if prompts is None:
            raise PromptError(
                "the router keeps no training prompts, because they may be private; fit it with "
                "keep_prompts=True (tryage fit --keep-prompts) to see similar ones"
            )
        text = decision.prompt
        if decision.question is not None:
            start, end = decision.question
            text = text[start:end]
        predictor = self.predictors.get(decision.task)
        encoder = None if predictor is None else predictor.encoder
        return prompts.nearest(text, encoder, decision.expert, count)

    def runner_up(self, decision: Decision) -> RunnerUp | None:
        """Return what would have to change for the second-best expert to win.

        Args:
            decision: of this router.

        Returns:
            The least loss and the least weights; None for a plan, or without a second expert.
        """
        return runner_up(decision, self.objective)

    def explain(
        self, decision: Decision, *, similar: int = 0, why: bool = False, top: int | None = None
    ) -> str:
        """Return a decision as printable text, with the training prompts nearest to it.

        Args:
            decision: of this router.
            similar: how many training prompts; 0 shows none. Only a router that was fitted with
                ``keep_prompts=True`` has them.
            why: add what would have to change for the runner-up to win.
            top: how many experts of the ranking to show; None shows all.

        Raises:
            PromptError: the router keeps no prompts.
        """
        parts = [decision.explain(top)]
        second = self.runner_up(decision) if why else None
        if second is not None:
            parts.append(second.explain())
        if similar:
            nearest = self.similar(decision, similar)
            kind = self.training_prompts[decision.task].kind
            parts.append(explain_similar(nearest, kind))
        return "\n".join(parts)
