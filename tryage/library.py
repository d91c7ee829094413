"""Libraries: ordered sets of experts."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tryage.drawing.notebook import MOST_ROWS, html_table
from tryage.errors import LibraryError, did_you_mean
from tryage.experts import TEXT_GENERATION, Expert
from tryage.folders import Origin
from tryage.library_lines import SUFFIXES, collection_paused, read_rows, write_rows
from tryage.library_rows import expert_of_row, problems_at_top, together
from tryage.paths import read_bytes, shown, user_path
from tryage.tokens import CHARS_PER_TOKEN
from tryage.units import format_count

ANSWERS_SHARE = 1 / 8
"""Share of a context that is left for an answer at most."""


@dataclass(frozen=True, init=False)
class Library:
    """Ordered set of experts: the column order of every matrix.

    Attributes:
        name: of the library, used in reports.
        experts: at least one; names are unique.
        root: base of relative model folders; None means the working directory.
    """

    name: str
    experts: tuple[Expert, ...]
    root: Path | None = field(default=None, repr=False, compare=False)

    def __init__(
        self,
        experts: Sequence[Expert] = (),
        *,
        name: str = "library",
        root: str | Path | None = None,
    ) -> None:
        if not experts:
            raise LibraryError(f"library {name!r} has no experts; it needs at least one")
        names: set[str] = set()
        for expert in experts:
            if expert.name in names:
                raise LibraryError(
                    f"library {name!r}: expert name {expert.name!r} occurs twice; "
                    "names must be unique"
                )
            names.add(expert.name)
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "experts", tuple(experts))
        object.__setattr__(self, "root", None if root is None else user_path(root))

    @classmethod
    def read(cls, path: str | Path) -> Library:
        """Read a library from a YAML, JSONL or Parquet file.

        Args:
            path: the file, or ``-`` for YAML from standard input; model folders in it are relative
                to its folder. A ``.jsonl`` file has an expert on each line, a ``.parquet`` file in
                each row, with the keys of a YAML file and lists and mappings as JSON text.

        Raises:
            LibraryError: the file is missing, is not of its kind, or breaks the schema. The message
                names the file, line and column, the expert and the key.
            MissingExtraError: Parquet without pyarrow.
        """
        from tryage.yaml_text import YamlText, YamlTextError

        path = user_path(path)
        source = shown(path)
        if path.suffix.lower() in SUFFIXES:
            with collection_paused():
                rows, place = read_rows(path)
                data = {"name": path.stem, "experts": rows}
                return cls._of(data, source, path.parent, None, place)
        try:
            text = YamlText(read_bytes(path).decode("utf-8"))
        except FileNotFoundError as error:
            raise LibraryError(f"library file {str(path)!r} does not exist") from error
        except OSError as error:
            raise LibraryError(f"library file {str(path)!r}: {error.strerror}") from error
        except YamlTextError as error:
            where = f"{source}, {error.place}" if error.place else source
            raise LibraryError(f"{where}: {error.problem}") from error
        except UnicodeDecodeError as error:
            line = error.object.count(b"\n", 0, error.start) + 1
            problem = f"not a YAML file: not UTF-8: {error.reason}"
            raise LibraryError(f"{source}, line {line}: {problem}") from error
        return cls._of(text.data, source, path.parent, None, text.place)

    @classmethod
    def from_models(
        cls,
        models: Sequence[str | tuple[str, str]],
        *,
        name: str = "library",
        root: str | Path | None = None,
        timeout: float = 10.0,
    ) -> Library:
        """Build a library from models, reading attributes from local folders or the Hub.

        A folder gives task, parameters (from the safetensors headers), context length, license
        and languages; the Hub also gives dates, revision, gating and the result of its scan. Only
        models that are not folders are looked up on the Hub, at ``HF_ENDPOINT`` if it is set.

        Args:
            models: folders, and Hub ids such as ``"org/name"`` or ``"org/name@revision"``; or
                pairs of a name for the expert and one of these. Without a name, an expert is
                called after its folder, with as many of the folders above as tell two apart.
            name: of the library.
            root: base of relative folders.
            timeout: seconds that the Hub may take for one model.

        Raises:
            LibraryError: a model does not exist or cannot be read; the message says what to do.
            MissingExtraError: a Hub id without huggingface_hub.
        """
        from tryage.attributes import expert_of, told_apart

        if isinstance(models, str):
            raise LibraryError(f"models is {models!r}; give a list of them")
        base = None if root is None else user_path(root)
        pairs = [("", one) if isinstance(one, str) else one for one in models]
        experts = [expert_of(model, root=base, timeout=timeout) for _, model in pairs]
        return cls(told_apart(pairs, experts, base), name=name, root=root)

    def changes_from(self, fitted: Library) -> dict[str, str]:
        """Compare this library with the one that a router was fitted on.

        Returns:
            expert → change: added, removed, another revision, model or task; empty if there is
            none. Other attributes may change without a new fit.
        """
        changes: dict[str, str] = {}
        for expert in self:
            if expert.name not in fitted:
                changes[expert.name] = "added: the router was fitted without it"
                continue
            old = fitted[expert.name]
            for key in ("model", "revision", "task"):
                before, now = getattr(old, key), getattr(expert, key)
                if before != now:
                    changes[expert.name] = f"its {key} is {now}, the router was fitted on {before}"
                    break
        for expert in fitted:
            if expert.name not in self:
                changes[expert.name] = "removed: the router was fitted with it"
        return changes

    @classmethod
    def from_dict(
        cls,
        data: Any,
        *,
        source: str = "library",
        root: str | Path | None = None,
        origin: Origin | None = None,
    ) -> Library:
        """Build a library from the mapping that a YAML file or `router.json` holds.

        Args:
            data: the mapping.
            source: what messages call it.
            root: base of relative model folders; None means the working directory.
            origin: whose word the mapping is, for consent to keys and folders; by default that
                of a file in `root`.

        Raises:
            LibraryError: the mapping breaks the schema; `source` leads the message.
        """
        return cls._of(data, source, root, origin, None)

    @classmethod
    def _of(
        cls,
        data: Any,
        source: str,
        root: str | Path | None,
        origin: Origin | None,
        place: Callable[[Sequence[str | int]], str] | None,
    ) -> Library:
        """Do what `from_dict` does; `place` tells where in the source a value stands."""

        def at(*path: str | int) -> str:
            return source if place is None else f"{source}, {place(path)}"

        if not isinstance(data, dict):
            raise LibraryError(f"{at()}: expected a mapping with 'name' and 'experts'")
        problems = problems_at_top(data, at)
        rows = data.get("experts")
        origin = origin or Origin.of(source, root)
        experts = []
        for number, row in enumerate(rows if isinstance(rows, list) else (), 1):
            expert = expert_of_row(row, number, partial(at, "experts", number - 1), problems)
            if expert is not None:
                experts.append(expert.read_from(origin))
        if problems:
            raise LibraryError(together(problems, source))
        try:
            return cls(experts, name=str(data.get("name") or "library"), root=root)
        except LibraryError as error:
            raise LibraryError(f"{source}: {error}") from error

    def to_dict(self) -> dict[str, Any]:
        """Return the mapping that `from_dict` reads: JSON types only, without unset keys."""
        rows = [
            expert.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
            for expert in self.experts
        ]
        return {"name": self.name, "experts": rows}

    def write(self, path: str | Path) -> None:
        """Write the library as YAML, or as the JSONL or Parquet that the file's ending says.

        The file appears whole or not at all.

        Raises:
            LibraryError: the YAML would be longer than what is read again.
            MissingExtraError: Parquet without pyarrow.
        """
        from tryage.files import write_text
        from tryage.library_rows import yaml_of

        path = user_path(path)
        if path.suffix.lower() in SUFFIXES:
            write_rows(path, self.to_dict()["experts"])
        else:
            write_text(path, yaml_of(self.to_dict(), shown(path)))

    @functools.cached_property
    def names(self) -> tuple[str, ...]:
        """The experts' names, in order."""
        return tuple(expert.name for expert in self.experts)

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks that occur, in order of first use."""
        return tuple(dict.fromkeys(expert.task for expert in self.experts))

    def _repr_html_(self) -> str:
        rows = [
            (
                expert.name,
                expert.task,
                "–" if expert.parameters is None else format_count(expert.parameters),
                expert.released or "–",
                expert.license or "–",
            )
            for expert in self.experts[:MOST_ROWS]
        ]
        return html_table(
            f"Library {self.name!r}: {len(self)} experts",
            ["expert", "task", "parameters", "released", "license"],
            rows,
        )

    def __len__(self) -> int:
        return len(self.experts)

    def __iter__(self) -> Iterator[Expert]:
        return iter(self.experts)

    def __contains__(self, name: object) -> bool:
        return name in self._columns

    def __getitem__(self, name: str) -> Expert:
        return self.experts[self.index(name)]

    @functools.cached_property
    def _columns(self) -> dict[str, int]:
        return {name: column for column, name in enumerate(self.names)}

    @functools.cached_property
    def token_prices(self) -> NDArray[np.float64]:
        """USD per input token and per output token, shape (2, m); NaN if unknown."""
        rows = [
            (p.input / p.per, p.output / p.per) if p is not None else (np.nan, np.nan)
            for p in (expert.price for expert in self.experts)
        ]
        return np.array(rows, dtype=np.float64).T

    @functools.cached_property
    def cached_prices(self) -> NDArray[np.float64]:
        """USD per input token read from a vendor's prompt cache, shape (m,); NaN if unknown."""
        prices = (expert.price for expert in self.experts)
        return np.array(
            [
                np.nan if p is None or p.cached_input is None else p.cached_input / p.per
                for p in prices
            ]
        )

    @functools.cached_property
    def sizes(self) -> NDArray[np.float64]:
        """Parameters of every expert, shape (m,); NaN if unknown."""
        return np.array([expert.parameters or np.nan for expert in self.experts], dtype=np.float64)

    @functools.cached_property
    def context_lengths(self) -> NDArray[np.float64]:
        """Context length of every expert in tokens, shape (m,); infinity if unknown."""
        return np.array([expert.context_length or np.inf for expert in self.experts])

    @functools.cached_property
    def token_factors(self) -> NDArray[np.float64]:
        """Tokens that every expert makes of one estimated token, shape (m,)."""
        ratios = [expert.chars_per_token or CHARS_PER_TOKEN for expert in self.experts]
        return CHARS_PER_TOKEN / np.array(ratios)

    @functools.cached_property
    def most_room(self) -> NDArray[np.float64]:
        """Tokens of every expert's context that are left for an answer at most, shape (m,)."""
        answers = np.array([expert.task == TEXT_GENERATION for expert in self.experts])
        return np.where(answers, self.context_lengths * ANSWERS_SHARE, 0.0)

    @functools.cached_property
    def fits_everywhere(self) -> float:
        """Estimated tokens of a prompt that every expert has room for, and for its answer."""
        lengths = np.where(self.most_room > 0, 1 - ANSWERS_SHARE, 1.0) * self.context_lengths
        return float((lengths / self.token_factors).min())

    @functools.cached_property
    def priced(self) -> bool:
        """Whether some expert has a price."""
        return any(expert.price is not None for expert in self.experts)

    def distinct(
        self, attribute: str, read: Callable[[Expert], Any]
    ) -> tuple[NDArray[np.intp], tuple[Any, ...]]:
        """Return an attribute of all experts as numbers, (m,), of its distinct values.

        Args:
            attribute: its name, by which the result is cached.
            read: returns it of an expert; can be hashed.
        """
        pair = self._distinct.get(attribute)
        if pair is None:
            numbers: dict[Any, int] = {}
            codes = [numbers.setdefault(read(expert), len(numbers)) for expert in self.experts]
            pair = self._distinct[attribute] = np.array(codes, dtype=np.intp), tuple(numbers)
        return pair

    @functools.cached_property
    def _distinct(self) -> dict[str, tuple[NDArray[np.intp], tuple[Any, ...]]]:
        return {}

    def index(self, name: str) -> int:
        """Return the column of an expert.

        Raises:
            LibraryError: the library has no expert of that name.
        """
        try:
            return self._columns[name]
        except KeyError:
            hint = did_you_mean(name, self.names) or f" It has: {', '.join(self.names[:20])}."
            raise LibraryError(f"library {self.name!r} has no expert {name!r}.{hint}") from None

    def of_task(self, task: str) -> Library:
        """Return the library of the experts that do one task, in the same order."""
        experts = [expert for expert in self.experts if expert.task == task]
        return Library(experts, name=self.name, root=self.root)

    def model_path(self, expert: Expert) -> Path | str:
        """Return the location of an expert's model: a folder, or else a Hub id.

        A model is a folder if one of that name exists beside the library file, or if the text can
        only be a path: it starts with ``.``, ``/`` or ``~``, has more than one ``/``, or its first
        part is a folder beside the library file.
        """
        path = user_path(expert.model)
        folder = path if path.is_absolute() else (self.root or Path()) / path
        only_a_path = expert.model.startswith((".", "/", "~")) or expert.model.count("/") > 1
        beside = self.root is not None and "/" in expert.model and folder.parent.is_dir()
        return folder if only_a_path or beside or folder.is_dir() else expert.model
