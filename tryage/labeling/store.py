"""The folder that `label` fills: what was measured stays, whatever happens next."""

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
from tryage.files import replacing, write_text
from tryage.labeling.code_marks import differ
from tryage.labeling.prompts import Row
from tryage.labeling.record import Cell, Key
from tryage.labeling.shards import read_columns, write_shard
from tryage.library import Library
from tryage.scores.fields import Kind
from tryage.scores.files import LABEL_FILE

FORMAT = 2
"""2 added the kind, and the columns of answers; folders of format 1 are gone on with."""


class LabelStore:
    """Cells in Parquet shards, beside a file that says how they were measured.

    A shard appears whole or not at all and is never changed. A cell that failed may be followed
    by a later shard in which it was measured.

    Args:
        folder: where the shards lie.
        kind: whether the folder reads as a table of losses, or of scores in [0, 1]. In memory
            both are losses; `1 - loss` is written as the score.
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
        """Make the folder, or check that it was made by the same measurements.

        Args:
            library: its experts' models must be those of the earlier run.
            settings: what the losses depend on; must be those of the earlier run.
            fingerprints: by expert, what its files must still give; see `fingerprint`.
            code: of the function that scores; see `code_mark`. A warning tells where it changed.

        Raises:
            OutputFolderError: the folder holds something else, or other measurements.
        """
        if self.folder.exists() and not self.folder.is_dir():
            raise OutputFolderError(f"{str(self.folder)!r} is a file; give a folder")
        self.folder.mkdir(parents=True, exist_ok=True)
        with _alone(self.folder):
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
        """What the label file is to hold: what it held and what this run adds, if they agree."""
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
            known = earlier.get("fingerprints", {})
            self._compare_files(library, known, marks)
            marks = {**known, **marks}
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
        # Looked at before the label file: another run writes that first. Its temporary files,
        # and the system's own, begin with a dot.
        filled = any(not found.name.startswith(".") for found in self.folder.iterdir())
        if not path.is_file():
            if filled:
                raise OutputFolderError(
                    f"{str(self.folder)!r} is not empty and holds no {LABEL_FILE}, so something "
                    "else made it; give a new folder"
                )
            return None
        try:
            label: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            found = label["format"]
            parts = (label["experts"], label["settings"], label.get("fingerprints", {}))
            whole = all(isinstance(part, dict) for part in parts)
        except (ValueError, KeyError, TypeError) as error:
            raise OutputFolderError(f"{path}: damaged; give a new folder") from error
        if found not in range(1, FORMAT + 1) or not whole:
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

    def _compare_files(
        self, library: Library, earlier: Mapping[str, str], now: Mapping[str, str]
    ) -> None:
        both = {expert.name for expert in library} & earlier.keys() & now.keys()
        changed = {name for name in both if earlier[name] != now[name]}
        # Where nothing could be measured yet, the change may well be what mends it.
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
        # Who mends a metric that failed on a few answers does not want to pay for all again.
        if differ(earlier, now) and self._measured_experts():
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
            for expert, error in zip(*read_columns(shard, ("expert", "error")), strict=True)
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
            columns = read_columns(
                shard, ("task", "prompt_id", "prompt", "reference", "expert", "error")
            )
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
def _alone(folder: Path) -> Iterator[None]:
    """Keep other runs waiting while this one reads and writes a folder's label file.

    The lock ends with the process, however that ends. Where the system has no such lock, runs
    that start within the same moment may overwrite each other's label file, never a shard.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network folders cannot be locked
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
