"""What `Router.fit` and its kind take for a table and a library: objects, paths, rows, names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tryage.errors import LibraryError
from tryage.experts import TEXT_GENERATION, Expert, task_of_prompt
from tryage.library import Library
from tryage.library_lines import SUFFIXES
from tryage.persistence import bundled_routers, load
from tryage.scores import ScoreTable

if TYPE_CHECKING:
    import numpy as np

TableSource = Any
"""A `ScoreTable`, or whatever `ScoreTable.read` takes: a path, rows (mappings), a data frame."""

LibrarySource = Library | str | Path | Sequence[Expert | str] | None
"""A `Library`, its YAML file, a bundled router's name, experts or their names; None is the table's.
"""

_YAML = (".yaml", ".yml")


def as_library(source: LibrarySource, table: ScoreTable) -> Library:
    """Return a library as it is, read it, or make it of names.

    Args:
        source: a library, its file, a bundled router's name for its library, experts, names of
            experts, or None for the experts of the table.
        table: gives the tasks of experts of which only the name is known.

    Raises:
        LibraryError: there is no such file or bundled router, or the table names no expert.
    """
    if isinstance(source, Library):
        return source
    if source is None:
        return Library(_named(table.experts, table))
    if isinstance(source, str | Path):
        bundled = bundled_routers()
        if str(source) in bundled and not Path(source).exists():
            return load(bundled[str(source)]).library
        if (
            Path(source).suffix.lower() not in (*_YAML, *SUFFIXES)
            and not Path(source).expanduser().is_file()
        ):
            raise LibraryError(
                f"{str(source)!r} is neither a library's file nor a bundled router "
                f"({', '.join(bundled)}); pass experts or their names as a list"
            )
        return Library.read(source)
    names = [one for one in source if isinstance(one, str)]
    by_name = {expert.name: expert for expert in _named(names, table)}
    return Library([by_name[one] if isinstance(one, str) else one for one in source])


def _named(names: Iterable[str], table: ScoreTable) -> list[Expert]:
    """Return experts of which only the names are known, each of the task it was measured on."""
    columns = {name: column for column, name in enumerate(table.experts)}
    return [
        Expert(
            name=name,
            model=name,
            task=_task(name, table, table.losses[:, columns[name]])
            if name in columns
            else TEXT_GENERATION,
        )
        for name in names
    ]


def _task(name: str, table: ScoreTable, losses: np.ndarray[Any, np.dtype[np.float64]]) -> str:
    """Return the task of an expert by the prompts on which it was measured.

    Raises:
        LibraryError: they are of several tasks.
    """
    if not any(table.tasks):
        return TEXT_GENERATION
    measured = zip(table.tasks, table.prompts, losses.tolist(), strict=True)
    tasks = {task or task_of_prompt(prompt) for task, prompt, loss in measured if loss == loss}
    if len(tasks) > 1:
        raise LibraryError(
            f"the table measures {name!r} on prompts of several tasks, {', '.join(sorted(tasks))}; "
            "pass a library that says which one it is for"
        )
    return tasks.pop() if tasks else TEXT_GENERATION
