"""Arrays of a decision among thousands of experts that are computed when they are looked at."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Columns = NDArray[np.intp]

NOT_YET: Array = np.empty(0)
"""Stands for an array until it is deferred."""


@dataclass(frozen=True, slots=True, eq=False)
class Deferred:
    """The arrays of a decision that are not computed yet, and the first of its ranking.

    Attributes:
        make: name → function that returns the whole array, (m,).
        some: name → function that returns its values in some columns, without the others.
        first: columns of the first experts of the ranking.
        complete: whether nobody else is eligible.
    """

    make: Mapping[str, Callable[[], Array]]
    some: Mapping[str, Callable[[Columns], Array]]
    first: tuple[int, ...]
    complete: bool


class Deferring:
    """Base of dataclasses with slots, some of whose arrays may be deferred.

    A deferred one's slot is empty; looking at it computes it and fills the slot. Where nothing is
    deferred this costs nothing.
    """

    __slots__ = ("_deferred",)

    _deferred: Deferred

    if not TYPE_CHECKING:  # else type checkers would take any name for an attribute

        def __getattr__(self, name: str) -> Any:
            """Compute a deferred array."""
            deferred = None if name == "_deferred" else self.deferred
            if deferred is None or name not in deferred.make:
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            array = deferred.make[name]()
            object.__setattr__(self, name, array)
            return array

    @property
    def deferred(self) -> Deferred | None:
        """What was deferred when this was made; None where nothing was."""
        return getattr(self, "_deferred", None)

    def defer(self, deferred: Deferred) -> Self:
        """Empty the slots of what is deferred, and return this object, which nobody else has."""
        object.__setattr__(self, "_deferred", deferred)
        for name in deferred.make:
            object.__delattr__(self, name)
        return self

    def some_of(self, name: str, columns: Sequence[int]) -> Array:
        """Return the values of an array in some columns, without computing the others."""
        try:
            values: Array = object.__getattribute__(self, name)[list(columns)]
        except AttributeError:
            return self._deferred.some[name](np.array(columns, dtype=np.intp))
        return values
