"""Fine-tune one expert on texts: AdamW and a schedule, all weights or LoRA (extra `hf`).

What is minimised is what `tryage.labeling` measures: the cross-entropy of the tokens that a row
scores, on the same windows. The mean over tokens is minimised, not over bytes, so that a step is
no larger for text that its tokenizer splits badly.
"""

from __future__ import annotations

import contextlib
import json
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tryage.cotraining.options import CotrainingOptions
from tryage.errors import ExpertError, missing_extra
from tryage.experts import FILL_MASK
from tryage.files import replacing_folder
from tryage.labeling.masking import mask_words
from tryage.labeling.rows import Row
from tryage.labeling.tokens import Pipeline, Window, encode_row
from tryage.labeling.window_losses import padded, predicted_places
from tryage.runtime.base import MODEL_FAULTS
from tryage.runtime.models import quiet

try:
    import torch
    import transformers
except ImportError as error:
    raise missing_extra("hf", "training experts") from error

_LORA_SCALE = 2
"""LoRA's alpha as a multiple of the rank."""

CLIP = 1.0
"""Largest norm of a step's gradient."""

Advance = Callable[[int, int], None]
"""Called with the steps done and all steps."""


@dataclass(frozen=True)
class Trained:
    """What one update of an expert did.

    Attributes:
        prompts: how many it was trained on.
        steps: how many steps.
        first_loss: mean loss of the first tenth of the steps, in nats a token.
        last_loss: that of the last tenth.
    """

    prompts: int
    steps: int
    first_loss: float
    last_loss: float


def fine_tune(
    pipeline: Pipeline,
    rows: Sequence[Row],
    folder: Path,
    options: CotrainingOptions,
    *,
    dtype: Any,
    seed: Sequence[int],
    advance: Advance | None = None,
) -> Trained:
    """Train an expert's model on rows, and save it.

    Args:
        pipeline: the expert, loaded in float32; its model is changed.
        rows: what it is trained on, rows of its task.
        folder: where the model goes; appears whole or not at all.
        options: how to train.
        dtype: number type of the saved weights (`stored_dtype`).
        seed: of the order of texts, hidden words and dropout.
        advance: called after each step.

    Raises:
        ExpertError: the model failed, or its loss is not a number.
        OSError: the folder cannot be written.
        MissingExtraError: LoRA without peft.
    """
    batches = list(_batches(pipeline, rows, options, np.random.default_rng(list(seed))))
    if options.max_steps is not None:
        batches = batches[: options.max_steps]
    if not batches:
        raise ExpertError("none of its prompts holds a token to learn from")
    try:
        model = trainable(pipeline, options)
        losses = list(_steps(pipeline, model, batches, options, seed, advance))
    except MODEL_FAULTS as error:
        raise pipeline.failure(error) from error
    save_model(pipeline, merged(model, options), folder, dtype)
    tenth = max(1, len(losses) // 10)
    return Trained(
        prompts=len(rows),
        steps=len(losses),
        first_loss=float(np.mean(losses[:tenth])),
        last_loss=float(np.mean(losses[-tenth:])),
    )


def stored_dtype(folder: Path) -> Any:
    """Return the number type that a model folder states for its weights; float32 without one."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    name = config.get("dtype") or config.get("torch_dtype")
    dtype = getattr(torch, str(name), None)
    return dtype if isinstance(dtype, torch.dtype) else torch.float32


def save_model(pipeline: Pipeline, model: Any, folder: Path, dtype: Any) -> None:
    """Save a trained model and its tokenizer.

    Args:
        pipeline: the expert, whose tokenizer is saved.
        model: its model.
        folder: appears whole or not at all.
        dtype: number type of the weights in the folder.
    """
    with replacing_folder(folder) as temporary, quiet():
        model.eval().to(dtype).save_pretrained(temporary)
        pipeline.tokenizer.save_pretrained(temporary)


def check_lora(options: CotrainingOptions) -> None:
    """See that peft is installed where LoRA is wanted.

    Raises:
        MissingExtraError: it is not.
    """
    if options.lora_rank is None:
        return
    try:
        import peft  # noqa: F401
    except ImportError as error:
        raise missing_extra("lora", "training with LoRA") from error


def trainable(pipeline: Pipeline, options: CotrainingOptions) -> Any:
    """Return an expert's model to train: as it is, or with LoRA beside its linear layers.

    Raises:
        MissingExtraError: LoRA without peft.
    """
    if options.lora_rank is None:
        return pipeline.model
    try:
        import peft
    except ImportError as error:
        raise missing_extra("lora", "training with LoRA") from error
    config = peft.LoraConfig(
        r=options.lora_rank,
        lora_alpha=_LORA_SCALE * int(options.lora_rank or 1),
        target_modules="all-linear",
        lora_dropout=0.0,
    )
    with warnings.catch_warnings():
        # peft asks Transformers by a name that newer versions have replaced.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        return peft.get_peft_model(pipeline.model, config)


def merged(model: Any, options: CotrainingOptions) -> Any:
    """Return what `trainable` returned with LoRA's matrices added to the weights."""
    return model if options.lora_rank is None else model.merge_and_unload()


def schedule_of(optimizer: Any, steps: int, options: CotrainingOptions) -> Any:
    """Return the schedule of an optimizer's rates over a round's steps."""
    return transformers.get_scheduler(
        options.schedule,
        optimizer,
        num_warmup_steps=int(options.warmup * steps),
        num_training_steps=steps,
    )


def _steps(
    pipeline: Pipeline,
    model: Any,
    batches: Sequence[Sequence[Window]],
    options: CotrainingOptions,
    seed: Sequence[int],
    advance: Advance | None,
) -> Iterator[float]:
    """Do one step a batch; yield its loss in nats a token."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        parameters, lr=options.learning_rate, weight_decay=options.weight_decay
    )
    schedule = schedule_of(optimizer, len(batches), options)
    model.train()
    # Dropout draws from torch's global generator: seeded here, and restored afterwards.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(np.random.default_rng([*seed, 1]).integers(2**31)))
        for number, batch in enumerate(batches, 1):
            loss = batch_loss(pipeline, model, batch)
            value = float(loss.detach())
            if not math.isfinite(value):
                raise ExpertError(
                    f"its loss at step {number} of {len(batches)} is {value:g}; lower the "
                    f"learning rate, {options.learning_rate:g}"
                )
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, CLIP)
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
            if advance is not None:
                advance(number, len(batches))
            yield value


def batch_loss(pipeline: Pipeline, model: Any, batch: Sequence[Window]) -> Any:
    """Return the mean cross-entropy of a batch's target tokens, a scalar tensor with gradient."""
    ids, mask = padded(pipeline, batch)
    rows, at = predicted_places(batch, ids.device)
    targets = torch.tensor([token for window in batch for token in window.targets])
    logits = model(input_ids=ids, attention_mask=mask).logits[rows, at]
    return torch.nn.functional.cross_entropy(logits.float(), targets.to(ids.device))


def _batches(
    pipeline: Pipeline, rows: Sequence[Row], options: CotrainingOptions, rng: np.random.Generator
) -> Iterator[list[Window]]:
    """Yield the batches of all epochs; fill-mask experts see other words hidden in each."""
    for _ in range(options.epochs):
        order = rng.permutation(len(rows)).tolist()
        batch: list[Window] = []
        for window in _windows(pipeline, [rows[i] for i in order], options, rng):
            longest = max(len(w.ids) for w in (*batch, window))
            full = longest * (len(batch) + 1) > options.batch_tokens
            if batch and (full or len(batch) == options.batch):
                yield batch
                batch = []
            batch.append(window)
        if batch:
            yield batch


def _windows(
    pipeline: Pipeline,
    rows: Sequence[Row],
    options: CotrainingOptions,
    rng: np.random.Generator,
) -> Iterator[Window]:
    for row in rows:
        hidden = hidden_anew(row, options, rng)
        with contextlib.suppress(ExpertError):  # nothing in this text that the expert can learn
            encoded = encode_row(pipeline, hidden, max_window=options.max_window)
            yield from (window for window in encoded.windows if window.at)


def hidden_anew(row: Row, options: CotrainingOptions, rng: np.random.Generator) -> Row:
    """Return a fill-mask row with other words hidden; any other row as it is."""
    if row.task != FILL_MASK or row.masked is None:
        return row
    seed = int(rng.integers(1, 2**31))
    masked = mask_words(row.masked.text, share=options.mask_share, seed=seed)
    return Row(row.id, masked.prompt, row.task, row.group, masked.text, masked)
