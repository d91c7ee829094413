"""Whether prompts of different lengths may share a batch of a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tryage.runtime.generation import GenerationPipeline

_LENGTH_BOUND = ("repetition_penalty", "encoder_repetition_penalty", "no_repeat_ngram_size")
_NEUTRAL = (None, 0, 1.0)


def pads_change_nothing(pipeline: GenerationPipeline, prompts: Sequence[Sequence[int]]) -> bool:
    """Try whether the shortest prompt gets the same scores beside the longest one.

    Most models leave padding out of account; a few, such as recurrent ones, read it as text, and
    settings that count earlier tokens count it too.

    Args:
        pipeline: its model is held by the caller.
        prompts: token ids, of two lengths at least.
    """
    config = pipeline.model.generation_config
    if any(getattr(config, key, None) not in _NEUTRAL for key in _LENGTH_BOUND):
        return False
    if getattr(config, "min_length", 0) or getattr(config, "min_new_tokens", None):
        return False
    short, long = min(prompts, key=len), max(prompts, key=len)
    alone, beside = (_scores(pipeline, rows)[0] for rows in ([short], [short, long]))
    exact = alone.dtype.itemsize >= 4
    scale = float(alone[alone.isfinite()].abs().max())
    apart = float((alone - beside).nan_to_num(0.0).abs().max())
    return apart <= (1e-4 if exact else 0.05) * max(scale, 1.0)


def _scores(pipeline: GenerationPipeline, rows: Sequence[Sequence[int]]) -> Any:
    """Return the scores of the first new token, (rows, vocabulary)."""
    ids, seen = pipeline.padded(rows)
    config = pipeline.config(1)
    config.update(return_dict_in_generate=True, output_scores=True)
    return pipeline.model.generate(ids, attention_mask=seen, generation_config=config).scores[0]
