"""Plots of the report, one by one: Altair charts, for notebooks and as SVG or PNG files.

Fronts and decisions draw themselves: ``plots.write(router.pareto(table, "cost").plot(), "f.svg")``,
``router.route(prompt).plot()``.
"""

from tryage.drawing.charts import check, write
from tryage.report.plots.maps import COLOURS, latent_map
from tryage.report.plots.summaries import heat_map, regret, reliability, summary

__all__ = [
    "COLOURS",
    "check",
    "heat_map",
    "latent_map",
    "regret",
    "reliability",
    "summary",
    "write",
]
