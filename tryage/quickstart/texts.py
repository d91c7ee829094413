"""Text that any Python installation carries, split by source file.

Five domains: the standard library's source, C and C++ headers, license texts, the language
reference that ``help()`` shows, and the descriptions of installed packages. The same
installation always gives the same split: nothing here depends on time, on the order of a
directory or on a random number generator's state.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import re
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from tryage.errors import TryageError

DOMAINS = ("legal", "reference", "readme", "headers", "python")
"""In the order of reading: a paragraph belongs to the first domain that has it, so that the
license at the head of a source file does not count as source."""

_SKIPPED_FOLDERS = frozenset({"__pycache__", "site-packages", "dist-packages", "test", "tests"})
_HEADER_SUFFIXES = (".h", ".hpp")
_LICENSE_NAME = re.compile(r"(licen[sc]e|copying|notice)", re.IGNORECASE)
_FILES_PER_FOLDER = 40  # a generator's output (torch has 7000 headers in one folder) is a sample
_LARGEST_FILE = 400_000  # bytes; larger files are tables of data rather than text
_COUNTED = 6_000  # characters of a file that count towards a held-out part: many files, not long
_LEAST = 20_000  # characters of a held-out part
_SHORTEST_UNIQUE = 60  # characters; shorter paragraphs ("else:") may recur
_BLANK_LINES = re.compile(r"\n[ \t]*\n")
_SPACES = re.compile(r"\s+")


@dataclass(frozen=True)
class Source:
    r"""One source file's text after paragraphs seen elsewhere are taken out.

    Attributes:
        domain: One of `DOMAINS`.
        name: Where the text is from, relative to the installation.
        text: The text, with ``\n`` line ends.
    """

    domain: str
    name: str
    text: str = field(repr=False)


@dataclass(frozen=True)
class Corpus:
    """The sources of one domain, split by file: no file is in two parts."""

    domain: str
    train: tuple[Source, ...]
    label: tuple[Source, ...]
    test: tuple[Source, ...]

    @property
    def digest(self) -> str:
        """sha256 of all three parts; a changed installation changes it."""
        sha = hashlib.sha256()
        for part in (self.train, self.label, self.test):
            for source in part:
                sha.update(f"{source.name}\0{source.text}\0".encode())
            sha.update(b"\1")
        return sha.hexdigest()


@dataclass(frozen=True)
class Excerpt:
    """A piece of a label or test file: what the experts are measured on."""

    id: str
    domain: str
    text: str = field(repr=False)


def gather(
    *,
    train_chars: int = 800_000,
    held_out_chars: int = 200_000,
    domains: Iterable[str] = DOMAINS,
) -> dict[str, Corpus]:
    """Collect and split the text of every domain.

    Args:
        train_chars: About this many characters of training text per domain, if it has them.
        held_out_chars: About this many characters in each of the label and test parts, of which
            a file counts 6,000 at most; a domain with little text gives 15 % of it to each.
        domains: Which domains to keep; all are read, so that the parts never depend on this.

    Returns:
        Domain name to its corpus.

    Raises:
        TryageError: The installation carries too little text of a domain.
    """
    digests: set[bytes] = set()
    corpora = {}
    for domain in DOMAINS:
        sources = _unique(domain, _READERS[domain](), digests, 4 * train_chars + 4 * held_out_chars)
        corpora[domain] = _split(domain, sources, train_chars, held_out_chars)
    return {domain: corpora[domain] for domain in domains}


def excerpts(sources: Iterable[Source], *, count: int, length: int) -> list[Excerpt]:
    """Cut `count` pieces of about `length` characters, spread evenly over the files.

    Pieces begin at a line's start and do not overlap. Files take turns, so that a long file
    does not crowd out the others.

    Args:
        sources: Files of one domain's label or test part.
        count: How many pieces; fewer come back when the files hold fewer.
        length: Characters per piece; the last line is cut at a space.

    Returns:
        The pieces, in the order of their files.
    """
    queues = [list(_pieces(source, length)) for source in sources]
    chosen: list[Excerpt] = []
    turn = 0
    while len(chosen) < count and any(len(queue) > turn for queue in queues):
        chosen += [queue[turn] for queue in queues if len(queue) > turn]
        turn += 1
    return sorted(chosen[:count], key=lambda excerpt: excerpt.id)


def _pieces(source: Source, length: int) -> Iterator[Excerpt]:
    pieces = []
    start = 0
    while start + length <= len(source.text):
        piece = source.text[start : start + length]
        cut = max(piece.rfind(" "), piece.rfind("\n"))
        piece = piece[: cut if cut > length // 2 else length].strip("\n")
        words = re.findall(r"\w{2,}", piece)
        if len(words) >= length // 16:  # not a table, a drawing or a column of numbers
            pieces.append(Excerpt(f"{source.domain}/{source.name}:{start}", source.domain, piece))
        newline = source.text.find("\n", start + length)
        start = newline + 1 if newline >= 0 else len(source.text)
    # Neighbouring pieces say the same; a stable hash spreads the choice over the file.
    return iter(sorted(pieces, key=lambda piece: _stable(piece.id)))


def _unique(
    domain: str, sources: Iterable[tuple[str, str]], digests: set[bytes], limit: int
) -> list[Source]:
    """Keep each paragraph only where it first occurs, until `limit` characters are there."""
    unique_sources: list[Source] = []
    total = 0
    for name, text in sorted(sources, key=lambda source: _stable(source[0])):
        paragraphs = []
        for paragraph in _BLANK_LINES.split(text.replace("\r\n", "\n")):
            key = _SPACES.sub(" ", paragraph).strip(" #*/").lower()
            if not key:
                continue
            digest = hashlib.blake2b(key.encode(), digest_size=12).digest()
            if len(key) >= _SHORTEST_UNIQUE and digest in digests:
                continue
            digests.add(digest)
            paragraphs.append(paragraph.strip("\n"))
        unique = "\n\n".join(paragraphs)
        if len(unique) >= _SHORTEST_UNIQUE:
            unique_sources.append(Source(domain, name, unique))
            total += len(unique)
        if total >= limit:
            break
    return unique_sources


def _split(domain: str, sources: list[Source], train_chars: int, held_out_chars: int) -> Corpus:
    total = sum(len(source.text) for source in sources)
    quota = min(held_out_chars, int(0.15 * total))
    if quota < _LEAST:
        raise TryageError(
            f"this Python installation carries {total:,} characters of {domain} text, and the "
            f"quickstart needs {_LEAST / 0.15:,.0f}; install the extras first: "
            'pip install "tryage[hf,langchain,llama-index]"'
        )
    # Where there is plenty, many files teach more than a few long ones.
    longest = train_chars // 20 if total > 2 * train_chars else total
    quotas = {"test": quota, "label": quota, "train": train_chars}
    counted = {"test": _COUNTED, "label": _COUNTED, "train": longest}
    parts: dict[str, list[Source]] = {"test": [], "label": [], "train": []}
    for source in sources:
        for part, part_sources in parts.items():
            # A file larger than a third of a held-out part would be the part.
            fits = part == "train" or len(source.text) <= quota // 3
            if fits and quotas[part] > 0:
                text = source.text[:longest] if part == "train" else source.text
                part_sources.append(replace(source, text=text))
                quotas[part] -= min(len(text), counted[part])
                break
    return Corpus(domain, tuple(parts["train"]), tuple(parts["label"]), tuple(parts["test"]))


def _stable(name: str) -> bytes:
    return hashlib.blake2b(name.encode(), digest_size=8).digest()


def _read_text(path: Path) -> str | None:
    """The file's text; None for what is too large or is no UTF-8."""
    try:
        if path.stat().st_size > _LARGEST_FILE:
            return None
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None


def _site_folders() -> list[Path]:
    paths = sysconfig.get_paths()
    folders = {Path(paths["purelib"]), Path(paths["platlib"])}
    return sorted(folder for folder in folders if folder.is_dir())


def _walk(root: Path) -> Iterator[tuple[Path, list[str]]]:
    """Folders under `root` with their files, both sorted."""
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if name not in _SKIPPED_FOLDERS)
        yield Path(folder), sorted(files)


def _legal() -> Iterator[tuple[str, str]]:
    folders = [f for site in _site_folders() for f in sorted(site.glob("*.dist-info"))]
    for info in folders:
        for folder, files in _walk(info):
            for name in files:
                if _LICENSE_NAME.search(name) or "licenses" in folder.relative_to(info).parts:
                    text = _read_text(folder / name)
                    if text is not None:
                        yield (folder / name).relative_to(info.parent).as_posix(), text


def _reference() -> Iterator[tuple[str, str]]:
    topics = importlib.import_module("pydoc_data.topics").topics
    for name in sorted(topics):
        yield f"pydoc_data.topics/{name}", topics[name]


def _readme() -> Iterator[tuple[str, str]]:
    for site in _site_folders():
        for path in sorted(site.glob("*.dist-info/METADATA")):
            _, _, description = (_read_text(path) or "").partition("\n\n")
            if description.strip():
                yield path.relative_to(site).as_posix(), description


def _headers() -> Iterator[tuple[str, str]]:
    for site in _site_folders():
        for folder, files in _walk(site):
            if "include" not in folder.relative_to(site).parts:
                continue
            names = [name for name in files if name.endswith(_HEADER_SUFFIXES)]
            for name in sorted(names, key=_stable)[:_FILES_PER_FOLDER]:
                text = _read_text(folder / name)
                if text is not None:
                    yield (folder / name).relative_to(site).as_posix(), text


def _python() -> Iterator[tuple[str, str]]:
    stdlib = Path(sysconfig.get_paths()["stdlib"])
    for folder, files in _walk(stdlib):
        # Both hold tables (code pages, documentation) rather than code.
        if {"encodings", "pydoc_data"} & set(folder.relative_to(stdlib).parts):
            continue
        for name in files:
            if name.endswith(".py"):
                text = _read_text(folder / name)
                if text is not None:
                    yield (folder / name).relative_to(stdlib).as_posix(), text


_READERS = {
    "legal": _legal,
    "reference": _reference,
    "readme": _readme,
    "headers": _headers,
    "python": _python,
}
