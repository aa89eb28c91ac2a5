"""In a worker's event loop, what is done is settled by the script that takes what comes next."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import redis
from kombu.asynchronous.hub import Hub

from sandbox.ports import HOST
from sandbox.redis_server import RedisServer
from tests.integration.celery_support.transport_rig import Taker, publish, records, taken_at
from tests.stage import redis_client


class Loop:
    """The event loop of a worker, a turn at a time."""

    def __init__(self, taker: Taker) -> None:
        self.taker = taker
        self._hub = Hub()
        self._loop: Any = self._hub.create_loop()
        taker.connection.register_with_event_loop(self._hub)

    def turn(self, *jobs_end: Callable[[], Any]) -> list[Any]:
        """Let jobs end as they do on a thread of the pool, and the loop go round once."""
        told = threading.Thread(target=self._tell, args=[jobs_end or [lambda: None]])
        told.start()
        told.join()
        try:
            next(self._loop)
        except redis.RedisError:  # as a worker does, which connects anew besides
            self._loop = self._hub.create_loop()
            raise
        return [message.payload for message in self.taker.got]

    def _tell(self, jobs_end: list[Callable[[], Any]]) -> None:
        for end in jobs_end:
            self._hub.call_soon(end)

    def close(self) -> None:
        self._hub.close()


@contextmanager
def looping(url: str, **options: Any) -> Iterator[Loop]:
    with Taker(url, **options) as taker:
        loop = Loop(taker)
        try:
            yield loop
        finally:
            loop.close()


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """A Redis that this test may break."""
    with RedisServer() as server:
        yield server


@pytest.fixture
def client(own_redis: RedisServer) -> Iterator[redis.Redis]:
    with redis_client(own_redis.url()) as client:
        yield client


def scripts_run(client: redis.Redis) -> int:
    calls: Any = client.info("commandstats")
    return int(calls.get("cmdstat_evalsha", {}).get("calls", 0))


def test_jobs_that_end_and_jobs_that_are_taken_share_one_trip(
    own_redis: RedisServer, client: redis.Redis
) -> None:
    publish(own_redis.url(), *range(5))
    with looping(own_redis.url(), slots=2) as loop:
        assert loop.turn() == [0, 1]
        before = scripts_run(client)

        assert loop.turn(*[message.ack for message in loop.taker.got]) == [0, 1, 2, 3]

        assert scripts_run(client) == before + 1
        tags = {message.delivery_tag for message in loop.taker.got[2:]}
        assert set(records(client)) == set(taken_at(client)) == tags


def test_a_job_that_ends_while_the_loop_listens_is_settled_before_it_waits_again(
    own_redis: RedisServer, client: redis.Redis
) -> None:
    publish(own_redis.url(), "job")
    with looping(own_redis.url(), slots=2, polling_interval=30) as loop:
        assert loop.turn() == ["job"]
        assert loop.taker.channel._in_poll  # so it takes nothing in the next turn

        loop.turn(loop.taker.got[0].ack)

        assert client.keys("unacked*") == []
        # Closing would wait for the end of BRPOP.
        client.client_kill_filter(_type="normal", skipme=True)


def test_what_redis_refused_to_settle_is_settled_later(
    own_redis: RedisServer, client: redis.Redis
) -> None:
    publish(own_redis.url(), "first", "second")
    with looping(own_redis.url(), slots=1) as loop:
        loop.turn()
        client.replicaof(HOST, 1)
        with pytest.raises(redis.ResponseError, match="replica"):
            loop.turn(loop.taker.got[0].ack)
        assert len(records(client)) == 1

        client.replicaof("NO", "ONE")
        assert loop.turn() == ["first", "second"]

        assert set(records(client)) == {loop.taker.got[1].delivery_tag}


def test_what_is_done_when_the_connection_is_lost_is_settled_by_closing(
    own_redis: RedisServer, client: redis.Redis
) -> None:
    publish(own_redis.url(), "done", "under way")
    with looping(own_redis.url(), slots=2) as loop:
        loop.turn()
        done, _under_way = loop.taker.got
        done.ack()
        assert done.delivery_tag in records(client)  # for the next turn, which does not come

    assert records(client) == {}
    assert client.llen("jobs") == 1  # only what was under way is given back


def test_closing_while_redis_is_away_is_no_error_however_often(own_redis: RedisServer) -> None:
    publish(own_redis.url(), "done")
    with looping(own_redis.url(), slots=1) as loop:
        loop.turn()
        loop.taker.got[0].ack()
        own_redis.stop()

        loop.taker.channel.close()
        loop.taker.channel.close()

        assert loop.taker.channel.closed


def test_a_job_that_ends_when_nothing_is_taken_any_more_is_settled_at_once(
    own_redis: RedisServer, client: redis.Redis
) -> None:
    publish(own_redis.url(), "stopped", "closed")
    with looping(own_redis.url(), slots=2) as loop:
        loop.turn()
        stopped, closed = loop.taker.got
        loop.taker._consumer.cancel()
        stopped.ack()
        assert set(records(client)) == {closed.delivery_tag}
        loop.taker.channel.close()
        closed.ack()

        assert client.keys("unacked*") == []
