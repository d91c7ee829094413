"""Runs the contracts of a suite one by one; an error names the one that is broken."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn, TypeVar

import numpy as np

from tryage.errors import ContractError, OptionError, did_you_mean

T = TypeVar("T")

THREADS = 8

ODD_PROMPTS = (
    "",
    " \n\t",
    "a",
    "字 🙂 e\u0301 \u202e",
    "\ud800",
    "\x00",
    "word " * 5_000,
    "x" * 30_000,
)
"""Texts that users send and that programs trip over."""


def broken(message: str) -> NoReturn:
    """Raise the error of the contract that is being tested."""
    raise ContractError(message)


def require(condition: bool, message: str) -> None:
    """Raise the error of the contract that is being tested, unless a condition holds."""
    if not condition:
        broken(message)


def require_close(one: Any, other: Any, message: str, *, within: float) -> None:
    """Require that two arrays have the same shape, NaNs, and values within a distance."""
    one, other = np.asarray(one, dtype=float), np.asarray(other, dtype=float)
    require(one.shape == other.shape, f"{message}: shapes {one.shape} and {other.shape}")
    require(
        bool((np.isnan(one) == np.isnan(other)).all()), f"{message}: NaN stands in other places"
    )
    distance = float(np.nanmax(np.abs(one - other))) if (~np.isnan(one)).any() else 0.0
    require(distance <= within, f"{message}: values differ by up to {distance:.3g}")


def run_contracts(
    subject: object, contracts: Iterable[Callable[[], None]], skip: Collection[str]
) -> None:
    """Run contracts in order; a contract's name is its function's, with spaces.

    Args:
        subject: what is tested; the errors name its class.
        contracts: functions that raise where the contract is broken.
        skip: names of contracts that are not tested.

    Raises:
        ContractError: a contract is broken.
        OptionError: `skip` names something else.
    """
    by_name = {function.__name__.strip("_").replace("_", " "): function for function in contracts}
    for name in skip:
        if name not in by_name:
            hint = did_you_mean(name, by_name)
            raise OptionError(f"no contract {name!r}; there are: {', '.join(by_name)}.{hint}")
    label = getattr(subject, "__name__", type(subject).__name__)
    for name, function in by_name.items():
        if name in skip:
            continue
        try:
            function()
        except ContractError as error:
            if error.contract is not None:
                raise
            raise ContractError(f"{label} breaks the contract {name!r}: {error}", name) from error
        except Exception as error:
            raise ContractError(
                f"{label} breaks the contract {name!r}: it raised {type(error).__name__}: {error}",
                name,
            ) from error


def require_raises(call: Callable[[], object], *kinds: type[Exception], what: str) -> None:
    """Require that a call raises one of some errors."""
    names = " or ".join(kind.__name__ for kind in kinds)
    try:
        call()
    except kinds:
        return
    except Exception as error:  # noqa: BLE001 - any other error breaks the contract
        broken(f"{what} raised {type(error).__name__}: {error}; it must raise {names}")
    broken(f"{what} raised nothing; it must raise {names}")


def in_threads(call: Callable[[], T]) -> list[T]:
    """Return what a call returns in several threads at once."""
    with ThreadPoolExecutor(THREADS) as pool:
        return [future.result() for future in [pool.submit(call) for _ in range(4 * THREADS)]]


def snapshot(*objects: Any) -> list[Any]:
    """Return deep copies, to compare with after a call; see `require_unchanged`."""
    return [copy.deepcopy(value) for value in objects]


def require_unchanged(before: Sequence[Any], *after: Any, what: str) -> None:
    """Require that objects equal the copies that were made of them before a call."""
    for old, new in zip(before, after, strict=True):
        require(_equal(old, new), f"{what} changed its input")


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray):
        return np.array_equal(one, other, equal_nan=one.dtype.kind == "f")
    if isinstance(one, Mapping):
        return one.keys() == other.keys() and all(_equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(_equal, one, other))
    return bool(one == other)
