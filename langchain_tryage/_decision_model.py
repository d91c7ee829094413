"""`TryageDecisionModel`: a router as one of LangChain's decision models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
from langchain_core.decisions import (
    BaseDecisionModel,
    Choice,
    ChoiceAnswer,
    ClassifierRequest,
    ClassifierResponse,
    Question,
    State,
)
from langchain_core.messages import BaseMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import ensure_config
from langchain_core.runnables.utils import ConfigurableFieldSpec

from langchain_tryage._fields import Routed, Saved
from langchain_tryage._modalities import messages_in
from langchain_tryage._plans import GOALS_SPEC, Request, call_goals, with_goals
from langchain_tryage._tools import Needs
from tryage import Decision, Router, ScoreTable, TryageError
from tryage.binding import Binding, bind, off_loop
from tryage.chances import fit_spread
from tryage.errors import LibraryError, OptionError, PromptError, did_you_mean

_NO_LABEL = "no label stands for it"


class TryageDecisionModel(Routed, Saved, BaseDecisionModel):
    """Answers `Choice` questions whose labels are experts, for `ModelRouterMiddleware` and others.

    The router decides by the state's text; what a question says in its instructions and criteria
    is not read. Experts without a label are not eligible; limits hold, and a label that they
    exclude has the probability 0. The text of a state is found as in every class here: a string;
    the user's last message; in a mapping or sequence of any depth, its messages, or else all its
    texts, one a line.

    An answer's ``choice`` is the router's decision, the lowest total; ``probabilities`` holds for
    every label the chance that its expert has the lowest total (`tryage.chances`), and
    ``confidence`` is that of the choice. They need ``spread`` to be calibrated: by itself the
    chance tells which *expected* loss is lowest, and one answer scatters more.

    Args:
        router: a router, a router folder or the name of a bundled router.
        **options: those of `tryage.binding.RouterOptions`, and the fields below; `aliases` maps a
            label to an expert's name.

    Attributes:
        model: the name that answers and tracers state; by default the router's.
        key: for states that are mappings, the key of what is routed; by default all of it.
        text_from: which messages are routed, as in `ChatTryage`.
        spread: factor on the predicted standard errors; see `calibrated`.
    """

    key: str | None = None
    spread: float = 1.0

    @classmethod
    def _checked(cls, fields: dict[str, Any]) -> dict[str, Any]:
        spread = fields.get("spread", 1.0)
        if isinstance(spread, bool) or not isinstance(spread, int | float) or not 0 < spread < 1e6:
            raise OptionError(f"spread is {spread!r}; it is a number above 0")
        if fields["experts"] is not None:
            raise OptionError("experts= has no meaning here: the labels of a question name them")
        router = fields["router"]
        label = router.library.name if isinstance(router, Router) else str(router)
        return {"model": label, **fields}

    def calibrated(self, table: ScoreTable) -> Self:
        """Return a model whose probabilities fit measured results best.

        The spread of the copy is the one with the highest likelihood of the experts that were
        measured as the best on the prompts of a table.

        Args:
            table: measured results on prompts that the router was not fitted on. Those that it was
                fitted on make it too sure.

        Raises:
            ValueError: no prompt has two experts that are measured and predicted.
        """
        router = self._binding.router
        columns = [router.library.index(name) for name in table.experts]
        parts = []
        for task, part in table.by_task(router.library).items():
            forecast = router.forecast(part.prompts, task=task)
            measured = np.full((len(part), len(router.library)), np.nan)
            own = [router.library.index(name) for name in part.experts]
            measured[:, own] = part.losses
            parts.append((forecast.losses, forecast.std, measured))
        losses, std, measured = (
            np.concatenate([part[place][:, columns] for part in parts]) for place in range(3)
        )
        return self.model_copy(update={"spread": fit_spread(losses, std, measured)})

    @property
    def _provider(self) -> str:
        return "tryage"

    @property
    def config_specs(self) -> list[ConfigurableFieldSpec]:
        """The goals of a call."""
        return [GOALS_SPEC]

    def _bind(self) -> Binding[str]:
        # Labels are read here, so aliases are no names of callables.
        options = {**self.__dict__, "aliases": None}
        return bind(self.router, None, _name, options, earlier=self._earlier_binding())

    def invoke(
        self,
        input: ClassifierRequest,
        config: RunnableConfig | None = None,
        *,
        tryage: Any = None,
        **kwargs: Any,
    ) -> ClassifierResponse:
        """Answer one request; ``tryage=Goals(...)`` adds goals to this call."""
        return super().invoke(input, with_goals(ensure_config(config), tryage), **kwargs)

    async def ainvoke(
        self,
        input: ClassifierRequest,
        config: RunnableConfig | None = None,
        *,
        tryage: Any = None,
        **kwargs: Any,
    ) -> ClassifierResponse:
        """Answer one request without blocking the event loop."""
        return await super().ainvoke(input, with_goals(ensure_config(config), tryage), **kwargs)

    def batch(
        self,
        inputs: list[ClassifierRequest],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[ClassifierResponse]:
        """Answer all requests in one pass."""
        return self._batch_with_config(
            self._classify_batch,
            inputs,
            self._traced_configs(config, len(inputs)),
            return_exceptions=return_exceptions,
            **kwargs,
        )

    async def abatch(
        self,
        inputs: list[ClassifierRequest],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[ClassifierResponse]:
        """Answer all requests in one pass, off the event loop."""
        return await self._abatch_with_config(
            self._aclassify_batch,
            inputs,
            self._traced_configs(config, len(inputs)),
            return_exceptions=return_exceptions,
            **kwargs,
        )

    def _traced_configs(
        self, config: RunnableConfig | list[RunnableConfig] | None, count: int
    ) -> list[RunnableConfig]:
        configs = config if isinstance(config, list) else [config or {}] * count
        return [self._traced_config(one) for one in configs]

    def _classify(self, state: State, questions: dict[str, Question]) -> ClassifierResponse:
        labelled = [self._question(state, question, None) for question in questions.values()]
        return self._response(questions, labelled, self._decide(labelled))

    async def _aclassify(self, state: State, questions: dict[str, Question]) -> ClassifierResponse:
        if self._binding.is_quick:
            return self._classify(state, questions)
        return await off_loop(self._classify, state, questions)

    def _classify_batch(
        self,
        inputs: list[Any],
        run_manager: list[Any],
        config: list[RunnableConfig],
        tryage: Any = None,
    ) -> list[Any]:
        pairs = list(zip(inputs, config, strict=True))
        try:
            rows = [self._questions(request, one, tryage) for request, one in pairs]
            decisions = iter(self._decide([question for row in rows for question in row]))
            return [
                self._response(request["questions"], row, [next(decisions) for _ in row])
                for request, row in zip(inputs, rows, strict=True)
            ]
        except TryageError:
            # Each is raised again for the request that it belongs to.
            return [self._response_or_error(request, one, tryage) for request, one in pairs]

    async def _aclassify_batch(
        self,
        inputs: list[Any],
        run_manager: list[Any],
        config: list[RunnableConfig],
        tryage: Any = None,
    ) -> list[Any]:
        if self._binding.is_quick:
            return self._classify_batch(inputs, run_manager, config, tryage)
        return await off_loop(self._classify_batch, inputs, run_manager, config, tryage)

    def _response_or_error(self, request: Any, config: RunnableConfig, goals: Any) -> Any:
        try:
            row = self._questions(request, config, goals)
            return self._response(request["questions"], row, self._decide(row))
        except TryageError as error:
            return error

    def _questions(
        self, request: Any, config: RunnableConfig, goals: Any
    ) -> list[_LabelledQuestion]:
        questions = request["questions"].values()
        call = with_goals(config, goals)
        return [self._question(request["state"], question, call) for question in questions]

    def _question(
        self, state: State, question: Question, config: RunnableConfig | None
    ) -> _LabelledQuestion:
        """Return a question as the router takes it; without a config, the run's goals hold."""
        if not isinstance(question, Choice):
            raise OptionError(
                f"a {type(question).__name__} question was asked; a router answers Choice "
                "questions alone, whose labels are its experts"
            )
        experts = {label: self._expert(label) for label in question.criteria}
        labelled: dict[str, str] = {}
        for label, name in experts.items():
            if name in labelled:
                raise LibraryError(f"labels {labelled[name]!r} and {label!r} are both {name!r}")
            labelled[name] = label
        others = (name for name in self._binding.router.library.names if name not in labelled)
        return _LabelledQuestion(
            Request(
                self._readable(state),
                call_goals(None, config),
                needs=Needs.of(messages_in(state)),
                without=dict.fromkeys(others, _NO_LABEL),
            ),
            experts,
            labelled,
        )

    def _expert(self, label: str) -> str:
        library = self._binding.router.library
        name = str((self.aliases or {}).get(label, label))
        if name in library:
            return name
        names = (*library.names, *(self.aliases or {}))
        hint = did_you_mean(label, names) or f" It has: {', '.join(library.names[:20])}."
        raise LibraryError(
            f"label {label!r} is not an expert of library {library.name!r}.{hint} Name the labels "
            "like experts, or say with aliases= which expert each one is."
        )

    def _readable(self, state: State) -> Any:
        """Return a state in a form that the source of the text reads."""
        source = self._source
        if callable(source.flags_from) or callable(source.text_from):
            return state
        key = source.dict_key
        part = _text_or_messages(source.part(state) if key is not None else state)
        return part if key is None else {key: part}

    def _decide(self, questions: Sequence[_LabelledQuestion]) -> list[Decision]:
        """Decide, in one pass for all questions with the same labels and goals."""
        groups: dict[tuple[str, ...], list[int]] = {}
        for place, question in enumerate(questions):
            groups.setdefault(tuple(sorted(question.labels)), []).append(place)
        decisions: dict[int, Decision] = {}
        for places in groups.values():
            requests = [questions[place].request for place in places]
            alike = self._planner.decide_batch(requests)
            if alike is None:
                alike = [self._planner.decide(request)[1] for request in requests]
            decisions.update(zip(places, alike, strict=True))
        return [decisions[place] for place in range(len(questions))]

    def _response(
        self,
        ids: Mapping[str, Question],
        questions: Sequence[_LabelledQuestion],
        decisions: Sequence[Decision],
    ) -> ClassifierResponse:
        answers: dict[str, Any] = {}
        for answer_id, question, decision in zip(ids, questions, decisions, strict=True):
            chances = decision.chances(self.spread)
            probabilities = {label: chances[name] for label, name in question.experts.items()}
            choice = question.labels[decision.expert]
            answers[answer_id] = ChoiceAnswer(
                type="choice",
                choice=choice,
                probabilities=probabilities,
                confidence=probabilities[choice],
            )
        return ClassifierResponse(model=self.model, answers=answers)

    def __repr_args__(self) -> Sequence[tuple[str | None, Any]]:
        """Name router and spread."""
        return [("router", self.router), ("spread", self.spread)]


class _LabelledQuestion(NamedTuple):
    """A question as the router takes it.

    Attributes:
        request: for the planner.
        experts: label → expert.
        labels: expert → label.
    """

    request: Request
    experts: Mapping[str, str]
    labels: Mapping[str, str]


def _text_or_messages(state: Any) -> Any:
    """Return a state's messages, or else its text.

    Raises:
        PromptError: it holds neither.
    """
    if isinstance(state, str):
        return state
    messages = list(_messages(state)) or list(messages_in(state))
    if messages:
        return messages
    texts = "\n".join(_texts(state))
    if not texts.strip():
        raise PromptError("the state holds no text and no message; there is nothing to route")
    return texts


def _parts(state: Any) -> Iterator[Any]:
    if isinstance(state, Mapping):
        yield from state.values()
    elif isinstance(state, Sequence) and not isinstance(state, str | bytes):
        yield from state


def _messages(state: Any) -> Iterator[BaseMessage]:
    """Yield messages at any depth."""
    if isinstance(state, BaseMessage):
        yield state
    else:
        for part in _parts(state):
            yield from _messages(part)


def _texts(state: Any) -> Iterator[str]:
    """Yield texts at any depth."""
    if isinstance(state, str):
        yield state
    else:
        for part in _parts(state):
            yield from _texts(part)


def _name(_runtime: Any, expert: Any) -> str:
    return str(expert.name)
