"""Routers on the Hugging Face Hub: found by id, read from the local cache, fetched where asked.

A router from the Hub is as little trusted as any folder: only its own kinds of file are fetched
(JSON, safetensors, a card), their sizes are bounded before, and its index holds the SHA-256 of
every one.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from pathlib import Path

from tryage import persistence
from tryage.errors import (
    DamagedFileError,
    HubAccessError,
    OptionError,
    RouterNotFoundError,
    TryageWarning,
    missing_extra,
)
from tryage.folders import Folders
from tryage.hub import (
    HubError,
    HubListing,
    HubMissingError,
    HubUnreachableError,
    cached_file,
    fetch_file,
    list_files,
)
from tryage.persistence import CARD, INDEX, RouterState

MOST_BYTES = 4 * 2**30
"""Bytes of all files of a router together that are fetched at most."""

MOST_TEXT_BYTES = 256 * 2**20
"""Bytes of one JSON file or card that are fetched at most."""

_ID = re.compile(r"(?=.{3,96}(?:@|$))[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(?:@[\w./-]+)?")


@dataclass(frozen=True)
class HubRouter:
    """A router on the Hub.

    Attributes:
        id: of its repository, such as ``"me/router"``.
        revision: branch, tag or commit; None means the main branch.
    """

    id: str
    revision: str | None = None

    @classmethod
    def of(cls, name: str) -> HubRouter | None:
        """Return the router that ``"me/router"`` or ``"me/router@revision"`` names, or None."""
        if not _ID.fullmatch(name):
            return None
        id_, _, revision = name.partition("@")
        return cls(id_, revision or None)

    def __str__(self) -> str:
        return self.id if self.revision is None else f"{self.id}@{self.revision}"


def find(name: str | Path) -> Path | HubRouter:
    """Return where a router lies, without a look at the Hub.

    Args:
        name: a router folder; else a bundled router's name; else, as text, a Hub id.

    Raises:
        RouterNotFoundError: it is none of them.
    """
    try:
        return persistence.find_router(name)
    except RouterNotFoundError:
        hub = HubRouter.of(name) if isinstance(name, str) and not Path(name).is_dir() else None
        if hub is None:
            raise
        return hub


def load(
    source: Path | HubRouter,
    *,
    revision: str | None = None,
    token: str | None = None,
    download: bool = False,
    folders: Folders = (),
) -> RouterState:
    """Read a router.

    Args:
        source: what `find` returned.
        revision: branch, tag or commit of a router on the Hub.
        token: for a private router; by default the one that the user logged in with.
        download: whether files that are not in the local cache may be fetched, and whether the
            Hub is asked for a newer version.
        folders: folders outside the router's own whose models it may use.

    Raises:
        OptionError: a revision of a folder, or a second one.
        RouterNotFoundError: the Hub does not show it, or it is not in the local cache and may not
            be fetched.
        HubAccessError: the Hub refuses, fails or cannot be reached.
        DamagedFileError, FormatVersionError, ConsentError: as `tryage.persistence.load`.
        MissingExtraError: huggingface_hub is not installed.
    """
    if isinstance(source, Path):
        if revision is not None:
            raise OptionError(
                f"revision {revision!r}: {str(source)!r} is a folder, and only a router on the "
                "Hub has revisions; leave it out"
            )
        return persistence.load(source, folders=folders)
    if revision is not None:
        if source.revision not in (None, revision):
            raise OptionError(f"router {str(source)!r} and revision {revision!r} differ; name one")
        source = HubRouter(source.id, revision)
    try:
        return _load(source, token, download, folders)
    except ImportError as error:
        raise missing_extra("hf", f"reading router {str(source)!r} from the Hub") from error


def _load(source: HubRouter, token: str | None, download: bool, folders: Folders) -> RouterState:
    fetch = _Fetch(source, token)
    folder = fetch.newest() if download else fetch.cached()
    if folder is None:
        raise fetch.not_cached()
    try:
        return persistence.load(folder, folders=folders)
    except DamagedFileError as error:
        damage = error
    if download:
        # What an earlier download left may be cut or changed; the Hub's own is asked for once.
        try:
            return persistence.load(fetch.newest(anew=True), folders=folders)
        except DamagedFileError as error:
            damage = error
    hint = "its maker has to push it again" if download else "fetch it again with download=True"
    raise DamagedFileError(f"router {str(source)!r} from the Hub: {damage}; {hint}") from damage


class _Fetch:
    """Finds and fetches the files of one router.

    Args:
        router: on the Hub.
        token: for a private one.
    """

    def __init__(self, router: HubRouter, token: str | None) -> None:
        self._router = router
        self._token = token

    def cached(self) -> Path | None:
        """Return its folder in the local cache if that is whole."""
        try:
            index = cached_file(self._router.id, INDEX, self._router.revision)
        except HubError as error:
            raise self._failure(error) from error
        if index is None or not index.is_file():
            return None
        try:
            files = persistence.read_index(index.read_bytes(), index)["files"]
        except DamagedFileError:
            return index.parent  # loading it names what is wrong
        return index.parent if all((index.parent / name).is_file() for name in files) else None

    def newest(self, *, anew: bool = False) -> Path:
        """Return the folder of the version that the Hub has now, after fetching what it lacks.

        Args:
            anew: fetch also what is cached.
        """
        revision = self._router.revision
        pinned = revision is not None and re.fullmatch("[0-9a-f]{40}", revision) is not None
        if pinned and not anew and (folder := self.cached()) is not None:
            return folder
        try:
            listing = list_files(self._router.id, revision, token=self._token)
            return self._fetched(listing, anew)
        except HubUnreachableError as error:
            folder = None if anew else self.cached()
            if folder is None:
                raise self._failure(error) from error
            warnings.warn(
                f"router {str(self._router)!r}: {error}; the version in the local cache is used",
                TryageWarning,
                stacklevel=5,
            )
            return folder
        except HubError as error:
            raise self._failure(error) from error

    def not_cached(self) -> RouterNotFoundError | HubAccessError:
        """Return the error for a router that may not be fetched; asks the Hub for its size."""
        name = str(self._router)
        bundled = ", ".join(persistence.bundled_routers())
        what = (
            f"router {name!r} is neither a folder nor a bundled router (bundled: {bundled}), and "
            "not whole in the local cache of the Hub"
        )
        try:
            listing = list_files(self._router.id, self._router.revision, token=self._token)
        except HubMissingError as error:
            return RouterNotFoundError(f"{what}; {error}")
        except HubError as error:
            return RouterNotFoundError(
                f"{what}; fetch it with download=True (--download). Its size is unknown: {error}"
            )
        size = sum(listing.files[file] or 0 for file in self._own(listing))
        return RouterNotFoundError(
            f"{what}; fetch its {size / 1e6:.1f} MB with download=True (--download)"
        )

    def _fetched(self, listing: HubListing, anew: bool) -> Path:
        """Fetch the index and the files that it names, all of one commit."""
        own = self._own(listing)
        if INDEX not in own:
            raise RouterNotFoundError(
                f"router {str(self._router)!r}: the Hub's repository holds no {INDEX}, so it is "
                "not a router"
            )
        self._check_sizes(listing, own)

        def fetch(name: str) -> Path:
            return fetch_file(self._router.id, name, listing.commit, token=self._token, anew=anew)

        index = fetch(INDEX)
        try:
            needed = persistence.read_index(index.read_bytes(), index)["files"]
        except DamagedFileError:
            return index.parent
        for name in (*needed, CARD):
            if name in own:
                fetch(name)
        # The cache learns which commit the branch is at, for the next time without network.
        fetch_file(self._router.id, INDEX, self._router.revision or "main", token=self._token)
        return index.parent

    @staticmethod
    def _own(listing: HubListing) -> list[str]:
        return [name for name in listing.files if persistence.may_hold(name)]

    def _check_sizes(self, listing: HubListing, names: list[str]) -> None:
        total = 0
        for name in names:
            size = listing.files[name]
            most = MOST_BYTES if name.endswith(".safetensors") else MOST_TEXT_BYTES
            total += size or 0
            if size is None or size > most or total > MOST_BYTES:
                stated = "of unknown size" if size is None else f"{size:,} bytes large"
                raise HubAccessError(
                    f"router {str(self._router)!r}: {name} is {stated}; a router's files have at "
                    f"most {MOST_BYTES:,} bytes together, and JSON at most {MOST_TEXT_BYTES:,}. "
                    "Nothing was fetched"
                )

    def _failure(self, error: HubError) -> RouterNotFoundError | HubAccessError:
        kind = RouterNotFoundError if isinstance(error, HubMissingError) else HubAccessError
        return kind(f"router {str(self._router)!r} could not be fetched: {error}")
