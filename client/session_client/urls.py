"""Where broker and answers are: looked at when a client is made, not at its first call.

A message names the argument and quotes nothing of it: a URL may hold a password.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Final
from urllib.parse import urlsplit

import redis.connection

from session_client import amqps, sentinels
from session_client.errors import ConfigurationError

_REDIS: Final = ("redis", "rediss")
_ANSWERS: Final = (*_REDIS, "unix")
_EXAMPLE: Final = "such as rediss://user:password@host:6379/0"


def check(broker_url: str, reply_url: str | None) -> None:
    """Raise `ConfigurationError` unless both can be used; without *reply_url* the first is both.

    Nothing is connected to.
    """
    _check_broker(broker_url)
    if reply_url:
        check_redis("reply_url", reply_url)
    elif _scheme_of("broker_url", broker_url) not in _REDIS:
        raise ConfigurationError("reply_url: needed, a Redis for answers, as the broker is none")


def check_redis(name: str, url: str) -> None:
    """Raise `ConfigurationError`, which names the argument, unless *url* can be a Redis."""
    if _scheme_of(name, url) not in _ANSWERS:
        raise ConfigurationError(f"{name}: must name a Redis (redis://, rediss:// or unix://)")
    _check_redis(name, url)


def is_redis(broker_url: str) -> bool:
    """Whether the broker is a Redis, which may carry the answers as well."""
    return broker_url.partition("://")[0] in _REDIS


def _check_broker(url: str) -> None:
    scheme = _scheme_of("broker_url", url)
    if scheme in _REDIS:
        _check_redis("broker_url", url)
    elif (kinds := _celerys()) is None:
        raise ConfigurationError(
            f"broker_url: {_EXAMPLE}; a broker that is no Redis needs Celery beside the client, "
            "pip install mosaic-session-client[celery]"
        )
    elif scheme.partition("+")[0] not in kinds:
        raise ConfigurationError(f"broker_url: not a kind of broker that is known; {_EXAMPLE}")
    elif scheme == amqps.SCHEME:
        try:
            amqps.split(url)
        except ValueError as error:
            raise ConfigurationError(f"broker_url: {error}") from None


def _celerys() -> Collection[str] | None:
    """Return the kinds of broker that Celery knows; None without it."""
    try:
        from kombu.transport import TRANSPORT_ALIASES  # noqa: PLC0415 - an extra
    except ImportError:
        return None
    return TRANSPORT_ALIASES


def _scheme_of(name: str, url: object) -> str:
    scheme, found, _ = url.partition("://") if isinstance(url, str) else ("", "", "")
    if not found:
        raise ConfigurationError(f"{name}: must be a URL {_EXAMPLE}")
    return scheme


def _check_redis(name: str, url: str) -> None:
    try:
        redis.connection.parse_url(url)
        parts = urlsplit(url)
        if options := sentinels.split(url)[1]:
            sentinels.places(options.get("sentinels", ""))
    except ValueError:
        raise ConfigurationError(f"{name}: not a valid URL; its port or an option?") from None
    if ";" in url:
        raise ConfigurationError(f"{name}: one URL, not a list; for a failover name what moves")
    # redis-py would take any other path for database 0, and kombu raise at the first call. Two
    # slashes are how URLs of other brokers name the default.
    if parts.scheme in _REDIS and not re.fullmatch(r"/{0,2}[0-9]*", parts.path):
        raise ConfigurationError(f"{name}: the database after the host must be a number")
