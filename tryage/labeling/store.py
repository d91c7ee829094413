"""The folder that a run fills: Parquet shards that appear whole, and a file that describes them."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tryage.errors import OutputFolderError, PromptError, TryageWarning
from tryage.files import clear_folder, lock, replacing, write_text
from tryage.labeling.cells import CONDITIONS, NUMBERS, Cell, Key
from tryage.labeling.fingerprints import code_differs
from tryage.labeling.rows import Row
from tryage.library import Library
from tryage.parquet_files import ParquetError, ParquetRows, import_pyarrow
from tryage.paths import check_folder
from tryage.scores.fields import Kind
from tryage.scores.files import LABEL_FILE

FORMAT = 2
"""Format 2 added the kind and the columns of answers; folders of format 1 can be resumed."""

_PURPOSE = "keeping measured losses (Parquet)"


class LabelStore:
    """Cells in Parquet shards, and a label file that says how they were measured.

    A shard appears whole or not at all and never changes. A failed cell may be followed by a
    later shard in which it was measured.

    Args:
        folder: where the shards are.
        kind: whether the folder reads as a table of losses, or of scores in [0, 1]. In memory
            both are losses; a score is stored as `1 - loss`.
    """

    def __init__(self, folder: Path, kind: Kind = "losses") -> None:
        self.folder = folder
        self.kind = kind
        self._next = 0

    def open(
        self,
        library: Library,
        settings: Mapping[str, Any],
        fingerprints: Mapping[str, str] | None = None,
        code: str | None = None,
    ) -> None:
        """Create the folder, or check that the same measurements filled it.

        Args:
            library: its experts' models must be those of the earlier run.
            settings: what the losses depend on; must equal those of the earlier run.
            fingerprints: expert → `fingerprint` of its files; must equal those of the earlier run.
            code: `code_fingerprint` of the function that scores; a change gives a warning.

        Raises:
            OutputFolderError: the folder holds something else, or other measurements.
        """
        check_folder(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        with _locked(self.folder):
            clear_folder(self.folder)
            earlier = self._read_label()
            label = self._label(earlier, library, settings, fingerprints or {})
            if code is not None:
                label["code"] = code
            self._warn_of_code((earlier or {}).get("code"), code, settings)
            if label != earlier:
                write_text(self.folder / LABEL_FILE, json.dumps(label, indent=2) + "\n")

    def _label(
        self,
        earlier: Mapping[str, Any] | None,
        library: Library,
        settings: Mapping[str, Any],
        fingerprints: Mapping[str, str],
    ) -> dict[str, Any]:
        """Return the label file's new content: the earlier one and this run's, if they agree."""
        experts = {
            expert.name: {"model": expert.model, "revision": expert.revision, "task": expert.task}
            for expert in library
        }
        marks = dict(fingerprints)
        if earlier is not None:
            if earlier.get("kind", "losses") != self.kind:
                raise OutputFolderError(
                    f"{str(self.folder)!r} holds {earlier.get('kind', 'losses')}, now "
                    f"{self.kind} are measured; the two cannot stand in one table. Give a new "
                    "folder."
                )
            self._compare("setting", earlier["settings"], settings)
            both = {
                name: earlier["experts"][name] for name in experts if name in earlier["experts"]
            }
            self._compare("expert", both, {name: experts[name] for name in both})
            experts = {**earlier["experts"], **experts}
            earlier_marks = earlier.get("fingerprints", {})
            self._compare_files(library, earlier_marks, marks)
            marks = {**earlier_marks, **marks}
        return {
            "format": FORMAT,
            "kind": self.kind,
            "library": library.name,
            "experts": experts,
            "fingerprints": marks,
            "settings": dict(settings),
        }

    def _read_label(self) -> dict[str, Any] | None:
        path = self.folder / LABEL_FILE
        # Looked at before the label file, which another run writes first. Its temporary files,
        # and the system's own, begin with a dot.
        filled = any(not entry.name.startswith(".") for entry in self.folder.iterdir())
        if not path.is_file():
            if filled:
                raise OutputFolderError(
                    f"{str(self.folder)!r} is not empty and holds no {LABEL_FILE}, so something "
                    "else made it; give a new folder"
                )
            return None
        try:
            label: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            version = label["format"]
            parts = (label["experts"], label["settings"], label.get("fingerprints", {}))
            whole = all(isinstance(part, dict) for part in parts)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise OutputFolderError(f"{path}: damaged; give a new folder") from error
        if version not in range(1, FORMAT + 1) or not whole:
            raise OutputFolderError(
                f"{path}: format {version!r}, but this version of Tryage writes {FORMAT}; give a "
                "new folder or update Tryage"
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

    def _compare_files(
        self, library: Library, earlier: Mapping[str, str], now: Mapping[str, str]
    ) -> None:
        both = {expert.name for expert in library} & earlier.keys() & now.keys()
        changed = {name for name in both if earlier[name] != now[name]}
        # Where nothing could be measured yet, the change may be the repair.
        for name in sorted(changed & self._measured_experts()) if changed else ():
            raise OutputFolderError(
                f"the model files of expert {name!r} ({library[name].model}) are no longer those "
                f"that {str(self.folder)!r} was measured with (SHA-256 {earlier[name][:12]}…, "
                f"now {now[name][:12]}…); losses would not be comparable. Give a new folder, "
                "or the changed model a new name in the library."
            )

    def _warn_of_code(
        self, earlier: str | None, now: str | None, settings: Mapping[str, Any]
    ) -> None:
        # A metric repaired for a few answers should not make users pay for all of them again.
        if code_differs(earlier, now) and self._measured_experts():
            name = settings.get("metric") or settings.get("parse")
            warnings.warn(
                f"{name} is no longer the code that {str(self.folder)!r} was measured with; scores "
                "that are there stay as they are. Where it scores otherwise now, give a new folder",
                TryageWarning,
                stacklevel=2,
            )

    def _measured_experts(self) -> set[str]:
        return {
            expert
            for shard in self.shards()
            for expert, error in read_cells(shard, ("expert", "error"))
            if error is None
        }

    def measured(self, rows: Sequence[Row]) -> set[Key]:
        """Return the cells that are measured already.

        Raises:
            PromptError: one of `rows` was measured with another text under the same id.
            OutputFolderError: a shard is cut or damaged.
        """
        texts = {(row.task, row.id): (row.prompt, row.reference) for row in rows}
        done: set[Key] = set()
        for shard in self.shards():
            cells = read_cells(
                shard, ("task", "prompt_id", "prompt", "reference", "expert", "error")
            )
            for task, name, prompt, reference, expert, error in cells:
                text = texts.get((task, name))
                if text is not None and text != (prompt, reference):
                    raise PromptError(
                        f"prompt id {name!r} ({task}) was measured in {str(self.folder)!r} with "
                        "another text; give it another id, or give a new folder"
                    )
                if error is None:
                    done.add((task, name, expert))
        return done

    def answers(self, rows: Sequence[Row]) -> dict[Key, str]:
        """Return the stored answers of measured cells, as far as they belong to `rows`.

        Raises:
            OutputFolderError: a shard is cut or damaged.
        """
        row_keys = {(row.task, row.id) for row in rows}
        answers: dict[Key, str] = {}
        for shard in self.shards():
            cells = read_cells(shard, ("task", "prompt_id", "expert", "answer", "error"))
            for task, name, expert, answer, error in cells:
                if error is None and answer is not None and (task, name) in row_keys:
                    answers.setdefault((task, name, expert), answer)
        return answers

    def shards(self) -> list[Path]:
        """The shards, oldest first."""
        return sorted(self.folder.glob("cells-*.parquet"))

    def append(self, cells: Sequence[Cell]) -> None:
        """Write cells as one new shard; it reaches the disk before it gets its name.

        Raises:
            OSError: it cannot be written; nothing is left of it, and earlier shards stay whole.
        """
        if not cells:
            return
        # Two runs may write at once: the number orders the shards, the rest keeps them apart.
        self._next = max(self._next, len(self.shards())) + 1
        name = f"cells-{self._next:06d}-{secrets.token_hex(4)}.parquet"
        try:
            with replacing(self.folder / name) as temporary:
                write_shard(temporary, cells, self.kind)
        except OSError as error:
            raise OSError(
                error.errno,
                f"{len(cells)} measured cells could not be written: {error.strerror or error}; "
                "what was written before is whole, so make room and run label again",
                str(self.folder),
            ) from error


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Make other runs wait while this one reads and writes a folder's label file.

    The lock ends with the process, however that ends. Where folders cannot be locked, runs that
    start at the same moment may overwrite each other's label file, never a shard.
    """
    try:
        handle = os.open(folder, os.O_RDONLY)
    except PermissionError:  # Windows opens no folders
        yield
        return
    try:
        lock(handle)
        yield
    finally:
        os.close(handle)


def write_shard(path: Path, cells: Sequence[Cell], kind: Kind) -> None:
    """Write cells as a Parquet file.

    Args:
        path: the file.
        cells: measured or failed cells.
        kind: whether the column of quality is `loss`, or `score` = 1 − loss.

    Raises:
        OSError: it cannot be written.
        MissingExtraError: pyarrow is not installed.
    """
    pyarrow = import_pyarrow(_PURPOSE)
    rows = [cell.row for cell in cells]
    measurements = [cell.measurement for cell in cells]
    text, number, flag = pyarrow.string(), pyarrow.float64(), pyarrow.bool_()
    losses = [one.loss for one in measurements]
    # 1 - 0.7 is 0.30000000000000004; a score of 0.3 was meant.
    quality = losses if kind == "losses" else [round(1.0 - loss, 15) for loss in losses]
    columns = {
        "prompt_id": pyarrow.array([row.id for row in rows], text),
        "prompt": pyarrow.array([row.prompt for row in rows], text),
        "group": pyarrow.array([row.group for row in rows], text),
        "task": pyarrow.array([row.task for row in rows], text),
        "reference": pyarrow.array([row.reference for row in rows], text),
        "expert": pyarrow.array([cell.expert for cell in cells], text),
        "loss" if kind == "losses" else "score": _numbers(quality, number),
    }
    for name in NUMBERS:
        columns[name] = _numbers([getattr(one, name) for one in measurements], number)
    for name in CONDITIONS:
        columns[name] = pyarrow.array([getattr(one, name) for one in measurements], flag)
    columns["error"] = pyarrow.array([_writable(one.error) for one in measurements], text)
    columns["answer"] = pyarrow.array([_writable(one.answer) for one in measurements], text)
    pyarrow.parquet.write_table(pyarrow.table(columns), path, compression="zstd")


def read_cells(shard: Path, names: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    """Yield the cells of a shard, each as its values of some columns.

    Args:
        shard: the file.
        names: the columns, in the order of the values.

    Raises:
        OutputFolderError: the file was cut or changed, or says that it holds far more than its
            size allows; names it and the way out.
        MissingExtraError: pyarrow is not installed.
    """
    try:
        cells = ParquetRows(shard, names, _PURPOSE)
        for name in names:
            if name not in cells.columns:
                raise ParquetError(f"no column {name!r}")
        for cell in cells:
            yield tuple(cell[name] for name in names)
    except (ParquetError, OSError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise OutputFolderError(
            f"{shard}: not a whole shard: {reason}; delete this file, and its cells are measured "
            "again, or give a new folder"
        ) from error


def _writable(text: str | None) -> str | None:
    """Return a text without half characters, which no file takes."""
    return None if text is None else text.encode("utf-8", "replace").decode("utf-8")


def _numbers(values: Sequence[float], kind: Any) -> Any:
    import pyarrow

    # A missing number is null in a file, never NaN.
    return pyarrow.array([None if value != value else value for value in values], kind)
