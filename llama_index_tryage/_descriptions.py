"""Compares tools that are not experts with a query by their descriptions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from llama_index.core.tools import ToolMetadata
from numpy.typing import NDArray

from tryage import Goals, Router
from tryage.binding import flag_mode
from tryage.encoders import Encoder, resolve_encoder
from tryage.errors import GoalError, LibraryError, PromptError
from tryage.flags import parse

_MOST_CACHED = 4096


class Described(NamedTuple):
    """One choice: its place, the cosine of its description and the query, and why it is there."""

    place: int
    cosine: float
    reason: str


class Descriptions:
    """Ranks choices by description; vectors of descriptions are cached."""

    def __init__(self) -> None:
        self._vectors: dict[str, NDArray[np.float32]] = {}

    def rank(
        self,
        router: Router,
        choices: Sequence[ToolMetadata],
        text: str,
        *,
        goals: Goals | None,
        flags: bool,
    ) -> list[Described]:
        """Return the choices, the closest to the text first; ties go by place.

        Args:
            router: whose encoder compares, and whose policy reads flags.
            choices: n tools.
            text: the query.
            goals: of the selector; its limits cannot be checked here.
            flags: whether the text is the user's own, so that its flags are read.

        Raises:
            PromptError: the text is empty.
            GoalError: there are limits, which cannot be checked on tools that are not experts.
            LibraryError: a choice has neither description nor name.
        """
        mode = flag_mode(flags)
        parsed = parse(text) if mode == "warn" else mode or None
        resolved = router.policy.combine(goals, parsed, unknown="warn")
        text = parsed.prompt if parsed is not None and mode == "warn" else text
        if not text.strip():
            raise PromptError("the prompt is empty; there is nothing to route")
        if resolved.limits:
            limits = ", ".join(str(limit) for limit in resolved.limits)
            raise GoalError(
                f"the limits {limits} cannot be checked on tools that are not experts of library "
                f"{router.library.name!r}; drop them, or name the tools after experts"
            )
        encoder = _encoder(router)
        vectors = np.stack([self._vector(encoder, n, c) for n, c in enumerate(choices)])
        cosines = vectors @ encoder.encode([text])[0]
        unweighed = (
            f"; goals ({', '.join(resolved.weights)}) do not weigh" if resolved.weights else ""
        )
        about = (
            f"of {len(choices)} descriptions, compared by encoder {encoder.name!r} because not "
            f"every choice is an expert of library {router.library.name!r}{unweighed}"
        )
        ranked = []
        for number, place in enumerate(np.argsort(-cosines, kind="stable").tolist(), 1):
            cosine = float(cosines[place])
            reason = f"{_title(choices[place])} — cosine {cosine:.4f}, number {number} {about}"
            ranked.append(Described(place, cosine, reason))
        return ranked

    def _vector(self, encoder: Encoder, place: int, choice: ToolMetadata) -> NDArray[np.float32]:
        text = choice.description or (choice.name or "").replace("_", " ")
        if not text.strip():
            raise LibraryError(f"choice {place} has neither a description nor a name")
        vector = self._vectors.get(text)
        if vector is None:
            vector = encoder.encode([text])[0]
            if len(self._vectors) >= _MOST_CACHED:
                self._vectors.clear()
            self._vectors[text] = vector
        return vector


def _encoder(router: Router) -> Encoder:
    """Return the router's own encoder, or the bundled one where it decides without."""
    encoders = (predictor.encoder for predictor in router.predictors.values())
    return next((encoder for encoder in encoders if encoder is not None), None) or resolve_encoder(
        "static"
    )


def _title(choice: ToolMetadata) -> str:
    text = choice.name or choice.description or ""
    return text if len(text) <= 60 else f"{text[:57]}..."
