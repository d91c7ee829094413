"""HTML for notebooks: what objects show of themselves as the last line of a cell."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

from tryage.drawing.beginnings import visible

MOST_ROWS = 60
"""Rows of a table in a notebook at most."""


def escaped(text: object) -> str:
    """Return a text that stays text in HTML, with nothing hidden in it."""
    return html.escape(visible(str(text)))


def html_table(caption: str, head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table; the first cell of each row is its head."""
    heads = "".join(f'<th scope="col">{escaped(name)}</th>' for name in head)
    lines = []
    for first, *others in rows:
        cells = "".join(f"<td>{escaped(cell)}</td>" for cell in others)
        lines.append(f'<tr><th scope="row">{escaped(first)}</th>{cells}</tr>')
    return (
        f"<table><caption>{escaped(caption)}</caption><thead><tr>{heads}</tr></thead>"
        f"<tbody>{''.join(lines)}</tbody></table>"
    )


def preformatted(text: str) -> str:
    """Return lines of text as they are."""
    return f"<pre>{escaped(text)}</pre>"
