"""A request that cannot be answered at all is counted, so that somebody notices."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from pydantic import SecretStr
from structlog.testing import capture_logs

from session_client import requests
from session_client.contract import Task
from tests.stage import Sent, Stage
from worker import metrics, wiring
from worker.metrics import UnansweredCause
from worker.monitoring.meters import Meters

OTHER = "k1:" + base64.b64encode(b"x" * 32).decode()
STATUS = requests.Status(user_id="ada")


@pytest.fixture
def registry() -> Iterator[CollectorRegistry]:
    registry = CollectorRegistry()
    metrics.record_with(Meters(registry))
    yield registry
    metrics.record_with(None)


def counted(registry: CollectorRegistry, task: Task) -> dict[str, float]:
    name, labels = "mosaic_sessions_requests_unanswered_total", {"task": task.value}
    found = {
        why.value: registry.get_sample_value(name, {**labels, "cause": why.value})
        for why in UnansweredCause
    }
    return {why: count for why, count in found.items() if count}


def deliver_elsewhere(stage: Stage, sent: Sent, **settings: str) -> None:
    """Deliver it to a worker with other settings, which leaves the app without an answer."""
    changed = {name: SecretStr(value) for name, value in settings.items()}
    settings_there = stage.settings.model_copy(update=changed)
    with closing(wiring.build(settings_there, now=stage.now)) as there, wiring.use(there):
        assert stage.deliver(sent) is None


@pytest.mark.parametrize(
    "request_",
    [STATUS, requests.Logout(user_id="ada", session_id="an id")],
    ids=lambda request: request.task.value,
)
def test_a_worker_with_other_keys_says_so(
    sqlite_stage: Stage, registry: CollectorRegistry, request_: requests.Request[Any]
) -> None:
    sqlite_stage.add_app("shop")

    with capture_logs() as logs:
        deliver_elsewhere(sqlite_stage, sqlite_stage.seal("shop", request_), encryption_keys=OTHER)

    assert counted(registry, request_.task) == {"app_unreadable": 1}
    (told,) = [line["detail"] for line in logs if line["event"] == "operator_must_act"]
    assert "key 'k1' does not open it: it was sealed with another key" in told


def test_a_store_that_is_away_before_the_app_was_known_is_counted(
    sqlite_stage: Stage, registry: CollectorRegistry, tmp_path: Path
) -> None:
    sqlite_stage.add_app("shop")
    nowhere = f"sqlite:///{tmp_path / 'missing' / 'x.db'}"

    deliver_elsewhere(sqlite_stage, sqlite_stage.seal("shop", STATUS), database_url=nowhere)

    assert counted(registry, Task.STATUS) == {"store_unavailable": 1}


def test_a_message_that_names_nobody_is_counted(
    sqlite_stage: Stage, registry: CollectorRegistry
) -> None:
    sqlite_stage.run(Sent(Task.STATUS, "r" * 22, {}))

    assert counted(registry, Task.STATUS) == {"no_sender": 1}


def test_a_request_that_is_answered_is_not_counted(
    sqlite_stage: Stage, registry: CollectorRegistry
) -> None:
    sqlite_stage.add_app("shop")

    sqlite_stage.status()

    assert counted(registry, Task.STATUS) == {}
