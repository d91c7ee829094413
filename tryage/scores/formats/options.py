"""What a caller may say about a table that Tryage did not write."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tryage.errors import ScoreTableError, did_you_mean
from tryage.scores.fields import FIELDS, TEXT_FIELDS, Field, Kind

FORMATS = (
    "tryage",
    "long",
    "wide",
    "routerbench",
    "lm-eval",
    "alpaca-eval",
    "promptfoo",
    "langsmith",
)
"""The formats that `ReadOptions.format` may name."""

TEXT_ROLES = ("prompt", "id", *TEXT_FIELDS)
_ROLES = (*TEXT_ROLES, "expert", *FIELDS)
_OF_EXPERTS: dict[str, Field] = {target.key: target for target in FIELDS.values()}


@dataclass(frozen=True)
class ReadOptions:
    """How to read a table; what is left out is guessed, and the guess is said.

    Attributes:
        format: one of `FORMATS`; None looks at the source.
        columns: what a column holds → its name in the source. What it holds is "prompt", "id",
            "group", "task", "reference", "expert", "score", "loss", "cost", ..., and for one
            expert of a wide table "scores.EXPERT", "costs.EXPERT", ...
        experts: the columns of a wide table that are experts; for a source that holds the results
            of a single expert, its name.
        kind: "scores" or "losses", for columns that do not say so.
        scale: the greatest possible score, such as 100.
        delimiter: the character between two values of a text file.
        decimal: "." or ",".
        metrics: which measure counts, the first that a prompt has.
    """

    format: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    experts: Sequence[str] = ()
    kind: Kind | None = None
    scale: float | None = None
    delimiter: str | None = None
    decimal: str | None = None
    metrics: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.format is not None and self.format not in FORMATS:
            raise ScoreTableError(
                f"format {self.format!r} is unknown; known are {', '.join(FORMATS)}."
                + did_you_mean(self.format, FORMATS)
            )
        for role in self.columns:
            key, dot, expert = role.partition(".")
            if role not in _ROLES and not (dot and expert and key in _OF_EXPERTS):
                raise ScoreTableError(
                    f"columns: {role!r} is no part of a table; write PART=COLUMN, with the parts "
                    f"{', '.join(_ROLES)}, or scores.EXPERT, costs.EXPERT, ..."
                    + did_you_mean(role, _ROLES)
                )
        if self.kind not in (None, "scores", "losses"):
            raise ScoreTableError(f"kind {self.kind!r} is unknown; it is 'scores' or 'losses'")
        if self.scale is not None and not 0 < self.scale < float("inf"):
            raise ScoreTableError(f"scale: {self.scale:g} is not above 0; give the greatest score")
        if self.scale is not None and self.kind == "losses":
            raise ScoreTableError("scale: only scores have a greatest value; losses are kept as is")
        if self.delimiter is not None and len(self.delimiter) != 1:
            raise ScoreTableError(f"delimiter {self.delimiter!r} is not one character")
        if self.decimal not in (None, ".", ","):
            raise ScoreTableError(f"decimal {self.decimal!r} is neither '.' nor ','")
        if self.decimal == "," == self.delimiter:
            raise ScoreTableError("delimiter and decimal are both ','; give one of them")

    @property
    def is_empty(self) -> bool:
        """Whether nothing was said."""
        return self == ReadOptions()

    def of_experts(self) -> dict[tuple[Field, str], str]:
        """Return (number, expert) → column, of the entries such as "scores.EXPERT"."""
        entries = {}
        for role, column in self.columns.items():
            key, dot, expert = role.partition(".")
            if dot and role not in _ROLES:
                entries[_OF_EXPERTS[key], expert] = column
        return entries


def parse_columns(texts: Iterable[str]) -> dict[str, str]:
    """Read `PART=COLUMN,PART=COLUMN`, as the command line has it.

    Raises:
        ScoreTableError: a part without a column, or a part twice.
    """
    columns: dict[str, str] = {}
    for item in (item for text in texts for item in text.split(",")):
        role, equals, column = item.partition("=")
        role = role.strip()
        if not equals or not role or not column:
            raise ScoreTableError(
                f"--columns {item!r}: write PART=COLUMN, for example prompt=input,expert=model"
            )
        if role in columns:
            raise ScoreTableError(
                f"--columns: {role} is both {columns[role]!r} and {column!r}; keep one"
            )
        columns[role] = column
    return columns
