"""Mosaic hangs, a backlog builds up, and most who asked have gone by the time it answers again."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from sandbox.ports import free_port
from sandbox.processes import poll_until
from sandbox.redis_server import RedisServer
from sandbox.stack import PREFIX, Stack
from session_client import (
    AppKey,
    Authenticated,
    Reason,
    SessionClient,
    SilentAnswer,
    SilentAuth,
    Task,
    Wishes,
)
from session_client._core import opening
from session_client._core.message import Message, seal
from session_client.reading import Answered
from tests.faults.looking import broker, registered
from tests.sending import Pending, publish, send

AUTHENTICATE = "session/authenticate"
SLOTS = 2
LATE = 200
LATE_SECONDS = 1.0  # how long those who ask in vain are ready to wait
# Mosaic is well again but slow, so that to serve the late ones too would take long.
MOSAIC_SECONDS = 0.2
FRESH = 5
FRESH_SECONDS = 30.0  # more than a client's usual patience, for a busy machine


@pytest.fixture
def stack(own_redis: RedisServer) -> Iterator[Stack]:
    """Mosaic may hang for as long as it takes to flood the queue."""
    settings = {
        "mosaic_timeout_seconds": 30,
        "delivery_lease_seconds": 61,
        "metrics_port": free_port(),
    }
    with Stack(redis=own_redis, settings=settings) as stack:
        stack.migrate()
        yield stack


@pytest.fixture
def key(stack: Stack) -> str:
    return stack.add_app("shop")


@pytest.fixture
def client(stack: Stack, key: str) -> Iterator[SessionClient]:
    with SessionClient(broker_url=stack.broker_url, app_id="shop", app_key=key) as client:
        yield client


def asked(
    client: SessionClient, users: Sequence[str], number: int, *, timeout: float, about: str
) -> list[Pending[SilentAnswer]]:
    """Send *number* requests, no two of which could share a call to Mosaic."""

    def ask(n: int) -> Pending[SilentAnswer]:
        request = SilentAuth(
            user_id=users[n % len(users)], wishes=Wishes(resource=f"urn:{about}:{n}")
        )
        return send(client, request, timeout=timeout)

    with ThreadPoolExecutor(4) as threads:
        return list(threads.map(ask, range(number)))


def asked_in_vain(stack: Stack, key: str, users: Sequence[str], number: int) -> list[Message]:
    """Send *number* requests that expire soon, without the client: it would not send in no time."""

    def ask(n: int) -> Message:
        wishes = Wishes(resource=f"urn:late:{n}")
        request = SilentAuth(user_id=users[n % len(users)], wishes=wishes, timeout=LATE_SECONDS)
        sealed = seal(request, app_id="shop", key=AppKey.parse(key))
        publish(stack.broker_url, sealed)
        return sealed

    with ThreadPoolExecutor(4) as threads:
        return list(threads.map(ask, range(number)))


def answers_to(stack: Stack, key: str, sent: Iterable[Message]) -> list[Answered]:
    """Take what lies ready; whoever waits, however shortly, has a time-out to miss."""
    shop = AppKey.parse(key)
    with broker(stack) as redis:
        lying = [(message, redis.lpop(message.reply_key)) for message in sent]
    return [
        opening.answered(message, raw, shop) for message, raw in lying if isinstance(raw, bytes)
    ]


def refused_as_late(stack: Stack) -> float:
    """Return how many requests the worker has counted as turned away for their deadline."""
    port = stack.environment[f"{PREFIX}METRICS_PORT"]
    scraped = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=60).text
    labels = {"task": Task.SILENT_AUTH.value, "reason": Reason.DEADLINE_PASSED.value}
    return sum(
        sample.value
        for family in text_string_to_metric_families(scraped)
        for sample in family.samples
        if sample.name == "mosaic_sessions_answers_total"
        and labels.items() <= sample.labels.items()
    )


def waiting(stack: Stack) -> tuple[int, int]:
    """Return how many jobs wait, and how many were taken and not yet done."""
    with broker(stack) as redis:
        return int(redis.llen("auth")), int(redis.hlen("unacked"))


def remembered(stack: Stack, requests: Iterable[Pending[SilentAnswer] | Message]) -> int:
    """Return how many of these requests the worker remembers, to know them if they came again."""
    with broker(stack) as redis:
        return int(redis.exists(*(f"request:shop:{request.request_id}" for request in requests)))


def test_a_flooded_queue_drops_who_is_gone_and_serves_who_still_waits(
    stack: Stack, key: str, client: SessionClient
) -> None:
    worker = stack.worker("-c", str(SLOTS))
    users = [f"user-{n}" for n in range(20)]
    for user in users:
        registered(stack, client, user)
    with stack.mosaic.gates.hold(AUTHENTICATE, before=True) as gate:
        asked(client, users, SLOTS, timeout=30, about="stuck")
        gate.wait_arrived(SLOTS)
        late = asked_in_vain(stack, key, users, LATE)
        time.sleep(LATE_SECONDS)
        fresh = asked(client, users, FRESH, timeout=FRESH_SECONDS, about="fresh")
        backlog = sum(waiting(stack))
        stack.mosaic.faults.add(AUTHENTICATE, "latency", seconds=MOSAIC_SECONDS)

    answers = [pending.wait() for pending in fresh]
    poll_until(lambda: waiting(stack) == (0, 0), 60, what="the queue to be empty")
    refusals = answers_to(stack, key, late)

    assert backlog == SLOTS + LATE + FRESH
    assert [type(answer) for answer in answers] == [Authenticated] * FRESH
    assert len(refusals) == LATE
    assert {(refusal.reason, *refusal.data) for refusal in refusals} == {(Reason.DEADLINE_PASSED,)}
    assert stack.mosaic.calls.count(AUTHENTICATE) == SLOTS + FRESH
    # Turned away at the door: later guards would spare Mosaic too, but not Redis and the database.
    assert (remembered(stack, late), remembered(stack, fresh)) == (0, FRESH)
    assert refused_as_late(stack) == LATE
    assert worker.is_alive
