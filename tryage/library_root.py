"""Where the relative model folders of a saved router lie.

That is a fact of the place and not of the router, so it stands in a file of its own: the same
router is the same, byte for byte, wherever it is saved.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from tryage.library import Library

ROOT_FILE = "library_root.json"


def root_text(library: Library, folder: Path) -> str | None:
    """Return the contents of the file for a router; None where its own folder is the root.

    The root is stated from the folder, so that both may move together. The full path is stated
    too where a model lies there, so that a copy of the router elsewhere finds it.
    """
    if library.root is None:
        return None
    root = os.path.realpath(library.root)
    if root == os.path.realpath(folder):
        return None
    content = {"root": Path(os.path.relpath(root, os.path.realpath(folder))).as_posix()}
    if _holds_models(library, Path(root)):
        content["full"] = root
    return json.dumps(content, indent=1) + "\n"


def find_root(written: bytes | None, library: Library, folder: Path) -> Path | None:
    """Return the root of a router's library.

    Args:
        written: contents of the file; None where there is none.
        library: as it is stored.
        folder: of the router; links to it are followed.
    """
    try:
        content: Any = json.loads(written or b"{}")
        root, full = content.get("root"), content.get("full")
    except (ValueError, AttributeError, RecursionError):
        return None
    if not isinstance(root, str):
        return None
    own = Path(os.path.normpath(os.path.join(os.path.realpath(folder), root)))
    if isinstance(full, str) and not _holds_models(library, own):
        return Path(full) if _holds_models(library, Path(full)) else own
    return own


def _holds_models(library: Library, root: Path) -> bool:
    """Whether some expert's model is a folder relative to a root."""
    return any(
        not expert.model.startswith(("/", "~")) and (root / expert.model).is_dir()
        for expert in library
        if expert.endpoint is None
    )
