"""Folders of models: those that a library or router from elsewhere may name.

A library file or a router folder may come from somebody else. A model folder that it names is used
where it lies in the file's own folder, or in one that the operator allowed.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tryage.errors import ConsentError
from tryage.paths import user_path

VARIABLE = "TRYAGE_MODELS"
"""Environment variable with folders that are always allowed, separated as in PATH."""

Folders = str | Path | Sequence[str | Path]
"""One folder, or several."""


@dataclass(frozen=True)
class Origin:
    """The file that something was read from.

    Attributes:
        source: the file, as messages name it.
        folder: its own folder; models in it need no consent.
        allowed: folders that the operator allowed when it was read.
    """

    source: str
    folder: Path
    allowed: tuple[Path, ...] = ()

    @classmethod
    def of(cls, source: str | Path, folder: str | Path | None, folders: Folders = ()) -> Origin:
        """Return an origin with absolute folders; without a folder, the working directory's."""
        own = Path(os.path.abspath(user_path(folder or ".")))
        return cls(str(source), own, absolute(folders))

    def check(self, folder: Path, what: str, folders: Sequence[Path] = ()) -> None:
        """Check that a model folder may be used.

        Args:
            folder: what the file names; links are followed, those of files in it too.
            what: whose model it is, for the message.
            folders: further folders that are allowed.

        Raises:
            ConsentError: it lies elsewhere.
        """
        roots = [
            os.path.realpath(root)
            for root in (self.folder, *self.allowed, *folders, *_from_environment())
        ]
        links = [file for file in sorted(folder.glob("*")) if file.is_symlink()]
        for path in (folder, *links):
            real = Path(os.path.realpath(path))
            if not any(real.is_relative_to(root) for root in roots):
                outside = str(real if path is folder else real.parent)
                quoted = shlex.quote(outside)
                raise ConsentError(
                    f"{what}: {self.source} names the model folder {outside!r}, which lies "
                    f"outside its own folder {str(self.folder)!r}. If you want it used, allow it "
                    f"or a folder above it: folders=[{outside!r}] in Python, --allow-models "
                    f"{quoted} on the command line, or {VARIABLE}={quoted} in the environment"
                )


def absolute(folders: Folders) -> tuple[Path, ...]:
    """Return folders by their full paths."""
    several = (folders,) if isinstance(folders, str | Path) else folders
    return tuple(Path(os.path.abspath(user_path(folder))) for folder in several)


def _from_environment() -> tuple[Path, ...]:
    listed = os.environ.get(VARIABLE, "").split(os.pathsep)
    return absolute([folder for folder in listed if folder])
