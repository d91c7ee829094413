"""The Hugging Face Hub: metadata of models, and downloads of their files.

Nothing else in the core talks to the Hub. `huggingface_hub` (extra `hf`) is imported on use.
"""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
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


class HubMissingError(HubError):
    """The Hub has no such repository or revision, or shows it to other accounts only."""


class HubUnreachableError(HubError):
    """The Hub is switched off here, does not answer, or is too busy to."""


class HubOfflineError(HubUnreachableError):
    """The Hub is switched off here."""


@dataclass(frozen=True)
class HubListing:
    """What a repository of the Hub holds at one commit.

    Attributes:
        commit: its hash.
        private: whether only some accounts see it.
        files: name → bytes; None where the Hub does not say.
    """

    commit: str
    private: bool
    files: Mapping[str, int | None]


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
        with hub_errors(timeout=timeout):
            return hub_api().model_info(
                model_id, revision=revision, timeout=timeout, securityStatus=True
            )
    except ImportError as error:
        raise missing_extra("hf", f"reading {model_id!r} from the Hub") from error
    except HubIdError as error:
        raise LibraryError(f"{model_id!r} is neither a folder nor a Hub id: {error}") from error
    except HubError as error:
        raise LibraryError(f"{model_id}: {error}") from error


def hub_api(token: str | None = None) -> Any:
    """Return a client of the Hub; without a token, the one that the user logged in with counts.

    Raises:
        ImportError: huggingface_hub is not installed.
    """
    from huggingface_hub import HfApi

    # huggingface_hub reads HF_ENDPOINT when imported; a later value counts as well.
    return HfApi(endpoint=os.environ.get("HF_ENDPOINT"), token=token)


def list_files(
    repo_id: str, revision: str | None = None, *, token: str | None = None
) -> HubListing:
    """Return what a repository holds now.

    Raises:
        HubError: the Hub cannot be reached, refuses, or answers with something else.
        ImportError: huggingface_hub is not installed.
    """
    with hub_errors(token, TIMEOUT):
        info = hub_api(token).model_info(
            repo_id, revision=revision, timeout=TIMEOUT, files_metadata=True
        )
        files = {file.rfilename: file.size for file in info.siblings or ()}
        return HubListing(str(info.sha), bool(info.private), files)


def cached_file(repo_id: str, name: str, revision: str | None = None) -> Path | None:
    """Return a file of a repository in the local cache; None if it is not there.

    Raises:
        HubIdError: `repo_id` cannot be the id of a repository.
        ImportError: huggingface_hub is not installed.
    """
    from huggingface_hub import try_to_load_from_cache

    with hub_errors():
        path = try_to_load_from_cache(repo_id, name, revision=revision)
        return Path(path) if isinstance(path, str) else None


def fetch_file(
    repo_id: str, name: str, revision: str, *, token: str | None = None, anew: bool = False
) -> Path:
    """Return a file of a repository in the local cache, after fetching it if it is not there.

    Args:
        repo_id: of the repository.
        name: of the file.
        revision: a commit, whose cached file needs no network; or a branch or tag.
        token: by default the one that the user logged in with.
        anew: fetch it even where it is cached.

    Raises:
        HubError: the Hub cannot be reached, or refuses; or the file cannot be written.
        ImportError: huggingface_hub is not installed.
    """
    from huggingface_hub import hf_hub_download

    with hub_errors(token):
        path = hf_hub_download(
            repo_id,
            name,
            revision=revision,
            token=token,
            endpoint=os.environ.get("HF_ENDPOINT"),
            force_download=anew,
        )
        return Path(path)


_FAULTS = (AttributeError, KeyError, OSError, RuntimeError, TypeError, ValueError)
"""Exceptions of huggingface_hub, those for answers that it cannot read among them."""


@contextlib.contextmanager
def hub_errors(token: str | None = None, timeout: float | None = None) -> Iterator[None]:
    """Turn what huggingface_hub raises into a `HubError`.

    Args:
        token: masked in the message; the causes, which may repeat it, are not shown then.
        timeout: seconds that the Hub had, for the message; None where they are not known.
    """
    from huggingface_hub.errors import HfHubHTTPError

    # Versions of huggingface_hub differ in the HTTP library that their errors come from.
    base = next(b for b in HfHubHTTPError.__mro__ if b.__name__ in ("HTTPError", "HTTPStatusError"))
    client = importlib.import_module(base.__module__.partition(".")[0])
    try:
        yield
    except (*_FAULTS, client.HTTPError) as error:
        reason = _reason(error, client, timeout)
        text = str(reason) if token is None else str(reason).replace(token, "***")
        # The causes hold what the server sent, which may repeat the token.
        raise type(reason)(text) from (mask_error(error) if token is None else None)


def _reason(error: BaseException, client: Any, timeout: float | None) -> HubError:
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
    )

    if isinstance(error, HFValidationError):
        return HubIdError(_first_line(error))
    if isinstance(error, LocalEntryNotFoundError | RuntimeError) and error.__cause__ is not None:
        return _reason(error.__cause__, client, timeout)
    if isinstance(error, OfflineModeIsEnabled | LocalEntryNotFoundError):
        return HubOfflineError("HF_HUB_OFFLINE is set; unset it to ask the Hub")
    if isinstance(error, GatedRepoError):
        return HubGatedError("it is gated: only accounts that accepted its terms get its files")
    if isinstance(error, HfHubHTTPError):
        kinds = {401: HubMissingError, 403: HubMissingError, 404: HubMissingError}
        status = error.response.status_code
        busy = status == TOO_MANY_REQUESTS or status >= 500
        return kinds.get(status, HubUnreachableError if busy else HubError)(_refusal(error))
    if isinstance(error, client.TimeoutException):
        limit = "in time" if timeout is None else f"within {timeout:g} s"
        return HubUnreachableError(f"the Hub did not answer {limit}")
    if isinstance(error, client.HTTPError):
        return HubUnreachableError(f"the Hub cannot be reached: {_first_line(error)}")
    if isinstance(error, OSError | RuntimeError):
        return HubError(_first_line(error))
    return HubError(f"the Hub's answer cannot be read: {hide_secrets(repr(error))}")


def _refusal(error: Any) -> str:
    status = error.response.status_code
    if status in (401, 403):
        return (
            f"the Hub refused (status {status}): the model is private, gated or not there; check "
            "its name, or log in with `hf auth login` and accept its terms"
        )
    if status == 404:
        return "the Hub has no such model or revision (status 404); check its name"
    if status == 412:
        return "the Hub refused (status 412): somebody else changed the repository meanwhile"
    if status == TOO_MANY_REQUESTS:
        seconds = retry_after(error.response.headers)
        when = f"in {seconds:.0f} s" if seconds else "later"
        return f"the Hub has had too many requests (status 429); try again {when}"
    return f"the Hub answered with status {status}; try again later"


def _first_line(error: BaseException) -> str:
    return hide_secrets((str(error).strip() or type(error).__name__).splitlines()[0])
