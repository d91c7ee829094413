"""Prompt → vector: the bundled static encoder, and any sentence-transformers model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tryage.encoders.base import HEAD_CHARACTERS, TAIL_CHARACTERS, Encoder, prepare
from tryage.encoders.cached import CachedEncoder
from tryage.encoders.sentence import SentenceEncoder
from tryage.encoders.static import VECTORS_FILE, StaticEncoder, bundled_digest
from tryage.errors import EncoderError, did_you_mean
from tryage.folders import Origin
from tryage.paths import user_path

__all__ = [
    "HEAD_CHARACTERS",
    "TAIL_CHARACTERS",
    "CachedEncoder",
    "Encoder",
    "SentenceEncoder",
    "StaticEncoder",
    "bundled_digest",
    "load_encoder",
    "prepare",
    "resolve_encoder",
]


def resolve_encoder(encoder: str | Path | Encoder, *, download: bool = False) -> Encoder:
    """Return the encoder of a name.

    Args:
        encoder: "static" (the bundled one), the folder of a static encoder, the folder or Hub
            id of a sentence-transformers model, whose vectors are joined with the bundled one's
            surface features, or an encoder, which is returned as it is.
        download: whether a Hub model that is not in the local cache may be fetched.

    Raises:
        EncoderError: the name is none of these.
    """
    if not isinstance(encoder, str | Path):
        if isinstance(encoder, Encoder):
            return encoder
        raise EncoderError(f"expected an encoder or its name, found {type(encoder).__name__}")
    if encoder == "static":
        return StaticEncoder.bundled()
    folder = user_path(encoder)
    if folder.is_dir():
        static = (folder / VECTORS_FILE).is_file()
        if static:
            return StaticEncoder.load(folder)
        return SentenceEncoder(folder, surface=StaticEncoder.bundled().surface)
    if str(encoder).count("/") != 1 or str(encoder).startswith((".", "/", "~")):
        hint = did_you_mean(str(encoder), ("static",))
        raise EncoderError(
            f"unknown encoder {str(encoder)!r}: it is not 'static', not a folder and not a Hub "
            f"id such as 'sentence-transformers/all-MiniLM-L6-v2'.{hint}"
        )
    return SentenceEncoder(encoder, download=download, surface=StaticEncoder.bundled().surface)


def load_encoder(
    config: Mapping[str, Any],
    folder: str | Path,
    *,
    files: Mapping[str, bytes] | None = None,
    origin: Origin | None = None,
) -> Encoder:
    """Load the encoder that `Encoder.save` wrote into a folder, or that the folder names.

    Args:
        config: what `save` returned.
        folder: where it wrote its files.
        files: contents of the files, where they were read already.
        origin: the file that holds the configuration, for consent to folders; None needs none.

    Raises:
        ConsentError: it names a folder that the operator did not allow.
        EncoderError: the kind is unknown, or a file is missing or damaged.
    """
    kind = config.get("kind")
    if kind == "static":
        name = str(config.get("name", "static"))
        if files is not None:
            return StaticEncoder.from_files(files, Path(folder), name=name)
        return StaticEncoder.load(folder, name=name)
    if kind == "bundled" and "sha256" in config:
        return StaticEncoder.bundled_as(str(config["sha256"]))
    if kind == "sentence" and "model" in config:
        name, surface = str(config["model"]), config.get("surface")
        local = Path(name).is_dir()
        if origin is not None and local:
            origin.check(Path(name), f"encoder {name!r}")
        revision = config.get("revision")
        # A folder that appears later under that name was not looked at.
        return SentenceEncoder(name, revision=revision, surface=surface, local=local)
    raise EncoderError(
        f"unknown encoder kind {kind!r}; this version knows 'static', 'bundled', 'sentence'"
    )
