"""Locating and loading the model of a local expert."""

from __future__ import annotations

import contextlib
import json
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tryage.checkpoints import is_complete, missing_shards
from tryage.consent import NO_CONSENT, Consent
from tryage.errors import (
    ExpertError,
    GatedModelError,
    ModelNotFoundError,
    TaskError,
    missing_extra,
)
from tryage.experts import FILL_MASK, TEXT_GENERATION, Expert
from tryage.hub import HubError, HubGatedError, HubIdError, cached_snapshot, fetch_snapshot
from tryage.library import Library

MODEL_CLASSES = {
    TEXT_GENERATION: "AutoModelForCausalLM",
    FILL_MASK: "AutoModelForMaskedLM",
    "text-classification": "AutoModelForSequenceClassification",
    "token-classification": "AutoModelForTokenClassification",
    "zero-shot-classification": "AutoModelForSequenceClassification",
    "feature-extraction": "AutoModel",
}
"""Task → the class of Transformers that loads its models."""

ENCODER_DECODER = "AutoModelForSeq2SeqLM"
"""The class for text generation with an encoder-decoder model."""

UNBOUNDED = 1 << 20
"""Context, in tokens, of a model that states no limit."""

_loading = threading.RLock()


class Parts(NamedTuple):
    """A loaded model, in evaluation mode, and its tokenizer."""

    model: Any
    tokenizer: Any


def check_runnable(expert: Expert) -> None:
    """Check that the runtime has a pipeline for an expert's task.

    Raises:
        TaskError: it has none.
    """
    if expert.task not in MODEL_CLASSES:
        raise TaskError(
            f"expert {expert.name!r}: the runtime does not know the task {expert.task!r}; it runs "
            f"{', '.join(MODEL_CLASSES)}. Pass a callable for it in experts={{...}}."
        )


def locate(
    library: Library, expert: Expert, *, download: bool, consent: Consent = NO_CONSENT
) -> Path:
    """Return the local folder of an expert's model; fetches it only if `download` is set.

    Raises:
        ModelNotFoundError: the folder does not exist or holds no model, or the Hub model is not
            in the local cache.
        ConsentError: a file names the folder, and the operator did not allow it.
    """
    path = library.model_path(expert)
    if isinstance(path, Path):
        consent.check_folder(expert, path)
        folder = path
    else:
        folder = _hub_folder(expert, path, download)
    if not folder.is_dir():
        raise ModelNotFoundError(
            f"expert {expert.name!r}: model folder {str(folder)!r} does not exist; "
            "correct 'model' in the library, or put the model there"
        )
    if not (folder / "config.json").is_file():
        raise ModelNotFoundError(
            f"expert {expert.name!r}: {str(folder)!r} holds no config.json, so it is not a model "
            "folder; save the model there with save_pretrained"
        )
    if not any(folder.glob("*.safetensors")):
        raise ModelNotFoundError(
            f"expert {expert.name!r}: {str(folder)!r} holds no .safetensors weights; other formats "
            "can run code when loaded and are refused. Save the model with save_pretrained."
        )
    if (shards := missing_shards(folder)) is not None:
        raise ModelNotFoundError(
            f"expert {expert.name!r}: {str(folder)!r} holds {shards} files of its weights; fetch "
            "or copy the rest"
        )
    return folder


def _hub_folder(expert: Expert, model_id: str, download: bool) -> Path:
    """Return the folder of a Hub model in the local cache, complete."""
    version = f" at revision {expert.revision}" if expert.revision else ""
    model = f"expert {expert.name!r}: model {model_id!r}{version}"
    try:
        folder = cached_snapshot(model_id, expert.revision)
        if folder is not None and is_complete(folder):
            return folder
        if download:
            return fetch_snapshot(model_id, expert.revision)
    except ImportError as error:
        raise missing_extra("hf", f"running expert {expert.name!r}") from error
    except HubIdError as error:
        raise ModelNotFoundError(
            f"expert {expert.name!r}: {model_id!r} is neither a folder nor a Hub id: {error}"
        ) from error
    except HubGatedError as error:
        raise GatedModelError(
            f"{model} is gated: its weights are given only to accounts that accepted its terms. "
            f"Accept them at https://huggingface.co/{model_id} and set HF_TOKEN to a token of that "
            "account."
        ) from error
    except HubError as error:
        raise ModelNotFoundError(f"{model} could not be fetched: {error}") from error
    raise ModelNotFoundError(
        f"{model} ({_size_text(expert)}) is neither a folder nor whole in the local cache; "
        "fetch it with download=True (--download)"
    )


def _size_text(expert: Expert) -> str:
    if expert.parameters is None:
        return "size not known to the library"
    return f"about {expert.parameters * 2 / 1e9:.2g} GB for {expert.parameters:,} parameters"


def model_class(expert: Expert, folder: Path) -> str:
    """Return the name of the class of Transformers that loads an expert's model."""
    if expert.task == TEXT_GENERATION:
        try:
            config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        except (ValueError, RecursionError):
            config = {}
        if isinstance(config, dict) and config.get("is_encoder_decoder"):
            return ENCODER_DECODER
    return MODEL_CLASSES[expert.task]


def load_parts(expert: Expert, folder: Path, *, device: str, dtype: str) -> Parts:
    """Load model and tokenizer from a folder: safetensors only, no code from the folder.

    Raises:
        ExpertError: the files do not make a working model for the task; says why.
        MissingExtraError: torch or transformers is not installed.
    """
    try:
        import torch  # noqa: F401 - without it, Transformers imports but fails later, less clearly
        import transformers
        from safetensors import SafetensorError
    except ImportError as error:
        raise missing_extra("hf", f"running expert {expert.name!r}") from error
    local = {"trust_remote_code": False, "local_files_only": True}
    loader = getattr(transformers, model_class(expert, folder))
    try:
        with quiet():
            tokenizer = transformers.AutoTokenizer.from_pretrained(str(folder), **local)
            model, info = loader.from_pretrained(
                str(folder), use_safetensors=True, dtype=dtype, output_loading_info=True, **local
            )
            if expert.task != "feature-extraction":
                # Feature extraction does not use the pooler, which may be missing.
                _check_no_missing(expert, folder, info)
            return Parts(model.eval().to(device), tokenizer)
    except (OSError, ValueError, RuntimeError, KeyError, ImportError, SafetensorError) as error:
        if isinstance(error, ExpertError):
            raise
        reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        if "out of memory" in reason.lower() or "can't allocate memory" in reason.lower():
            raise MemoryError(reason) from error
        raise ExpertError(
            f"expert {expert.name!r}: {str(folder)!r} could not be loaded for {expert.task}: "
            f"{reason}"
        ) from error


def resolve_device(device: str) -> str:
    """Return a device by name; ``"auto"`` is CUDA if available, else Apple's MPS, else the CPU."""
    if device != "auto":
        return device
    try:
        import torch
    except ImportError as error:
        raise missing_extra("hf", "running local models") from error
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _check_no_missing(expert: Expert, folder: Path, info: Any) -> None:
    """Raise if weights lack a tensor, which Transformers would fill with random numbers."""
    missing = sorted(info["missing_keys"])
    if missing:
        names = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        raise ExpertError(
            f"expert {expert.name!r}: the weights in {str(folder)!r} lack {len(missing)} tensors "
            f"that {expert.task} needs ({names}); use a checkpoint trained for this task"
        )


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Suppress Transformers' messages and progress bars while one model is loaded or saved."""
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars
    from transformers.utils import logging

    with _loading:
        verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
        no_hub_bars = are_progress_bars_disabled()
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        try:
            yield
        finally:
            logging.set_verbosity(verbosity)
            if bars:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    logging.enable_progress_bar()
                if no_hub_bars:
                    disable_progress_bars()


def context_length(expert: Expert, model: Any, tokenizer: Any) -> int:
    """Return the longest input in tokens: the smallest limit stated anywhere."""
    limits = [UNBOUNDED]
    if expert.context_length:
        limits.append(expert.context_length)
    # Tokenizers without a limit state an astronomically large one.
    limits.append(int(min(tokenizer.model_max_length, UNBOUNDED)))
    max_positions = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if max_positions:
        limits.append(int(max_positions))
    for name, module in model.named_modules():
        # RoBERTa-like models count positions from after the padding index.
        if (
            name.endswith("position_embeddings")
            and getattr(module, "padding_idx", None) is not None
        ):
            limits.append(int(module.num_embeddings) - int(module.padding_idx) - 1)
    return min(limits)
