"""What one app puts on the broker holds up nobody else, and fills no worker's memory."""

from __future__ import annotations

import bz2
import json
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
import redis

from sandbox.processes import poll_until
from sandbox.stack import Stack
from session_client import AppKey, Reason, SilentAuth, Task, Verdict, Wishes, contract
from session_client._core import message
from tests.acceptance.client_rig import Apps
from tests.faults.looking import largest, resident
from tests.faults.messages import b64, raw

AUTHENTICATE = "session/authenticate"
ASKED = 120
MIB = 2**20


@pytest.fixture
def apps(stack: Stack) -> Iterator[Apps]:
    apps = Apps(stack, "shop", "pest")
    yield apps
    apps.close()


@pytest.fixture
def broker(stack: Stack) -> Iterator[redis.Redis]:
    with closing(redis.Redis.from_url(stack.broker_url)) as client:
        yield client


def on_the_queue_of_logouts(apps: Apps, broker: redis.Redis, user_id: str) -> list[str]:
    """Put many silent authentications there; return where their answers come."""
    key = AppKey.parse(apps.keys["pest"])
    sealed = [
        message.seal(
            SilentAuth(user_id=user_id, wishes=Wishes(resource=f"urn:{number}"), timeout=300),
            app_id="pest",
            key=key,
        )
        for number in range(ASKED)
    ]
    for sent in sealed:
        item = raw(Task.SILENT_AUTH, sent.kwargs, more_headers={"id": sent.request_id})
        broker.lpush("logout", item)
    return [sent.reply_key for sent in sealed]


@pytest.mark.usefixtures("patient_mosaic")
def test_silent_authentications_on_the_queue_of_logouts_hold_up_no_logout(
    stack: Stack, apps: Apps, broker: redis.Redis
) -> None:
    stack.worker("-c", "2")
    ref = apps.register("ada").session_ref
    calls = stack.mosaic.calls.count(AUTHENTICATE)
    stack.mosaic.faults.add(AUTHENTICATE, "latency", seconds=3.0)

    replies = on_the_queue_of_logouts(apps, broker, "ada")
    started = time.monotonic()
    receipt = apps.clients["shop"].logout(user_id="ada", session_ref=ref, timeout=60)

    assert receipt.receipt_id is not None
    assert time.monotonic() - started < 20  # behind so many calls to Mosaic it takes three minutes
    poll_until(lambda: all(map(broker.exists, replies)), 60, what="all to be refused")
    refused = [json.loads(broker.lpop(reply) or "") for reply in replies]  # type: ignore[arg-type]
    assert {(one["verdict"], one["reason"]) for one in refused} == {
        (Verdict.UNAUTHORIZED, Reason.WRONG_QUEUE)
    }
    assert stack.mosaic.calls.count(AUTHENTICATE) == calls


@pytest.mark.parametrize(
    "length", [2**20, contract.MAX_ENVELOPE_BYTES - 100], ids=["too large", "as large as may be"]
)
def test_what_an_app_puts_off_is_not_held(stack: Stack, broker: redis.Redis, length: int) -> None:
    worker = stack.worker("-c", "2")
    before = resident(worker)
    later = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(time.time() + 100))

    for _ in range(200 * MIB // length):
        kwargs = {"app_id": "shop", "envelope": "x" * length}
        broker.lpush("auth", raw(Task.SILENT_AUTH, kwargs, more_headers={"eta": later}))
        if broker.llen("auth") > 50:  # it need not fill Redis
            poll_until(lambda: broker.llen("auth") < 10, 60, what="the worker to take them")

    poll_until(
        lambda: broker.llen("auth") == broker.hlen("unacked") == 0, 60, what="them to be done with"
    )
    assert resident(worker) - before < 60 * MIB


@pytest.mark.parametrize(
    "packed",
    [
        {"content_type": "application/text", "content_encoding": "bz2"},
        {"more_headers": {"compression": "application/x-bz2"}},
    ],
    ids=["as text", "as said in a header"],
)
def test_a_small_body_that_would_open_to_a_huge_one_takes_no_memory(
    stack: Stack, apps: Apps, broker: redis.Redis, packed: dict[str, Any]
) -> None:
    worker = stack.worker("-c", "2")
    apps.clients["shop"].status(user_id="ada", timeout=60)
    before = largest(worker)

    bomb = b64(bz2.compress(b"[]" + b" " * 400 * MIB))
    broker.lpush("sessions", raw(Task.STATUS, body=bomb, **packed))
    poll_until(
        lambda: broker.llen("sessions") == broker.hlen("unacked") == 0, 60, what="it to be dropped"
    )
    apps.clients["shop"].status(user_id="ada", timeout=60)

    assert largest(worker) - before < 60 * MIB


@pytest.mark.parametrize("is_started", [True, False])
def test_what_an_app_puts_in_the_place_of_queues_stops_no_worker(
    stack: Stack, apps: Apps, broker: redis.Redis, *, is_started: bool
) -> None:
    queues = ("auth", "login", "sessions", "logout")
    workers = [stack.worker("-c", "2")] if is_started else []
    for _ in range(2000):  # also between its last look and when it listens
        broker.mset(dict.fromkeys(queues, "none"))
    if not is_started:
        workers.append(stack.worker("-c", "2"))

    poll_until(lambda: not broker.exists(*queues), 60, what="them to go")

    assert apps.clients["shop"].status(user_id="ada", timeout=60) == ()
    assert [worker.is_alive for worker in workers] == [True]
