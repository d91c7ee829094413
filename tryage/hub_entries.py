"""Experts from the entries of a Hub's listing, none of which is trusted."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable
from typing import Any

from pydantic import ValidationError

from tryage.attributes import hub_attributes
from tryage.experts import Expert

_ID = re.compile(r"(?!.*(?:--|\.\.))(?:\w[\w.-]*\w/|\w/)?\w(?:[\w.-]*\w)?", re.ASCII)
_LONGEST_ID = 96
_TASK = re.compile(r"[a-z0-9][a-z0-9-]{0,60}")
_COMMIT = re.compile(r"[0-9a-f]{7,64}")
_LONGEST_TEXT = 100
_MOST_ITEMS = 10_000
_MOST_PARAMETERS = 10**15


class EntryError(ValueError):
    """An entry that names no expert; the message is the reason, the same for all of its kind."""


def expert_of_entry(entry: Any, task: str | None) -> tuple[Expert, bool]:
    """Return the expert that an entry describes, and whether its task is stated.

    What is missing or malformed is left out of the expert.

    Args:
        entry: as it came.
        task: the task that was searched for.

    Raises:
        EntryError: it holds no id of a model, or is of another task.
    """
    if not isinstance(entry, dict):
        raise EntryError("not an object")
    name = entry.get("id", entry.get("modelId"))
    if not isinstance(name, str) or not is_model_id(name):
        raise EntryError("no id of a model")
    stated_task = entry.get("pipeline_tag")
    if not isinstance(stated_task, str) or not _TASK.fullmatch(stated_task):
        stated_task = None
    if task is not None and stated_task not in (None, task):
        raise EntryError("another task")
    config = entry.get("config")
    config = config if isinstance(config, dict) else {}
    attributes = hub_attributes(
        name,
        config={
            "architectures": list(_texts(config.get("architectures"))),
            **({"auto_map": True} if "auto_map" in config else {}),
        },
        card=_card(entry.get("cardData")),
        tags=tuple(_texts(entry.get("tags"))),
        files=tuple(_files(entry.get("siblings"))),
        pipeline_tag=stated_task,
        parameters=_parameters(entry.get("safetensors")),
        released=_date(entry.get("createdAt")),
        gated=_gated(entry.get("gated")),
        revision=_commit(entry.get("sha")),
    )
    if task is not None:
        attributes["task"] = task
    is_stated = attributes["task"] is not None
    stated = {key: value for key, value in attributes.items() if value is not None}
    try:
        return Expert.model_validate(stated), is_stated
    except ValidationError as error:
        for one in error.errors(include_url=False):
            stated.pop(str(one["loc"][0]), None)
    try:
        return Expert.model_validate(stated), is_stated
    except ValidationError as error:
        raise EntryError("no id of a model") from error


def is_model_id(text: str) -> bool:
    """Tell whether a text is a model's id as the Hub gives them, and nothing of a path."""
    short = len(text) <= _LONGEST_ID
    return short and _ID.fullmatch(text) is not None and not text.endswith(".git")


def _text(value: Any) -> str | None:
    """Return a short text of characters that can be seen."""
    is_fine = isinstance(value, str) and 0 < len(value) <= _LONGEST_TEXT and value.isprintable()
    return value if is_fine else None


def _texts(values: Any) -> Iterable[str]:
    listed = values[:_MOST_ITEMS] if isinstance(values, list) else []
    return (value for value in map(_text, listed) if value is not None)


def _card(card: Any) -> dict[str, Any]:
    if not isinstance(card, dict):
        return {}
    license_ = card.get("license")
    languages = card.get("language")
    # YAML reads Norwegian's code as false.
    items = languages[:_MOST_ITEMS] if isinstance(languages, list) else [languages]
    return {
        "license": [*_texts(license_)] if isinstance(license_, list) else _text(license_),
        "license_name": _text(card.get("license_name")),
        "language": [code for code in items if code is False or _text(code)],
    }


def _files(siblings: Any) -> Iterable[str]:
    listed = siblings[:_MOST_ITEMS] if isinstance(siblings, list) else []
    names = (one.get("rfilename") for one in listed if isinstance(one, dict))
    return (name for name in names if isinstance(name, str))


def _parameters(safetensors: Any) -> int | None:
    total = safetensors.get("total") if isinstance(safetensors, dict) else None
    if not isinstance(total, int) or isinstance(total, bool):
        return None
    return total if 0 < total < _MOST_PARAMETERS else None


def _date(text: Any) -> datetime.date | None:
    try:
        return datetime.datetime.fromisoformat(text).date()
    except (TypeError, ValueError):
        return None


def _gated(value: Any) -> bool | None:
    if value in ("auto", "manual"):
        return True
    return value if isinstance(value, bool) else None


def _commit(value: Any) -> str | None:
    return value if isinstance(value, str) and _COMMIT.fullmatch(value) else None
