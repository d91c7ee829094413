"""What chat models and text models have in common as experts, called inside a run already open."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

from langchain_core.callbacks import BaseCallbackHandler, BaseCallbackManager
from langchain_core.language_models import BaseLanguageModel
from langchain_core.runnables import RunnableBinding

from langchain_tryage._tools import NO_KWARGS
from tryage import Goals
from tryage.dispatch import describe_error, nothing

R = TypeVar("R")

_logger = logging.getLogger(__name__)


class Labels(NamedTuple):
    """Callbacks, tags and metadata that were bound to an expert, for its runs.

    Attributes:
        handlers: callbacks.
        tags: of its runs.
        metadata: of its runs.
    """

    handlers: tuple[BaseCallbackHandler, ...] = ()
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = NO_KWARGS

    @classmethod
    def of(cls, callbacks: Any, tags: Sequence[str] | None, metadata: Any) -> Labels:
        """Return labels from the forms that models and configs use."""
        if isinstance(callbacks, BaseCallbackManager):
            callbacks = callbacks.handlers
        return cls(tuple(callbacks or ()), tuple(tags or ()), metadata or NO_KWARGS)

    def and_those_of(self, model: BaseLanguageModel[Any]) -> Labels:
        """Return these labels and those of a model."""
        model_labels = Labels.of(model.callbacks, model.tags, model.metadata)
        if self is NO_LABELS:
            return model_labels
        return Labels(
            (*self.handlers, *(h for h in model_labels.handlers if h not in self.handlers)),
            (*self.tags, *(tag for tag in model_labels.tags if tag not in self.tags)),
            {**self.metadata, **model_labels.metadata},
        )


NO_LABELS = Labels()


class Call(NamedTuple):
    """One call of the routing model, as each expert that it tries gets it.

    Attributes:
        stop: of the call.
        kwargs: its other arguments, for the expert.
        run_manager: of the run that is open; None for none.
        goals: of this call, for an expert that routes too.
    """

    stop: list[str] | None = None
    kwargs: Mapping[str, Any] = NO_KWARGS
    run_manager: Any = None
    goals: Goals | None = None


def ask_model(expert: Any, question: Callable[[Any], R], otherwise: R) -> R:
    """Return what an expert's model states about itself, or `otherwise` if it raises.

    A model that cannot be made, or that raises here, must not keep other experts from answering:
    if the router chooses it, its call fails, and the next expert answers.
    """
    try:
        return question(expert.model)
    except Exception as error:  # noqa: BLE001 - vendors' classes raise anything
        _logger.debug("expert %s cannot be queried: %s", expert.name, describe_error(error))
        return otherwise


def labels_of(expert: Any) -> Labels:
    """Return the labels of an expert and of its model, as far as a broken one has them."""
    labels: Labels = expert.labels
    return ask_model(expert, labels.and_those_of, labels)


def with_stop(
    stop: list[str] | None, bound: Mapping[str, Any], kwargs: Mapping[str, Any]
) -> dict[str, Any]:
    """Join the arguments of a call and those bound to its model; the call's win."""
    arguments = {"stop": None, **bound, **kwargs}
    return arguments if stop is None else {**arguments, "stop": stop}


@contextmanager
def none_is_an_error(name: str) -> Iterator[None]:
    """Turn the error that LangChain makes of a model's None into an `ExpertError`."""
    try:
        yield
    except AttributeError as error:
        if error.obj is None and error.name == "generations":
            raise nothing(name) from error
        raise


def unwrap(name: str, expert: Any, owner: str) -> tuple[Any, dict[str, Any], Labels]:
    """Return a model, the call arguments that were bound to it, and its labels.

    Args:
        name: what errors call the expert.
        expert: a model, or a binding of one.
        owner: the class that calls it.

    Raises:
        TypeError: it carries another config, which a call inside an open run cannot honour.
    """
    kwargs: dict[str, Any] = {}
    labels = NO_LABELS
    model = expert
    while isinstance(model, RunnableBinding) and not isinstance(model, BaseLanguageModel):
        config: dict[str, Any] = {**model.config}
        inner = Labels.of(
            config.pop("callbacks", None), config.pop("tags", None), config.pop("metadata", None)
        )
        if any(config.values()) or model.config_factories:
            raise TypeError(
                f"expert {name!r} carries a config of more than callbacks, tags and metadata; "
                f"{owner} calls experts inside its own run. Pass the config to {owner}, or use "
                "TryageRouter"
            )
        labels = Labels(
            (*inner.handlers, *labels.handlers),
            (*inner.tags, *labels.tags),
            {**inner.metadata, **labels.metadata},
        )
        kwargs = {**model.kwargs, **kwargs}
        model = model.bound
    return model, kwargs, labels
