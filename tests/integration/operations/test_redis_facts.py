"""Each Redis is told by the setting that names it: whether it takes writes, and how full it is."""

from __future__ import annotations

from dataclasses import replace

import pytest
import redis

from sandbox.redis_server import RedisServer
from tests.integration.operations.doctor_rig import elsewhere
from tests.stage import Stage, redis_client
from worker import wiring
from worker.operations.redis_facts import RedisFacts, facts

GOOD = RedisFacts("CELERY_BROKER_URL", takes_writes=True, memory_used_share=0.0)


def test_one_redis_for_all_is_told_once(sqlite_stage: Stage) -> None:
    assert facts(sqlite_stage.services) == [GOOD]


def test_one_of_caches_is_told_apart_and_may_be_full_where_it_makes_room(
    sqlite_stage: Stage,
) -> None:
    with (
        RedisServer(maxmemory_policy="allkeys-lru") as caches,
        redis_client(caches.url()) as admin,
        elsewhere(sqlite_stage, redis_url=caches.url()),
    ):
        admin.config_set("maxmemory", "10mb")
        making_room = facts(wiring.current())
        admin.config_set("maxmemory-policy", "noeviction")
        broker, kept = facts(wiring.current())
        admin.config_set("maxmemory", 1)
        _, full = facts(wiring.current())

    assert making_room == [GOOD, replace(GOOD, setting="REDIS_URL")]
    assert broker == GOOD
    assert 0 < kept.memory_used_share < 1
    assert (full.setting, full.takes_writes) == ("REDIS_URL", False)


def test_beside_a_broker_that_is_no_redis_the_other_one_is_told(sqlite_stage: Stage) -> None:
    beside_rabbitmq = replace(sqlite_stage.services, broker=None)

    assert facts(beside_rabbitmq) == [replace(GOOD, setting="REDIS_URL")]


def test_of_one_that_is_away_nothing_is_made_up(sqlite_stage: Stage) -> None:
    with RedisServer() as gone, elsewhere(sqlite_stage, broker_url=gone.url()):
        gone.stop()
        with pytest.raises(redis.ConnectionError):
            facts(wiring.current())
