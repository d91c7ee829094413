"""What a quickstart does: which experts, how much text, which prompts at the end."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from tryage.quickstart.recipes import STARTER, Recipe

Via = Literal["langchain", "llama-index"]

_FORMAT = 1
"""Counts up when the same plan and text would give other files."""


@dataclass(frozen=True)
class Example:
    """A prompt of our own that no expert has seen, and the adapter it goes through.

    Attributes:
        via: the adapter.
        prompt: what a user would write, flags included.
        reference: for a prompt with ``[MASK]`` the text without marks and flags.
    """

    via: Via
    prompt: str
    reference: str | None = None


EXAMPLES = (
    Example(
        "langchain",
        "def read_settings(path):\n"
        '    """Return the settings of a file as a dictionary of strings."""\n'
        "    settings = {}\n"
        '    with open(path, encoding="utf-8") as file:\n'
        "        for line in file:\n"
        '            name, _, value = line.partition("=")\n',
    ),
    Example(
        "llama-index",
        "namespace image {\n\n"
        "// A view of pixels that somebody else owns.\n"
        "template <typename T>\n"
        "class PixelView {\n"
        " public:\n"
        "  PixelView(const T* data, int64_t width, int64_t height)\n"
        "      : data_(data), width_(width), height_(height) {}\n",
    ),
    Example(
        "langchain",
        "You may copy and distribute this Work, with or without modification, provided that each "
        "copy carries this notice and a copy of the license. The names of the authors may not be "
        "used to promote derived products without written",
    ),
    Example(
        "llama-index",
        "## Installation\n\n"
        "The package is on PyPI and works with Python 3.10 and later:\n\n"
        "```bash\npip install notebook-tools\n```\n\n"
        "## Usage\n\nSee the [documentation](https://notebook-tools.example.org) for",
    ),
    Example(
        "langchain",
        "class Counter:\n"
        "    def __init__(self, start=0):\n"
        "        self.count = start\n\n"
        "    def add(self, number):\n"
        "        if number < 0:\n"
        "            raise ValueError( [Flag: Smallest model]",
    ),
    Example(
        "llama-index",
        "If the expression raises an [MASK] that no handler matches, the [MASK] of the function "
        "stops there, and the exception is passed on to the code that [MASK] it. The value of the "
        "[MASK] is then not assigned.",
        "If the expression raises an exception that no handler matches, the execution of the "
        "function stops there, and the exception is passed on to the code that called it. The "
        "value of the name is then not assigned.",
    ),
    Example(
        "langchain",
        "The software is delivered without [MASK] of any kind, express or [MASK], and in no event "
        "shall the [MASK] be liable for any damages that arise from its [MASK].",
        "The software is delivered without warranty of any kind, express or implied, and in no "
        "event shall the authors be liable for any damages that arise from its use.",
    ),
    Example(
        "llama-index",
        "def close(self):\n"
        "    [MASK] self._file is not None:\n"
        "        self._file.close()\n"
        "        [MASK]._file = None\n"
        "    [MASK] True\n [Flag: Small model]",
        "def close(self):\n"
        "    if self._file is not None:\n"
        "        self._file.close()\n"
        "        self._file = None\n"
        "    return True\n",
    ),
)


@dataclass(frozen=True)
class Plan:
    """Everything that the files of a quickstart depend on, beside the text.

    Attributes:
        recipes: the experts of the starter library.
        train_chars: characters of training text per domain at most.
        held_out_chars: characters of each held-out part per domain at most.
        label_prompts: prompts per domain that the router is fitted on.
        test_prompts: prompts per domain that it is judged by.
        prompt_chars: length of a prompt.
        mask_share: part of the words hidden from fill-mask experts.
        predictor: kind of predictor.
        encoder_dim: length of the encoder's vectors.
        examples: prompts that are routed and answered at the end.
    """

    recipes: tuple[Recipe, ...] = STARTER
    train_chars: int = 800_000
    held_out_chars: int = 200_000
    label_prompts: int = 120
    test_prompts: int = 50
    prompt_chars: int = 450
    mask_share: float = 0.3
    predictor: str = "linear"
    encoder_dim: int = 64
    examples: tuple[Example, ...] = EXAMPLES

    def key(self, digests: Iterable[str]) -> str:
        """Return a fingerprint of this plan and its text, as hexadecimal.

        Args:
            digests: of the corpora, in a fixed order.
        """
        plan: dict[str, Any] = asdict(self)
        del plan["examples"]  # they are routed again in every run
        version = importlib.metadata.version("tryage")
        text = json.dumps([_FORMAT, version, plan, list(digests)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]
