"""Tables that others wrote, read as score tables: see `docs/tables.md` for what each format means.

`reading` recognizes the format. `rows` holds tables of rows, `roles` tells what their columns hold,
`tables` builds from them; `harness`, `alpaca_eval`, `promptfoo` and `langsmith` read what these
programs write, with the help of `cells`. `options` is what a caller may say.
"""

from tryage.scores.formats.options import FORMATS, ReadOptions, parse_columns
from tryage.scores.formats.reading import read_source

__all__ = ["FORMATS", "ReadOptions", "parse_columns", "read_source"]
