"""An app that is dead on its own queue does not fill the broker, and is told once it is back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import redis
from structlog.testing import capture_logs

from session_client import times
from simulator.server import SimulatorServer
from tests.integration.cli.cli_rig import run, told
from tests.integration.outbox.propagation_rig import (
    QUEUE,
    by_queue,
    confirm,
    notices,
    owed,
    the_notice,
)
from tests.stage import Stage, redis_client
from worker.celery_support.queue_heads import Head, Waiting
from worker.outbox import notice_delivery
from worker.storage.redis_client import connect_redis
from worker.tasks import notices as tasks

BOUND = 3


@pytest.fixture
def broker(redis_url: str) -> Iterator[redis.Redis]:
    with redis_client(redis_url) as client:
        yield client


@pytest.fixture
def queued(store_url: str, redis_url: str, mosaic: SimulatorServer) -> Iterator[Stage]:
    with Stage(store_url, redis_url, mosaic, notice_queue_max_messages=str(BOUND)) as stage:
        stage.add_app("shop")
        by_queue(stage, "forum")
        yield stage


def owe(stage: Stage, number: int) -> None:
    """Have so many sessions end that shop and forum shared."""
    for user in range(number):
        ref = stage.registered(f"user-{user}", "shop")
        stage.silent_auth(f"user-{user}", "forum")
        stage.log_out(f"user-{user}", session_ref=str(ref))


def attempt(stage: Stage) -> None:
    """Do what the sweep wakes a while later: each open notice is tried once more."""
    stage.pass_time(minutes=6)
    for row in notices(stage):
        if row.closed_at is None:
            tasks.deliver(str(row.id))


def take(broker: redis.Redis) -> dict[str, Any]:
    """Take a message as the app's worker does."""
    raw: Any = broker.rpop(QUEUE)
    return dict(json.loads(raw))


def test_a_notice_that_lies_unread_is_not_sent_again(queued: Stage, broker: redis.Redis) -> None:
    owed(queued)
    with capture_logs() as logs:
        for _ in range(5):
            attempt(queued)

    assert broker.llen(QUEUE) == 1
    row = the_notice(queued)
    assert (row.attempts, row.closed_at) == (5, None)
    assert f"1 messages wait in queue {QUEUE}" in row.last_error
    said = [entry for entry in logs if entry["event"] == "notice_undelivered"]
    assert [entry["app"] for entry in said] == ["forum"] * 4


def test_one_that_was_taken_and_not_confirmed_is_sent_again(
    queued: Stage, broker: redis.Redis
) -> None:
    notice_id = owed(queued)
    attempt(queued)
    take(broker)

    attempt(queued)

    assert broker.llen(QUEUE) == 1
    confirm(queued, notice_id)
    assert the_notice(queued).outcome == "confirmed"


def test_one_that_was_lost_is_sent_again_although_later_ones_lie_unread(
    queued: Stage, broker: redis.Redis
) -> None:
    owe(queued, 2)
    first, second = notices(queued)
    tasks.deliver(str(first.id))
    take(broker)  # and nothing comes of it
    tasks.deliver(str(second.id))

    attempt(queued)

    assert broker.llen(QUEUE) == 2
    errors = {row.id: row.last_error for row in notices(queued)}
    assert errors[first.id] is None
    assert "not taken yet" in errors[second.id]


def test_an_apps_queue_is_filled_to_its_bound_and_the_rest_told_once_it_is_read(
    queued: Stage, broker: redis.Redis
) -> None:
    owe(queued, BOUND + 2)
    for _ in range(3):
        attempt(queued)

    assert broker.llen(QUEUE) == BOUND
    full = [row for row in notices(queued) if "the queue is full" in (row.last_error or "")]
    assert len(full) == 2

    for _ in range(BOUND):
        take(broker)
    attempt(queued)
    assert broker.llen(QUEUE) == BOUND  # two for the first time, and one of the others again


def test_an_app_that_is_back_has_taken_and_confirmed_all_within_some_attempts(
    queued: Stage, broker: redis.Redis
) -> None:
    owe(queued, 2 * BOUND)
    attempt(queued)

    for _ in range(4):
        while broker.llen(QUEUE):
            envelope = take(broker)
            notice = envelope["headers"]["id"]
            assert notice
        for row in [row for row in notices(queued) if row.published_at and not row.closed_at]:
            confirm(queued, row.id)
        attempt(queued)

    assert {row.outcome for row in notices(queued)} == {"confirmed"}


def test_one_nobody_ever_takes_fails_at_its_horizon_and_says_why(queued: Stage) -> None:
    owed(queued)
    attempt(queued)
    queued.pass_time(days=4)

    attempt(queued)

    row = the_notice(queued)
    assert row.outcome == "failed"
    assert "does the app's own worker take them?" in row.last_error


def test_a_broker_that_cannot_be_asked_puts_the_notice_off(queued: Stage) -> None:
    notice_id = owed(queued)
    away = replace(queued.services, broker=connect_redis("redis://127.0.0.1:1/0"))

    def published(*_: object) -> Any:
        pytest.fail("nobody knows whether there is room")

    assert notice_delivery.deliver(away, notice_id, published) is None

    assert "the broker cannot be asked" in the_notice(queued).last_error


def test_a_broker_that_is_no_redis_bounds_its_queues_itself(
    queued: Stage, broker: redis.Redis
) -> None:
    notice_id = owed(queued)
    other = replace(queued.services, broker=None)

    for _ in range(2):
        notice_delivery.deliver(other, notice_id, tasks.publish)
        queued.pass_time(minutes=6)

    assert broker.llen(QUEUE) == 2


NOW = times.now()


@pytest.mark.parametrize(
    ("oldest", "holds"),
    [
        (NOW - timedelta(hours=1), True),
        (NOW, True),  # the notice itself
        (NOW + timedelta(microseconds=1), False),  # it was taken before this one
        (None, False),  # who knows
    ],
)
def test_a_queue_holds_what_was_published_after_its_oldest(oldest: Any, *, holds: bool) -> None:
    assert Waiting(1, Head(1, oldest)).holds(NOW) is holds
    assert not Waiting(0, None).holds(NOW)


# --- what operators see


def test_status_names_the_app_that_leaves_its_notices_unread_and_what_to_do(
    queued: Stage, broker: redis.Redis
) -> None:
    by_queue(queued, "desk")
    owe(queued, 2)
    for _ in range(5):
        attempt(queued)

    said = told("status", expect=69)
    printed = run("status", expect=69)

    assert said["notice_queues"]["desk"] == {
        "queue": "desk-notices",
        "waiting": 0,
        "oldest_waiting_seconds": None,
    }
    forum = said["notice_queues"]["forum"]
    assert (forum["queue"], forum["waiting"]) == (QUEUE, broker.llen(QUEUE)) == (QUEUE, 2)
    assert forum["oldest_waiting_seconds"] > 0
    (problem,) = (text for text in said["problems"] if "forum" in text)
    assert "forum takes no notices, 2 wait" in problem
    assert f"2 messages wait in queue {QUEUE}: does the app's own worker take them?" in problem
    assert "forum takes no notices, 2 wait" in printed.stderr
    assert f"waiting for forum in {QUEUE}" in printed.stdout


def test_status_has_nothing_to_say_of_an_app_as_soon_as_its_address_is_taken_away(
    queued: Stage,
) -> None:
    """Its open notices are closed by their next attempts, the last of them minutes later."""
    owe(queued, 2)
    for _ in range(5):
        attempt(queued)

    run("apps", "set-notice", "forum", "--none")

    said = told("status", expect=69)
    assert said["notices"]["pending"] == 2
    assert not [text for text in said["problems"] if "forum" in text]


def test_status_has_nothing_to_say_of_an_app_that_reads_its_queue(
    queued: Stage, broker: redis.Redis
) -> None:
    notice_id = owed(queued)
    attempt(queued)
    take(broker)
    confirm(queued, notice_id)

    said = told("status", expect=69)

    assert said["notice_queues"]["forum"]["waiting"] == 0
    assert not [text for text in said["problems"] if "forum" in text]
