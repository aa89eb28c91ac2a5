"""Jobs are taken and noted in one step, in the way every other kombu understands."""

from __future__ import annotations

import gc
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
import redis
from celery import Celery
from celery.contrib.testing.worker import start_worker
from kombu import Exchange, Queue

from sandbox.ports import HOST
from sandbox.processes import poll_until
from sandbox.proxy import FaultProxy
from sandbox.redis_server import RedisServer
from tests.integration.celery_support.transport_rig import (
    OURS,
    QUEUE,
    STOCKS,
    Taker,
    connection_to,
    item,
    publish,
    records,
    sweep,
    taken_at,
)
from tests.stage import redis_client
from worker.celery_support.thread_pool import SafeThreadPool

ODD = 'a "quoted" näme/with\\slashes \u2028 \x7f'
BODIES: dict[str, Any] = {
    "plain": {"a": [1, 2.5, None, True]},
    "unicode": {"ä": "\u2028 \U0001f600 \x00"},
    "quotes and slashes": 'say "it" \\" \\/ </script>',
    "long": "x" * 50_000,
}


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis_client(redis_url) as client:
        yield client


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """A Redis that this test may break."""
    with RedisServer() as server:
        yield server


def waits(taker: Taker, push: Callable[[], Any]) -> None:
    """The job lies there before anybody looks."""
    push()
    taker.look()


def is_listened_for(taker: Taker, push: Callable[[], Any]) -> None:
    """Somebody listens when it comes."""
    taker.look()
    push()
    taker.look()


def without_its_way(message: Any) -> Any:
    """Return a message without what its sender says of where it went."""
    del message["properties"]["delivery_info"]
    return message


WAYS = pytest.mark.parametrize("way", [waits, is_listened_for])


# --- the record


@WAYS
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_the_record_of_a_job_is_the_one_kombu_writes_but_for_the_way_it_came(
    redis_url: str, client: redis.Redis, body: Any, way: Callable[..., None]
) -> None:
    queue = Queue(QUEUE, Exchange(ODD, type="direct"), routing_key=ODD)
    publish(redis_url, body, queue=queue, headers={"odd": ODD})
    raw: Any = client.lindex(QUEUE, -1)
    with Taker(redis_url, queue, transport=STOCKS) as stocks:
        stocks.look()
        expected = records(client)
        stocks.die()
    client.delete("unacked", "unacked_index")

    with Taker(redis_url, queue) as ours:
        way(ours, lambda: client.lpush(QUEUE, raw))

        ((message, *way_back),) = records(client).values()
        ((expected_message, *_),) = expected.values()
        assert without_its_way(message) == without_its_way(expected_message)
        assert way_back == ["", QUEUE]
        assert set(taken_at(client)) == set(records(client))
        assert time.time() - taken_at(client).popitem()[1] < 60
        ours.die()


@WAYS
def test_a_job_under_the_tag_of_another_takes_nothing_from_it(
    redis_url: str, client: redis.Redis, way: Callable[..., None]
) -> None:
    with Taker(redis_url) as taker:
        for body in ("e30=", "W10="):
            same = item(tag="a-tag", body=body)
            way(taker, lambda same=same: client.lpush(QUEUE, same))
        taker.got[0].ack()
        taker.look()

        ((message, *_),) = records(client).values()
        assert message["body"] == "W10="


@WAYS
def test_a_job_goes_back_to_the_queue_it_came_from_whatever_its_sender_says(
    redis_url: str, client: redis.Redis, way: Callable[..., None]
) -> None:
    client.sadd("_kombu.binding.evil", "key\x06\x16\x06\x16elsewhere")  # as any app may
    lie = item(delivery_info={"exchange": "evil", "routing_key": "key"})

    with Taker(redis_url) as taker:
        way(taker, lambda: client.lpush(QUEUE, lie))
        told = [message.delivery_info for message in taker.got]
        taker.die()
    sweep(redis_url)

    assert told == [{"exchange": "", "routing_key": QUEUE}]
    assert (client.llen(QUEUE), client.llen("elsewhere")) == (1, 0)


def test_kombu_puts_back_what_we_took_whole_and_says_that_it_comes_again(
    redis_url: str, client: redis.Redis
) -> None:
    queue = Queue(QUEUE, Exchange(ODD, type="direct"), routing_key=ODD)
    publish(redis_url, BODIES, queue=queue)
    was = json.loads(client.lindex(QUEUE, -1) or "")
    with Taker(redis_url, queue) as ours:
        ours.look()
        ours.die()

    sweep(redis_url, STOCKS)

    came_back = json.loads(client.lindex(QUEUE, -1) or "")
    assert came_back["headers"].pop("redelivered") is True
    assert came_back["properties"]["delivery_info"].pop("redelivered") is True
    assert came_back == was
    assert (records(client), taken_at(client)) == ({}, {})


def test_a_job_that_is_done_leaves_nothing(redis_url: str, client: redis.Redis) -> None:
    publish(redis_url, "job")
    with Taker(redis_url) as taker:
        taker.look()
        taker.got[0].ack()

        assert client.keys("unacked*") == []


@pytest.mark.parametrize("end", ["ack", "reject", "requeue"])
def test_a_job_that_ends_while_redis_is_away_leaves_its_slot_free(
    own_redis: RedisServer, end: str
) -> None:
    publish(own_redis.url(), "first")
    with Taker(own_redis.url(), slots=1) as taker:
        taker.look()
        own_redis.stop()
        with pytest.raises(redis.ConnectionError):
            getattr(taker.got[0], end)()

        assert taker.channel.qos.can_consume()


def test_a_job_that_ends_after_redis_was_restarted_leaves_nothing(own_redis: RedisServer) -> None:
    publish(own_redis.url(), "job")
    with Taker(own_redis.url()) as taker, redis_client(own_redis.url()) as client:
        taker.look()
        own_redis.restart(keep_data=True)
        taker.got[0].ack()

        assert client.keys("unacked*") == []


@pytest.mark.parametrize("end", ["close", "requeue"])
def test_a_job_given_back_is_the_next_in_its_queue(
    redis_url: str, client: redis.Redis, end: str
) -> None:
    publish(redis_url, "first", "second")
    with Taker(redis_url, slots=1) as taker:
        taker.look()
        if end == "requeue":
            taker.got[0].requeue()
            taker.die()

    assert records(client) == {}
    with Taker(redis_url) as other:
        assert sorted(other.look()) == ["first", "second"]


# --- nothing is lost


def test_a_job_whose_taking_was_answered_to_nobody_comes_back(own_redis: RedisServer) -> None:
    url = own_redis.url()
    publish(url, "needle")
    with FaultProxy(HOST, own_redis.port) as proxy, redis_client(url) as client:
        raw: Any = client.lindex(QUEUE, -1)
        tag = json.loads(raw)["properties"]["delivery_tag"]
        lost = proxy.drop_next_reply(tag.encode())
        with Taker(f"redis://{HOST}:{proxy.port}/0") as taker:
            with pytest.raises(redis.ConnectionError):
                taker.look()
            taker.die()

        assert lost.is_set()
        assert (client.llen(QUEUE), len(records(client))) == (0, 1)

    sweep(url)
    with Taker(url) as other:
        assert other.look() == ["needle"]


def full_of_noise(client: redis.Redis) -> None:
    client.set("unacked", "noise")  # no hash: no job can be noted


def read_only(client: redis.Redis) -> None:
    client.replicaof(HOST, 1)


@pytest.mark.parametrize(
    ("refuse", "says"), [(read_only, "is a replica"), (full_of_noise, "WRONGTYPE")]
)
def test_what_a_redis_that_refuses_writes_holds_is_served_once_afterwards(
    own_redis: RedisServer, refuse: Callable[[redis.Redis], None], says: str
) -> None:
    jobs = [f"job {number}" for number in range(5)]
    publish(own_redis.url(), *jobs)
    done: list[str] = []

    def serve(message: Any) -> None:
        done.append(message.payload)
        message.ack()

    with (
        redis_client(own_redis.url()) as client,
        Taker(own_redis.url(), on_message=serve) as taker,
    ):
        refuse(client)
        for _ in range(3):
            with pytest.raises(redis.ResponseError, match=says):
                taker.look()
        assert (client.llen(QUEUE), done) == (5, [])

        client.replicaof("NO", "ONE")
        client.delete("unacked")
        taker.look()
        sweep(own_redis.url())
        taker.look()

        assert done == jobs
        assert client.keys("unacked*") == []


def test_a_job_that_came_while_we_listened_is_done_although_it_cannot_be_noted(
    own_redis: RedisServer,
) -> None:
    with (
        redis_client(own_redis.url()) as client,
        Taker(own_redis.url(), slots=2, polling_interval=3) as taker,
    ):
        taker.look()
        assert client.info("clients")["blocked_clients"] == 1, "it should be listening"
        full_of_noise(client)
        publish(own_redis.url(), "needle")

        assert taker.look() == ["needle"]  # it is in no queue any more, nor in any record
        client.delete("unacked")
        taker.got[0].ack()
        publish(own_redis.url(), "next")
        assert taker.look() == ["needle", "next"]


def test_a_queue_that_has_filled_its_redis_can_be_emptied(own_redis: RedisServer) -> None:
    jobs = [f"job {number}" for number in range(5)]
    publish(own_redis.url(), *jobs)
    with redis_client(own_redis.url()) as client, Taker(own_redis.url(), slots=5) as taker:
        client.config_set("maxmemory", "1")
        with pytest.raises(redis.OutOfMemoryError):
            client.rpush(QUEUE, "one more")

        taker.channel._brpop_start()  # what a worker does each time it is about to wait
        assert [message.payload for message in taker.got] == jobs
        for message in taker.got:
            message.ack()
        assert client.keys("unacked*") == []


def test_a_redis_that_forgot_its_scripts_is_told_them_again(
    redis_url: str, client: redis.Redis
) -> None:
    publish(redis_url, "before")
    with Taker(redis_url) as taker:
        taker.look()
        client.script_flush()
        publish(redis_url, "after")

        assert taker.look() == ["before", "after"]


# --- how many, and whose turn


def test_no_more_jobs_are_taken_than_there_are_free_slots(
    redis_url: str, client: redis.Redis
) -> None:
    publish(redis_url, *range(10))
    with Taker(redis_url, slots=3) as taker:
        assert taker.look() == [0, 1, 2]
        taker.channel._brpop_start()  # asked without need, it takes none either
        assert (client.llen(QUEUE), len(records(client))) == (7, 3)

        taker.got[1].ack()
        assert taker.look() == [0, 1, 2, 3]
        taker.channel.basic_qos(0, 5, False)  # as for jobs that wait for their time
        assert taker.look() == [0, 1, 2, 3, 4, 5]


def test_without_a_limit_all_jobs_are_taken_in_their_order(redis_url: str) -> None:
    publish(redis_url, *range(120))

    with Taker(redis_url) as taker:
        assert taker.look() == list(range(120))


def test_a_flood_in_one_queue_holds_up_no_other(redis_url: str) -> None:
    publish(redis_url, *["flood"] * 50, queue="flooded")
    publish(redis_url, *["calm"] * 4, queue="quiet")

    with Taker(redis_url, "flooded", "quiet", slots=8) as taker:
        assert Counter(taker.look()) == {"flood": 4, "calm": 4}


def test_queues_take_turns_also_when_there_is_one_slot(redis_url: str) -> None:
    for queue in ("a", "b", "c"):
        publish(redis_url, *[queue] * 5, queue=queue)

    with Taker(redis_url, "a", "b", "c", slots=1) as taker:
        for _ in range(6):
            taker.look()
            taker.got[-1].ack()

        assert Counter(message.payload for message in taker.got[:6]) == {"a": 2, "b": 2, "c": 2}


def test_a_job_with_a_priority_belongs_to_its_queue(redis_url: str) -> None:
    with connection_to(redis_url, STOCKS, priority_steps=[0, 5]) as connection:
        connection.Producer().publish("urgent", routing_key=QUEUE, priority=7)

    with Taker(redis_url, priority_steps=[0, 5]) as taker:
        assert taker.look() == ["urgent"]


# --- beside stock kombu


@WAYS
def test_a_stock_producer_is_heard_and_a_stock_worker_does_what_we_left(
    redis_url: str, way: Callable[..., None]
) -> None:
    stock = Celery("stock", broker=redis_url, set_as_current=False)
    stock.conf.update(
        broker_transport_options=connection_to(redis_url).transport_options,
        worker_enable_remote_control=False,
        worker_hijack_root_logger=False,
        task_default_queue=QUEUE,
    )
    done: list[str] = []

    @stock.task(name="stock.job", shared=False)
    def job(name: str) -> None:
        done.append(name)

    with Taker(redis_url) as ours:
        way(ours, lambda: stock.send_task("stock.job", args=["näme"]))
        assert [message.headers["task"] for message in ours.got] == ["stock.job"]
        ours.die()

    sweep(redis_url, STOCKS)
    with start_worker(
        stock,
        pool=SafeThreadPool,  # type: ignore[arg-type]
        concurrency=1,
        perform_ping_check=False,
        shutdown_timeout=60,
    ):
        poll_until(lambda: done, 30, what="the job to be done by the other")

    assert done == ["näme"]
    stock.close()


# --- connections


@pytest.mark.filterwarnings("ignore::celery.exceptions.CPendingDeprecationWarning")
def test_reconnecting_leaves_no_connections_behind(redis_url: str, client: redis.Redis) -> None:
    def connections() -> int:
        return sum(1 for known in client.client_list() if known["name"] == "leaks")

    app = Celery("leaks", broker=redis_url, set_as_current=False)
    app.conf.update(
        broker_transport=OURS,
        broker_transport_options=connection_to(redis_url, client_name="leaks").transport_options,
        worker_enable_remote_control=False,
        worker_hijack_root_logger=False,
        task_acks_late=True,
        task_ignore_result=True,
        task_default_queue=QUEUE,
        broker_pool_limit=1,
    )
    done: list[int] = []

    @app.task(name="leaks.job", shared=False)
    def job(number: int) -> None:
        time.sleep(0.2)  # so that some end when their connection is gone
        done.append(number)

    def serve(numbers: range) -> None:
        for number in numbers:
            app.send_task("leaks.job", args=[number])
        poll_until(lambda: set(numbers) <= set(done), 60, what="the jobs to be done")

    with start_worker(
        app,
        pool=SafeThreadPool,  # type: ignore[arg-type]
        concurrency=4,
        perform_ping_check=False,
        shutdown_timeout=60,
    ):
        serve(range(20))
        before = connections()
        for round_ in range(1, 6):
            for number in range(4):
                with suppress(redis.ConnectionError):
                    app.send_task("leaks.job", args=[1000 * round_ + number])
            time.sleep(0.1)
            client.client_kill_filter(_type="normal", skipme=True)
            serve(range(100 * round_, 100 * round_ + 8))

        # One per thread that acknowledges, and those of the consumer itself.
        poll_until(lambda: connections() <= before + 4, 10, what="old connections to be closed")
    app.close()
    gc.collect()
