"""Connections to one address: pools of httpcore whose every byte is bounded, proxies included."""

from __future__ import annotations

import functools
import ssl
import urllib.request
from typing import TYPE_CHECKING, Any

from tryage.consent import LOCAL_HOSTS
from tryage.runtime.deadlines import AsyncBoundedBackend, BoundedBackend

if TYPE_CHECKING:
    import httpcore
    import httpx


_MOST_CONNECTIONS = 100
_MOST_IDLE = 20
_IDLE_SECONDS = 5.0


def web_address(url: str) -> tuple[httpx.URL, httpcore.URL]:
    """Return an address as both libraries read it.

    Raises:
        httpx.InvalidURL: it is none.
    """
    import httpcore
    import httpx

    read = httpx.URL(url)
    target = httpcore.URL(
        scheme=read.raw_scheme, host=read.raw_host, port=read.port, target=read.raw_path
    )
    return read, target


def blocking_pool(url: httpx.URL) -> httpcore.ConnectionPool:
    """Return a pool for blocking requests to an address."""
    import httpcore

    options = _options(url, BoundedBackend(httpcore.SyncBackend()))
    proxy = _proxy(url)
    if proxy is None:
        return httpcore.ConnectionPool(**options)
    if proxy.url.scheme.startswith("socks"):
        return httpcore.SOCKSProxy(**_through(proxy), **options)
    return httpcore.HTTPProxy(**_through(proxy), **options)


def async_pool(url: httpx.URL) -> httpcore.AsyncConnectionPool:
    """Return a pool for requests of one event loop to an address."""
    import httpcore

    options = _options(url, AsyncBoundedBackend(httpcore.AnyIOBackend()))
    proxy = _proxy(url)
    if proxy is None:
        return httpcore.AsyncConnectionPool(**options)
    if proxy.url.scheme.startswith("socks"):
        return httpcore.AsyncSOCKSProxy(**_through(proxy), **options)
    return httpcore.AsyncHTTPProxy(**_through(proxy), **options)


def _options(url: httpx.URL, backend: Any) -> dict[str, Any]:
    return {
        "ssl_context": _ssl_context() if url.scheme == "https" else None,
        "max_connections": _MOST_CONNECTIONS,
        "max_keepalive_connections": _MOST_IDLE,
        "keepalive_expiry": _IDLE_SECONDS,
        "network_backend": backend,
    }


def _through(proxy: httpx.Proxy) -> dict[str, Any]:
    address = str(proxy.url)
    return {"proxy_url": address, "proxy_auth": proxy.raw_auth}


def _proxy(url: httpx.URL) -> httpx.Proxy | None:
    """Return the proxy that the environment names for an address, if any."""
    import httpx

    # No proxy stands between a machine and itself.
    if url.host in LOCAL_HOSTS or urllib.request.proxy_bypass(url.host):
        return None
    proxies = urllib.request.getproxies()
    address = proxies.get(url.scheme) or proxies.get("all")
    if not address:
        return None
    return httpx.Proxy(address if "://" in address else f"http://{address}")


@functools.cache
def _ssl_context() -> ssl.SSLContext:
    # Reading the certificates takes longer than a call; all pools share them.
    import httpx

    return httpx.create_ssl_context()
