"""Reading the user's text of an input, and removing its flags, for both adapters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from tryage.errors import PromptError
from tryage.masking import hide_secrets, mask_error

FlagsFrom = str | Callable[[Any], str] | None
"""The source of the user's own text: `LAST_MESSAGE`, a dict key, or a function of the input."""

LAST_MESSAGE: Literal["last_message"] = "last_message"
"""The last message of the user, or the text itself where the input is a string."""

TOP = 5
"""Experts of the ranking in metadata."""

Change = Callable[[str], str | None]
"""Returns the changed text, or None if it does not change it."""


def own_text(find_text: Callable[[Any], str], input_: Any, argument: str = "flags_from") -> str:
    """Return the user's own text, as the operator's function reads it from an input.

    Args:
        find_text: the operator's function.
        input_: the input.
        argument: what the function was given as, for messages.

    Raises:
        PromptError: the function failed on this input, or did not return text.
    """
    try:
        text = find_text(input_)
    except Exception as error:  # noqa: BLE001 - the operator's own may raise anything
        reason = hide_secrets(f"{type(error).__name__}: {error}")
        raise PromptError(f"{argument} could not read the user's text: {reason}") from mask_error(
            error
        )
    if not isinstance(text, str):
        raise PromptError(f"{argument} returned {type(text).__name__}; it returns the user's text")
    return text


def check_text_from(text_from: Any, flags_from: Any) -> None:
    """Refuse a function as `text_from` together with `flags_from`.

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
    find_text: Callable[[Any], str],
    input_: Any,
    prompt: str,
    rewrite: Callable[[Any, Change], Any | None],
) -> Any:
    """Return an input with the user's own text replaced by that text without flags.

    Args:
        find_text: the operator's function.
        input_: the input; it stays as it is.
        prompt: the own text without its flags.
        rewrite: returns a copy of an input with the last text changed that a function changes;
            None if it changes none.

    Raises:
        PromptError: the text is not part of the input.
    """
    text = own_text(find_text, input_)
    if text == prompt:
        return input_
    stripped = rewrite(input_, lambda last_text: _replace_last(last_text, text, prompt))
    if stripped is None:
        raise PromptError(
            "flags were found in the text that flags_from returned, but the input does not "
            "hold that text, so they cannot be taken off; return it word for word"
        )
    return stripped


def _replace_last(text: str, old: str, new: str) -> str | None:
    """Replace the last occurrence of `old`; None where there is none.

    Templates put retrieved text before the question, so the last occurrence is the user's.
    """
    before, match, after = text.rpartition(old)
    return f"{before}{new}{after}" if match else None


def check_flags_from(flags_from: Any, keyless: str | None = None) -> None:
    """Refuse an invalid `flags_from`.

    Args:
        flags_from: the argument.
        keyless: words such as "messages have", for inputs without keys; None for dicts.

    Raises:
        TypeError: it is neither text nor a function.
        ValueError: it names a key where there are none.
    """
    if flags_from is None or callable(flags_from):
        return
    if not isinstance(flags_from, str):
        raise TypeError(
            f"flags_from is {flags_from!r}; it is {LAST_MESSAGE!r}, a function that returns the "
            "user's own text, or None"
        )
    if not flags_from:
        raise ValueError(f"flags_from is {flags_from!r}; a key has at least one character")
    if keyless is not None and flags_from != LAST_MESSAGE:
        raise ValueError(f"flags_from is {flags_from!r}; {keyless} no such key")
