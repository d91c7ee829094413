"""YAML files as they are read here: plain data without aliases, each value with its place.

An alias lets a few hundred bytes stand for more than memory holds, and of a key that stands twice
a reader keeps one in silence, so both are refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml

from tryage.characters import DEEPEST, short
from tryage.masking import hide_secrets

_LONGEST_NUMBER = 100
"""Characters of a number; YAML's base 60 takes square time to read."""

MOST_CHARACTERS = 16 * 2**20
"""Characters of a text that is read."""

_KEY = "tag:yaml.org,2002:"
_ENDPOINT = "endpoint"
"""What stands under this key may be secret, and is not repeated."""

Path = tuple[str | int, ...]


class YamlTextError(ValueError):
    """A text is not YAML that is read here.

    Attributes:
        place: ``"line 3, column 5"``; empty where nobody knows.
        problem: what is wrong there; it says "not a YAML file" where that is what is wrong.
    """

    def __init__(self, problem: str, place: str = "", *, is_yaml: bool = False) -> None:
        problem = problem if is_yaml else f"not a YAML file: {problem}"
        super().__init__(f"{place}: {problem}" if place else problem)
        self.place = place
        self.problem = problem


class YamlText:
    """A YAML text that was read.

    Attributes:
        data: mappings, lists and values.

    Raises:
        YamlTextError: it is no YAML, holds an alias, or a key twice, or is nested too deeply.
    """

    def __init__(self, text: str) -> None:
        if len(text) > MOST_CHARACTERS:
            raise YamlTextError(f"longer than {MOST_CHARACTERS} characters")
        self._places: dict[Path, str] = {}
        try:
            loader = _Loader(text)
            node = loader.get_single_node()
            if node is not None:
                self._note(node)
            self.data: Any = None if node is None else loader.construct_document(node)
        except YamlTextError:
            raise
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            place = "" if mark is None else _place(mark)
            raise YamlTextError(_cause(error), place, is_yaml="alias" in _cause(error)) from error
        except yaml.reader.ReaderError as error:
            line = text.count("\n", 0, error.position) + 1
            column = error.position - text.rfind("\n", 0, error.position)
            problem = f"the character {chr(error.character)!r} is not allowed"
            raise YamlTextError(problem, f"line {line}, column {column}") from error
        except RecursionError as error:
            raise YamlTextError("nested too deeply") from error
        except (yaml.YAMLError, ValueError, OverflowError) as error:
            raise YamlTextError(str(error).splitlines()[0]) from error

    def place(self, path: Sequence[str | int]) -> str:
        """Return where a value stands, or what holds it: ``"line 3, column 5"``.

        Args:
            path: keys and indices from the top.
        """
        steps = tuple(path)
        while steps and steps not in self._places:
            steps = steps[:-1]
        return self._places.get(steps, "line 1, column 1")

    def _note(self, top: yaml.Node) -> None:
        """Note the place of every value, and refuse keys that stand twice."""
        waiting: list[tuple[Path, yaml.Node]] = [((), top)]
        while waiting:
            path, node = waiting.pop()
            self._places[path] = _place(node.start_mark)
            if isinstance(node, yaml.SequenceNode):
                waiting += [((*path, number), child) for number, child in enumerate(node.value)]
            elif isinstance(node, yaml.MappingNode):
                waiting += [((*path, key), child) for key, child in _entries(node, path)]
            elif node.tag in (f"{_KEY}int", f"{_KEY}float") and len(node.value) > _LONGEST_NUMBER:
                problem = f"a number of {len(node.value)} characters"
                raise YamlTextError(problem, _place(node.start_mark), is_yaml=True)


class _Loader(yaml.SafeLoader):
    """Reads plain data, no alias, and nothing that is nested too deeply."""

    _depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Compose what comes next."""
        if self.check_event(yaml.AliasEvent):
            event: Any = super().peek_event()  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(
                None,
                None,
                f"the alias *{event.anchor} is not read; write out what it stands for",
                event.start_mark,
            )
        if self._depth > DEEPEST:
            event = super().peek_event()  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(
                None, None, f"nested deeper than {DEEPEST} levels", event.start_mark
            )
        self._depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Make the value of a node; a date such as 2024-02-30 is refused with its place."""
        try:
            return super().construct_object(node, deep=deep)
        except YamlTextError:
            raise
        except (ValueError, OverflowError) as error:
            problem = f"{short(node.value)}: {error}"
            raise YamlTextError(problem, _place(node.start_mark), is_yaml=True) from error


def _cause(error: yaml.MarkedYAMLError) -> str:
    """Return what is wrong, and in what: a quote that is not closed, and where it was opened."""
    parts = [error.problem or "not YAML"]
    if error.context:
        opened = "" if error.context_mark is None else f" on {_place(error.context_mark)}"
        parts.append(f"{error.context}{opened}")
    return " ".join(", ".join(parts).split())


def _entries(node: yaml.MappingNode, path: Path) -> list[tuple[str, yaml.Node]]:
    first: dict[tuple[str, str], tuple[yaml.Node, yaml.Node]] = {}
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise YamlTextError(
                "a key is a list or a mapping", _place(key.start_mark), is_yaml=True
            )
        earlier_key, earlier = first.setdefault((key.tag, key.value), (key, value))
        if earlier_key is not key:
            values = f" of {_shown(earlier)} and {_shown(value)}" if _ENDPOINT not in path else ""
            raise YamlTextError(
                f"the key {key.value!r} stands twice, first on "
                f"{_place(earlier_key.start_mark)}; keep one{values}",
                _place(key.start_mark),
                is_yaml=True,
            )
    return [(key.value, child) for key, child in node.value]


def _shown(node: yaml.Node) -> str:
    if isinstance(node, yaml.ScalarNode):
        return hide_secrets(short(node.value))
    return "a list" if isinstance(node, yaml.SequenceNode) else "a mapping"


def _place(mark: Any) -> str:
    return f"line {mark.line + 1}, column {mark.column + 1}"
