"""Score tables: what every expert scored, lost or cost on every prompt, in and out of files.

Room by room: `table` holds the value object, `fields` what a file may say and in which range,
`building` turns lines and long-form rows into a table and names every bad one, `files` knows
JSONL, CSV, Parquet and the folder that `tryage label` writes, `joining` makes one table of two,
`feedback` appends to one.
"""

from tryage.scores.grades import readability
from tryage.scores.table import ScoreTable

__all__ = ["ScoreTable", "readability"]
