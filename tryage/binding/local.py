"""Models of both adapters over one local Hugging Face pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from tryage.binding.checking import check_arguments, check_options
from tryage.experts import TEXT_GENERATION, Expert
from tryage.library import Library
from tryage.paths import user_path


class LocalModel:
    """Base of the local models: a runtime and an expert of its library.

    Args:
        **fields: of the model; `max_tokens` is an alias of `max_new_tokens`, as in calls.

    Raises:
        TypeError: there is no such field.
    """

    def __init__(self, **fields: Any) -> None:
        model: Any = type(self)
        check_arguments(model.__name__, fields, [*model.model_fields, "max_tokens"])
        check_options(fields)
        limit = fields.pop("max_tokens", None)
        if limit is not None:
            fields.setdefault("max_new_tokens", limit)
        if isinstance(fields.get("stop"), str):
            fields["stop"] = [fields["stop"]]
        super().__init__(**fields)

    @classmethod
    def from_model(
        cls,
        model: str | Path,
        *,
        task: str = "text-generation",
        device: str = "cpu",
        download: bool = False,
        **options: Any,
    ) -> Self:
        """Return a model of one folder or Hub id, without a library.

        Args:
            model: a folder that `save_pretrained` wrote, or a Hub id.
            task: ``"text-generation"`` or ``"fill-mask"``.
            device: where the model runs, as `tryage.runtime.Runtime` takes it.
            download: whether a Hub model that is not in the local cache may be fetched.
            **options: the other fields.
        """
        from tryage.runtime import Runtime

        expert = Expert(name=user_path(model).name, model=str(model), task=task)
        runtime = Runtime(Library([expert]), device=device, download=download)
        make: Any = cls
        local_model: Self = make(runtime=runtime, expert=expert.name, **options)
        return local_model


def tells_logprobs(expert: Expert) -> bool:
    """Return whether the pipeline of an expert gives log-probabilities of its tokens."""
    return expert.endpoint is None and expert.task == TEXT_GENERATION
