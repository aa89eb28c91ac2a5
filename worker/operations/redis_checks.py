"""What `doctor` checks of each Redis: that of the answers, and the broker where it is one."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, Final

import redis

from worker.errors import ConfigurationError
from worker.operations import dependencies, redis_rights
from worker.operations.checks import Check, Hint
from worker.operations.redis_facts import NEARLY_FULL, memory_used_share
from worker.settings.model import Settings
from worker.settings.validators import is_redis
from worker.storage.redis_client import check_writes, connect_redis

_OLDEST: Final = (6, 2)


def checks(settings: Settings) -> Iterator[tuple[str, Check]]:
    """Yield the checks by name."""
    for name, url in _urls(settings).items():
        yield name, partial(_state, settings, name, url)
        yield f"{name} rights", partial(_rights, url)


def _urls(settings: Settings) -> dict[str, str]:
    """Return the URLs by the settings that say them."""
    broker = settings.broker_url.get_secret_value()
    found = {"CELERY_BROKER_URL": broker} if is_redis(broker) else {}
    if settings.redis_url is not None:
        found["REDIS_URL"] = settings.redis_url.get_secret_value()
    return found


def _state(settings: Settings, name: str, url: str) -> str:
    about: dict[str, Any] = {}

    def ask(client: redis.Redis, settings: Settings) -> None:
        if name == "CELERY_BROKER_URL":
            dependencies.check_broker(client, settings)
        about.update(_about(client))
        if about.get("role", "master") == "master":
            check_writes(client)

    dependencies.check_redis(name, url, settings, ask)
    version = str(about.get("redis_version", "?"))
    if about.get("role", "master") != "master":
        raise ConfigurationError(f"{name} names a replica, which takes no writes: name its master")
    if _numbers(version) < _OLDEST:
        raise ConfigurationError(f"{name} names a Redis {version}: it must be 6.2 or newer")
    if (share := memory_used_share(about)) > NEARLY_FULL:
        raise Hint(
            f"{share:.0%} of its memory (maxmemory) is used. Once it is full it takes no writes, "
            "and no app is answered: give it more, or look at what fills it"
        )
    return f"Redis {version}, master"


def _about(client: redis.Redis) -> dict[str, Any]:
    sections: list[Any] = [client.info(name) for name in ("server", "replication", "memory")]
    return {name: value for section in sections for name, value in section.items()}


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())


def _rights(url: str) -> str:
    client = connect_redis(url)
    try:
        refused = redis_rights.refused(client)
    finally:
        client.close()
    if refused:
        raise ConfigurationError(
            f"our user may not use {', '.join(refused)}: give it the rights that "
            "docs/operations.md names for session-worker"
        )
    return "our user may use every command we need"
