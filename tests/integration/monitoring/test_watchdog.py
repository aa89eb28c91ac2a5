"""systemd hears from a process for as long as it is not stuck."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.processes import poll_until
from worker.monitoring import liveness
from worker.monitoring.watchdog import Watchdog, watch
from worker.settings import environment


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(60)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "30000")
        yield systemd


def test_it_hears_nothing_while_the_process_is_stuck_and_nothing_after_its_end(
    systemd: socket.socket,
) -> None:
    is_stuck, is_over = threading.Event(), threading.Event()
    asked: list[int] = []

    def trouble() -> str | None:
        asked.append(1)
        return "stuck" if is_stuck.is_set() else None

    watch(trouble, is_over)
    heard = [systemd.recv(64) for _ in range(3)]
    is_stuck.set()
    systemd.setblocking(False)
    wait_until_asked(asked, 2)  # what it was about to say is said then
    poll_until(lambda: not said_something(systemd), 60)
    wait_until_asked(asked, 5)
    while_stuck = said_something(systemd)
    is_over.set()

    assert heard == [b"WATCHDOG=1"] * 3
    assert not while_stuck


def wait_until_asked(asked: list[int], times: int) -> None:
    until = len(asked) + times
    poll_until(lambda: len(asked) >= until, 60)


def said_something(systemd: socket.socket) -> bool:
    try:
        return bool(systemd.recv(64))
    except BlockingIOError:
        return False


def test_a_worker_tells_it_from_when_it_has_its_pool(
    systemd: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(liveness, "worker_trouble", lambda: None)
    step = Watchdog(None)
    assert step.include_if(None)
    step.start(None)
    heard = systemd.recv(64)
    step.terminate(None)

    assert heard == b"WATCHDOG=1"


@pytest.mark.parametrize(
    ("where", "microseconds", "told"),
    [
        ("", "5000000", None),
        ("/run/x", "", None),
        ("/run/x", "soon", None),
        ("@x", "5000000", ("\0x", 5.0)),
    ],
)
def test_where_nobody_asks_nobody_is_told(
    monkeypatch: pytest.MonkeyPatch,
    where: str,
    microseconds: str,
    told: tuple[str, float] | None,
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", where)
    monkeypatch.setenv("WATCHDOG_USEC", microseconds)

    assert environment.watchdog() == told
    if told is None:
        assert not Watchdog(None).include_if(None)
        watch(lambda: None, threading.Event())
