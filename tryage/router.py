"""The router: library, predictor and objective. It decides; it does not call experts."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tryage import hub_routers, persistence
from tryage.assessed import AssessedRouter
from tryage.checks import Check, Function
from tryage.deciding import Array, FlagMode, Request
from tryage.decision import Decision
from tryage.decision_log import DecisionLog, log_decisions
from tryage.described import DescribedRouter
from tryage.errors import PromptError, TryageWarning
from tryage.folders import Folders
from tryage.forecast import Forecast
from tryage.goals import Goals
from tryage.growth import GrowingRouter
from tryage.library import Library
from tryage.objective import Objective
from tryage.paths import user_path
from tryage.persistence import RouterState
from tryage.policy import Policy
from tryage.predictors import Predictor, UnmeasuredPredictor
from tryage.prompts import prompt_list
from tryage.router_parts import saved_parts
from tryage.tracing import decide_span, is_tracing

if TYPE_CHECKING:
    from tryage.cards import CardFacts
    from tryage.publishing import PushedRouter


class Router(AssessedRouter, GrowingRouter, DescribedRouter):
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
        decision_log: gets a line for each decision; None, as usual, writes none.
        training_prompts: task → prompts for `similar`; empty unless fitted with `keep_prompts`.
    """

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        *,
        policy: Policy | None = None,
        folders: Folders = (),
        revision: str | None = None,
        token: str | None = None,
        download: bool = False,
    ) -> Router:
        """Load a router from a folder, a bundled one by name, or one from the Hub by its id.

        A folder goes before a bundled name, and that before a Hub id. A router from the Hub is
        read from the local cache; only with `download` its files are fetched, and a newer version
        is looked for.

        Args:
            name: a router folder, a bundled router's name, or a Hub id such as ``"me/router"`` or
                ``"me/router@revision"`` (extra `hf`).
            policy: what the operator allows; by default the policy that was saved with the router.
            folders: folders outside the router's own whose models it may use.
            revision: branch, tag or commit of a router on the Hub.
            token: of the Hub, for a private or gated router; by default the one that you logged in
                with, or ``HF_TOKEN``. It is not stored.
            download: whether the Hub is asked, and files that are not in the local cache fetched.

        Raises:
            ConsentError: its encoder lies in another folder, and it is not allowed.
            RouterNotFoundError: there is no such folder or bundled router; or the Hub has none, or
                it is not in the local cache and `download` is not set.
            HubAccessError: the Hub refuses, fails or cannot be reached.
            FormatVersionError: a newer Tryage wrote it.
            DamagedFileError: a file of it is missing, cut or changed.
            OptionError: a revision of a router that is not on the Hub.
            MissingExtraError: a Hub id without huggingface_hub.
        """
        source = hub_routers.find(name)
        state = hub_routers.load(
            source, revision=revision, token=token, download=download, folders=folders
        )
        return cls(**{**saved_parts(state), "policy": policy or state.policy})

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

        self._warn_left_out(folder)
        state = RouterState(**saved_parts(self))
        persistence.save(state, user_path(folder), card or model_card(state))

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool = False,
        token: str | None = None,
        message: str | None = None,
        card: str | None = None,
        card_facts: CardFacts | None = None,
        local_models: bool = False,
        training_prompts: bool = False,
    ) -> PushedRouter:
        """Publish the router on the Hugging Face Hub (extra `hf`), in one commit.

        The repository is created if it does not exist. Then
        ``Router.from_pretrained(repo_id, download=True)`` loads the router anywhere.

        Args:
            repo_id: of the repository, such as ``"me/router"``.
            private: whether only your accounts may see it. A repository that exists keeps what it
                is; True with a public one is an error, before anything is sent.
            token: one that may write; by default the one that you logged in with, or
                ``HF_TOKEN``. It is not stored.
            message: of the commit.
            card: text of the README.md; by default one with valid metadata and a usage block.
            card_facts: what the card should say of licence, data sets and an evaluation.
            local_models: publish although the models of some experts lie on this machine only.
            training_prompts: publish the training prompts, or words of them, that the router keeps.

        Raises:
            OptionError: the router names models of this machine or keeps prompts, and you did not
                allow that; or its encoder is a folder.
            OutputFolderError: the repository holds something other than a router.
            HubAccessError: the Hub refuses, fails or cannot be reached.
            MissingExtraError: huggingface_hub is not installed.
        """
        from tryage.publishing import PushOptions, push

        options = PushOptions(
            private=private,
            message=message,
            card=card,
            card_facts=card_facts,
            local_models=local_models,
            training_prompts=training_prompts,
        )
        self._warn_left_out(repo_id)
        return push(RouterState(**saved_parts(self)), repo_id, options, token=token)

    def _warn_left_out(self, where: str | Path) -> None:
        for part in persistence.left_out(self.policy, self.objective, self.tasks):
            warnings.warn(f"{where}: saved without {part}", TryageWarning, stacklevel=3)

    def with_policy(self, policy: Policy) -> Router:
        """Return a router that decides under another policy."""
        return self.replace(policy=policy)

    def with_log(self, path: str | Path, *, prompts: bool = False) -> Router:
        """Return a router that appends a JSON line for each decision to a file.

        A line has the keys of ``tryage route --input`` (the first five of the ranking) and `time`.
        Safe from many threads and processes; a line that cannot be written is lost with one
        warning, and the answer goes on. The path is not saved with the router.

        Args:
            path: the file; it is made at the first decision.
            prompts: write the prompts' texts as well. Off, because they may be private.

        Raises:
            OptionError: it is no file that may be written.
        """
        return self.replace(decision_log=DecisionLog(path, prompts=prompts))

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
        sent_tokens: float | None = None,
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
            sent_tokens: tokens of everything that is sent with the prompt: system prompt,
                history, documents, tools. Context lengths and costs follow from them; None means
                that the prompt is sent alone.

        Raises:
            PromptError: the prompt is empty or not text.
            FlagError: a flag holds unknown words.
            GoalError: a limit cannot be checked, or a goal cannot be computed.
            NoEligibleExpertError: limits exclude every expert.
            CheckError: a check has no meaning for this router, or is wrong.
        """
        sent = None if sent_tokens is None else [sent_tokens]
        request = Request.of(goals, task, flags, observed, check, max_attempts, sent)
        return self._decide([prompt], request)[0]

    def route_batch(
        self,
        prompts: Iterable[str],
        *,
        goals: Goals | None = None,
        task: str | None = None,
        flags: FlagMode = True,
        observed: Mapping[str, float] | None = None,
        check: Check | Function | None = None,
        max_attempts: int | None = None,
        sent_tokens: Sequence[float] | None = None,
    ) -> list[Decision]:
        """Decide for many prompts in one pass; arguments and errors as `route`, a prompt each.

        A prompt gets the expert it would get alone, unless totals differ by less than 1e-5.
        """
        texts = prompt_list(prompts)
        sent = None if sent_tokens is None else list(sent_tokens)
        if sent is not None and len(sent) != len(texts):
            raise PromptError(f"{len(sent)} sent_tokens for {len(texts)} prompts; give one each")
        request = Request.of(goals, task, flags, observed, check, max_attempts, sent)
        return self._decide(texts, request)

    def _decide(self, prompts: Sequence[str], request: Request) -> list[Decision]:
        if not is_tracing():
            decisions = self._decider.decide(prompts, request)
        else:
            with decide_span(self.library.name, prompts) as span:
                decisions = self._decider.decide(prompts, request)
                if len(decisions) == 1:
                    span.set(_traced(decisions[0]))
        log_decisions(self.decision_log, decisions)
        return decisions

    def predict(self, prompts: Iterable[str], *, task: str) -> Array:
        """Return predicted losses over the whole library.

        Args:
            prompts: n texts; flags in them are not read.
            task: one of `tasks`.

        Returns:
            float64 (n, m), lower is better; NaN for experts of another task, and where nothing
            is measured. Prompts that are out of distribution get the experts' averages.
        """
        forecast = self.forecast(prompts, task=task)
        return forecast.losses if forecast.measured else np.full_like(forecast.losses, np.nan)

    def forecast(self, prompts: Iterable[str], *, task: str) -> Forecast:
        """Return everything that is predicted of prompts; arguments as `predict`."""
        return self._decider.forecast(prompt_list(prompts), task)


def _traced(decision: Decision) -> dict[str, Any]:
    """Return the attributes of a decision's span; None is left out."""
    loss = float(decision.losses[decision.names.index(decision.expert)])
    return {
        "tryage.expert": decision.expert,
        "tryage.task": decision.task,
        "tryage.predicted_loss": loss if decision.measured else None,
        "tryage.out_of_distribution": decision.out_of_distribution,
        "tryage.plan": None if decision.plan is None else list(decision.plan.experts),
    }
