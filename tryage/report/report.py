"""Reports as users hold them: values, the page, and the file."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from tryage.deciding import Decider
from tryage.drawing.notebook import html_table
from tryage.errors import missing_extra
from tryage.files import write_text
from tryage.paths import check_writable, shown, user_path
from tryage.report.decision_rows import read_decisions
from tryage.report.gathering import Settings, gather
from tryage.report.routing import RoutingValues, gather_routing
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


@dataclass(frozen=True)
class RoutingReport:
    """A report on a file of decisions.

    Attributes:
        values: everything that it shows.
    """

    values: RoutingValues = field(repr=False)

    @classmethod
    def read(cls, path: str | Path, *, prompts: bool = True, seed: int = 0) -> Self:
        """Read the decisions that `Router.with_log` or ``tryage route --output`` wrote.

        Args:
            path: JSON lines; ``-`` is standard input.
            prompts: whether typical words of the prompts may be shown, where the lines hold them.
            seed: of clusters and samples.

        Raises:
            DecisionError: there are no decisions, or a line is none.
            OSError: the file cannot be read.
        """
        return cls(
            gather_routing(read_decisions(path), shown(user_path(path)), prompts=prompts, seed=seed)
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as JSON types."""
        figures = asdict(self.values)
        if self.values.span is not None:
            figures["span"] = [time.isoformat() for time in self.values.span]
        return figures

    def html(self) -> str:
        """Return the page: one HTML file that needs no network.

        Raises:
            MissingExtraError: the extra `report` is not installed.
        """
        from tryage.report.routing_page import render_routing

        return render_routing(self.values)

    def write(self, path: str | Path) -> None:
        """Write the page to a file, whole or not at all; errors as `html`, and OSError."""
        write_text(user_path(path), self.html())
