"""Messages say when they were published; what they say can mislead nobody but a gauge."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import redis
from celery import signals

from session_client import SessionClient, SilentAuth, contract, times
from session_client.keys import AppKey
from tests.integration.cli.cli_rig import run, told
from tests.sending import send
from tests.stage import Stage, redis_client
from worker.celery_support.queue_heads import Head
from worker.operations import queue_depth
from worker.tasks import logouts
from worker.traffic import Lane

PAGE = (Path(__file__).parents[3] / "docs" / "contract.md").read_text(encoding="utf-8")


@pytest.fixture
def broker(redis_url: str) -> Iterator[redis.Redis]:
    with redis_client(redis_url) as client:
        yield client


def head(redis_url: str, queue: str) -> Head | None:
    return queue_depth.read(redis_url).heads[queue]


def age(redis_url: str, queue: str) -> float | None:
    found = head(redis_url, queue)
    assert found is not None
    return found.age(times.now())


def only_age(redis_url: str) -> float | None:
    """The age of the one message that waits, whatever queue it is routed to."""
    (found,) = filter(None, queue_depth.read(redis_url).heads.values())
    return found.age(times.now())


def message(**headers: Any) -> bytes:
    return json.dumps({"headers": {"task": "sessions.status", **headers}}).encode()


def test_a_request_of_the_client_says_when_it_was_published(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The worker says it for whatever its process publishes, and its app is loaded here.
    monkeypatch.setattr(signals.before_task_publish, "receivers", [])
    key = AppKey("k1", bytes(32)).text()
    with SessionClient(broker_url=redis_url, app_id="shop", app_key=key) as client:
        send(client, SilentAuth(user_id="ada"), timeout=5)

        told_age = only_age(redis_url)

    assert told_age is not None
    assert 0 <= told_age < 60


def test_so_does_a_message_of_the_worker_itself(redis_url: str) -> None:
    logouts.end_at_idp.delay(str(uuid4()))

    told_age = only_age(redis_url)

    assert told_age is not None
    assert 0 <= told_age < 60


def test_a_retry_says_it_anew(redis_url: str) -> None:
    before = times.to_wire(times.now() - timedelta(hours=1))
    logouts.end_at_idp.apply_async((str(uuid4()),), headers={contract.PUBLISHED_AT: before})

    told_age = only_age(redis_url)

    assert told_age is not None
    assert 0 <= told_age < 60


def test_the_head_is_the_oldest(redis_url: str, broker: redis.Redis) -> None:
    now = times.now()
    for hours in (3, 2, 1):
        broker.lpush("auth", message(published_at=times.to_wire(now - timedelta(hours=hours))))

    found = queue_depth.read(redis_url)

    assert found.waiting["auth"] == 3
    assert found.heads["auth"] is not None
    assert found.heads["auth"].age(now) == 3 * 3600
    assert found.heads["logout"] is None


@pytest.mark.parametrize(
    "raw",
    [
        b"no json",
        b"\xff\xfe",
        b"[]",
        b'{"headers": null}',
        b'{"headers": {}}',
        b"[" * 100_000,
        message(),
        message(published_at=None),
        message(published_at=1793600000),
        message(published_at={"a": 1}),
        message(published_at="yesterday"),
        message(published_at="2026-11-02T08:00:00"),
        message(published_at="0001-01-01T00:00:00+23:59"),
        message(published_at="9999-12-31T23:59:59-23:59"),
        message(published_at=times.to_wire(times.now()), padding="x" * 1_000_000),
    ],
    ids=lambda raw: raw[:60].decode(errors="replace").partition("published_at")[2] or "odd",
)
def test_what_says_nothing_readable_has_no_age(
    redis_url: str, broker: redis.Redis, raw: bytes
) -> None:
    broker.lpush("auth", raw)

    assert queue_depth.read(redis_url).waiting["auth"] == 1
    assert age(redis_url, "auth") is None


def test_what_is_larger_than_any_message_is_not_read_to_be_shown(
    redis_url: str, broker: redis.Redis
) -> None:
    broker.lpush("auth", b"x" * 20_000_000)
    before = broker.info("stats")["total_net_output_bytes"]

    found = head(redis_url, "auth")

    assert found is not None
    assert found.published_at is None
    assert broker.info("stats")["total_net_output_bytes"] - before < 1_000_000


def test_a_message_from_the_future_is_new() -> None:
    now = times.now()

    assert Head(1, now + timedelta(days=1)).age(now) == 0


def test_the_page_names_the_header() -> None:
    assert f"`{contract.PUBLISHED_AT}`" in PAGE


# --- what `status` makes of it


def test_status_tells_how_long_the_oldest_message_has_waited(
    sqlite_stage: Stage, broker: redis.Redis
) -> None:
    published = times.to_wire(sqlite_stage.now() - timedelta(seconds=90))
    broker.lpush("auth", message(published_at=published), message())
    broker.lpush("notify", message())

    said = told("status", expect=69)
    printed = run("status", expect=69).stdout

    waited = said["oldest_waiting_seconds"]
    assert 90 <= waited["auth"] < 150
    assert (waited["notify"], waited["logout"]) == (None, None)
    assert "2, the oldest for 9" in printed


def test_status_shows_budgets_breakers_and_pauses(sqlite_stage: Stage) -> None:
    sqlite_stage.add_app("shop")

    traffic = told("status", expect=69)["traffic"]
    printed = run("status", expect=69).stdout

    names = {(budget["name"], budget["lane"]) for budget in traffic["budgets"]}
    assert names == {(n, lane) for n in ("client-shop", "source") for lane in ("auth", "logout")}
    assert {budget["left_share"] for budget in traffic["budgets"]} == {1.0}
    url = sqlite_stage.mosaic.url
    shared = [breaker for breaker in traffic["breakers"] if breaker.pop("client_id") is None]
    assert shared == [
        {"name": url, "lane": lane, "state": "closed", "retry_after": 0.0, "failing_seconds": 0.0}
        for lane in Lane
    ]
    assert traffic["pauses"] == []
    assert "auth 100% (" in printed
    assert "logout 100% (" in printed
    assert f"auth of {sqlite_stage.mosaic.url} closed" in printed
