"""No message stops a worker (scenario F14)."""

from __future__ import annotations

import bz2
import os
import pickle
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import redis

from sandbox.processes import ManagedProcess, poll_until
from sandbox.redis_server import RedisServer
from sandbox.stack import PREFIX, Stack
from session_client import SessionClient, Status
from tests.faults.messages import b64, raw
from tests.sending import send

CANARY = "canary-5e55-10n-secret"
TASK = "sessions.silent_auth"
REJECTED = '"message_rejected"'


class Bomb:
    """What unpickling must never run."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (os.mkdir, ("/tmp/poison-was-executed",))  # noqa: S108 - must not come to exist


# Celery itself would send it once its message is done with, or has failed.
PURGE = "maintenance.purge_history"
MORE: dict[str, Any] = {
    "task": PURGE,
    "args": [],
    "kwargs": {},
    "options": {"queue": "beyond"},
    "subtask_type": None,
    "immutable": True,
}
AFTERWARDS = ("callbacks", "errbacks", "chain")

# Arguments, named arguments and what is to be sent afterwards, each of every other kind.
GOOD_CONTENT: list[Any] = [[], {}, {}]
KINDS: tuple[Any, ...] = (None, True, 7, CANARY, [CANARY], {CANARY: CANARY})


def content_with(place: int, value: Any) -> list[Any]:
    return [*GOOD_CONTENT[:place], value, *GOOD_CONTENT[place + 1 :]]


POISON: dict[str, bytes] = {
    **{
        f"part {place} of the content is {value!r}": raw(TASK, content=content_with(place, value))
        for place in range(len(GOOD_CONTENT))
        for value in KINDS
    },
    "content is an object": raw(TASK, content={"canary": CANARY}),
    "content is a short list": raw(TASK, content=[CANARY]),
    "content is a number": raw(TASK, content=42),
    "body is no JSON": raw(TASK, body=b64(f"{{{CANARY}".encode())),
    "body is no base64": raw(TASK, body=f"%%%{CANARY}%%%"),
    "no id header": raw(TASK, headers={"lang": "py", "task": TASK, "canary": CANARY}),
    "id is an object": raw(TASK, more_headers={"id": {"a": CANARY}}),
    "no headers": raw(TASK, headers={}),
    "headers are null": raw(TASK, headers=None),
    "unknown task": raw("sessions.no_such_task", {"secret": CANARY}),
    "task is an object": raw(TASK, more_headers={"task": {"a": CANARY}}),
    "pickle": raw(
        TASK, content_type="application/x-python-serialize", body=b64(pickle.dumps(Bomb()))
    ),
    "yaml": raw(TASK, content_type="application/x-yaml", body=b64(CANARY.encode())),
    "bad eta": raw(TASK, more_headers={"eta": f"soon {CANARY}"}),
    "an hour in years": raw(TASK, more_headers={"eta": "2099-01-01T00:00:00+00:00"}),
    "endless retries": raw(TASK, more_headers={"retries": -1_000_000}),
    **{f"{name} in the body": raw(TASK, content=[[], {}, {name: [MORE]}]) for name in AFTERWARDS},
    **{f"{name} in the headers": raw(TASK, more_headers={name: [MORE]}) for name in AFTERWARDS},
    "a task of Celery's": raw("celery.group", content=[[[MORE], "id", [], True], {}, {}]),
    "a task of the worker's own": raw(PURGE),
    "bad expires": raw(TASK, more_headers={"expires": f"soon {CANARY}"}),
    "deep nesting": raw(TASK, body=b64(b"[" * 100_000)),
    "ten megabytes": raw(TASK, {"app_id": "shop", "envelope": CANARY * 400_000}),
    "wrong arguments": raw(TASK, content=[[CANARY, 2], {"app_id": "shop", "envelope": CANARY}, {}]),
    "internal task, wrong arguments": raw("logouts.end_at_idp", content=[[CANARY], {}, {}]),
    "text that a codec opens": raw(
        TASK,
        content_type="application/text",
        content_encoding="bz2",
        body=b64(bz2.compress(CANARY.encode())),
    ),
    "compressed": raw(
        TASK,
        more_headers={"compression": "application/x-gzip"},
        body=b64(zlib.compress(CANARY.encode())),
    ),
}

FORGED = "2026-11-27 06:00:00 [info     ] request_answered"
FORGERY = f"x\n{FORGED}"
# What no app may send; whoever may write to the workers' own queues could.
FORGERIES: dict[str, list[bytes]] = {
    "auth": [
        raw(TASK, more_headers={"id": FORGERY}),
        raw(FORGERY),
        raw(TASK, {"app_id": FORGERY, FORGERY: 1}),
    ],
    **{
        queue: [
            raw(task, content=[[FORGERY], {}, {}]),
            raw(task, {FORGERY: FORGERY}),
            raw(task, content=[["\n" + "0" * 31], {}, {}]),  # which Python takes for a UUID
        ]
        for queue, task in {
            "idp": "logouts.end_at_idp",
            "notify": "notices.deliver",
            "maintenance": "maintenance.sweep",
        }.items()
    },
}

# No queue item at all: none of these gets as far as a consumer. More of them, one by one, in
# tests/integration/celery_support/test_malformed.py.
NO_MESSAGE: dict[str, bytes] = {
    "no JSON": b"\xff\xfe not json " + CANARY.encode(),
    "a number": b"42",
    "a list": b"[1, 2]",
    "empty object": b"{}",
    "no properties": b'{"body": "e30=", "headers": {}}',
    "null": b"null",
    "nested 2,000 deep": b"[" * 2_000 + b"]" * 2_000,
    "body is no base64": raw(TASK, body="abc"),
}


@pytest.fixture
def stack(own_redis: RedisServer) -> Iterator[Stack]:
    """At the log level of production: Celery's debug lines quote what they were sent."""
    with Stack(redis=own_redis) as stack:
        stack.migrate()
        yield stack


def wait_until_all_are_rejected(worker: ManagedProcess) -> None:
    """A good message behind a bad one may well be answered first: it lies in another queue."""
    poll_until(
        lambda: worker.log_text().count(REJECTED) >= len(NO_MESSAGE), 60, what="every rejection"
    )


@contextmanager
def pushing(server: RedisServer) -> Iterator[redis.Redis]:
    client = redis.Redis.from_url(server.url())
    try:
        yield client
    finally:
        client.close()


@pytest.mark.parametrize("pool", ["threads", "processes"])
def test_no_message_stops_a_worker_or_the_good_messages_between(stack: Stack, pool: str) -> None:
    key = stack.add_app("shop")
    worker = stack.worker("-P", pool, "-c", "2")
    pid = worker.pid
    with (
        pushing(stack.redis) as queue,
        SessionClient(broker_url=stack.broker_url, app_id="shop", app_key=key) as client,
    ):
        for item in POISON.values():
            queue.lpush("auth", item)
            # A good one after each: it must be served although the bad one came first.
            answer = client.status(user_id="ada", timeout=60)
            assert answer == ()

        poll_until(
            lambda: queue.llen("auth") == queue.hlen("unacked") == 0,
            60,
            what="every message to be done with",
        )
        assert queue.llen("beyond") == 0

    assert worker.is_alive
    assert worker.pid == pid
    assert CANARY not in worker.log_text()
    assert PURGE not in worker.log_text()


def test_no_message_writes_a_line_into_the_log_that_people_read(stack: Stack) -> None:
    stack.environment[f"{PREFIX}LOG_FORMAT"] = "console"
    stack.add_app("shop")
    worker = stack.worker("-c", "2")
    with pushing(stack.redis) as queue:
        for name, items in FORGERIES.items():
            queue.lpush(name, *items)
        poll_until(
            lambda: not any(queue.llen(name) for name in FORGERIES) and not queue.hlen("unacked"),
            60,
            what="every message to be done with",
        )

    assert FORGED not in worker.log_text()
    assert "Traceback" not in worker.log_text()
    assert worker.log_text().count("wrong_arguments") == 6


def test_queue_items_that_are_no_messages_cost_nothing_but_a_line_in_the_log(stack: Stack) -> None:
    key = stack.add_app("shop")
    worker = stack.worker("-c", "2")
    pid = worker.pid
    with (
        pushing(stack.redis) as queue,
        SessionClient(broker_url=stack.broker_url, app_id="shop", app_key=key) as client,
    ):
        for item in NO_MESSAGE.values():
            queue.lpush("auth", item)
            answer = client.status(user_id="ada", timeout=60)
            assert answer == ()

    wait_until_all_are_rejected(worker)
    assert (worker.is_alive, worker.pid) == (True, pid)
    assert worker.log_text().count(REJECTED) == len(NO_MESSAGE)
    # A reconnect would give back, and so run twice, what is under way.
    assert "Connection to broker lost" not in worker.log_text()
    assert CANARY not in worker.log_text()


def test_a_backlog_full_of_no_messages_is_cleared_and_what_lies_between_is_served(
    stack: Stack,
) -> None:
    key = stack.add_app("shop")
    with (
        pushing(stack.redis) as queue,
        SessionClient(broker_url=stack.broker_url, app_id="shop", app_key=key) as client,
    ):
        for item in NO_MESSAGE.values():
            queue.lpush("auth", item)
            send(client, Status(user_id="ada"), timeout=60)
        worker = stack.worker("-c", "2")
        poll_until(
            lambda: len(queue.keys("reply:shop:*")) == len(NO_MESSAGE),
            60,
            what="all answers",
        )

        # A job is acknowledged after it is answered: the last may lag behind.
        poll_until(
            lambda: queue.llen("auth") == queue.hlen("unacked") == 0,
            60,
            what="every message acknowledged",
        )
    wait_until_all_are_rejected(worker)
    assert worker.log_text().count(REJECTED) == len(NO_MESSAGE)
    assert CANARY not in worker.log_text()
