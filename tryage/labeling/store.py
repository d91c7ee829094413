"""The folder that `label` fills: what was measured stays, whatever happens next."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tryage.errors import OutputFolderError, PromptError, missing_extra
from tryage.files import replacing, write_text
from tryage.labeling.losses import Measurement
from tryage.labeling.prompts import Row
from tryage.library import Library

LABEL_FILE = "label.json"
FORMAT = 1

Key = tuple[str, str, str]
"""A cell: task, prompt id, expert."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One measured or failed cell, ready to be written."""

    row: Row
    expert: str
    measurement: Measurement


class LabelStore:
    """Cells in Parquet shards, beside a file that says how they were measured.

    A shard appears whole or not at all and is never changed. A cell that failed may be followed
    by a later shard in which it was measured.

    Args:
        folder: where the shards lie.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._next = 0

    def open(self, library: Library, settings: Mapping[str, Any]) -> None:
        """Make the folder, or check that it was made by the same measurements.

        Args:
            library: its experts' models must be those of the earlier run.
            settings: what the losses depend on; must be those of the earlier run.

        Raises:
            OutputFolderError: the folder holds something else, or other measurements.
        """
        experts = {
            expert.name: {"model": expert.model, "revision": expert.revision, "task": expert.task}
            for expert in library
        }
        earlier = self._read_label()
        if earlier is not None:
            self._compare("setting", earlier["settings"], settings)
            both = {
                name: earlier["experts"][name] for name in experts if name in earlier["experts"]
            }
            self._compare("expert", both, {name: experts[name] for name in both})
            experts = {**earlier["experts"], **experts}
        label = {
            "format": FORMAT,
            "library": library.name,
            "experts": experts,
            "settings": dict(settings),
        }
        if label != earlier:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_text(self.folder / LABEL_FILE, json.dumps(label, indent=2) + "\n")

    def _read_label(self) -> dict[str, Any] | None:
        path = self.folder / LABEL_FILE
        if not self.folder.exists():
            return None
        if not self.folder.is_dir():
            raise OutputFolderError(f"{str(self.folder)!r} is a file; give a folder")
        if not path.is_file():
            if any(self.folder.iterdir()):
                raise OutputFolderError(
                    f"{str(self.folder)!r} is not empty and holds no {LABEL_FILE}, so something "
                    "else made it; give a new folder"
                )
            return None
        try:
            label: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            found = label["format"]
            whole = isinstance(label["experts"], dict) and isinstance(label["settings"], dict)
        except (ValueError, KeyError, TypeError) as error:
            raise OutputFolderError(f"{path}: damaged; give a new folder") from error
        if found != FORMAT or not whole:
            raise OutputFolderError(
                f"{path}: format {found!r}, but this version of Tryage writes {FORMAT}; give a new "
                "folder or update Tryage"
            )
        return label

    def _compare(self, what: str, earlier: Mapping[str, Any], now: Mapping[str, Any]) -> None:
        for name in dict.fromkeys([*earlier, *now]):
            if earlier.get(name) != now.get(name):
                raise OutputFolderError(
                    f"{str(self.folder)!r} was measured with {what} {name} = "
                    f"{json.dumps(earlier.get(name))}, now it is {json.dumps(now.get(name))}; "
                    "losses would not be comparable. Give a new folder."
                )

    def measured(self, rows: Sequence[Row]) -> set[Key]:
        """Return the cells that are measured already.

        Raises:
            PromptError: one of `rows` was measured with another text under the same id.
        """
        parquet = _parquet()
        texts = {(row.task, row.id): (row.prompt, row.reference) for row in rows}
        done: set[Key] = set()
        names = ["task", "prompt_id", "prompt", "reference", "expert", "error"]
        for shard in self.shards():
            table = parquet.read_table(shard, columns=names)
            columns = [table.column(name).to_pylist() for name in names]
            for task, name, prompt, reference, expert, error in zip(*columns, strict=True):
                text = texts.get((task, name))
                if text is not None and text != (prompt, reference):
                    raise PromptError(
                        f"prompt id {name!r} ({task}) was measured in {str(self.folder)!r} with "
                        "another text; give it another id, or give a new folder"
                    )
                if error is None:
                    done.add((task, name, expert))
        return done

    def shards(self) -> list[Path]:
        """The shards, oldest first."""
        return sorted(self.folder.glob("cells-*.parquet"))

    def append(self, cells: Sequence[Cell]) -> None:
        """Write cells as one new shard; it reaches the disk before it gets its name."""
        if not cells:
            return
        import pyarrow

        parquet = _parquet()
        rows = [cell.row for cell in cells]
        found = [cell.measurement for cell in cells]
        text, number = pyarrow.string(), pyarrow.float64()
        columns = {
            "prompt_id": pyarrow.array([row.id for row in rows], text),
            "prompt": pyarrow.array([row.prompt for row in rows], text),
            "group": pyarrow.array([row.group for row in rows], text),
            "task": pyarrow.array([row.task for row in rows], text),
            "reference": pyarrow.array([row.reference for row in rows], text),
            "expert": pyarrow.array([cell.expert for cell in cells], text),
            "loss": _numbers([m.loss for m in found], number),
            "token_loss": _numbers([m.token_loss for m in found], number),
            "token_accuracy": _numbers([m.token_accuracy for m in found], number),
            "truncated": pyarrow.array([m.truncated for m in found], pyarrow.bool_()),
            "error": pyarrow.array([m.error for m in found], text),
        }
        # Two runs may write at once: the number orders the shards, the rest keeps them apart.
        self._next = max(self._next, len(self.shards())) + 1
        name = f"cells-{self._next:06d}-{secrets.token_hex(4)}.parquet"
        with replacing(self.folder / name) as temporary:
            parquet.write_table(pyarrow.table(columns), temporary, compression="zstd")


def _numbers(values: Sequence[float], kind: Any) -> Any:
    import pyarrow

    # A number that is not there is null in a file, never NaN.
    return pyarrow.array([None if value != value else value for value in values], kind)


def _parquet() -> Any:
    try:
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise missing_extra("hf", "keeping measured losses (Parquet)") from error
    return parquet
