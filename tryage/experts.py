"""Experts, which are callable models with attributes, and the names of tasks."""

from __future__ import annotations

import datetime
import re
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    field_validator,
)

from tryage.folders import Origin
from tryage.masking import hide_secrets
from tryage.units import parse_count

TEXT_GENERATION = "text-generation"
FILL_MASK = "fill-mask"

MASK = "[MASK]"
"""The neutral mask, for experts of any mask token: a prompt that holds it asks for fill-mask."""

_VARIABLE = re.compile("[A-Za-z_][A-Za-z0-9_]*")
_NOT_IN_ADDRESSES = re.compile(r"[\x00-\x20\x7f\\<>\"^`{|}]")
_KEY = re.compile(
    r"(?=\w*\d)(?:(?:sk|pk|rk|gsk|hf|r8|nvapi|gh[opsur]|github_pat)_\w{16,}|AIza\w{20,}"
    r"|[a-f][0-9a-f]{31,})"
)
"""Keys of well-known services that have the form of a variable's name."""


def task_of_prompt(prompt: str) -> str:
    """Return the task of a prompt for which no task is named."""
    return FILL_MASK if MASK in prompt else TEXT_GENERATION


def _number(value: Any) -> Any:
    # Python takes true for 1.
    if isinstance(value, bool):
        raise ValueError("a number is expected, not true or false")
    return value


def _count(value: Any) -> Any:
    return parse_count(value) if isinstance(value, str) else _number(value)


Count = Annotated[int, BeforeValidator(_count), Field(gt=0)]
"""A positive whole number; in files also `7.2B`, `32K`."""


Amount = Annotated[float, Field(ge=0, allow_inf_nan=False), BeforeValidator(_number)]
"""A finite number, at least 0."""


Ratio = Annotated[float, Field(gt=0, allow_inf_nan=False), BeforeValidator(_number)]
"""A finite number above 0."""


class _Record(BaseModel):
    # An address, or a key in place of its variable's name, may be secret.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Price(_Record):
    """Price of an expert's tokens.

    Attributes:
        input: price of `per` tokens read.
        output: price of `per` tokens written.
        cached_input: price of `per` tokens that the vendor reads from its prompt cache; None where
            it is not stated.
        per: number of tokens the prices are for.
        currency: USD.
    """

    input: Amount
    output: Amount
    cached_input: Amount | None = None
    per: Count = 1_000_000
    currency: Literal["USD"] = "USD"


class Security(_Record):
    """Attributes of an expert that bear on safety; None if unknown.

    Attributes:
        safetensors: whether its weights exist as safetensors.
        pickle: whether its repository also holds pickle files.
        remote_code: whether it needs code from its repository.
        location: where it runs: ``local``, ``on-premises``, a region.
        vendor: its publisher.
        scan: result of the Hub's scan of its files: ``clean`` or ``flagged``.
    """

    safetensors: bool | None = None
    pickle: bool | None = None
    remote_code: bool | None = None
    location: str | None = None
    vendor: str | None = None
    scan: Literal["clean", "flagged"] | None = None


class Endpoint(_Record):
    """A served model: its address, its name there, and the variable that holds its key."""

    url: str
    model: str | None = None
    key_env: str | None = None

    @field_validator("url")
    @classmethod
    def _without_secrets(cls, url: str) -> str:
        try:
            parts = urlsplit(url)
            whole = parts.scheme in ("http", "https") and bool(parts.hostname)
            whole = whole and not _NOT_IN_ADDRESSES.search(url)
        except ValueError:  # its text repeats a part of the address
            whole = False
        if not whole:
            raise ValueError("not an http(s) address")
        more = parts.query or parts.fragment or ";" in url or "@" in parts.netloc
        if more or hide_secrets(parts.path) != parts.path:
            raise ValueError(
                "holds a user name, a password, a query, a fragment, a parameter or a key, which "
                "may be secret; name the environment variable that holds the key in key_env"
            )
        return url

    @field_validator("key_env")
    @classmethod
    def _a_name_of_a_variable(cls, name: str | None) -> str | None:
        if name is not None and (not _VARIABLE.fullmatch(name) or _KEY.fullmatch(name)):
            raise ValueError(
                "not the name of an environment variable; put the key itself into one, and its "
                "name here"
            )
        return name


class Expert(_Record):
    """One callable model with its attributes.

    Attributes:
        name: unique in its library; decisions use it.
        model: Hub id, folder relative to the library file, or identifier of a hosted model.
        task: a Transformers pipeline task.
        parameters: number of parameters.
        released: date of release.
        license: SPDX identifier, lower case as on the Hub.
        context_length: limit of prompt and answer together, in tokens.
        chars_per_token: characters of English in one token of its tokenizer, 4 where unknown;
            lengths in other scripts change in proportion.
        languages: ISO 639-1 codes.
        revision: commit to which the model is pinned.
        gated: whether its terms must be accepted before it can be fetched.
    """

    name: str = Field(min_length=1)
    model: str = Field(min_length=1)
    task: str = TEXT_GENERATION
    endpoint: Endpoint | None = None
    parameters: Count | None = None
    released: datetime.date | None = None
    license: str | None = None
    context_length: Count | None = None
    chars_per_token: Ratio | None = None
    languages: tuple[str, ...] | None = None
    tools: bool | None = None
    modalities: tuple[str, ...] | None = None
    security: Security = Security()
    price: Price | None = None
    revision: str | None = None
    gated: bool | None = None

    @field_validator("name", "model", "license", "revision")
    @classmethod
    def _holds_no_secret(cls, text: str | None) -> str | None:
        # A library is saved with its router, and shown in decisions.
        if text is not None and "://" in text and hide_secrets(text) != text:
            raise ValueError("holds an address with a password, a query or a key in it; leave it")
        return text

    _origin: Origin | None = PrivateAttr(default=None)

    @property
    def origin(self) -> Origin | None:
        """The file it was read from; None for an expert that code built."""
        return self._origin

    def read_from(self, origin: Origin) -> Expert:
        """Return the expert as read from a file, which is not part of its value."""
        copy = self.model_copy()
        copy._origin = origin
        return copy

    def __eq__(self, other: object) -> bool:
        """Compare attributes; where experts were read from does not count."""
        return type(other) is type(self) and self.__dict__ == other.__dict__
