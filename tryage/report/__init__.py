"""Reports: one HTML file that shows what a router does on measured results, and its plots.

Data flows one way: `gathering` computes `values`, `plots` draws them, `page` writes them as HTML.
"""

from tryage.report.report import Report, RoutingReport, check_report

__all__ = ["Report", "RoutingReport", "check_report"]
