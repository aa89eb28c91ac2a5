"""The way out of a network that lets no connection out but those of its proxy.

What goes by https is tunnelled (CONNECT), so that the proxy sees no more of it than the host; what
goes by http it is handed as it is.
"""

from __future__ import annotations

import ssl
from typing import Final
from urllib.parse import unquote, urlsplit

import httpcore

REFUSED: Final = 407  # RFC 9110 section 15.5.8: it wants to know who we are, or knows better


def proxy_at(
    url: str, backend: httpcore.NetworkBackend, context: ssl.SSLContext, keep_idle_seconds: float
) -> httpcore.HTTPProxy:
    """Return what makes connections by way of *url*, which may hold a user and a password."""
    parts = urlsplit(url)
    user = None
    if parts.username is not None:
        user = unquote(parts.username).encode(), unquote(parts.password or "").encode()
    place = parts.netloc.rpartition("@")[2]
    return httpcore.HTTPProxy(
        f"{parts.scheme}://{place}",
        proxy_auth=user,
        ssl_context=context,
        proxy_ssl_context=context if parts.scheme == "https" else None,
        keepalive_expiry=keep_idle_seconds,
        network_backend=backend,
    )


def cause_of(failure: httpcore.ProxyError) -> str:
    """Say what the proxy answered; its words may be anything."""
    status = str(failure).partition(" ")[0]
    return f"the proxy refuses with {status}"
