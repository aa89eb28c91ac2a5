"""Connections to one Redis, made from its URL, with any version of redis-py."""

from __future__ import annotations

# What a first connection imports: redis-py to learn its own version, `getaddrinfo` to read a name.
# A process that forks meanwhile would leave the child the lock of that import, and no thread opens
# it: its own first call would hang for ever.
import email.parser  # noqa: F401
import encodings.idna  # noqa: F401
import re
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, urlencode

from redis.backoff import NoBackoff
from redis.connection import ConnectionPool, SSLConnection, UnixDomainSocketConnection
from redis.retry import Retry

from session_client import sentinels
from session_client.errors import ConfigurationError

if TYPE_CHECKING:
    from redis.asyncio.connection import AbstractConnection as AsyncConnection
    from redis.connection import AbstractConnection

# Those that were renewed meanwhile are read after that.
_CERTIFICATES_LAST_SECONDS: Final = 300.0
_NAME: Final = re.compile(r"[A-Za-z_]{1,40}")


class Place:
    """A Redis, and how it is connected to: no pool, no retries, answers as bytes."""

    def __init__(self, url: str, client_name: str) -> None:
        self._url = url
        self._client_name = client_name
        # redis-py's pools count the connections they made and refuse the 101st, also when the
        # earlier ones are long closed. So one is used only to understand the URL.
        self._class, self._options = self._understood(ConnectionPool, SSLConnection, Retry)
        self._tls: Any = None
        self._tls_is_good_until = 0.0

    @classmethod
    def of(
        cls, argument: str, url: str, client_name: str, make: Callable[[Place], object]
    ) -> Place:
        """Return the Redis at *url*, to which *make* makes connections.

        Raises `ConfigurationError` for an option of which it can make none: at a call, redis-py
        would raise errors of its own.
        """
        try:
            return cls._tried(url, client_name, make)
        except Exception:  # noqa: BLE001 - what redis-py falls over differs by version and option
            name = cls._refused_option(url, client_name, make)
            what = "an option" if name is None else f"the option {name}"
            raise ConfigurationError(
                f"{argument}: {what} is none that redis-py knows here, or has a wrong value"
            ) from None

    @classmethod
    def _tried(cls, url: str, client_name: str, make: Callable[[Place], object]) -> Place:
        place = cls(url, client_name)
        make(place)
        return place

    @classmethod
    def _refused_option(
        cls, url: str, client_name: str, make: Callable[[Place], object]
    ) -> str | None:
        """Return the option for which redis-py refuses *url*, if it may be named."""
        where, _, query = url.partition("?")
        if "@" in query:
            return None  # what looks like an option may be the end of a password
        options = parse_qsl(query)
        of_sentinels = [option for option in options if option[0] in sentinels.OPTIONS]
        for option in options:
            try:
                cls._tried(f"{where}?{urlencode([*of_sentinels, option])}", client_name, make)
            except Exception:  # noqa: BLE001, PERF203
                return option[0] if _NAME.fullmatch(option[0]) else None
        return None

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
        if hasattr(connection, "ssl_context"):
            # One for all of them: to read the certificates takes longer than an event loop may wait
            # for, and redis-py would do it for each connection.
            if time.monotonic() >= self._tls_is_good_until:
                self._tls = connection.ssl_context
                self._tls_is_good_until = time.monotonic() + _CERTIFICATES_LAST_SECONDS
            connection.ssl_context = self._tls
        return connection

    def read_certificates(self) -> None:
        """Do so before an event loop would wait for it; a call tells what is wrong with them."""
        with suppress(Exception):  # whatever OpenSSL, redis-py or the disk says
            tls: Any = getattr(self.for_asyncio(), "ssl_context", None)
            if tls is not None:
                tls.get()

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
