"""The folder of a quickstart; folders that something else made are refused."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from tryage.errors import OutputFolderError
from tryage.files import replacing_folder, write_text
from tryage.paths import check_folder, user_path
from tryage.quickstart.recipes import Recipe

MARKER = "quickstart.json"
PARTS = ("label", "test")
"""The training and the test part."""


def cache_folder() -> Path:
    """Return the folder of reproducible files: `TRYAGE_CACHE`, else ~/.cache/tryage."""
    variable = os.environ.get("TRYAGE_CACHE")
    return user_path(variable) if variable else Path.home() / ".cache" / "tryage"


class Workspace:
    """The paths of one quickstart's files.

    ``quickstart.json`` marks the folder; beside it ``library.yaml``, ``models/``, ``texts/``,
    ``prompts/``, ``scores/label``, ``scores/test``, ``router/``, ``result.json`` and
    ``details.txt``.

    Args:
        folder: the folder; made by `open`.
        key: of plan and text (`tryage.quickstart.plan.Plan.key`).
    """

    def __init__(self, folder: Path, key: str) -> None:
        self.folder = folder
        self.key = key

    @property
    def library(self) -> Path:
        """The library file."""
        return self.folder / "library.yaml"

    @property
    def router(self) -> Path:
        """The router folder."""
        return self.folder / "router"

    @property
    def result(self) -> Path:
        """The file of results."""
        return self.folder / "result.json"

    @property
    def details(self) -> Path:
        """The file of tables and answered examples, for people."""
        return self.folder / "details.txt"

    @property
    def report(self) -> Path:
        """The report on the router, one HTML file."""
        return self.folder / "report.html"

    def model(self, recipe: Recipe) -> Path:
        """The model folder of an expert."""
        return self.folder / "models" / recipe.name

    def texts(self, domain: str) -> Path:
        """The training texts of a domain."""
        return self.folder / "texts" / f"{domain}.jsonl"

    def prompts(self, part: str) -> Path:
        """The prompts of a part, one of `PARTS`."""
        return self.folder / "prompts" / f"{part}.jsonl"

    def count(self, part: str) -> int:
        """How many prompts a part has."""
        with self.prompts(part).open("rb") as file:
            return sum(1 for _ in file)

    def scores(self, part: str) -> Path:
        """The measured losses of a part."""
        return self.folder / "scores" / part

    def open(self) -> None:
        """Make the folder, or continue in one that the same quickstart made.

        Raises:
            OutputFolderError: the folder holds something else.
        """
        check(self.folder)
        key = _key(self.folder)
        if key is not None and key != self.key:
            raise OutputFolderError(
                f"{str(self.folder)!r} holds a quickstart of other text or another version "
                f"(key {key}, now {self.key}); give a new folder or delete this one"
            )
        if key is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_text(self.folder / MARKER, json.dumps({"key": self.key}, indent=2) + "\n")

    def adopt(self, other: Workspace) -> None:
        """Copy what this workspace lacks and another of the same key has finished."""
        if other.folder.resolve() == self.folder.resolve() or _key(other.folder) != self.key:
            return
        pieces = [*other.folder.glob("models/*"), *other.folder.glob("scores/*"), other.router]
        for piece in pieces:
            target = self.folder / piece.relative_to(other.folder)
            # A dot or ".training": not finished; a dot comes first in names of temporary folders.
            if piece.is_dir() and not target.exists() and "." not in piece.name:
                with replacing_folder(target) as temporary:
                    shutil.copytree(piece, temporary, dirs_exist_ok=True)


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write JSON lines; the file appears whole or not at all."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def check(folder: Path) -> None:
    """Refuse a folder that something else made.

    Raises:
        OutputFolderError: it is a file, may not be made, or holds files but no quickstart.
    """
    check_folder(folder)
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MARKER).is_file():
        raise OutputFolderError(
            f"{str(folder)!r} is not empty and holds no {MARKER}, so something else made it; "
            "give a new folder"
        )


def _key(folder: Path) -> str | None:
    """The key in the folder's marker; None without one that can be read."""
    try:
        marker = json.loads((folder / MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    key = marker.get("key") if isinstance(marker, dict) else None
    return key if isinstance(key, str) else None
