"""Connections to one Redis, made from its URL, with any version of redis-py."""

from __future__ import annotations

# What a first connection imports: redis-py to learn its own version, `getaddrinfo` to read a name.
# A process that forks meanwhile would leave the child the lock of that import, which nobody opens:
# its own first call would hang for ever.
import email.parser  # noqa: F401
import encodings.idna  # noqa: F401
from typing import TYPE_CHECKING, Any

from redis.backoff import NoBackoff
from redis.connection import ConnectionPool, SSLConnection, UnixDomainSocketConnection
from redis.retry import Retry

from session_client import sentinels

if TYPE_CHECKING:
    from redis.asyncio.connection import AbstractConnection as AsyncConnection
    from redis.connection import AbstractConnection


class Place:
    """A Redis, and how it is connected to: no pool, no retries, answers as bytes."""

    def __init__(self, url: str, client_name: str) -> None:
        self._url = url
        self._client_name = client_name
        # redis-py's pools count the connections they made and refuse the 101st, also when the
        # earlier ones are long closed. So one is used only to understand the URL.
        self._class, self._options = self._understood(ConnectionPool, SSLConnection, Retry)

    def connection(self) -> AbstractConnection:
        """Return a connection that is not connected yet."""
        connection: AbstractConnection = self._class(**self._options)
        return connection

    def for_asyncio(self) -> AsyncConnection:
        """Return likewise one for asyncio."""
        from redis.asyncio import connection as asyncio  # noqa: PLC0415 - only where it is used
        from redis.asyncio.retry import Retry as AsyncRetry  # noqa: PLC0415

        made, options = self._understood(asyncio.ConnectionPool, asyncio.SSLConnection, AsyncRetry)
        connection: AsyncConnection = made(**options)
        return connection

    def _understood(self, pool: Any, tls: Any, retry: Any) -> tuple[Any, dict[str, Any]]:
        found = sentinels.follow(pool.from_url(self._url, **sentinels.RESP2))
        options = {
            name: value
            for name, value in found.connection_kwargs.items()
            if "maint_notifications" not in name  # of RESP3 alone
        }
        options.setdefault("client_name", self._client_name)
        options |= {
            "retry": retry(NoBackoff(), 0),
            "retry_on_timeout": False,
            "health_check_interval": 0,
            "decode_responses": False,
            **sentinels.RESP2,
        }
        if issubclass(found.connection_class, tls):
            # Before 6.0 a certificate of any host would do.
            wants_none = options.get("ssl_cert_reqs") in {"none", "CERT_NONE"}
            options.setdefault("ssl_check_hostname", not wants_none)
        if (
            not issubclass(found.connection_class, UnixDomainSocketConnection)
            and "path" not in options
        ):
            options["socket_keepalive"] = True  # refused where there is no network in between
        return found.connection_class, options
