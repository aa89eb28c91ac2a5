"""A Redis that was master and is a replica by now, and other reasons why one cannot be used.

After a failover its name leads to the new master, but connections that stay open lead to the old
one, which reads, refuses to write, and never hangs up. redis-py keeps them for ever.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from typing import Any, Final

import redis
from redis.backoff import NoBackoff
from redis.connection import AbstractConnection
from redis.retry import Retry

from session_client import sentinels

REDIS_TIMEOUT_SECONDS: Final = 2.0

_PROBE: Final = "mosaic-sessions:takes-writes"
_FULL: Final = (
    "it is full (maxmemory). Give it more memory, or look at what fills it: which queue waits "
    "(mosaic-sessions status), and what else is kept there"
)
_REPLICA: Final = "it is a replica. Name its master, or wait until a failover has ended"
_NO_DISK: Final = "it cannot save to its disk: is that full? (redis-cli INFO persistence)"
_TOO_FEW_REPLICAS: Final = "too few replicas follow it (min-replicas-to-write): are they up?"
_COMMAND: Final = re.compile(r"permissions to run the '([a-z0-9|_-]{1,40})' command")


class ForeignKey(redis.ResponseError):
    """A key of ours holds what another program has written. The message says which key."""


def cause_of(error: redis.RedisError) -> str:
    """Say why Redis cannot be used, for an operator: with the command it refuses, the certificate.

    Redis' own words stay out otherwise: they may quote what was sent.
    """
    if isinstance(error, ForeignKey):
        return str(error)
    detail = _refused_right(error) or next(_details(error), None)
    return f"{type(error).__name__}: {detail}" if detail else type(error).__name__


def refused_command(error: redis.RedisError) -> str | None:
    """Return the command that our user may not use; None when the error is about anything else."""
    found = _COMMAND.search(str(error))
    return found[1] if found else None


def _refused_right(error: redis.RedisError) -> str | None:
    if not isinstance(error, redis.exceptions.NoPermissionError):
        return None
    command = refused_command(error)
    return f"our user may not use {f'the command {command}' if command else 'one of our keys'}"


def _details(error: BaseException | None) -> Iterator[str]:
    """Go down to what the system says: redis-py puts an error of its own around it."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            yield f"its certificate is not accepted, {error.verify_message}"
        elif isinstance(error, ssl.SSLError):
            yield f"TLS fails, {error.reason}"
        elif "handshake operation timed out" in str(error):
            yield "it does not answer in TLS, perhaps this port has none"
        elif isinstance(error, OSError) and error.strerror:
            yield error.strerror
        error = error.__cause__ or error.__context__


def check_writes(client: redis.Redis) -> None:
    """Raise `redis.RedisError` where Redis reads, and takes no writes.

    By a write: what would refuse it is told nowhere as one. Without a word of it workers that live
    would count as dead, since they cannot write that they live.
    """
    client.set(_PROBE, "", px=1000)


def why_no_writes(error: redis.RedisError) -> str | None:
    """Say why Redis takes no writes, and what to do; None when the error is about anything else."""
    said = str(error)
    for is_it, words in (
        (isinstance(error, redis.exceptions.OutOfMemoryError), _FULL),
        ("READONLY" in said or isinstance(error, redis.exceptions.ReadOnlyError), _REPLICA),
        ("MISCONF" in said, _NO_DISK),
        ("NOREPLICAS" in said, _TOO_FEW_REPLICAS),
    ):
        if is_it:
            return words
    return None


def value_and_age(client: redis.Redis, key: str, kept_seconds: float) -> tuple[bytes, float] | None:
    """Return what *key* holds, and how many seconds ago it was set, to be kept for *kept_seconds*.

    By Redis' clock alone: it does not matter whose machine wrote it. None where there is nothing,
    or something that never ends, which is not ours. Raises `redis.RedisError`.
    """
    with client.pipeline(transaction=False) as pipeline:
        pipeline.get(key)
        pipeline.pttl(key)
        answers: Any = pipeline.execute()
    value, milliseconds_left = answers
    if value is None or milliseconds_left < 0:
        return None
    return value, kept_seconds - milliseconds_left / 1000


def is_cluster(client: redis.Redis) -> bool:
    """Whether it is a Redis Cluster: keys of one script may then lie on different servers.

    Raises `redis.RedisError`.
    """
    try:
        section: Any = client.info("cluster")
    except redis.exceptions.NoPermissionError:
        return False  # Redis does not say, and few clusters hide it
    except redis.ResponseError as error:
        if "cluster mode" in str(error):
            return True  # it has one database only, and the URL names another
        raise
    return bool(section.get("cluster_enabled"))


def is_from_a_replica(answer: object) -> bool:
    """Whether Redis refused as one that is no master, by itself or in the middle of a script."""
    if isinstance(answer, redis.exceptions.ReadOnlyError | redis.exceptions.MasterDownError):
        return True
    return isinstance(answer, redis.ResponseError) and "READONLY" in str(answer)


class MasterClient(redis.Redis):
    """Connects anew once what it is connected to is no master any more."""

    def parse_response(
        self, connection: AbstractConnection, command_name: Any, **options: Any
    ) -> Any:
        """Read an answer."""
        try:
            return super().parse_response(connection, command_name, **options)  # type: ignore[no-untyped-call]
        except redis.ResponseError as error:
            if is_from_a_replica(error):
                connection.disconnect()
                self.connection_pool.disconnect(inuse_connections=False)
            raise


def connect_redis(url: str, timeout_seconds: float = REDIS_TIMEOUT_SECONDS) -> redis.Redis:
    """Return a Redis client that fails within seconds instead of hanging."""
    # redis-py refuses the option where there is no network in between.
    keepalive = {} if url.startswith("unix://") else {"socket_keepalive": True}
    client = MasterClient.from_url(
        url,
        **keepalive,
        socket_timeout=timeout_seconds,
        socket_connect_timeout=timeout_seconds,
        health_check_interval=15,
        # A push that is tried again by itself would answer twice.
        retry=Retry(NoBackoff(), 0),
    )
    sentinels.follow(client.connection_pool)
    return client
