"""What windows of tokens cost a model: the one place where a model is called to be measured."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from tryage.errors import ExpertError
from tryage.labeling.tokens import Pipeline, Window
from tryage.runtime import FillMaskPipeline
from tryage.runtime.base import MODEL_FAULTS

_ROWS_AT_ONCE = 1024
"""Targets whose outputs are compared at once, in float32."""

_SAME = 1e-4
"""How far apart outputs may lie that are the same up to rounding, in units of the largest."""


class Reader:
    """Reads windows with one pipeline's model.

    A model's last layer, which gives every token of the vocabulary a number, is the dear part of a
    small model. It is applied only where something is predicted, and a causal model is spared the
    mask of the padding behind the text, if that changes nothing; some windows are read both ways
    to find out.

    Args:
        pipeline: the expert; its model is in memory.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self._narrow: bool | None = None

    def read(self, windows: Sequence[Window]) -> list[tuple[float, int]]:
        """Return the cost of each window's wanted tokens, in nats, and how many were likeliest.

        Raises:
            ExpertError: the model failed on these windows.
        """
        import torch

        rows = torch.tensor([i for i, window in enumerate(windows) for _ in window.at]).long()
        at = torch.tensor([place for window in windows for place in window.at]).long()
        wanted = torch.tensor([token for window in windows for token in window.wanted]).long()
        device = self.pipeline.model.device
        try:
            with self.pipeline.turn():
                outputs = self._outputs(*self._padded(windows), rows.to(device), at.to(device))
                costs, hits = _costs(outputs, wanted.to(device))
        except MODEL_FAULTS as error:
            text = str(error).strip()
            kind = type(error).__name__
            raise ExpertError(f"{kind}: {text.splitlines()[0]}" if text else kind) from error
        sizes = [len(window.at) for window in windows]
        return [
            (float(cost.sum()), int(hit.sum()))
            for cost, hit in zip(costs.split(sizes), hits.split(sizes), strict=True)
        ]

    def _padded(self, windows: Sequence[Window]) -> tuple[Any, Any]:
        """Return token ids (windows, tokens), and where they are no padding."""
        import torch

        length = max(len(window.ids) for window in windows)
        pad = self.pipeline.tokenizer.pad_token_id or 0
        ids = torch.tensor([window.ids + [pad] * (length - len(window.ids)) for window in windows])
        sizes = torch.tensor([len(window.ids) for window in windows])
        seen = (torch.arange(length) < sizes[:, None]).long()
        device = self.pipeline.model.device
        return ids.to(device), seen.to(device)

    def _outputs(self, ids: Any, seen: Any, rows: Any, at: Any) -> Any:
        """Return the model's outputs at the chosen places, (targets, vocabulary)."""
        masked = isinstance(self.pipeline, FillMaskPipeline)
        options = {} if masked else {"use_cache": False}

        def everywhere() -> Any:
            output = self.pipeline.model(ids, attention_mask=seen, **options)
            return output.logits[rows, at]

        def there() -> Any:
            # A causal model does not look at what stands behind a token.
            mask = {"attention_mask": seen} if masked else {}
            with _only(self.pipeline.model, rows, at):
                output = self.pipeline.model(ids, **mask, **options)
            return output.logits[0] if output.logits.shape[:2] == (1, len(rows)) else None

        if self._narrow is None:
            whole = everywhere()
            if len(rows) and (masked or not bool(seen.all())):
                self._narrow = _same(whole, _tried(there))
            return whole
        return there() if self._narrow else everywhere()


@contextlib.contextmanager
def _only(model: Any, rows: Any, at: Any) -> Iterator[None]:
    """Let the layers above a model's body see the chosen places alone, as one row."""

    def choose(_module: Any, _inputs: Any, output: Any) -> Any:
        output.last_hidden_state = output.last_hidden_state[rows, at][None]
        return output

    handle = model.base_model.register_forward_hook(choose)
    try:
        yield
    finally:
        handle.remove()


def _tried(call: Any) -> Any:
    """Return what a call gives; None where the model is not built for it."""
    try:
        return call()
    except (AttributeError, TypeError, *MODEL_FAULTS):
        return None


def _same(whole: Any, part: Any) -> bool:
    if part is None or part.shape != whole.shape:
        return False
    scale = max(1.0, float(whole.float().nan_to_num(0.0, 0.0, 0.0).abs().max()))
    apart = float((whole.float() - part.float()).nan_to_num(0.0, 0.0, 0.0).abs().max())
    return apart <= _SAME * scale


def _costs(outputs: Any, wanted: Any) -> tuple[Any, Any]:
    """Cross-entropy of the wanted tokens, in parts, because float32 outputs are large.

    Args:
        outputs: (targets, vocabulary).
        wanted: (targets,) the token that should stand there.

    Returns:
        (targets,) cost in nats as float64, and whether the token was the likeliest.
    """
    import torch

    costs, hits = [], []
    for part in range(0, len(wanted), _ROWS_AT_ONCE):
        some = outputs[part : part + _ROWS_AT_ONCE].float()
        tokens = wanted[part : part + _ROWS_AT_ONCE]
        cost = torch.nn.functional.cross_entropy(some, tokens, reduction="none")
        costs.append(cost.double())
        hits.append(some.gather(1, tokens[:, None])[:, 0] >= some.amax(dim=-1))
    if not costs:
        return torch.zeros(0), torch.zeros(0)
    return torch.cat(costs).cpu(), torch.cat(hits).cpu()
