"""What an adapter reads of an input, and takes off it; the frameworks' own types stay with them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from tryage.errors import PromptError
from tryage.masking import hide_secrets, mask_error

FlagsFrom = str | Callable[[Any], str] | None
"""Where the user's own text stands: `LAST_MESSAGE`, a dict key, or a function of the input."""

LAST_MESSAGE: Literal["last_message"] = "last_message"
"""The last message of the user, or the text itself where the input is a string."""

TOP = 5
"""Experts of the ranking that metadata carries."""

Change = Callable[[str], str | None]
"""Returns another text, or None where it does not change this one."""


def own_text(read: Callable[[Any], str], given: Any, argument: str = "flags_from") -> str:
    """Return the user's own text, as the operator's function reads it from an input.

    Args:
        read: the operator's function.
        given: the input.
        argument: what the function was given as, for messages.

    Raises:
        PromptError: the function failed on this input, or did not return text.
    """
    try:
        text = read(given)
    except Exception as error:  # noqa: BLE001 - the operator's own may raise anything
        reason = hide_secrets(f"{type(error).__name__}: {error}")
        raise PromptError(f"{argument} could not read the user's text: {reason}") from mask_error(
            error
        )
    if not isinstance(text, str):
        raise PromptError(f"{argument} returned {type(text).__name__}; it returns the user's text")
    return text


def check_text_from(text_from: Any, flags_from: Any) -> None:
    """Refuse a function that finds the routed text beside another source of the same text.

    Raises:
        ValueError: `flags_from` names one.
    """
    if callable(text_from) and flags_from is not None:
        raise ValueError(
            "text_from is a function, and so is the text that it returns the one that is routed; "
            "give that function as flags_from where the flags in its text are to act, and leave "
            "the other out"
        )


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


def check_flags_from(flags_from: Any, keyless: str | None = None) -> None:
    """Refuse what does not tell where the user's own text stands.

    Args:
        flags_from: as the operator gave it.
        keyless: "messages have" and the like, where the input is nothing that has keys.

    Raises:
        TypeError: it is no text and no function.
        ValueError: it names a key where there are none.
    """
    if flags_from is None or callable(flags_from):
        return
    if not isinstance(flags_from, str):
        raise TypeError(
            f"flags_from is {flags_from!r}; it is {LAST_MESSAGE!r}, a function that returns the "
            "user's own text, or None"
        )
    if keyless is not None and flags_from != LAST_MESSAGE:
        raise ValueError(f"flags_from is {flags_from!r}; {keyless} no such key")
