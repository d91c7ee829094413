"""Score tables: the score or loss, cost and other numbers of every expert on every prompt.

`fields` names the numbers and their ranges, `columns` is the plain value that the others exchange,
`building` and `longform` collect lines and rows into it and name every bad one, `blocks` cuts rows
into blocks, `shards` finds the files of a table in several, `files` reads and writes JSONL, CSV and
Parquet and reads label folders, `formats` reads what other programs write, `joining` joins two
tables. `ScoreTable`, in `table`, stands above them. `feedback` appends lines to a table, `grades`
computes readability.
"""

from tryage.scores.grades import readability
from tryage.scores.table import ScoreTable

__all__ = ["ScoreTable", "readability"]
