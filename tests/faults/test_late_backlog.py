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
from session_client import PendingAnswer, Reason, SessionClient, SilentAuth, Task, Verdict
from session_client.answers import Authentication
from tests.faults.looking import broker, registered

AUTHENTICATE = "session/authenticate"
SLOTS = 2
LATE = 600
LATE_SECONDS = 1.0  # how long those who ask in vain are ready to wait
# Mosaic is well again but slow, so that to serve the late ones too would take a minute.
MOSAIC_SECONDS = 0.2
FRESH = 5
SOON_SECONDS = 10.0
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
def client(stack: Stack) -> Iterator[SessionClient]:
    key = stack.add_app("shop")
    with SessionClient(broker_url=stack.broker_url, app_id="shop", app_key=key) as client:
        yield client


def asked(
    client: SessionClient, users: Sequence[str], number: int, *, timeout: float, about: str
) -> list[PendingAnswer[Authentication]]:
    """Send *number* requests, no two of which could share a call to Mosaic."""

    def ask(n: int) -> PendingAnswer[Authentication]:
        request = SilentAuth(user_id=users[n % len(users)], resource=f"urn:{about}:{n}")
        return client.send(request, Authentication, timeout=timeout)

    with ThreadPoolExecutor(4) as threads:
        return list(threads.map(ask, range(number)))


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


def remembered(stack: Stack, requests: Iterable[PendingAnswer[Authentication]]) -> int:
    """Return how many of these requests the worker remembers, to know them if they came again."""
    with broker(stack) as redis:
        return int(redis.exists(*(f"request:shop:{request.request_id}" for request in requests)))


def test_a_flooded_queue_drops_who_is_gone_and_serves_who_still_waits(
    stack: Stack, client: SessionClient
) -> None:
    worker = stack.worker("-c", str(SLOTS))
    users = [f"user-{n}" for n in range(20)]
    for user in users:
        registered(stack, client, user)
    with stack.mosaic.gates.hold(AUTHENTICATE, before=True) as gate:
        asked(client, users, SLOTS, timeout=30, about="stuck")
        gate.wait_arrived(SLOTS)
        late = asked(client, users, LATE, timeout=LATE_SECONDS, about="late")
        time.sleep(LATE_SECONDS)
        fresh = asked(client, users, FRESH, timeout=FRESH_SECONDS, about="fresh")
        backlog = sum(waiting(stack))
        stack.mosaic.faults.add(AUTHENTICATE, "latency", seconds=MOSAIC_SECONDS)
    begin = time.monotonic()  # the gate is open

    answers = [pending.wait() for pending in fresh]
    seconds = time.monotonic() - begin
    poll_until(lambda: waiting(stack) == (0, 0), 60, what="the queue to be empty")
    refusals = [pending.wait(0) for pending in late]

    assert backlog == SLOTS + LATE + FRESH
    assert [answer.verdict for answer in answers] == [Verdict.AUTHENTICATED] * FRESH
    assert seconds < SOON_SECONDS
    assert {(refusal.reason, refusal.tokens) for refusal in refusals} == {
        (Reason.DEADLINE_PASSED, None)
    }
    assert stack.mosaic.calls.count(AUTHENTICATE) == SLOTS + FRESH
    # Turned away at the door: later guards would spare Mosaic too, but not Redis and the database.
    assert (remembered(stack, late), remembered(stack, fresh)) == (0, FRESH)
    assert refused_as_late(stack) == LATE
    assert worker.is_alive
