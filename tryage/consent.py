"""Consent of the operator: which key may go to which host.

A library file or a router folder may come from somebody else. It names an address and the
environment variable whose value is sent there; that value goes out only where the operator allowed
this pair. Experts that the operator's own code builds carry that consent with them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from tryage.errors import ConsentError, OptionError
from tryage.experts import Expert
from tryage.folders import Folders, absolute

VARIABLE = "TRYAGE_KEYS"
"""Environment variable with pairs HOST=VARIABLE that are always allowed, separated by commas."""

LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")
"""This machine; a key may go there over http, too."""

Keys = Mapping[str, str | Sequence[str]] | Iterable[str]
"""Host → variable or variables; or texts HOST=VARIABLE."""

_PORTS = {"http": 80, "https": 443}
_NAME = re.compile("[A-Za-z_][A-Za-z0-9_]*")
_HOST = re.compile(r"[\w.:%-]+")


@dataclass(frozen=True, slots=True)
class Address:
    """Where a request goes.

    Attributes:
        scheme: ``http`` or ``https``.
        host: name or IP address, in lower case.
        port: number.
    """

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, scheme: str, host: str, port: int | None) -> Self:
        """Return an address; without a port, with that of its scheme."""
        return cls(scheme, host.lower().rstrip("."), port or _PORTS.get(scheme, 0))

    @classmethod
    def of_url(cls, url: str) -> Self:
        """Return the address of a URL.

        Raises:
            ValueError: it holds no host, or no number as its port.
        """
        parts = urlsplit(url)
        if not parts.hostname:
            raise ValueError(f"no host in {url!r}")
        return cls.of(parts.scheme.lower(), parts.hostname, parts.port)

    @property
    def url(self) -> str:
        """The address as a URL."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    def __str__(self) -> str:
        """Return the shortest text that allows this address."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        text = host if self.port == _PORTS.get(self.scheme) else f"{host}:{self.port}"
        plain = self.scheme == "https" or self.host in LOCAL_HOSTS
        # Without a scheme a port that is not given is that of https.
        if plain and (self.scheme == "https" or text != host):
            return text
        return f"{self.scheme}://{text}"


@dataclass(frozen=True, slots=True)
class Consent:
    """What the operator allows to libraries and routers that others may have written.

    Attributes:
        keys: pairs of an address and the environment variable whose value may go there.
        folders: folders whose models may be used; see `tryage.folders`.
    """

    keys: frozenset[tuple[Address, str]] = frozenset()
    folders: tuple[Path, ...] = ()

    @classmethod
    def of(cls, keys: Keys = (), folders: Folders = ()) -> Self:
        """Return the consent given in code, with that of ``TRYAGE_KEYS``.

        Raises:
            OptionError: a pair is not HOST=VARIABLE.
        """
        listed = [pair for pair in re.split(r"[,\s]+", os.environ.get(VARIABLE, "")) if pair]
        pairs = {pair for text in (*_texts(keys), *listed) for pair in _pairs(text)}
        return cls(frozenset(pairs), absolute(folders))

    def check_key(self, expert: Expert, address: Address | None = None) -> None:
        """Check that an expert's key may go to its endpoint.

        Args:
            expert: one with an endpoint.
            address: where a request really goes; by default what the endpoint's URL says.

        Raises:
            ConsentError: the operator did not allow this pair of host and variable.
        """
        if expert.origin is None or expert.endpoint is None or expert.endpoint.key_env is None:
            return
        variable = expert.endpoint.key_env
        try:
            address = address or Address.of_url(expert.endpoint.url)
        except ValueError:
            raise ConsentError(
                f"expert {expert.name!r}: the url of its endpoint is not a web address, so no key "
                "goes there; correct it in the library"
            ) from None
        if (address, variable) not in self.keys:
            raise ConsentError(
                f"expert {expert.name!r}: {expert.origin.source} asks to send the value of the "
                f"environment variable {variable} to {address}. A key goes only where you allow "
                f"it: keys={{{str(address)!r}: {variable!r}}} in Python, --allow-key "
                f"{address}={variable} on the command line, or {VARIABLE}={address}={variable} "
                "in the environment"
            )

    def check_folder(self, expert: Expert, folder: Path) -> None:
        """Check that the model folder of an expert may be used.

        Raises:
            ConsentError: the file that names it lies elsewhere, and the operator did not allow it.
        """
        if expert.origin is not None:
            expert.origin.check(folder, f"expert {expert.name!r}", self.folders)


NO_CONSENT = Consent()
"""Allows nothing that a file asks for."""


def _texts(keys: Keys) -> list[str]:
    if isinstance(keys, str):
        return [keys]
    if not isinstance(keys, Mapping):
        return list(keys)
    texts = []
    for host, variables in keys.items():
        several = [variables] if isinstance(variables, str) else variables
        texts += [f"{host}={variable}" for variable in several]
    return texts


def _pairs(text: str) -> list[tuple[Address, str]]:
    """Read HOST=VARIABLE; on this machine a host without a scheme is both http and https."""
    place, _, variable = text.strip().rpartition("=")
    try:
        if not _NAME.fullmatch(variable):
            raise ValueError(variable)
        address = Address.of_url(place if "://" in place else f"https://{place}")
        if not _HOST.fullmatch(address.host):  # there are no wildcards
            raise ValueError(place)
        if address.scheme not in _PORTS or urlsplit(f"//{place.rpartition('//')[2]}").path:
            raise ValueError(place)
    except ValueError:
        # The text is not repeated: somebody may have written a key in place of its variable.
        raise OptionError(
            "a key is allowed as HOST=VARIABLE, such as api.example.com=EXAMPLE_KEY or "
            "127.0.0.1:8000=EXAMPLE_KEY, without wildcards; found something else"
        ) from None
    if "://" not in place and address.host in LOCAL_HOSTS:
        unencrypted = Address.of("http", address.host, urlsplit(f"//{place}").port)
        return [(address, variable), (unencrypted, variable)]
    return [(address, variable)]
