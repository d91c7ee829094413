"""Routers on disk: a folder of JSON and safetensors, versioned and checked when read.

``router.json`` holds the format version, the library, the objective, the policy, each task's
predictor, the training's provenance and the SHA-256 of every other file; ``<task>.safetensors`` the
predictor's arrays; the encoder's files lie beside. Nothing in the folder is executable, and nothing
is pickled.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from importlib.metadata import version
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from tryage.encoders import Encoder, StaticEncoder, bundled_digest, load_encoder
from tryage.errors import (
    DamagedFileError,
    FormatVersionError,
    OutputFolderError,
    RouterFolderError,
    RouterNotFoundError,
    TryageError,
)
from tryage.files import replacing_folder, sha256, standing
from tryage.folders import Folders, Origin
from tryage.library import Library
from tryage.library_root import ROOT_FILE, find_root, root_text
from tryage.objective import Objective
from tryage.opened_folder import OpenedFolder
from tryage.paths import check_folder, user_path
from tryage.plans import JointSuccess, Rates
from tryage.policy import Policy
from tryage.predictors import STORED, Predictor
from tryage.similar import TrainingPrompts, read_prompts, write_prompts

FORMAT = 1
"""Version of the folder's layout; a higher one is refused, every lower one stays readable."""

INDEX = "router.json"

CARD = "README.md"

PROMPTS = "prompts.json"
"""Training prompts and their results, where the router's maker allowed to keep them."""

_OWN_FILES = (INDEX, CARD, "tokenizer.json", PROMPTS, ROOT_FILE)
"""What a router folder holds besides its arrays."""


@dataclass(frozen=True)
class RouterState:
    """The parts of a router that are saved.

    Attributes:
        library: the experts.
        objective: goals on their fixed scales.
        predictors: task → fitted predictor.
        provenance: where the predictors come from: table hash, counts, seed, validation.
        joint: task → how experts fail together; (m,) shares on disk.
        check_rates: check's name → expert → measured rates.
        policy: what the operator allows, without goals of their own.
        training_prompts: task → prompts that the router keeps; empty unless it may.
    """

    library: Library
    objective: Objective
    predictors: Mapping[str, Predictor]
    provenance: Mapping[str, Any]
    policy: Policy = field(default_factory=Policy)
    joint: Mapping[str, JointSuccess] = field(default_factory=dict)
    check_rates: Mapping[str, Rates] = field(default_factory=dict)
    training_prompts: Mapping[str, TrainingPrompts] = field(default_factory=dict)


def find_router(name: str | Path) -> Path:
    """Return the folder of a router: a folder given by path, or a bundled router by name.

    Raises:
        RouterNotFoundError: there is neither; the message lists the bundled names.
    """
    folder = user_path(name)
    if (standing(folder) / INDEX).is_file():
        return folder
    bundled = bundled_routers()
    if str(name) in bundled:
        return bundled[str(name)]
    if folder.is_dir():
        raise RouterNotFoundError(f"folder {str(name)!r} holds no {INDEX}, so it is not a router")
    raise RouterNotFoundError(
        f"router {str(name)!r} is neither a folder nor a bundled router "
        f"(bundled: {', '.join(bundled)}); `tryage fit` and Router.fit make one for models of your "
        "own"
    )


def bundled_routers() -> dict[str, Path]:
    """Return the routers that ship with the package: name → folder."""
    root = Path(str(resources.files("tryage"))) / "pretrained"
    return {index.parent.name: index.parent for index in sorted(root.glob(f"*/{INDEX}"))}


def may_hold(name: str) -> bool:
    """Tell whether a router folder may hold a file of that name."""
    return name in _OWN_FILES or re.fullmatch(r"[\w-][\w.-]*\.safetensors", name) is not None


def check_output(folder: Path) -> None:
    """Check that a router may be saved in a folder.

    Raises:
        OutputFolderError: it holds something other than a router, or may not be made or written
            to.
    """
    check_folder(folder)
    if not folder.exists():
        return
    if not os.access(folder, os.W_OK):
        raise OutputFolderError(
            f"{str(folder)!r} may not be written to, so it is not replaced; make it writable, or "
            "name another folder"
        )
    names = [path.name for path in folder.iterdir()]
    if names and INDEX not in names:
        raise OutputFolderError(
            f"{str(folder)!r} exists and holds no router; name a new folder or an old router's"
        )
    for name in names:
        # An old router's folder is replaced whole, so nothing else may lie in it.
        if not may_hold(name):
            raise OutputFolderError(
                f"{str(folder)!r} holds a router, and {name!r}, which is not one of its files; "
                "move that away, or name another folder"
            )


def save(state: RouterState, folder: Path, card: str, *, share_encoder: bool = False) -> None:
    """Write a router folder; it appears whole or not at all.

    Args:
        state: the router.
        folder: a new folder, an empty one, or a router's, which is replaced.
        card: the text of its README.md.
        share_encoder: name the bundled encoder instead of copying its files. For routers that
            ship beside it: they stay small, but other versions of Tryage may not read them.

    Raises:
        OutputFolderError: the folder holds something else.
    """
    check_output(folder)
    with replacing_folder(folder) as temporary:
        index: dict[str, Any] = {
            "format": FORMAT,
            "tryage": version("tryage"),
            "library": state.library.to_dict(),
            "objective": state.objective.to_dict(),
            "tasks": {},
            "encoder": None,
            "training": dict(state.provenance),
        }
        policy = state.policy.to_dict()
        if policy:
            index["policy"] = policy
        if state.joint:
            index["joint"] = {task: one.shared.tolist() for task, one in state.joint.items()}
        if state.check_rates:
            index["check_rates"] = {name: dict(r) for name, r in state.check_rates.items()}
        root = root_text(state.library, folder)
        if state.library.root is not None and root is None:
            index["library_root"] = "."
        for number, (task, predictor) in enumerate(state.predictors.items()):
            config, arrays = predictor.state()
            file = f"predictor-{number}.safetensors"
            # safetensors writes an array's memory as it lies, whatever its strides say.
            whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
            # Written by hand, because save_file makes files that only their owner can read.
            (temporary / file).write_bytes(safetensors.numpy.save(whole))
            index["tasks"][task] = {"predictor": predictor.kind, "config": config, "file": file}
            if predictor.encoder is not None and index["encoder"] is None:
                shared = share_encoder and predictor.encoder is StaticEncoder.bundled()
                index["encoder"] = (
                    {"kind": "bundled", "sha256": bundled_digest()}
                    if shared
                    else predictor.encoder.save(temporary)
                )
        if state.training_prompts:
            (temporary / PROMPTS).write_bytes(write_prompts(state.training_prompts))
        (temporary / CARD).write_text(card, encoding="utf-8")
        index["files"] = {
            file.name: sha256(file) for file in sorted(temporary.iterdir()) if file.name != CARD
        }
        index["sha256"] = _digest(index)
        (temporary / INDEX).write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
        if root is not None:
            (temporary / ROOT_FILE).write_text(root, encoding="utf-8")


def left_out(policy: Policy, objective: Objective, tasks: Sequence[str]) -> list[str]:
    """Return what saving a router leaves out, each part with the way to have it again."""
    parts = []
    if policy.goals:
        names = ", ".join(policy.goals)
        parts.append(
            f"the policy's own goals ({names}) and its weights on them, which are code; pass "
            "policy= to from_pretrained"
        )
    excluded = [n for n in objective.unavailable if objective.library[n].task in tasks]
    if excluded:
        parts.append(f"the exclusion of {', '.join(excluded)}; call excluding again")
    return parts


def load(folder: Path, *, folders: Folders = ()) -> RouterState:
    """Read a router folder.

    Args:
        folder: of the router.
        folders: folders outside it whose models the operator allows.

    Raises:
        ConsentError: its encoder lies in a folder that the operator did not allow.
        FormatVersionError: a newer Tryage wrote it.
        DamagedFileError: a file is missing, cut or changed; the message names it.
    """
    index, files = _read(folder)
    try:
        return _build(index, files, folder, Origin.of(folder / INDEX, folder, folders))
    except SafetensorError as error:
        raise DamagedFileError(f"{folder}: a safetensors file cannot be read: {error}") from error
    except TryageError:
        raise
    except _ODD_CONTENT as error:
        raise DamagedFileError(f"{folder / INDEX}: {error!r} while it was read") from error


_ODD_CONTENT = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""Exceptions that wrong values in an index raise."""

_TRIES = 200
"""Attempts to read a folder that other processes keep replacing."""


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return the index and the contents of the files that it names: those of one router.

    Every file is read once, hashed and parsed from the same bytes. If the folder is replaced
    meanwhile, everything is read again.
    """
    for attempt in range(_TRIES):
        try:
            with OpenedFolder(standing(folder)) as opened:
                try:
                    return _router_of(opened, folder)
                except DamagedFileError:
                    if opened.is_current() or attempt == _TRIES - 1:
                        raise
        except FileNotFoundError:
            if attempt == _TRIES - 1 or not standing(folder).exists():
                raise RouterNotFoundError(f"router {str(folder)!r} is gone") from None
        time.sleep(0.001)
    raise AssertionError("the last attempt returns or raises")


def _router_of(opened: OpenedFolder, folder: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    if INDEX not in opened.files:
        raise DamagedFileError(f"{folder / INDEX}: missing from the router folder")
    index = read_index(opened.files[INDEX].read(), folder / INDEX)
    files = {
        name: _content(opened.files.get(name), folder / name, expected)
        for name, expected in index["files"].items()
    }
    if ROOT_FILE in opened.files:
        files[ROOT_FILE] = opened.files[ROOT_FILE].read()
    return index, files


def _build(
    index: Mapping[str, Any], files: Mapping[str, bytes], folder: Path, origin: Origin
) -> RouterState:
    library = Library.from_dict(index["library"], source=str(folder / INDEX), origin=origin)
    # Earlier versions had it in the index.
    old = index.get("library_root")
    written = json.dumps({"root": old}).encode() if old is not None else files.get(ROOT_FILE)
    library = Library(library.experts, name=library.name, root=find_root(written, library, folder))
    encoder: Encoder | None = None
    if index["encoder"] is not None:
        encoder = load_encoder(index["encoder"], folder, files=files, origin=origin)
    predictors: dict[str, Predictor] = {}
    for task, entry in index["tasks"].items():
        kind = entry["predictor"]
        if kind not in STORED:
            raise RouterFolderError(
                f"{folder / INDEX}: predictor {kind!r} is unknown to tryage {version('tryage')}"
            )
        arrays = safetensors.numpy.load(files[entry["file"]])
        predictors[task] = STORED[kind].from_state(entry["config"], arrays, encoder)
        _try_out(predictors[task], library.of_task(task))
    objective = Objective.from_dict(index["objective"], library)
    policy = Policy.from_dict(index.get("policy", {}))
    joint = {
        task: JointSuccess(np.array(shared, dtype=np.float64))
        for task, shared in index.get("joint", {}).items()
    }
    rates = {
        check: {expert: (float(right), float(wrong)) for expert, (right, wrong) in row.items()}
        for check, row in index.get("check_rates", {}).items()
    }
    provenance = index["training"]
    if not isinstance(provenance, dict):
        raise TypeError(f"training is {provenance!r}")
    prompts = read_prompts(files[PROMPTS]) if PROMPTS in files else {}
    return RouterState(library, objective, predictors, provenance, policy, joint, rates, prompts)


def _try_out(predictor: Predictor, library: Library) -> None:
    """Check that a predictor's numbers fit together, and to the library.

    Raises:
        ValueError, TypeError, LookupError: they do not.
    """
    if sorted(predictor.experts_) != sorted(library.names):
        raise ValueError(f"predicts {predictor.experts_}, but its task has {library.names}")
    # Networks take long to load, and need torch; what does not fit shows at their first prompt.
    needs_network = predictor.slow or not isinstance(predictor.encoder, StaticEncoder | None)
    if not needs_network:
        mean = predictor.predict(["a"]).mean["loss"]
        if mean.shape != (1, len(library)):
            raise ValueError(f"predicts losses of shape {mean.shape} for {len(library)} experts")


def read_index(written: bytes, path: Path) -> dict[str, Any]:
    """Return the index of a router folder, which `files` of it names the other files with hashes.

    Args:
        written: content of the file.
        path: of the file, for messages.

    Raises:
        FormatVersionError: a newer Tryage wrote it.
        DamagedFileError: it is not a router's index, or was changed.
    """
    try:
        index = json.loads(written.decode("utf-8"))
        format_ = index["format"]
    except _ODD_CONTENT as error:
        raise DamagedFileError(f"{path}: not a router's index: {error}") from error
    if not isinstance(format_, int) or format_ > FORMAT:
        raise FormatVersionError(
            f"{path}: format {format_}, but tryage {version('tryage')} reads up to {FORMAT}; "
            "upgrade tryage"
        )
    if index.get("sha256") != _digest(index):
        raise DamagedFileError(f"{path}: changed or cut since it was saved; fit the router again")
    files = index.get("files")
    if not isinstance(files, dict) or not all(isinstance(mark, str) for mark in files.values()):
        raise DamagedFileError(f"{path}: 'files' does not say which files belong to the router")
    return dict(index)


def _content(file: BinaryIO | None, path: Path, expected: str) -> bytes:
    if file is None:
        raise DamagedFileError(f"{path}: missing from the router folder")
    content = file.read()
    digest = hashlib.sha256(content).hexdigest()
    if digest != expected:
        raise DamagedFileError(
            f"{path}: changed or cut since it was saved (SHA-256 {digest[:12]}…, "
            f"saved {expected[:12]}…); restore it or fit the router again"
        )
    return content


def _digest(index: Mapping[str, Any]) -> str:
    """Return the SHA-256 of the index without its own digest, in canonical JSON."""
    content = {key: value for key, value in index.items() if key != "sha256"}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
