"""Spooled logouts in processes that are killed, restarted, and share one file."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sandbox.environment import base_variables
from sandbox.processes import ManagedProcess, poll_until
from sandbox.redis_server import RedisServer
from session_client import LogoutSpool, SessionClient, SpoolCounts, SqliteSpool
from session_client.spool import drain
from tests.integration.client.client_rig import KEY, Responder, answer_to, sealed

ROOT = Path(__file__).parents[3]
NOTHING = SpoolCounts(waiting=0, refused=0)
NOWHERE = "redis://127.0.0.1:1/0"
BEGIN = """
import os, signal, sys, time
from session_client import *
from session_client.spool import drain
client = SessionClient(broker_url=sys.argv[1], app_id="shop", app_key=sys.argv[2])
spool = LogoutSpool(client, SqliteSpool(sys.argv[3]), thread="-t" in sys.argv)
"""


def command(script: str, url: str, path: Path) -> list[str]:
    return [sys.executable, "-W", "error", "-c", BEGIN + script, url, KEY.text(), str(path)]


def run(script: str, url: str, path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - our own script
        command(script, url, path),
        cwd=ROOT,
        env={**base_variables(), "PYTHONPATH": "client"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def client_of(server: RedisServer) -> SessionClient:
    return SessionClient(broker_url=server.url(), app_id="shop", app_key=KEY)


@contextmanager
def app(script: str, url: str, path: Path, name: str) -> Iterator[ManagedProcess]:
    with ManagedProcess(
        command(script, url, path),
        environment={**base_variables(), "PYTHONPATH": "client"},
        log_path=path.with_name(f"{name}.log"),
        cwd=ROOT,
    ) as process:
        yield process


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "logouts.db"


def test_a_logout_survives_the_app_being_killed_before_it_was_delivered(
    redis_url: str, path: Path
) -> None:
    killed = run(
        """
for n in range(3):
    print(spool.logout(user_id="ada", session_id=f"s{n}"), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
""",
        NOWHERE,
        path,
    )
    ids = killed.stdout.split()
    assert (killed.returncode, len(ids)) == (-9, 3)

    with Responder(redis_url) as worker:
        restarted = run(
            """
spool.start()
until = time.monotonic() + 60
while spool.counts().waiting and time.monotonic() < until: time.sleep(0.02)
spool.stop(); client.close()
""",
            redis_url,
            path,
        )

    assert (restarted.returncode, restarted.stderr) == (0, "")
    assert list(dict.fromkeys(request["request_id"] for request in worker.requests)) == ids
    assert SqliteSpool(path).counts() == NOTHING


def test_a_kill_between_the_acknowledgement_and_forgetting_repeats_the_same_request(
    redis_url: str, path: Path
) -> None:
    with Responder(redis_url) as worker:
        killed = run(
            """
SqliteSpool.settle = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
drain.LEASE_SECONDS = 0.5
spool.logout(user_id="ada", session_id="s")
spool.deliver()
""",
            redis_url,
            path,
        )
        assert killed.returncode == -9
        assert SqliteSpool(path).counts().waiting == 1

        again = "time.sleep(0.5); print(spool.deliver())"
        assert run(again, redis_url, path).stdout == "1\n"

    assert len({request["request_id"] for request in worker.requests}) == 1
    assert SqliteSpool(path).counts() == NOTHING


def test_a_worker_that_is_slower_than_a_batch_is_waited_for_and_gets_nothing_twice(
    redis_url: str, path: Path
) -> None:
    def slowly(request: dict[str, Any]) -> list[bytes]:
        time.sleep(0.3)
        return [sealed(answer_to(request))]

    with (
        Responder(redis_url, slowly) as worker,
        SessionClient(broker_url=redis_url, app_id="shop", app_key=KEY) as client,
    ):
        spool = LogoutSpool(client, SqliteSpool(path), thread=False)
        ids = [spool.logout(user_id="ada", session_id=f"s{n}") for n in range(20)]

        assert spool.deliver(timeout=5.0) == 20  # less than the batch takes

    assert [request["request_id"] for request in worker.requests] == ids


def test_no_silence_is_waited_for_beyond_the_lease(
    redis_url: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert drain.LONGEST_LISTEN_SECONDS < drain.LEASE_SECONDS
    monkeypatch.setattr(drain, "LONGEST_LISTEN_SECONDS", 1.0)
    with SessionClient(broker_url=redis_url, app_id="shop", app_key=KEY) as client:
        spool = LogoutSpool(client, SqliteSpool(path), thread=False)
        spool.logout(user_id="ada", session_id="s1")
        began = time.monotonic()

        assert spool.deliver(timeout=20.0) == 0

    assert time.monotonic() - began < 10


def test_two_that_drain_one_spool_to_a_slow_worker_have_nothing_sent_twice(
    redis_url: str, path: Path
) -> None:
    def slowly(request: dict[str, Any]) -> list[bytes]:
        time.sleep(0.02)
        return [sealed(answer_to(request))]

    with (
        Responder(redis_url, slowly) as worker,
        SessionClient(broker_url=redis_url, app_id="shop", app_key=KEY) as client,
        ThreadPoolExecutor(2) as both,
    ):
        spools = [LogoutSpool(client, SqliteSpool(path), thread=False) for _ in range(2)]
        for number in range(400):
            spools[0].logout(user_id="ada", session_id=f"s{number}")

        assert sum(both.map(lambda spool: spool.deliver(timeout=3.0), spools)) == 400

    assert len(worker.requests) == 400


def test_two_processes_may_share_one_file(redis_url: str, path: Path) -> None:
    script = """
spool.start()
for n in range(20):
    spool.logout(user_id="ada", session_id=f"{os.getpid()}-{n}")
until = time.monotonic() + 80
while spool.counts().waiting and time.monotonic() < until: time.sleep(0.05)
spool.stop(); client.close()
print("done")
"""
    with (
        Responder(redis_url) as worker,
        app(script, redis_url, path, "one") as one,
        app(script, redis_url, path, "two") as two,
    ):
        assert (one.wait(100), two.wait(100)) == (0, 0), one.log_text() + two.log_text()
        assert (one.log_text(), two.log_text()) == ("done\n", "done\n")

    assert SqliteSpool(path).counts() == NOTHING
    ids = [request["request_id"] for request in worker.requests]
    assert len(ids) == len(set(ids)) == 40  # none twice


def test_a_broker_that_is_dead_holds_up_nobody_and_loses_nothing(path: Path) -> None:
    store = SqliteSpool(path)
    with RedisServer() as server, client_of(server) as client:
        spool = LogoutSpool(client, store)
        server.freeze()
        spool.start()
        started = time.monotonic()
        spool.logout(user_id="ada", session_id="s")
        assert time.monotonic() - started < 5
        time.sleep(0.2)  # it is on its way to a broker that does not answer

        started = time.monotonic()
        spool.stop(timeout=5)
        assert time.monotonic() - started < 15
        assert store.counts().waiting == 1

        server.thaw()
        with Responder(server.url()):
            spool.start()
            poll_until(lambda: not store.counts().waiting, 60)
            spool.stop()


def test_who_signs_out_while_the_process_ends_is_kept_though_no_thread_can_write(
    path: Path,
) -> None:
    # The main thread has ended, so no executor begins another thread; a request is still served.
    ended = run(
        """
import threading
from concurrent.futures import ThreadPoolExecutor
spool, pool = LogoutSpool(client, SqliteSpool(sys.argv[3])), ThreadPoolExecutor(1)
def late():
    try:
        while True:
            pool.submit(int).result()
    except RuntimeError:  # the process ends
        pass
    print(spool.logout(user_id="ada", session_id="s", within=60.0), flush=True)
spool.start()
threading.Thread(target=late).start()
""",
        NOWHERE,
        path,
    )

    assert ended.stdout, ended.stderr
    assert SqliteSpool(path).counts() == SpoolCounts(waiting=1, refused=0)


def test_what_the_worker_refuses_is_in_sight_after_a_restart(redis_url: str, path: Path) -> None:
    def refuse(request: dict[str, object]) -> list[bytes]:
        says = {"verdict": "unauthorized", "reason": "not_permitted", "data": None}
        return [sealed(answer_to(request, **says))]

    with Responder(redis_url, refuse):
        script = "spool.logout(user_id='ada', session_id='s'); print(spool.deliver())"
        assert run(script, redis_url, path).stdout == "0\n"

    (refused,) = SqliteSpool(path).refused()
    assert refused.refused == "unauthorized: not_permitted"


def test_the_command_delivers_what_processes_without_a_thread_have_spooled(
    redis_url: str, path: Path
) -> None:
    run("spool.logout(user_id='ada', session_id='s')", NOWHERE, path)
    environment = base_variables() | {
        "PYTHONPATH": "client",
        "SESSION_BROKER_URL": redis_url,
        "SESSION_APP_ID": "shop",
        "SESSION_APP_KEY": KEY.text(),
        "SESSION_SPOOL": str(path),
    }
    words = [sys.executable, "-W", "error", "-m", "session_client.spool"]
    with (
        Responder(redis_url),
        ManagedProcess(
            words, environment=environment, log_path=path.with_name("spool.log"), cwd=ROOT
        ) as drainer,
    ):
        poll_until(lambda: SqliteSpool(path).counts() == NOTHING, 60)
        assert drainer.terminate() == 0, drainer.log_text()

    missing = subprocess.run(  # noqa: S603 - our own command
        words,
        env=base_variables() | {"PYTHONPATH": "client"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (missing.returncode, missing.stderr.count("SESSION_SPOOL")) == (78, 1)
