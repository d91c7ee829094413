"""`Report`: what `Router.report` returns: values, the page, and the file."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from tryage.deciding import Decider
from tryage.drawing.notebook import html_table
from tryage.errors import missing_extra
from tryage.files import write_text
from tryage.paths import check_writable, user_path
from tryage.report.gathering import Settings, gather
from tryage.report.values import ReportValues, TaskValues
from tryage.scores import ScoreTable

_NEEDED = ("altair", "jinja2", "sklearn", "vl_convert")


def check_report(path: str | Path) -> None:
    """See that a report can be written, before work is done for it.

    Raises:
        MissingExtraError: the extra `report` is not installed.
        OSError: the file may not be written.
    """
    absent = [name for name in _NEEDED if not _is_there(name)]
    if absent:
        error = missing_extra("report", "writing a report")
        raise error from ImportError(f"no module named {absent[0]!r}")
    check_writable(user_path(path))


def _is_there(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ValueError:  # a module that was switched off
        return False


@dataclass(frozen=True)
class Report:
    """A router's report on a table of measured results.

    Attributes:
        values: everything that it shows; `tryage.report.plots` draws parts of it.
    """

    values: ReportValues = field(repr=False)

    @classmethod
    def of(
        cls,
        decider: Decider,
        table: ScoreTable,
        provenance: Mapping[str, Any],
        settings: Settings,
    ) -> Self:
        """Gather a report; see `Router.report`."""
        return cls(gather(decider, table, settings, provenance))

    @property
    def tasks(self) -> dict[str, TaskValues]:
        """The values of each task, by name."""
        return {task.task: task for task in self.values.tasks}

    def _repr_html_(self) -> str:
        from tryage.report.page import verdict

        rows = [(task, verdict(values)) for task, values in self.tasks.items()]
        return html_table(f"{self.values.title}. Write it with .write(FILE).", ["task", ""], rows)

    def html(self) -> str:
        """Return the page: one HTML file that needs no network.

        Raises:
            MissingExtraError: the extra `report` is not installed.
        """
        from tryage.report.page import render

        return render(self.values)

    def write(self, path: str | Path) -> None:
        """Write the page to a file, whole or not at all.

        Raises:
            MissingExtraError: the extra `report` is not installed.
            OSError: the file cannot be written.
        """
        write_text(user_path(path), self.html())
