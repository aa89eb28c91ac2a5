"""What the monitor makes of things that hang or break while it asks them."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator

import httpx
import pytest
from sqlalchemy import text

from sandbox.processes import poll_until
from tests.integration.cli.cli_rig import make_older
from tests.stage import Stage
from worker.celery_support import heartbeat
from worker.maintenance.last_runs import Run
from worker.monitoring import health_server
from worker.monitoring.health_server import MonitorServer, PartHealth
from worker.monitoring.sources import Source
from worker.tasks import maintenance


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health_server, "ASK_EVERY_SECONDS", 0.05)
    monkeypatch.setattr(health_server, "REQUEST_SECONDS", 2.0)


@pytest.fixture
def never() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def database(ask: Callable[[], list[str]]) -> Source[PartHealth]:
    def look() -> PartHealth:
        return PartHealth(ask(), [])

    return Source("database", health_server.ASK_EVERY_SECONDS, 2.0, look)


def wrong_with(ask: Callable[[], list[str]]) -> tuple[int, str | None]:
    with MonitorServer("127.0.0.1", 0, {"keys": []}, [database(ask)]) as server:
        found = httpx.get(f"{server.url}/healthz", timeout=60)
    return found.status_code, found.json()["wrong"].get("database")


def test_what_is_well_is_200() -> None:
    assert wrong_with(list) == (200, None)


def test_what_hangs_is_told_in_time(never: threading.Event) -> None:
    def hang() -> list[str]:
        never.wait(90)
        return []

    assert wrong_with(hang) == (503, "does not answer in time")


def test_what_hangs_later_is_told_too(never: threading.Event) -> None:
    asked: list[int] = []

    def hang_later() -> list[str]:
        asked.append(1)
        if len(asked) > 1:
            never.wait(90)
        return []

    with MonitorServer("127.0.0.1", 0, {"keys": []}, [database(hang_later)]) as server:
        well = httpx.get(f"{server.url}/healthz").status_code
        assert well == 200

        poll_until(lambda: httpx.get(f"{server.url}/healthz").status_code == 503, 60)


def test_a_fault_of_ours_is_not_health_and_quotes_nothing() -> None:
    def crash() -> list[str]:
        raise ZeroDivisionError("canary")

    assert wrong_with(crash) == (503, "cannot be asked (ZeroDivisionError)")


def test_many_requests_ask_no_more_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health_server, "ASK_EVERY_SECONDS", 600.0)
    asked: list[int] = []

    def count() -> list[str]:
        asked.append(1)
        return []

    with MonitorServer("127.0.0.1", 0, {"keys": []}, [database(count)]) as server:
        for _ in range(30):
            server.health()

    assert len(asked) == 1


# --- what is asked

QUEUES = ["auth", "idp", "login", "logout", "maintenance", "notify", "sessions"]


def found(stage: Stage) -> dict[str, str]:
    with MonitorServer("127.0.0.1", 0, {}, health_server.sources(stage.services)) as server:
        return server.health().wrong


def live_worker(stage: Stage, queues: list[str]) -> None:
    facts = {
        "hostname": "worker@here",
        "queues": queues,
        "visibility_timeout": 180,
        "started_at": "2020-01-01T00:00:00+00:00",
    }
    stage.redis.set(heartbeat.key_of_this_process(), json.dumps(facts), ex=600)


def all_work_done() -> None:
    maintenance.sweep()
    maintenance.expire_sessions()
    maintenance.purge_history()


def test_a_queue_that_no_worker_takes_is_unhealthy(sqlite_stage: Stage) -> None:
    all_work_done()
    live_worker(sqlite_stage, QUEUES)
    well = found(sqlite_stage)
    live_worker(sqlite_stage, QUEUES[1:])

    assert well == {}
    assert found(sqlite_stage) == {
        "workers": "no worker takes queue auth: start one with -Q auth, or without -Q"
    }


def test_without_a_sweep_it_is_unhealthy(sqlite_stage: Stage) -> None:
    live_worker(sqlite_stage, QUEUES)
    never = found(sqlite_stage)
    all_work_done()
    well = found(sqlite_stage)
    make_older(sqlite_stage, Run.SWEEP, 90)
    late = found(sqlite_stage)

    assert never.keys() == late.keys() == {"sweep"}
    assert "there was no sweep" in never["sweep"]
    assert "the last sweep was 9" in late["sweep"]
    assert well == {}


def test_without_a_worker_nothing_else_is_said_of_its_work(sqlite_stage: Stage) -> None:
    assert found(sqlite_stage) == {"workers": "no worker is alive: start one"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("UPDATE alembic_version SET version_num = '9999'", "newer than this release"),
        ("DELETE FROM alembic_version", "run `mosaic-sessions db upgrade`"),
    ],
)
def test_a_schema_that_is_not_this_releases_is_unhealthy(
    sqlite_stage: Stage, change: str, words: str
) -> None:
    all_work_done()
    live_worker(sqlite_stage, QUEUES)
    with sqlite_stage.services.store.write() as connection:
        connection.execute(text(change))

    wrong = found(sqlite_stage)

    assert wrong.keys() == {"database"}
    assert words in wrong["database"]


def test_it_listens_on_ipv6() -> None:
    with MonitorServer("::1", 0, {"keys": []}, []) as server:
        assert server.url.startswith("http://[::1]:")
        assert httpx.get(f"{server.url}/jwks.json").json() == {"keys": []}
