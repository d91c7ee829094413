"""Masks secrets in texts from elsewhere, and in exceptions with all that led to them."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any

from tryage.errors import ExpertError

_SAYS = r"\\*[\"']?\]?(?:\s+provided)?\s*(?:[:=]|%3[ad])\s*"
_GAP = r"(?:\s|\\+[nrt])"
_QUOTED = r"\\*\"(?:\\.|[^\"\\])*\"?|\\*'(?:\\.|[^'\\])*'?"
_SECRETS = re.compile(
    "|".join(
        (
            # Authorizations and cookies go on after a blank.
            rf"((?<![\w-])[\w-]*(?:authorization|cookie){_SAYS}(?:(?:bearer|basic|token)\s+)?)"
            rf"(?:{_QUOTED}|.+)",
            r"((?<![\w-])(?:[\w-]*(?:token|secret|passw(?:or)?d|pwd|passphrase|credentials?"
            r"|signature)|[\w-]+key|(?:api|access|secret|private|account) key"
            r"|(?:key|auth|pass|sig|sas|jwt|pat|session(?:_?id)?)(?=\s*=|%3d)"
            rf"|(?<=[\"'])(?:key|auth|pass)(?=[\"']\s*:)){_SAYS})(?:{_QUOTED}|\S+)",
            # Named without a sign: only what holds a digit is taken for it.
            r"((?<![\w-])(?:--?)?(?:[\w-]*api[ _-]?key|[\w-]*token|password|passphrase|secret)\]?"
            rf"(?:{_GAP}+(?:is|was|of|provided))?{_GAP}+[\"'`(\[]*)(?=[^\s\"'`]*\d)[\w\-./+~=!@#$%^&*]{{6,}}",
            r"(\b(?:bearer|apikey)\s+)[^\s\"',;&]+",
            r"(\bbasic\s+)(?-i:(?=\w*[a-z]\w*[A-Z]|\w*\d|\w*=)[A-Za-z0-9+/]{6,}={0,2})",
            # User and password of an address, also with characters that belong escaped there.
            r"(://)[^\s\"'<>@/:]{0,100}:[^\s\"'<>]{0,200}(?=@)",
            r"(://)[^\s/@]+(?=@)",
            r"(?<![\w/:.+-])[\w.+-]+:[^\s/@:\"'<>]+(?=@[\w-]+(?:\.[\w-]+)*(?::\d+|/|\b))",
            # The query of an address.
            r"(\?)(?=[\w%\[])[^\s\"'<>]+",
            r"-----BEGIN [\w ]*PRIVATE KEY-----(?:[^-]|-(?!----END))*(?:-----END[\w ]*-----)?",
            # What keys of well-known services look like.
            r"\b(?:(?:sk|pk|rk|gsk|glpat|nvapi|xox[abeprs])[-_][\w-]{6,}|(?:hf|r8)_[a-z0-9]{8,}"
            r"|(?:xai|pplx|tvly|csk|jina|whsec|dop|npm|pypi|shpat|lsv2)[-_](?=[\w-]*\d)[\w-]{6,}"
            r"|gh[opsur]_\w{8,}|github_pat_\w+|AIza[\w-]{10,}|(?:AKIA|ASIA)[0-9A-Z]{12,}"
            r"|ya29\.[\w-]{6,}|SG\.[\w-]{6,}(?:\.[\w-]*)?|dapi[0-9a-f]{16,}"
            r"|eyJ[\w-]{5,}(?:\.[\w-]*)*)",
            # What pydantic repeats of its input, cut in its middle.
            r"(\binput_value=).{1,200}?(?=, input_type=)",
            # Long and mixed as no word is; hashes of commits and files are left.
            r"(?<![\w/-])(?-i:(?![0-9a-f]{40}\b|[0-9a-f]{64}\b)(?=[A-Za-z]*\d)(?=\d*[A-Za-z]))"
            r"[A-Za-z0-9]{32,}(?![\w-])",
        )
    ),
    re.IGNORECASE,
)

_MASKED = re.compile(r"[^\w*]*\*\*\*")
"""The beginning of a secret that was masked already, with what a repr puts before it."""

_LONGEST_TEXT = 20_000
"""Characters of an exception's text that are looked at; what follows is cut off."""

_LONGEST_CHAIN = 100
_DEEPEST = 5


def hide_secrets(text: str) -> str:
    """Mask what looks like a key, a token or a password."""
    return _SECRETS.sub(_masked, text)


def _masked(match: re.Match[str]) -> str:
    """Keep the group that names the secret, if one matched."""
    return f"{match[match.lastindex] if match.lastindex else ''}***"


def mask_error(error: BaseException) -> BaseException:
    """Mask the secrets in the texts of an exception, of its causes, and of its group.

    Returns:
        The exception itself, its own texts changed; another one in its place where it does not
        let its text be changed. What follows it in the chain is changed or replaced likewise.
    """
    masked = _mask_one(error)
    visited = {id(error)}
    waiting = [masked]
    while waiting and len(visited) < _LONGEST_CHAIN:
        link = waiting.pop()
        for name in ("__cause__", "__context__"):
            before = getattr(link, name)
            if before is None or id(before) in visited:
                continue
            visited.add(id(before))
            after = _mask_one(before)
            if after is not before:
                suppressed = link.__suppress_context__
                setattr(link, name, after)
                link.__suppress_context__ = suppressed
            waiting.append(after)
        if isinstance(link, BaseExceptionGroup):
            members = [one for one in link.exceptions if id(one) not in visited]
            visited.update(map(id, members))
            waiting += [_mask_one(one) for one in members]
    return masked


def _mask_one(error: BaseException) -> BaseException:
    for name, value in [("args", error.args), *_attributes(error)]:
        cleaned = _clean(value)
        if cleaned is not value:
            with contextlib.suppress(AttributeError, TypeError):
                setattr(error, name, cleaned)
    if not any(map(_shows_secret, _texts(error))):
        return error
    return _stand_in(error)


def _texts(error: BaseException) -> Iterator[str]:
    """Yield what a traceback, a log or a repr shows of an exception."""
    yield from getattr(error, "__notes__", ())
    if isinstance(error, BaseExceptionGroup):
        # Its members, which its repr repeats, are looked at one by one.
        yield error.message
        return
    for show in (str, repr):
        # The method is somebody else's; what cannot be shown reveals nothing.
        with contextlib.suppress(Exception):
            yield show(error)[:_LONGEST_TEXT]


def _shows_secret(text: str) -> bool:
    for match in _SECRETS.finditer(text[:_LONGEST_TEXT]):
        named = len(match[match.lastindex]) if match.lastindex else 0
        masked = _MASKED.match(match[0], named)
        if masked is None or _shows_secret(match[0][masked.end() :]):
            return True
    return False


def _attributes(error: BaseException) -> list[tuple[str, Any]]:
    slots = [getattr(kind, "__slots__", ()) for kind in type(error).__mro__]
    names = [name for names in slots for name in ((names,) if isinstance(names, str) else names)]
    if isinstance(error, OSError):
        names += ["strerror", "filename", "filename2"]
    attributes = [(name, getattr(error, name, None)) for name in names]
    return [*vars(error).items(), *attributes]


def _clean(value: Any, depth: int = 0) -> Any:
    """Mask the texts in a value, through mappings and lists."""
    if isinstance(value, str):
        return hide_secrets(value[:_LONGEST_TEXT]) if _shows_secret(value) else value
    if isinstance(value, bytes):
        text = value[:_LONGEST_TEXT].decode("latin-1")
        return hide_secrets(text).encode("latin-1") if _shows_secret(text) else value
    if depth >= _DEEPEST or type(value) not in (dict, list, tuple):
        return value
    if type(value) is dict:
        # The name of a header or field says what its value is.
        items = {key: _clean_item(key, item, depth + 1) for key, item in value.items()}
        changed = any(items[key] is not item for key, item in value.items())
        return items if changed else value
    parts = [_clean(item, depth + 1) for item in value]
    changed = any(part is not item for part, item in zip(parts, value, strict=True))
    return type(value)(parts) if changed else value


def _clean_item(key: Any, item: Any, depth: int) -> Any:
    cleaned = _clean(item, depth)
    named = isinstance(key, str) and isinstance(item, str) and cleaned is item
    return "***" if named and _shows_secret(f"{key}={item}") else cleaned


def _stand_in(error: BaseException) -> BaseException:
    """Return an exception that shows the masked text of one that cannot be changed."""
    text = hide_secrets(str(error)[:_LONGEST_TEXT])
    kind = type(error)

    def show(self: BaseException) -> str:
        return text

    methods = {"__str__": show, "__repr__": lambda self: f"{kind.__name__}({text!r})"}
    with contextlib.suppress(TypeError, AttributeError):
        # The same exception under a class of its own: who catches it by its class still does.
        error.__class__ = type(kind.__name__, (kind,), methods | {"__module__": kind.__module__})
        if not any(map(_shows_secret, _texts(error))):
            return error
    other: BaseException = ExpertError(f"{kind.__name__}: {text}")
    other.__cause__, other.__context__ = error.__cause__, error.__context__
    other.__suppress_context__ = error.__suppress_context__
    return other.with_traceback(error.__traceback__)
