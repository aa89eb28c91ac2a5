"""What the monitor makes of things that hang or break while it asks them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import httpx
import pytest

from sandbox.processes import poll_until
from worker.cli import monitor
from worker.cli.monitor import MonitorServer, Probe


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor, "ASK_EVERY_SECONDS", 0.05)
    monkeypatch.setattr(monitor, "STALE_AFTER_SECONDS", 2.0)
    monkeypatch.setattr(monitor, "REQUEST_SECONDS", 2.0)


@pytest.fixture
def never() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def wrong_with(ask: Callable[[], str | None]) -> tuple[int, str | None]:
    with MonitorServer("127.0.0.1", 0, {"keys": []}, [Probe("database", ask)]) as server:
        found = httpx.get(f"{server.url}/healthz", timeout=60)
    return found.status_code, found.json()["wrong"].get("database")


def test_what_is_well_is_200() -> None:
    assert wrong_with(lambda: None) == (200, None)


def test_what_hangs_is_told_in_time(never: threading.Event) -> None:
    def hang() -> None:
        never.wait(90)

    assert wrong_with(hang) == (503, "does not answer in time")


def test_what_hangs_later_is_told_too(never: threading.Event) -> None:
    asked: list[int] = []

    def hang_later() -> None:
        asked.append(1)
        if len(asked) > 1:
            never.wait(90)

    probe = Probe("database", hang_later)
    with MonitorServer("127.0.0.1", 0, {"keys": []}, [probe]) as server:
        well = httpx.get(f"{server.url}/healthz").status_code
        assert well == 200

        poll_until(lambda: httpx.get(f"{server.url}/healthz").status_code == 503, 60)


def test_a_fault_of_ours_is_not_health_and_quotes_nothing() -> None:
    def crash() -> str:
        raise ZeroDivisionError("canary")

    assert wrong_with(crash) == (503, "cannot be asked (ZeroDivisionError)")


def test_many_requests_ask_no_more_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor, "ASK_EVERY_SECONDS", 600.0)
    asked: list[int] = []

    def count() -> None:
        asked.append(1)

    with MonitorServer("127.0.0.1", 0, {"keys": []}, [Probe("database", count)]) as server:
        for _ in range(30):
            server.health()

    assert len(asked) == 1


def test_it_listens_on_ipv6() -> None:
    with MonitorServer("::1", 0, {"keys": []}, []) as server:
        assert server.url.startswith("http://[::1]:")
        assert httpx.get(f"{server.url}/jwks.json").json() == {"keys": []}
