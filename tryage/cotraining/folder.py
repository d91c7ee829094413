"""The folder of a co-training: what lies where, what began it, and what is finished.

::

    cotraining.json              options, prompts and models that began it
    router/                      the router of the last finished round
    experts/NAME/                the experts of the last finished round
    rounds/003/assigned.jsonl    which expert each prompt of the round went to, with probability
    rounds/003/losses/NAME.safetensors   its measured losses; `label` and `held_out`, (n,) each
    rounds/003/updates/NAME.json         what became of its update
    rounds/003/experts/NAME/     its new weights, until they are in experts/NAME
    rounds/003/router/           the round's router, until it is in router/
    rounds/003/round.json        the round's figures; written last: the round is finished
    rounds/003/published         router and experts stand in their places

Every file and folder appears whole or not at all, so what is there is finished.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from filelock import lock_descriptor

from tryage.cotraining.options import CotrainingOptions
from tryage.errors import OutputFolderError
from tryage.files import clear_folder, replacing_folder, write_text
from tryage.library import Library
from tryage.library_root import ROOT_FILE, root_text
from tryage.paths import check_folder

MARKER = "cotraining.json"

_PLAIN = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,80}")

_WEIGHTS_ONLY = ("*.bin", "*.pt", "*.pth", "*.h5", "*.msgpack", "*.onnx", "*.ckpt", "*.pkl", ".*")
"""Files of a model folder that are not copied: other formats of its weights."""


class CotrainingFolder:
    """The paths of one co-training.

    Args:
        folder: the folder; `open` makes it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def router(self) -> Path:
        """The last router."""
        return self.folder / "router"

    def expert(self, name: str) -> Path:
        """The last weights of an expert."""
        return self.folder / "experts" / file_name(name)

    def round(self, number: int) -> RoundFolder:
        """The files of a round, from 0."""
        return RoundFolder(self.folder / "rounds" / f"{number:03d}")

    def open(self, options: CotrainingOptions, sources: Mapping[str, str]) -> None:
        """Make the folder, or continue one that the same options began.

        Args:
            options: of this call.
            sources: name → fingerprint of all that the result depends on besides.

        Raises:
            OutputFolderError: it holds something else, or other options or models began it.
        """
        check(self.folder)
        path = self.folder / MARKER
        if not path.is_file():
            self.folder.mkdir(parents=True, exist_ok=True)
            marker: dict[str, Any] = {
                "format": 1,
                "options": options.to_dict(),
                "sources": dict(sources),
            }
            write_text(path, json.dumps(marker, indent=1) + "\n")
            return
        marker = read_json(path)
        for name, (then, now) in options.changes(marker.get("options", {})).items():
            raise OutputFolderError(
                f"{str(self.folder)!r} was begun with {name} {then!r}, and now it is {now!r}; "
                f"give {name} {then!r} to continue it, or a new folder"
            )
        then_sources = marker.get("sources", {})
        for name in dict.fromkeys([*then_sources, *sources]):
            then, now = then_sources.get(name), sources.get(name)
            if then != now:
                raise OutputFolderError(
                    f"{str(self.folder)!r} was begun with other {name} (fingerprint "
                    f"{_short(then)}, now {_short(now)}); give the same to continue it, or a new "
                    "folder"
                )

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes out of the folder; the lock ends with this process.

        Raises:
            OutputFolderError: another process works in it.
        """
        with (self.folder / ".lock").open("a") as file:
            try:
                free = lock_descriptor(file.fileno(), blocking=False)
            except OSError:  # a file system without locks
                free = True
            if not free:
                raise OutputFolderError(
                    f"another process is co-training in {str(self.folder)!r}; wait for its end, "
                    "or give another folder"
                )
            yield

    def finished(self) -> list[dict[str, Any]]:
        """Return the figures of the finished rounds, in order from 0."""
        rounds: list[dict[str, Any]] = []
        while (path := self.round(len(rounds)).figures).is_file():
            rounds.append(read_json(path))
        return rounds

    def adopt(self, name: str, source: Path) -> None:
        """Copy the starting model of an expert, if it is not there: what it is made of stays."""
        target = self.expert(name)
        if target.is_dir():
            return
        with replacing_folder(target) as temporary:
            for path in sorted(source.iterdir()):
                if path.is_file() and not any(path.match(pattern) for pattern in _WEIGHTS_ONLY):
                    shutil.copyfile(path, temporary / path.name)

    def publish(self, number: int, library: Library) -> None:
        """Put router and experts of a finished round in their places; may be repeated.

        Args:
            number: of the round.
            library: the router's; its models are relative to this folder.
        """
        round_ = self.round(number)
        if not round_.published.is_file():
            for source in sorted((round_.folder / "experts").glob("[!.]*")):
                if source.is_dir() and round_.is_kept(source.name):
                    with replacing_folder(self.folder / "experts" / source.name) as temporary:
                        shutil.copytree(source, temporary, dirs_exist_ok=True)
            if round_.router.is_dir():
                with replacing_folder(self.router) as temporary:
                    shutil.copytree(round_.router, temporary, dirs_exist_ok=True)
                    # It says where the models lie as seen from the router's folder.
                    root = root_text(library, self.router)
                    (temporary / ROOT_FILE).write_text(root or "{}", encoding="utf-8")
            write_text(round_.published, "")
        for left in (round_.folder / "experts", round_.router):
            shutil.rmtree(left, ignore_errors=True)


class RoundFolder:
    """The paths of one round; see the module."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def assigned(self) -> Path:
        """Which expert each prompt went to."""
        return self.folder / "assigned.jsonl"

    @property
    def figures(self) -> Path:
        """The figures; the round is finished if they are there."""
        return self.folder / "round.json"

    @property
    def published(self) -> Path:
        """Whether router and experts stand in their places."""
        return self.folder / "published"

    @property
    def router(self) -> Path:
        """The router."""
        return self.folder / "router"

    def expert(self, name: str) -> Path:
        """New weights of an expert."""
        return self.folder / "experts" / file_name(name)

    def notes(self, name: str) -> Path:
        """Figures of an expert's training; written after its new weights."""
        return self.folder / "experts" / f"{file_name(name)}.json"

    def losses(self, name: str) -> Path:
        """Measured losses of an expert."""
        return self.folder / "losses" / f"{file_name(name)}.safetensors"

    def update(self, name: str) -> Path:
        """What became of an expert's update."""
        return self.folder / "updates" / f"{file_name(name)}.json"

    def discard(self, name: str) -> None:
        """Remove new weights that were rolled back."""
        self.notes(name).unlink(missing_ok=True)  # first: without it the rest is no result
        shutil.rmtree(self.expert(name), ignore_errors=True)

    def is_kept(self, file: str) -> bool:
        """Whether the update of the expert of a file name was kept."""
        return "reason" not in read_json(self.folder / "updates" / f"{file}.json")

    def clear(self) -> None:
        """Remove what a crash left half-written."""
        for folder in (self.folder, *(self.folder / n for n in ("experts", "losses", "updates"))):
            clear_folder(folder)


def check(folder: Path) -> None:
    """Refuse a folder that something else made.

    Raises:
        OutputFolderError: it is a file, may not be made, or holds files but no co-training.
    """
    check_folder(folder)
    holds_files = folder.is_dir() and any(p.name[0] != "." for p in folder.iterdir())
    if holds_files and not (folder / MARKER).is_file():
        raise OutputFolderError(
            f"{str(folder)!r} is not empty and holds no {MARKER}, so something else made it; "
            "give a new folder"
        )


def file_name(name: str) -> str:
    """Return an expert's name as a file may be named; a hash keeps changed names apart."""
    if _PLAIN.fullmatch(name):
        return name
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{re.sub(r'[^A-Za-z0-9_-]+', '-', name)[:60].strip('-')}-{digest}"


def digest(parts: Iterable[str]) -> str:
    """Return a SHA-256, in hexadecimal, of texts in order."""
    whole = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        whole.update(len(data).to_bytes(8, "little") + data)
    return whole.hexdigest()


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a file of the folder.

    Raises:
        OutputFolderError: it is damaged.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise OutputFolderError(
            f"{str(path)!r} is damaged: {error}; restore it, or give a new folder"
        ) from error
    if not isinstance(content, dict):
        raise OutputFolderError(f"{str(path)!r} is damaged: it holds no object; give a new folder")
    return content


def _short(fingerprint: str | None) -> str:
    return "none" if fingerprint is None else fingerprint[:12]
