"""The starter library: which experts are trained, how large, and for how long.

Training is counted in steps, never in seconds, so that the same text gives the same experts on
any machine. The whole list is about two and a half minutes of one core's work.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from tryage.experts import FILL_MASK, TEXT_GENERATION

LIBRARY = "starter"
"""Name of the library that the experts form."""

CONTEXT = 256
"""Tokens that a starter expert takes at most."""


@dataclass(frozen=True)
class Recipe:
    """How one expert is made.

    Attributes:
        name: the expert's name in the library.
        domain: the domain whose text it is trained on (`tryage.quickstart.texts.DOMAINS`).
        task: the Transformers pipeline task.
        hidden: width of its layers; a multiple of 32.
        layers: number of layers.
        steps: optimizer steps.
        vocabulary: tokens of its own tokenizer.
        learning_rate: highest learning rate; it rises over the first steps, then falls.
        batch: windows per step.
        window: tokens per window.
        hide: part of the words hidden from a fill-mask expert in training.
        seed: start of its random numbers.
    """

    name: str
    domain: str
    task: str
    hidden: int
    layers: int
    steps: int
    vocabulary: int = 2048
    learning_rate: float = 0.02
    batch: int = 4
    window: int = 128
    hide: float = 0.3
    seed: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return the recipe as JSON types."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Recipe:
        """Build a recipe from what `to_dict` returned."""
        return cls(**{field.name: data[field.name] for field in fields(cls)})


def _causal(name: str, domain: str, hidden: int, steps: int) -> Recipe:
    return Recipe(name, domain, TEXT_GENERATION, hidden, 2, steps)


def _masked(name: str, domain: str, hidden: int, steps: int) -> Recipe:
    return Recipe(name, domain, FILL_MASK, hidden, 2, steps, vocabulary=4096)


STARTER = (
    _causal("legal-writer", "legal", 64, 350),
    _causal("reference-writer", "reference", 64, 350),
    _causal("readme-writer", "readme", 64, 350),
    _causal("headers-writer", "headers", 64, 350),
    _causal("python-writer-small", "python", 64, 300),
    _causal("python-writer-large", "python", 128, 350),
    _masked("legal-filler", "legal", 64, 500),
    _masked("reference-filler", "reference", 64, 500),
    _masked("readme-filler", "readme", 96, 400),
    _masked("headers-filler", "headers", 96, 400),
    _masked("python-filler", "python", 96, 400),
)
"""Five domains, eleven experts. Python has a small and a large writer: the large one is better on
most of its text, not on all."""
