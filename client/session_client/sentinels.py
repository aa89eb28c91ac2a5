"""Redis behind Sentinel: each new connection asks the sentinels where the master is.

``redis://:password@<name of the master>/0?sentinels=host:26379,host:26379`` says so, of TLS with
``rediss://`` likewise; ``sentinel_password`` is for sentinels that want one. After a failover new
connections lead to the new master. A caller gives up those that lead to the
old one when it finds it read-only, as behind any name that moves.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import redis
from redis.asyncio.connection import AbstractConnection as AsyncConnection
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

OPTIONS: Final = ("sentinels", "sentinel_password")
_PLACE: Final = re.compile(r"(?P<host>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:]+\]):(?P<port>[0-9]{1,5})")
# Of our own connection's options, those that hold for a sentinel as well.
_SHARED: Final = ("ssl", "socket_timeout", "socket_connect_timeout")
# What keeps redis-py from RESP3; 4.x knows neither it nor the option.
RESP2: Final = {} if redis.__version__.startswith("4.") else {"protocol": 2}


def places(text: str) -> list[tuple[str, int]]:
    """Return the sentinels that *text* names, ``host:port,host:port``. Raises ValueError."""
    found = [_PLACE.fullmatch(place.strip()) for place in text.split(",")]
    if not all(found):
        raise ValueError("sentinels: needs host:port,host:port")
    return [(one["host"].strip("[]"), int(one["port"])) for one in found if one is not None]


def split(url: str) -> tuple[str, dict[str, str]]:
    """Return *url* without what it says of sentinels, and that: kombu takes it apart from it."""
    parts = urlsplit(url)
    parameters = parse_qsl(parts.query, keep_blank_values=True)
    options = {name: value for name, value in parameters if name in OPTIONS}
    if not options:
        return url, {}
    rest = urlencode([(name, value) for name, value in parameters if name not in OPTIONS])
    return urlunsplit(parts._replace(query=rest)), options


def follow(pool: Any) -> Any:
    """Let the connections of *pool* ask, if its options name sentinels. Return it."""
    if "sentinels" in pool.connection_kwargs:
        pool.connection_class = _by_name(pool.connection_class)
    return pool


@cache
def _by_name(kind: type[Any]) -> type[Any]:
    base = _AsyncByName if issubclass(kind, AsyncConnection) else _ByName
    return type("ByName", (base, kind), {"kind": kind})


class _Named:
    """Takes its host for the name of a master."""

    kind: type[Any]
    retry_kind: type[Any]
    host: str
    port: int

    def __init__(
        self, *, sentinels: str, sentinel_password: str | None = None, **options: Any
    ) -> None:
        super().__init__(**options)
        self._name = self.host
        self._sentinels = places(sentinels)
        shared = {name: value for name, value in options.items() if name.startswith(_SHARED)}
        self._asking = shared | {"password": sentinel_password, **RESP2}

    def _each(self) -> Iterator[Any]:
        for host, port in self._sentinels:
            # Not asked again: the next one may know.
            retry = self.retry_kind(NoBackoff(), 0)
            yield self.kind(host=host, port=port, retry=retry, **self._asking)

    @property
    def _question(self) -> tuple[str, ...]:
        return "SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._name

    def _take(self, found: Any) -> bool:
        if not found:
            return False
        self.host, self.port = bytes(found[0]).decode(), int(found[1])
        return True


_NOBODY_KNOWS: Final = "no sentinel says where the master is"


class _ByName(_Named):
    retry_kind = Retry

    def _connect(self) -> Any:
        """Connect to where the first sentinel that knows says the master is."""
        for sentinel in self._each():
            found = None
            with suppress(redis.RedisError, OSError):
                sentinel.send_command(*self._question)
                found = sentinel.read_response()
            sentinel.disconnect()
            if self._take(found):
                return super()._connect()  # type: ignore[misc]
        raise redis.ConnectionError(_NOBODY_KNOWS)


class _AsyncByName(_Named):
    retry_kind = AsyncRetry

    async def _connect(self) -> None:
        """Connect likewise."""
        for sentinel in self._each():
            found = None
            with suppress(redis.RedisError, OSError):
                await sentinel.send_command(*self._question)
                found = await sentinel.read_response()
            await sentinel.disconnect()
            if self._take(found):
                await super()._connect()  # type: ignore[misc]
                return
        raise redis.ConnectionError(_NOBODY_KNOWS)
