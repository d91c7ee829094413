"""Training prompts that a router keeps where its maker allows it, and those most like a prompt."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from tryage.encoders import Encoder, StaticEncoder
from tryage.errors import PromptError
from tryage.scores import ScoreTable
from tryage.scores.fields import Kind
from tryage.ties import TIE


@dataclass(frozen=True, slots=True)
class SimilarPrompt:
    """A training prompt that is like the one that was routed.

    Attributes:
        prompt: its text.
        similarity: cosine with the routed prompt, at most 1.
        group: its group in the training table, or None.
        losses: expert → measured loss, lower is better; only experts that were measured.
        best: the experts with the lowest measured loss; empty where none was measured.
        expert: the expert that was chosen for the routed prompt.
    """

    prompt: str = field(repr=False)
    similarity: float
    group: str | None
    losses: Mapping[str, float]
    best: tuple[str, ...]
    expert: str

    @property
    def speaks_for_choice(self) -> bool:
        """Whether the chosen expert was among the best on this prompt."""
        return self.expert in self.best

    def to_dict(self) -> dict[str, Any]:
        """Return JSON types; they hold the prompt."""
        return {
            "prompt": self.prompt,
            "similarity": self.similarity,
            "group": self.group,
            "losses": dict(self.losses),
            "best": list(self.best),
            "speaks_for_choice": self.speaks_for_choice,
        }


class TrainingPrompts:
    """Texts and results that one task's predictor was fitted on.

    Args:
        prompts: n texts.
        groups: group of each, or None.
        experts: m names.
        losses: (n, m), lower is better, NaN where not measured.
        kind: whether losses are 1 - score ("scores") or the table's own ("losses").
    """

    def __init__(
        self,
        prompts: Sequence[str],
        groups: Sequence[str | None],
        experts: Sequence[str],
        losses: NDArray[np.float64],
        kind: Kind,
    ) -> None:
        self.prompts, self.groups = tuple(prompts), tuple(groups)
        self.experts, self.losses, self.kind = tuple(experts), losses, kind
        self._encoded: tuple[Encoder, NDArray[np.float32]] | None = None
        if losses.shape != (len(self.prompts), len(self.experts)):
            raise ValueError(
                f"losses of shape {losses.shape} for {len(self.prompts)} prompts and "
                f"{len(self.experts)} experts"
            )
        if len(self.groups) != len(self.prompts):
            raise ValueError(f"{len(self.groups)} groups for {len(self.prompts)} prompts")

    def __repr__(self) -> str:
        return f"TrainingPrompts({len(self.prompts)} prompts, {len(self.experts)} experts)"

    @classmethod
    def of(cls, table: ScoreTable) -> Self:
        """Keep one task's table; of several rows with one text the first."""
        first: dict[str, int] = {}
        for row, prompt in enumerate(table.prompts):
            first.setdefault(prompt, row)
        part = table.select(np.array(list(first.values()), dtype=np.intp))
        return cls(part.prompts, part.groups, part.experts, part.losses, table.kind)

    def nearest(
        self, prompt: str, encoder: Encoder | None, expert: str, count: int
    ) -> list[SimilarPrompt]:
        """Return the prompts most like one, the most similar first.

        Args:
            prompt: a text without flags.
            encoder: the predictor's; None means the bundled static one.
            expert: the expert that was chosen.
            count: how many at most.

        Raises:
            PromptError: `count` is below 1.
        """
        if count < 1:
            raise PromptError(f"{count} similar prompts; ask for one or more")
        encoder = encoder or StaticEncoder.bundled()
        cosines = self._vectors(encoder) @ encoder.encode([prompt])[0]
        rows = np.argsort(-cosines, kind="stable")[:count].tolist()
        return [self._row(row, float(cosines[row]), expert) for row in rows]

    def fill(self, table: ScoreTable) -> ScoreTable:
        """Return a table whose prompts have the losses that are kept of them, too.

        What the table measures counts first; a table of another kind stays as it is.
        """
        row_of = {prompt: row for row, prompt in enumerate(self.prompts)}
        rows = np.array([row_of.get(prompt, -1) for prompt in table.prompts], dtype=np.intp)
        if table.kind != self.kind or (rows < 0).all():
            return table
        experts = (*table.experts, *(name for name in self.experts if name not in table.experts))
        wide = (len(table), len(experts))

        def widened(values: NDArray[np.float64]) -> NDArray[np.float64]:
            result = np.full(wide, np.nan)
            result[:, : values.shape[1]] = values
            return result

        losses = widened(table.losses)
        for column, name in enumerate(self.experts):
            place = experts.index(name)
            stored = np.where(rows < 0, np.nan, self.losses[rows, column])
            losses[:, place] = np.where(np.isnan(losses[:, place]), stored, losses[:, place])
        targets = {name: widened(values) for name, values in table.targets.items()}
        return replace(table, experts=experts, losses=losses, targets=targets)

    def _vectors(self, encoder: Encoder) -> NDArray[np.float32]:
        """Return the prompts' vectors, (n, dim); they are made once, when first needed."""
        encoded = self._encoded
        if encoded is None or encoded[0] is not encoder:
            encoded = self._encoded = (encoder, encoder.encode(self.prompts))
        return encoded[1]

    def _row(self, row: int, similarity: float, expert: str) -> SimilarPrompt:
        losses = {
            name: loss
            for name, loss in zip(self.experts, self.losses[row].tolist(), strict=True)
            if loss == loss
        }
        lowest = min(losses.values(), default=0.0)
        return SimilarPrompt(
            prompt=self.prompts[row],
            similarity=min(similarity, 1.0),
            group=self.groups[row],
            losses=losses,
            best=tuple(name for name, loss in losses.items() if loss <= lowest + TIE),
            expert=expert,
        )

    def without(self, names: Sequence[str]) -> TrainingPrompts:
        """Return the same prompts without some experts' results."""
        columns = [place for place, name in enumerate(self.experts) if name not in names]
        experts = [self.experts[place] for place in columns]
        return TrainingPrompts(
            self.prompts, self.groups, experts, self.losses[:, columns], self.kind
        )

    def to_dict(self) -> dict[str, Any]:
        """Return JSON types; they hold the prompts."""
        return {
            "kind": self.kind,
            "experts": list(self.experts),
            "prompts": list(self.prompts),
            "groups": list(self.groups),
            "losses": [
                [loss if loss == loss else None for loss in row] for row in self.losses.tolist()
            ],
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return what `to_dict` wrote.

        Raises:
            ValueError, TypeError, LookupError: the parts do not fit together.
        """
        prompts, groups, experts = values["prompts"], values["groups"], values["experts"]
        if not all(isinstance(text, str) for text in [*prompts, *experts]):
            raise TypeError("a prompt or an expert is no text")
        if not all(group is None or isinstance(group, str) for group in groups):
            raise TypeError("a group is no text")
        rows = [
            [np.nan if loss is None else float(loss) for loss in row] for row in values["losses"]
        ]
        losses = np.array(rows, dtype=np.float64).reshape(len(rows), len(experts))
        if values["kind"] not in ("scores", "losses"):
            raise ValueError(f"kind {values['kind']!r}")
        return cls(prompts, groups, experts, losses, values["kind"])


def write_prompts(prompts: Mapping[str, TrainingPrompts]) -> bytes:
    """Return the file in which a router keeps its training prompts, by task: UTF-8 JSON."""
    tasks = {task: part.to_dict() for task, part in prompts.items()}
    return (json.dumps({"tasks": tasks}) + "\n").encode()


def read_prompts(written: bytes) -> dict[str, TrainingPrompts]:
    """Return the prompts that `write_prompts` wrote.

    Raises:
        ValueError, TypeError, LookupError, RecursionError: the file holds something else.
    """
    tasks = json.loads(written.decode("utf-8"))["tasks"]
    return {task: TrainingPrompts.from_dict(values) for task, values in tasks.items()}


def explain_similar(similar: Sequence[SimilarPrompt], kind: Kind, width: int = 72) -> str:
    """Return similar prompts as printable text: figures in one line, the prompt below it.

    Args:
        similar: most similar first.
        kind: whether losses are shown as scores.
        width: characters of a prompt that are shown.
    """
    if not similar:
        return ""
    for_choice = sum(one.speaks_for_choice for one in similar)
    lines = [
        f"Nearest training prompts: {similar[0].expert} was among the best on {for_choice} of "
        f"{len(similar)}."
    ]
    for one in similar:
        ranked = sorted(one.losses, key=lambda name: (one.losses[name], name != one.expert, name))
        shown = ranked[:3]
        if one.expert in one.losses and one.expert not in shown:
            shown = [*ranked[:2], one.expert]
        figures = ", ".join(
            f"{name} {1 - one.losses[name] if kind == 'scores' else one.losses[name]:.2f}"
            for name in shown
        )
        group = f", {one.group}" if one.group else ""
        lines.append(f"  similarity {one.similarity:.2f}{group}: {figures or 'nothing measured'}")
        text = " ".join(one.prompt.split())
        lines.append("    " + (text if len(text) <= width else text[: width - 1] + "…"))
    return "\n".join(lines)
