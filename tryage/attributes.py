"""Attributes of an expert, read from its model: a local folder, or the Hub."""

from __future__ import annotations

import datetime
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import ValidationError
from safetensors import SafetensorError

from tryage.checkpoints import parameter_count
from tryage.errors import LibraryError
from tryage.experts import FILL_MASK, TEXT_GENERATION, Expert
from tryage.hub import TIMEOUT, model_info
from tryage.paths import user_path

_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".npy")
_NOT_WEIGHTS = ("training_args.bin", "optimizer.pt", "scheduler.pt", "rng_state.pth")
_CONTEXT = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "n_ctx")
_TASKS = {"ForCausalLM": TEXT_GENERATION, "LMHeadModel": TEXT_GENERATION, "ForMaskedLM": FILL_MASK}
_LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z]+)?")


def expert_of(model: str, *, root: Path | None = None, timeout: float = TIMEOUT) -> Expert:
    """Read an expert's attributes from its model.

    Args:
        model: a folder (relative to `root`), or a Hub id, optionally with a revision:
            ``"org/name"`` or ``"org/name@main"``.
        root: base of relative folders; None means the working directory.
        timeout: seconds that the Hub may take.

    Raises:
        LibraryError: the model does not exist or cannot be read, or the Hub refused; the message
            names the model and what to do.
        MissingExtraError: a Hub id without huggingface_hub.
    """
    path = user_path(model)
    folder = path if path.is_absolute() else (root or Path()) / path
    if not folder.is_dir():
        # A root that is still to be made has no parent to the system.
        folder = Path(os.path.normpath(folder))
    if folder.is_dir():
        return _validated(model, _folder_attributes(model, folder))
    # A revision such as refs/pr/1 may hold slashes.
    if model.startswith((".", "/", "~")) or model.partition("@")[0].count("/") > 1:
        raise LibraryError(f"model folder {str(folder)!r} does not exist")
    return _validated(model, _hub_attributes(model, timeout))


def told_apart(
    models: Sequence[tuple[str, str]], experts: Sequence[Expert], root: Path | None
) -> list[Expert]:
    """Return experts under the names that were chosen, or names that tell them apart.

    Args:
        models: the name that was chosen, or "", and the model as it was named.
        experts: what was read of them.
        root: base of relative folders.

    Raises:
        LibraryError: one folder is named twice, without names of its own.
    """
    choices: list[list[str]] = []
    places: dict[Path, str] = {}
    for (own, model), expert in zip(models, experts, strict=True):
        path = user_path(model)
        folder = Path(os.path.normpath(path if path.is_absolute() else (root or Path()) / path))
        place = Path(os.path.realpath(folder))
        parts = place.parts[1:]
        if folder.is_dir() and not own and places.setdefault(place, model) is not model:
            raise LibraryError(
                f"{places[place]!r} and {model!r} are one model folder; name it once"
            )
        if own:
            choices.append([own])
        elif folder.is_dir():
            choices.append(["/".join(parts[-count:]) for count in range(1, len(parts) + 1)])
        else:
            choices.append([expert.name, model])
    names = [choice[0] for choice in choices]
    for length in range(1, max(map(len, choices), default=0)):
        counts = Counter(names)
        for number, choice in enumerate(choices):
            if counts[names[number]] > 1 and length < len(choice):
                names[number] = choice[length]
    return [
        expert if expert.name == name else expert.model_copy(update={"name": name})
        for expert, name in zip(experts, names, strict=True)
    ]


def _validated(model: str, attributes: Mapping[str, Any]) -> Expert:
    try:
        return Expert.model_validate({k: v for k, v in attributes.items() if v is not None})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"]))
        raise LibraryError(f"{model}: {key}: {first['msg']}, found {first['input']!r}") from None


def _folder_attributes(model: str, folder: Path) -> dict[str, Any]:
    config = _config(folder / "config.json")
    weights = sorted(folder.glob("*.safetensors"))
    names = [path.name for path in folder.iterdir() if path.is_file()]
    card = _front_matter(folder / "README.md")
    return {
        "name": folder.resolve().name,
        "model": model,
        "task": _task(config.get("architectures"), card.get("pipeline_tag")),
        "parameters": sum(_parameters(path) for path in weights) or None,
        "license": _license(card),
        "languages": _languages(card),
        "context_length": _context(config),
        "security": _security(names, remote_code="auto_map" in config, vendor=None),
    }


def _config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise LibraryError(f"{path.parent}: holds no config.json, so it is not a model") from None
    except (OSError, ValueError, RecursionError) as error:
        raise LibraryError(f"{path}: cannot be read: {error}") from error
    if not isinstance(config, dict):
        raise LibraryError(f"{path}: expected an object, found {type(config).__name__}")
    return config


def _parameters(path: Path) -> int:
    try:
        return parameter_count(path)
    except (SafetensorError, OSError) as error:
        raise LibraryError(f"{path}: not a safetensors file: {error}") from error


def _front_matter(path: Path) -> dict[str, Any]:
    """Return the YAML front matter of a model card; empty if there is none."""
    from tryage.yaml_text import YamlText, YamlTextError

    if not path.is_file():
        return {}
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    rulers = [number for number, line in enumerate(lines) if line.rstrip() == "---"]
    if len(rulers) < 2 or rulers[0] != 0:
        return {}
    try:
        data = YamlText("\n".join(lines[1 : rulers[1]])).data
    except YamlTextError as error:
        raise LibraryError(f"{path}: its front matter is not YAML: {error}") from error
    return data if isinstance(data, dict) else {}


def _hub_attributes(model: str, timeout: float) -> dict[str, Any]:
    name, _, revision = model.partition("@")
    info = model_info(name, revision or None, timeout=timeout)
    total = getattr(info.safetensors, "total", None)
    created = info.created_at
    return hub_attributes(
        name,
        config=info.config if isinstance(info.config, Mapping) else {},
        card=dict(info.card_data.to_dict()) if info.card_data is not None else {},
        tags=tuple(getattr(info, "tags", None) or ()),
        files=tuple(sibling.rfilename for sibling in info.siblings or ()),
        pipeline_tag=info.pipeline_tag,
        parameters=int(total) if total else None,
        released=created.date() if isinstance(created, datetime.datetime) else None,
        gated=bool(info.gated) if info.gated is not None else None,
        revision=info.sha,
        scan=_scan(info.security_repo_status),
    )


def hub_attributes(
    name: str,
    *,
    config: Mapping[str, Any],
    card: Mapping[str, Any],
    tags: Sequence[str],
    files: Sequence[str],
    pipeline_tag: str | None,
    parameters: int | None,
    released: datetime.date | None,
    gated: bool | None,
    revision: str | None,
    scan: str | None = None,
) -> dict[str, Any]:
    """Return an expert's attributes, None where unknown, from what the Hub says about its model.

    Args:
        name: the model's id.
        config: its `config.json`, or the part that the Hub repeats.
        card: front matter of its card.
        tags: as the Hub gives them.
        files: names of all files; empty where the Hub does not say.
        pipeline_tag: the task, where the architecture does not tell it.
        parameters: number of parameters.
        released: date of its first commit.
        gated: whether its terms must be accepted first.
        revision: its commit.
        scan: ``clean`` or ``flagged``.
    """
    return {
        "name": name,
        "model": name,
        "task": _task(config.get("architectures"), pipeline_tag),
        "parameters": parameters,
        "released": released,
        "license": _license(card) or _tagged(tags, "license:"),
        "languages": _languages(card),
        "context_length": _context(config),
        "gated": gated,
        "revision": revision,
        "security": _security(
            files,
            remote_code="auto_map" in config or "custom_code" in tags,
            vendor=name.partition("/")[0] if "/" in name else None,
            scan=scan,
        ),
    }


def _task(architectures: Any, tag: Any) -> str | None:
    names = architectures if isinstance(architectures, list) else []
    for name in names:
        for ending, task in _TASKS.items():
            if str(name).endswith(ending):
                return task
    return str(tag) if tag else None


def _context(config: Mapping[str, Any]) -> int | None:
    inner = config.get("text_config")
    for section in (config, inner if isinstance(inner, Mapping) else {}):
        for key in _CONTEXT:
            length = section.get(key)
            if isinstance(length, int) and not isinstance(length, bool) and 0 < length < 10**9:
                return length
    return None


def _license(card: Mapping[str, Any]) -> str | None:
    name = card.get("license")
    if isinstance(name, list) and len(name) == 1:
        (name,) = name
    if name == "other":
        name = card.get("license_name") or name
    return name.lower() if isinstance(name, str) and name else None


def _languages(card: Mapping[str, Any]) -> tuple[str, ...] | None:
    value = card.get("language")
    codes = value if isinstance(value, list) else [value]
    # YAML reads Norwegian's code as false.
    words = ["no" if code is False else str(code).lower() for code in codes if code is not None]
    languages = tuple(dict.fromkeys(word for word in words if _LANGUAGE.fullmatch(word)))
    return languages or None


def _tagged(tags: Iterable[str], prefix: str) -> str | None:
    return next((tag.removeprefix(prefix) for tag in tags if tag.startswith(prefix)), None)


def _security(
    names: Iterable[str], *, remote_code: bool, vendor: str | None, scan: str | None = None
) -> dict[str, Any]:
    files = [PurePosixPath(name) for name in names]
    safe = any(file.suffix == ".safetensors" for file in files)
    pickles = any(file.suffix in _PICKLES and file.name not in _NOT_WEIGHTS for file in files)
    attributes = {
        "safetensors": safe if files else None,
        "pickle": pickles if files else None,
        "remote_code": remote_code,
        "location": "local",
        "vendor": vendor,
        "scan": scan,
    }
    return {key: value for key, value in attributes.items() if value is not None}


def _scan(status: Any) -> str | None:
    """Return the result of the Hub's scan of a repository: clean, flagged, or None."""
    if not isinstance(status, Mapping):
        return None
    if status.get("filesWithIssues"):
        return "flagged"
    return "clean" if status.get("scansDone") else None
