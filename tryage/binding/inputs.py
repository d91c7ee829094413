"""What an adapter reads of an input, and takes off it; the frameworks' own types stay with them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from tryage.errors import PromptError, did_you_mean

FlagsFrom = str | Callable[[Any], str] | None
"""Where the user's own text stands: `LAST_MESSAGE`, a dict key, or a function of the input."""

LAST_MESSAGE = "last_message"
"""The last message of the user, or the text itself where the input is a string."""

TOP = 5
"""Experts of the ranking that metadata carries."""

Change = Callable[[str], str | None]
"""Returns another text, or None where it does not change this one."""


def own_text(read: Callable[[Any], str], given: Any) -> str:
    """Return the user's own text, as the operator's function reads it from an input.

    Raises:
        PromptError: the function failed on this input, or did not return text.
    """
    try:
        text = read(given)
    except Exception as error:
        told = f"{type(error).__name__}: {error}"
        raise PromptError(f"flags_from could not read the user's text: {told}") from error
    if not isinstance(text, str):
        raise PromptError(f"flags_from returned {type(text).__name__}; it returns the user's text")
    return text


def strip_own(
    read: Callable[[Any], str],
    given: Any,
    prompt: str,
    rewrite: Callable[[Any, Change], Any | None],
) -> Any:
    """Return an input whose own text, as `read` finds it, is replaced by that text without flags.

    Args:
        read: the operator's function.
        given: the input; it stays as it is.
        prompt: the own text without its flags.
        rewrite: copies an input with its last text changed that a function changes, else None.

    Raises:
        PromptError: the text is not part of the input.
    """
    text = own_text(read, given)
    if text == prompt:
        return given
    stripped = rewrite(given, lambda found: _replace_last(found, text, prompt))
    if stripped is None:
        raise PromptError(
            "flags were found in the text that flags_from returned, but the input does not "
            "hold that text, so they cannot be taken off; return it word for word"
        )
    return stripped


def _replace_last(text: str, old: str, new: str) -> str | None:
    """Replace the last occurrence of `old`; None where there is none.

    Templates put what they retrieved before the question, so the last one is the user's.
    """
    before, found, after = text.rpartition(old)
    return f"{before}{new}{after}" if found else None


def check_arguments(owner: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Refuse names that a class does not take; pydantic would drop them silently.

    Raises:
        TypeError: as for any unknown keyword argument, with the nearest known one.
    """
    known = tuple(known)
    for name in given:
        if name not in known:
            hint = did_you_mean(name, known)
            raise TypeError(f"{owner} got an unexpected keyword argument {name!r}.{hint}")
