"""Selectors from the literature to compare a router with: they read cards and are not trained."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from tryage.encoders import Encoder
from tryage.errors import LibraryError
from tryage.evaluation.metrics import Indices

NO_CHOICE = -1
"""Column of an answer that names no expert, or several."""

QUESTION = (
    "These models are available:\n\n{cards}\n\n"
    "Which one of them will do best on the text below? Answer with its name alone.\n\n"
    "Text:\n{prompt}\n\nName of the model:"
)
"""The question of `PromptedSelector`, with places for `{cards}` and `{prompt}`."""


class PromptedSelector:
    """Asks a language model to pick an expert from the experts' cards.

    Args:
        ask: a language model as a function: question → answer. Its errors are passed on.
        cards: expert → what its card says, in column order.
        question: the question, with ``{cards}`` and ``{prompt}`` in it.
        longest: characters of a prompt that the question shows at most.

    Raises:
        LibraryError: there are no cards.
        ValueError: the question lacks one of its two places.
    """

    def __init__(
        self,
        ask: Callable[[str], str],
        cards: Mapping[str, str],
        *,
        question: str = QUESTION,
        longest: int = 2000,
    ) -> None:
        _check_cards(cards)
        absent = [place for place in ("{cards}", "{prompt}") if place not in question]
        if absent:
            raise ValueError(f"the question has no {' and no '.join(absent)}; put it in")
        self.ask = ask
        self.names = tuple(cards)
        self.question = question
        self.longest = longest
        self._cards = "\n".join(f"- {name}: {card}" for name, card in cards.items())

    def choose(self, prompts: Sequence[str]) -> Indices:
        """Ask once for each prompt.

        Args:
            prompts: n texts.

        Returns:
            (n,) column of the expert named, -1 where the answer names none, or several.
        """
        answers = [self.ask(self.question_about(prompt)) for prompt in prompts]
        return np.array([self.column_of(answer) for answer in answers], dtype=np.intp)

    def question_about(self, prompt: str) -> str:
        """Return the question about a prompt."""
        # One pass, so that a prompt that contains "{cards}" is not filled in again.
        filled = {"{cards}": self._cards, "{prompt}": prompt[: self.longest]}
        return re.sub(r"\{cards\}|\{prompt\}", lambda place: filled[place[0]], self.question)

    def column_of(self, answer: str) -> int:
        """Return the column of the one expert that an answer names, else -1.

        Case does not count. `code-large` does not name an expert `code`.
        """
        names = sorted(self.names, key=len, reverse=True)
        pattern = "|".join(re.escape(name.casefold()) for name in names)
        mentioned = set(re.findall(rf"(?<![\w-])(?:{pattern})(?![\w-])", answer.casefold()))
        columns = [column for column, name in enumerate(self.names) if name.casefold() in mentioned]
        return columns[0] if len(columns) == 1 else NO_CHOICE


class CardSelector:
    """Chooses the expert whose card's vector is nearest to the prompt's, by cosine.

    Args:
        encoder: turns cards and prompts into vectors.
        cards: expert → what its card says, in column order.

    Raises:
        LibraryError: there are no cards.
    """

    def __init__(self, encoder: Encoder, cards: Mapping[str, str]) -> None:
        _check_cards(cards)
        self.encoder = encoder
        self.names = tuple(cards)
        self._vectors = encoder.encode(list(cards.values()))  # (m, dim), of unit length

    def choose(self, prompts: Sequence[str]) -> Indices:
        """Return the column of the nearest card for each of n prompts, (n,); first of equals."""
        columns: Indices = (self.encoder.encode(prompts) @ self._vectors.T).argmax(axis=1)
        return columns


def _check_cards(cards: Mapping[str, str]) -> None:
    if not cards:
        raise LibraryError("there are no cards to choose from; give one for each expert")
