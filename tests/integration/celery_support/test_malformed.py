"""What lies in a queue and is no message is removed, and harms nothing beside it."""

from __future__ import annotations

import base64
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
import redis
from kombu import compression
from kombu.transport import redis as stock
from structlog.testing import capture_logs

from sandbox.processes import poll_until
from session_client import contract
from tests.integration.celery_support.transport_rig import (
    QUEUE,
    Taker,
    item,
    publish,
    records,
    sweep,
    taken_at,
)
from tests.stage import redis_client
from worker.celery_support.malformed import open_no_packed_bodies

CANARY = "canary-5e55-10n-secret"
NO_MESSAGE: dict[str, bytes] = {
    "nothing": b"",
    "no JSON": f"not JSON {CANARY}".encode(),
    "invalid UTF-8": b"\xff\xfe" + CANARY.encode(),
    "a number": b"42",
    "a string": f'"{CANARY}"'.encode(),
    "null": b"null",
    "a list": f'["{CANARY}"]'.encode(),
    "no properties": f'{{"body": "e30=", "headers": {{}}, "a": "{CANARY}"}}'.encode(),
    "properties are a list": b'{"body": "e30=", "properties": [1]}',
    "no delivery_info": item(delivery_info=None),
    "no exchange": item(delivery_info={"routing_key": QUEUE}),
    "no headers": item(headers=None),
    "headers are a list": item(headers=[CANARY]),
    "no way it came": item(delivery_info=[CANARY]),
    "too large": item(more=f', "a": "{CANARY * 100_000}"'),
    "many keys": item(more="".join(f', "{n}": 0' for n in range(400_000))),
    "nested 2,000 deep": b"[" * 2_000 + b"]" * 2_000,
    "a message nested 100,000 deep": item(more=', "a": ' + "[" * 100_000 + "]" * 100_000),
}
# Redis finds a message in them, Python does not.
UNDELIVERABLE: dict[str, bytes] = {
    "body is no base64": item(body="abc"),
    "a number only Lua reads": item(more=', "a": 0x10'),
    "a number of 5,000 digits": item(more=', "a": ' + "1" * 5_000),
    "nested as deep as Lua can": item(more=', "a": ' + "[" * 990 + "]" * 990),
}
HANDED = NO_MESSAGE | UNDELIVERABLE


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis_client(redis_url) as client:
        yield client


def rejections(logs: Any) -> int:
    return sum(entry["event"] == "message_rejected" for entry in logs)


@pytest.mark.parametrize("garbage", HANDED.values(), ids=HANDED)
def test_what_is_no_message_goes_and_the_messages_around_it_are_served(
    redis_url: str, client: redis.Redis, garbage: bytes
) -> None:
    publish(redis_url, "before")
    client.lpush(QUEUE, garbage)
    publish(redis_url, "behind")

    with capture_logs() as logs, Taker(redis_url) as taker:
        assert taker.look() == ["before", "behind"]

        assert len(records(client)) == len(taken_at(client)) == 2
    assert rejections(logs) == 1
    assert CANARY not in repr(logs)


@pytest.mark.parametrize("garbage", HANDED.values(), ids=HANDED)
def test_what_is_no_message_stops_nobody_who_listens(
    redis_url: str, client: redis.Redis, garbage: bytes
) -> None:
    with capture_logs() as logs, Taker(redis_url) as taker:
        taker.look()
        client.lpush(QUEUE, garbage)
        taker.look()
        publish(redis_url, "behind")

        assert taker.look() == ["behind"]
        assert len(records(client)) == len(taken_at(client)) == 1
    assert rejections(logs) <= 1  # Redis takes the empty one for an empty queue
    assert CANARY not in repr(logs)


@pytest.mark.parametrize("garbage", UNDELIVERABLE.values(), ids=UNDELIVERABLE)
def test_what_cannot_be_delivered_does_not_come_back_and_takes_no_slot(
    redis_url: str, client: redis.Redis, garbage: bytes
) -> None:
    client.lpush(QUEUE, *[garbage] * 3)
    with capture_logs() as logs, Taker(redis_url, slots=1) as taker:
        taker.look()
        sweep(redis_url)
        taker.look()
        assert (rejections(logs), client.keys("*")) == (3, [])

        publish(redis_url, "good")
        assert taker.look() == ["good"]


def test_a_message_that_its_consumer_fails_on_does_not_come_back_and_takes_no_slot(
    redis_url: str, client: redis.Redis
) -> None:
    seen: list[str] = []

    def fail(message: Any) -> None:
        seen.append(message.payload)
        raise ValueError(CANARY)

    publish(redis_url, "a", "b", "c")
    with capture_logs() as logs, Taker(redis_url, slots=1, on_message=fail) as taker:
        for _ in range(3):
            taker.look()
        sweep(redis_url)
        taker.look()

        assert seen == ["a", "b", "c"]
        assert client.keys("unacked*") == []
    assert CANARY not in repr(logs)


def test_what_is_too_large_costs_redis_nothing_but_its_removal(
    redis_url: str, client: redis.Redis
) -> None:
    client.lpush(QUEUE, NO_MESSAGE["many keys"])
    client.slowlog_reset()

    with Taker(redis_url) as taker:
        taker.look()

    scripts = [entry for entry in client.slowlog_get() if entry["command"].startswith(b"EVALSHA")]
    # Decoding it takes most of a second, in which Redis serves nobody.
    assert max((entry["duration"] for entry in scripts), default=0) < 300_000


@pytest.mark.parametrize(
    ("queue", "most"),
    [
        (
            contract.Queue.SESSIONS,
            contract.MAX_REGISTER_MESSAGE_BYTES,
        ),  # ID tokens come by this one
        (contract.Queue.LOGOUT, contract.MAX_MESSAGE_BYTES),
        (QUEUE, contract.MAX_MESSAGE_BYTES),
    ],
)
def test_what_is_a_little_smaller_is_a_message_like_any_other(
    redis_url: str, queue: str, most: int
) -> None:
    with redis_client(redis_url) as client, Taker(redis_url, "others", queue, "more") as taker:
        spare = most - len(item(more=', "a": ""'))
        for length in (spare, spare + 1):
            client.lpush(queue, item(more=f', "a": "{"x" * length}"'))
            taker.look()
            client.lpush(queue, item(more=f', "a": "{"x" * length}"'))
            taker.look()

        assert taker.look() == [{}, {}]


@pytest.mark.parametrize("kind", compression.encoders())
def test_a_small_body_that_would_open_to_a_huge_one_is_not_opened(
    redis_url: str, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    bomb, _ = compression.compress(b"0" * 50_000_000, kind)
    kombus: Any = compression
    for known in ("_encoders", "_decoders"):  # what is refused for good in a worker
        monkeypatch.setattr(kombus, known, dict(getattr(kombus, known)))
    open_no_packed_bodies()
    with redis_client(redis_url) as client, Taker(redis_url) as taker:
        body = base64.b64encode(bomb).decode()
        client.lpush(QUEUE, item(body=body, headers={"compression": kind}))
        publish(redis_url, "behind")
        tracemalloc.start()
        got = taker.look()
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()

        assert got == ["behind"]
        assert most < 5_000_000


NO_QUEUES: dict[str, tuple[str, ...]] = {
    "a text": ("SET", QUEUE, CANARY),
    "a set": ("SADD", QUEUE, CANARY),
    "a hash": ("HSET", QUEUE, CANARY, CANARY),
    "a sorted set": ("ZADD", QUEUE, "1", CANARY),
    "a stream": ("XADD", QUEUE, "*", CANARY, CANARY),
}


@pytest.mark.parametrize("planted", NO_QUEUES.values(), ids=NO_QUEUES)
@pytest.mark.parametrize("is_listening", [False, True])
def test_what_lies_in_the_place_of_a_queue_stops_nobody_and_loses_no_job(
    redis_url: str, client: redis.Redis, planted: tuple[str, ...], *, is_listening: bool
) -> None:
    with capture_logs() as logs, Taker(redis_url, "others", QUEUE, "more") as taker:
        if is_listening:
            taker.look()
        client.execute_command(*planted)
        publish(redis_url, "of others", queue="others")
        publish(redis_url, "of more", queue="more")
        with suppress(redis.ResponseError):  # kombu connects anew then, and looks again
            taker.look()
        taker.look()
        publish(redis_url, "behind")

        assert sorted(taker.look()) == ["behind", "of more", "of others"]
        assert len(records(client)) == 3
    assert rejections(logs) == 1
    assert CANARY not in repr(logs)


def test_a_record_of_no_message_is_forgotten_without_a_word_of_it(
    redis_url: str, client: redis.Redis
) -> None:
    for number, message in enumerate(('"%s"', '["%s"]', '{"headers": {}, "properties": "%s"}')):
        client.hset("unacked", str(number), f'[{message % CANARY}, "", "jobs"]')
        client.zadd("unacked_index", {str(number): time.time() - 80})

    with capture_logs() as logs, pytest.MonkeyPatch.context() as patch:
        shouted: list[Any] = []
        patch.setattr(stock, "crit", lambda *args, **_: shouted.append(args))
        sweep(redis_url)

    assert client.keys("unacked*") == []
    assert (rejections(logs), shouted) == (3, [])
    assert CANARY not in repr(logs)


def test_what_is_read_without_acknowledging_leaves_no_record(
    redis_url: str, client: redis.Redis
) -> None:
    publish(redis_url, "reply")
    with Taker(redis_url, no_ack=True) as taker:
        assert taker.look() == ["reply"]

        assert client.keys("unacked*") == []


RECORDS: dict[str, bytes] = {
    name: b"[" + message + b', "", "jobs"]'
    for name, message in UNDELIVERABLE.items()
    if name != "body is no base64"  # that one can be restored, and is rejected then
} | {"no JSON": b"{", "no record": b"42", "too short": b"[{}]"}


@pytest.mark.parametrize("unreadable", RECORDS.values(), ids=RECORDS)
def test_a_record_nobody_can_read_holds_up_no_job_that_is_to_come_back(
    redis_url: str, client: redis.Redis, unreadable: bytes
) -> None:
    publish(redis_url, "left behind")
    with Taker(redis_url) as taker:
        taker.look()
        taker.die()
    client.hset("unacked", "unreadable", unreadable)
    client.zadd("unacked_index", dict.fromkeys(taken_at(client), time.time() - 90))
    client.zadd("unacked_index", {"unreadable": time.time() - 80})

    with capture_logs() as logs, Taker(redis_url, visibility_timeout=60) as taker:
        assert poll_until(taker.look, 10, what="the job to come back") == ["left behind"]

        assert "unreadable" not in taken_at(client)
        assert not client.hexists("unacked", "unreadable")
    assert rejections(logs) == 1
