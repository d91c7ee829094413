"""The Hugging Face Hub: metadata of models, and downloads of their files.

Nothing else in the core talks to the Hub. `huggingface_hub` (extra `hf`) is imported on use.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any

from tryage.errors import LibraryError, missing_extra
from tryage.masking import hide_secrets, mask_error
from tryage.retries import TOO_MANY_REQUESTS, retry_after

TIMEOUT = 10.0
"""Seconds that the Hub may take to answer for one model."""

MODEL_FILES = ("*.json", "*.safetensors", "*.txt", "*.model", "*.jinja")
"""Files of a model that are downloaded: weights as safetensors only, no code, no pickles."""


class HubError(Exception):
    """A model could not be fetched; the message is the reason alone, on one line."""


class HubIdError(HubError):
    """Text that cannot be the id of a model."""


class HubGatedError(HubError):
    """The model's terms must be accepted first."""


def cached_snapshot(model_id: str, revision: str | None = None) -> Path | None:
    """Return the folder of a model in the local cache, complete or not; None if it has none.

    Raises:
        HubIdError: `model_id` cannot be the id of a model.
        ImportError: huggingface_hub is not installed.
    """
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return _snapshot(model_id, revision, local_files_only=True)
    except LocalEntryNotFoundError:
        return None
    except HFValidationError as error:
        raise HubIdError(_first_line(error)) from mask_error(error)


def fetch_snapshot(model_id: str, revision: str | None = None) -> Path:
    """Return the folder of a model in the local cache after fetching what it lacks.

    Raises:
        HubIdError: `model_id` cannot be the id of a model.
        HubGatedError: its terms must be accepted first.
        HubError: the Hub cannot be reached, or refuses; or the files cannot be written.
        ImportError: huggingface_hub is not installed.
    """
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, HFValidationError

    try:
        return _snapshot(model_id, revision, local_files_only=False)
    except HFValidationError as error:
        raise HubIdError(_first_line(error)) from mask_error(error)
    except GatedRepoError as error:
        raise HubGatedError(_first_line(error)) from mask_error(error)
    # Where the Hub cannot be reached, LocalEntryNotFoundError: a FileNotFoundError.
    except (HfHubHTTPError, OSError) as error:
        raise HubError(_first_line(error)) from mask_error(error)


def _snapshot(model_id: str, revision: str | None, *, local_files_only: bool) -> Path:
    from huggingface_hub import snapshot_download

    folder = snapshot_download(
        model_id,
        revision=revision,
        allow_patterns=list(MODEL_FILES),
        local_files_only=local_files_only,
    )
    return Path(folder)


def model_info(model_id: str, revision: str | None = None, *, timeout: float = TIMEOUT) -> Any:
    """Return what the Hub says about a model: huggingface_hub's `ModelInfo`.

    Raises:
        LibraryError: the Hub cannot be reached, or refuses; the message names the model and what
            to do.
        MissingExtraError: huggingface_hub is not installed.
    """
    try:
        from huggingface_hub import HfApi
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled
    except ImportError as error:
        raise missing_extra("hf", f"reading {model_id!r} from the Hub") from error
    # Versions of huggingface_hub differ in the HTTP library that their errors come from.
    base = next(b for b in HfHubHTTPError.__mro__ if b.__name__ in ("HTTPError", "HTTPStatusError"))
    client = importlib.import_module(base.__module__.partition(".")[0])
    # huggingface_hub reads HF_ENDPOINT when imported; a later value counts as well.
    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"))
    try:
        return api.model_info(model_id, revision=revision, timeout=timeout, securityStatus=True)
    except HfHubHTTPError as error:
        raise LibraryError(f"{model_id}: {_refusal(error)}") from error
    except OfflineModeIsEnabled as error:
        raise LibraryError(f"{model_id}: HF_HUB_OFFLINE is set; unset it to ask the Hub") from error
    except client.TimeoutException as error:
        raise LibraryError(f"{model_id}: the Hub did not answer within {timeout:g} s") from error
    except client.HTTPError as error:
        raise LibraryError(
            f"{model_id}: the Hub cannot be reached: {_first_line(error)}"
        ) from mask_error(error)
    except HFValidationError as error:
        raise LibraryError(f"{model_id!r} is neither a folder nor a Hub id: {error}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise LibraryError(
            f"{model_id}: the Hub's answer cannot be read: {hide_secrets(repr(error))}"
        ) from mask_error(error)


def _refusal(error: Any) -> str:
    status = error.response.status_code
    if status in (401, 403):
        return (
            f"the Hub refused (status {status}): the model is private, gated or not there; check "
            "its name, or log in with `hf auth login` and accept its terms"
        )
    if status == 404:
        return "the Hub has no such model or revision (status 404); check its name"
    if status == TOO_MANY_REQUESTS:
        seconds = retry_after(error.response.headers)
        when = f"in {seconds:.0f} s" if seconds else "later"
        return f"the Hub has had too many requests (status 429); try again {when}"
    return f"the Hub answered with status {status}; try again later"


def _first_line(error: Exception) -> str:
    return hide_secrets((str(error).strip() or type(error).__name__).splitlines()[0])
