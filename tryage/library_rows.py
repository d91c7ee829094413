"""The mapping that a library file holds: its experts, and everything that is wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from tryage.characters import short
from tryage.errors import LibraryError, did_you_mean
from tryage.experts import Endpoint, Expert, Price, Security
from tryage.masking import hide_secrets

_MEANT = {"id": "name", "expert": "name", "cost": "price", "costs": "price", "size": "parameters"}
"""What keys are probably meant for whose letters do not tell."""

_SHOWN = 10
"""Problems of a file that one message names at most."""

_AT_ONCE = 1000
"""Experts that are written as YAML between two looks at the length."""


def problems_at_top(data: Mapping[Any, Any], at: Callable[..., str]) -> list[str]:
    """Return what is wrong with the keys of a library."""
    problems = []
    for key in data:
        if key not in ("name", "experts"):
            hint = did_you_mean(str(key), ("name", "experts"))
            problems.append(f"{at(str(key))}: unknown key {short(key)}.{hint}")
    name = data.get("name") or "library"
    if isinstance(name, bool) or not isinstance(name, str | int | float):
        problems.append(f"{at('name')}: 'name' is {short(name)}, not text")
    rows = data.get("experts")
    if not isinstance(rows, list) or not rows:
        where = at("experts") if "experts" in data else at()
        problems.append(f"{where}: 'experts' must be a list with at least one expert")
    return problems


def together(problems: Sequence[str], source: str) -> str:
    """Return all problems in one message, each with its place, and the source once."""
    first, *others = problems
    texts = [first, *(problem.removeprefix(f"{source}, ") for problem in others)]
    more = f"; and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else ""
    return "; ".join(text.rstrip(".") if others else text for text in texts[:_SHOWN]) + more


def expert_of_row(
    row: Any, number: int, at: Callable[..., str], problems: list[str]
) -> Expert | None:
    """Return an expert; None where the row is wrong, all of whose problems are then added."""
    if not isinstance(row, dict):
        problems.append(f"{at()}: expert {number}: expected a mapping, found {short(row)}")
        return None
    label = f"expert {number} ({row['name']})" if row.get("name") else f"expert {number}"
    try:
        return Expert.model_validate(row)
    except ValidationError as error:
        problems += [
            f"{at(*one['loc'])}: {label}: {_problem(one)}"
            for one in error.errors(include_url=False)
        ]
        return None


def _problem(error: Mapping[str, Any]) -> str:
    """Return what pydantic found wrong with one key."""
    key = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        names, last = _field_names(error["loc"][:-1]), str(error["loc"][-1])
        meant = _MEANT.get(last.lower())
        hint = f" Did you mean {meant!r}?" if meant in names else did_you_mean(last, names)
        return f"unknown key {key!r}.{hint}"
    # The fields of an endpoint may be secret, and are not repeated.
    show_value = error["type"] != "missing" and error["loc"][0] != "endpoint"
    text = hide_secrets(repr(error["input"])) if show_value else ""
    value = f", found {text if len(text) <= 60 else f'{text[:57]}...'}" if text else ""
    return f"{key}: {error['msg']}{value}"


def _field_names(location: tuple[Any, ...]) -> tuple[str, ...]:
    sections: dict[str, type[BaseModel]] = {
        "endpoint": Endpoint,
        "security": Security,
        "price": Price,
    }
    model = sections.get(str(location[-1]), Expert) if location else Expert
    return tuple(model.model_fields)


def yaml_of(data: Mapping[str, Any], target: str) -> str:
    """Return a library as YAML.

    Args:
        data: what `Library.to_dict` returned.
        target: the file, for the message.

    Raises:
        LibraryError: it would be too long to be read again.
    """
    import yaml

    from tryage.yaml_text import MOST_CHARACTERS

    def dumped(part: Any) -> str:
        return str(yaml.safe_dump(part, sort_keys=False, allow_unicode=True))

    rows = data["experts"]
    parts = [dumped({"name": data["name"]}), "experts:\n"]
    length = sum(map(len, parts))
    for start in range(0, len(rows), _AT_ONCE):
        parts.append(dumped(rows[start : start + _AT_ONCE]))
        length += len(parts[-1])
        if length > MOST_CHARACTERS:
            raise LibraryError(
                f"{target}: {len(rows):,} experts take more than the {MOST_CHARACTERS:,} "
                "characters of YAML that are read; name a .jsonl or .parquet file"
            )
    return "".join(parts)
