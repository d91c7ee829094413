"""What benchmarks of a page have in common: measure, write the results, fill in the table."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from data import fill_in

from tryage.files import write_text

logger = logging.getLogger("benchmark")


def publish(
    measure: Callable[[argparse.Namespace], dict[str, Any]],
    table: Callable[[dict[str, Any]], str],
    *,
    results: Path,
    page: Path,
    marks: tuple[str, str],
    parser: argparse.ArgumentParser,
    missed: Callable[[dict[str, Any]], list[str]] = lambda _: [],
) -> int:
    """Measure, unless ``--render`` says not to, and fill in the page from what was written.

    Args:
        measure: parsed arguments → results, as JSON types.
        table: results → Markdown.
        results: the JSON file between the two; it appears whole or not at all.
        page: the page with the marks.
        marks: the lines between which the table stands.
        parser: the script's arguments; gets ``--render``.
        missed: results → the aims that they miss, each with its figure.

    Returns:
        The exit status: 1 where an aim is missed.
    """
    parser.add_argument("--render", action="store_true", help="fill in the page, measure nothing")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    if not args.render:
        write_text(results, json.dumps(measure(args), indent=1) + "\n")
    figures = json.loads(results.read_text(encoding="utf-8"))
    text = table(figures)
    logger.info("%s", "filled in" if fill_in(page, text, marks) else "the page has no marks")
    logger.info("%s", text)
    return status(missed(figures))


def status(missed: Sequence[str]) -> int:
    """Say which aims are missed; return the exit status, 1 where one is."""
    for aim in missed:
        logger.error("missed: %s", aim)
    return int(bool(missed))
