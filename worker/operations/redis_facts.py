"""What each Redis says of itself: whether it takes writes, and how full it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import redis

from worker.storage.redis_client import check_writes, why_no_writes
from worker.wiring import Services

NEARLY_FULL: Final = 0.8  # of its memory; as docs/alerts.yml says
_KEEPS_ALL: Final = "noeviction"


@dataclass(frozen=True, slots=True)
class RedisFacts:
    """One Redis, by the setting that names it."""

    setting: str
    takes_writes: bool
    memory_used_share: float


def facts(services: Services) -> list[RedisFacts]:
    """Ask each Redis. Raises `redis.RedisError` where one cannot be asked."""
    return [
        RedisFacts(setting, _takes_writes(client), memory_used_share(_info(client)))
        for setting, client in _clients(services).items()
    ]


def memory_used_share(about: Mapping[str, Any]) -> float:
    """Return how much of its memory is in use, of what `INFO` says; 0 where it has no limit."""
    if about.get("maxmemory_policy", _KEEPS_ALL) != _KEEPS_ALL:
        return 0.0  # one of caches, which is always nearly full and makes room by itself
    most = about.get("maxmemory", 0)  # 0: as much as there is
    return about.get("used_memory", 0) / most if most else 0.0


def _clients(services: Services) -> dict[str, redis.Redis]:
    if services.broker is None:
        return {"REDIS_URL": services.redis}
    found = {"CELERY_BROKER_URL": services.broker}
    return found if services.settings.redis_url is None else {**found, "REDIS_URL": services.redis}


def _takes_writes(client: redis.Redis) -> bool:
    try:
        check_writes(client)
    except redis.RedisError as error:
        if why_no_writes(error) is None:
            raise
        return False
    return True


def _info(client: redis.Redis) -> dict[str, Any]:
    section: Any = client.info("memory")
    return dict(section)
