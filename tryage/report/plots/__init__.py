"""Plots of the report, one by one: Altair charts, for notebooks and as SVG or PNG files.

``plots.write(plots.front(router.pareto(table, "cost")), "front.svg")``
"""

from tryage.report.plots.drawing import check, write
from tryage.report.plots.fronts import front, plan_front
from tryage.report.plots.maps import COLOURS, latent_map
from tryage.report.plots.summaries import heat_map, regret, reliability, summary

__all__ = [
    "COLOURS",
    "check",
    "front",
    "heat_map",
    "latent_map",
    "plan_front",
    "regret",
    "reliability",
    "summary",
    "write",
]
