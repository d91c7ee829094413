"""What windows of tokens cost a model: the one place where a model is called to be measured."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterator, Sequence
from typing import Any

from tryage.errors import ExpertError
from tryage.labeling.tokens import Pipeline, Window
from tryage.runtime import FillMaskPipeline
from tryage.runtime.base import MODEL_FAULTS

_ROWS_AT_ONCE = 256
"""Targets whose outputs are compared at once, in float32: few enough to stay in a core's cache."""

_TRIED = 4
"""Windows that are read both ways, the longest and the shortest of a batch."""

_SAME = 1e-4
"""How far apart outputs may lie that are the same up to rounding, in units of the largest."""

_NARROW: weakref.WeakKeyDictionary[Any, bool] = weakref.WeakKeyDictionary()
"""Model → whether it may be read only where something is predicted; found out once for each."""


class Reader:
    """Reads windows with one pipeline's model.

    A model's last layer, which gives every token of the vocabulary a number, is the dear part of a
    small model. It is applied only where something is predicted, and a causal model is spared the
    mask of the padding behind the text, if that changes nothing; a few windows of every model are
    read both ways to find out.

    Args:
        pipeline: the expert; its model is in memory.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline

    def read(self, windows: Sequence[Window]) -> list[tuple[float, int]]:
        """Return the cost of each window's wanted tokens, in nats, and how many were likeliest.

        Raises:
            ExpertError: the model failed on these windows.
        """
        import torch

        wanted = torch.tensor([token for window in windows for token in window.wanted]).long()
        try:
            with self.pipeline.turn():
                outputs = self._outputs(windows, narrow=self._may_be_narrow(windows))
                costs, hits = _costs(outputs, wanted.to(self.pipeline.model.device))
        except MODEL_FAULTS as error:
            text = str(error).strip()
            kind = type(error).__name__
            raise ExpertError(f"{kind}: {text.splitlines()[0]}" if text else kind) from error
        sizes = [len(window.at) for window in windows]
        return [
            (float(cost.sum()), int(hit.sum()))
            for cost, hit in zip(costs.split(sizes), hits.split(sizes), strict=True)
        ]

    @property
    def _masked(self) -> bool:
        return isinstance(self.pipeline, FillMaskPipeline)

    def _may_be_narrow(self, windows: Sequence[Window]) -> bool:
        """Tell whether the model may be read only where something is predicted."""
        model = self.pipeline.model
        known = _NARROW.get(model)
        if known is not None:
            return known
        some = [windows[0], *windows[1:][1 - _TRIED :]]
        padded = len({len(window.ids) for window in some}) > 1
        if not any(window.at for window in some) or not (self._masked or padded):
            return False
        whole = self._outputs(some, narrow=False)
        known = _same(whole, _tried(lambda: self._outputs(some, narrow=True)))
        _NARROW[model] = known
        return known

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

    def _outputs(self, windows: Sequence[Window], *, narrow: bool) -> Any:
        """Return the model's outputs where something is predicted, (targets, vocabulary).

        Args:
            windows: what it reads.
            narrow: whether its last layer sees those places alone; None may come back then.
        """
        import torch

        model = self.pipeline.model
        ids, seen = self._padded(windows)
        rows = torch.tensor([i for i, window in enumerate(windows) for _ in window.at]).long()
        at = torch.tensor([place for window in windows for place in window.at]).long()
        rows, at = rows.to(model.device), at.to(model.device)
        # A causal model does not look at what stands behind a token.
        mask = {"attention_mask": seen} if self._masked or not narrow else {}
        options = {} if self._masked else {"use_cache": False}
        if not narrow:
            return model(ids, **mask, **options).logits[rows, at]
        with _only(model, rows, at):
            logits = model(ids, **mask, **options).logits
        return logits[0] if logits.shape[:2] == (1, len(rows)) else None


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
