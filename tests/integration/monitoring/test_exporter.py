"""The exporter's life inside a worker, and what it does when something is in its way."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from celery.concurrency.prefork import TaskPool as PreforkPool
from prometheus_client import values
from structlog.testing import capture_logs

from sandbox.ports import free_port
from session_client.contract import Task, Verdict
from tests.stage import Stage
from worker import metrics
from worker.celery_support.thread_pool import SafeThreadPool
from worker.monitoring.exporter import Exporter
from worker.settings import model as settings_module


@pytest.fixture(autouse=True)
def counting_stops() -> Iterator[None]:
    yield
    metrics.record_with(None)
    values.close_all_multiprocess_files()
    values.ValueClass = values.MutexValue


@pytest.fixture
def url(sqlite_stage: Stage, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where metrics are to be served."""
    port = free_port()
    configured = sqlite_stage.settings.model_copy(update={"metrics_port": port})
    monkeypatch.setattr(settings_module, "current", lambda: configured)
    return f"http://127.0.0.1:{port}/metrics"


def worker_with(pool: type) -> Any:
    return SimpleNamespace(pool_cls=pool, pool=SimpleNamespace(num_processes=2))


@contextmanager
def exporting(pool: type) -> Iterator[Exporter]:
    worker = worker_with(pool)
    step = Exporter(worker)
    assert step.include_if(worker)
    step.create(worker)
    step.start(worker)
    try:
        yield step
    finally:
        step.stop(worker)


def test_without_a_port_there_is_no_exporter(
    sqlite_stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings_module, "current", lambda: sqlite_stage.settings)

    assert not Exporter(worker_with(SafeThreadPool)).include_if(None)


def test_it_serves_until_it_is_stopped(url: str) -> None:
    with exporting(SafeThreadPool) as step:
        metrics.answered(Task.LOGOUT, Verdict.OK, None)
        found = httpx.get(url, timeout=60)
        elsewhere = httpx.get(url.replace("/metrics", "/"), timeout=60)
        step.terminate(None)
        with pytest.raises(httpx.ConnectError):
            httpx.get(url)

    assert found.status_code == 200
    assert 'task="sessions.logout",verdict="ok"} 1.0' in found.text
    assert "mosaic_sessions_jobs_concurrency 2.0" in found.text
    assert elsewhere.status_code == 404


def test_what_waits_and_what_is_left_is_shown(url: str, sqlite_stage: Stage) -> None:
    sqlite_stage.add_app("shop")
    session = sqlite_stage.registered("ada", "shop")
    sqlite_stage.log_out("ada", "shop", session_ref=str(session))
    sqlite_stage.redis.delete("logout")
    sqlite_stage.redis.lpush("notify", "a", "b")

    with exporting(SafeThreadPool):
        shown = httpx.get(url, timeout=60).text

    host = sqlite_stage.mosaic.url
    for line in (
        'mosaic_sessions_queue_depth{queue="notify"} 2.0',
        'mosaic_sessions_queue_depth{queue="auth"} 0.0',
        'mosaic_sessions_deliveries_pending{delivery="logout"} 1.0',
        'mosaic_sessions_deliveries_failed{delivery="notice"} 0.0',
        'mosaic_sessions_budget_left_ratio{budget="client-shop",lane="auth"}',
        f'mosaic_sessions_breaker_state{{host="{host}",lane="auth",state="closed"}} 1.0',
        f'mosaic_sessions_breaker_state{{host="{host}",lane="logout",state="open"}} 0.0',
    ):
        assert line in shown
    series = [line.rpartition(" ")[0] for line in shown.splitlines() if line[0] != "#"]
    assert len(series) == len(set(series))


def test_without_a_folder_to_count_in_the_rest_is_served(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_text("", encoding="utf-8")
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(in_the_way))

    with capture_logs() as logs, exporting(PreforkPool):
        metrics.answered(Task.LOGOUT, Verdict.OK, None)
        shown = httpx.get(url, timeout=60).text

    (told,) = [line for line in logs if line["event"] == "metrics_not_counted"]
    assert "PROMETHEUS_MULTIPROC_DIR" in told["what_to_do"]
    assert "mosaic_sessions_queue_depth" in shown
    assert "mosaic_sessions_answers_total" not in shown


def test_an_address_of_another_machine_is_told(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    away = settings_module.current().model_copy(update={"metrics_host": "192.0.2.1"})
    monkeypatch.setattr(settings_module, "current", lambda: away)

    with capture_logs() as logs, exporting(SafeThreadPool):
        pass

    (told,) = [line for line in logs if line["event"] == "metrics_not_served"]
    assert told["host"] == "192.0.2.1"
    assert "MOSAIC_SESSIONS_METRICS_HOST" in told["what_to_do"]
