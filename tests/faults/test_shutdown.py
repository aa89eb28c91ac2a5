"""A worker is told to stop while it has much to do (scenario F22)."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import pytest

from sandbox.processes import poll_until
from sandbox.stack import Stack
from session_client import Registered, SessionClient, SessionClientError
from tests.faults.looking import registered, rows, wait_until_mosaic_is_told

LOGOUT = "session/logout"
LOGOUTS = 12
SOFT_LIMIT_SECONDS = 50  # task_soft_time_limit in celeryconfig.py
POOLS = pytest.mark.parametrize("pool", ["threads", "processes"])


@pytest.fixture
def client(stack: Stack) -> Iterator[SessionClient]:
    key = stack.add_app("shop")
    with SessionClient(broker_url=stack.broker_url, app_id="shop", app_key=key) as client:
        yield client


def all_logged_in(stack: Stack, client: SessionClient) -> dict[str, Registered]:
    users = [f"user-{number}" for number in range(LOGOUTS)]
    return {user: registered(stack, client, user) for user in users}


@contextmanager
def load(client: SessionClient, sessions: dict[str, Registered]) -> Iterator[None]:
    """Silent authentications without end, and every user's logout; leaving waits for these."""
    stop = threading.Event()

    def ask_without_end() -> None:
        while not stop.is_set():
            with suppress(SessionClientError):  # nobody is there for a moment: a login screen
                client.silent_auth(user_id="ada", timeout=2)

    def log_out(user: str) -> None:
        client.logout(user_id=user, session_ref=sessions[user].session_ref, timeout=60)

    with ThreadPoolExecutor(6) as threads:
        asking = [threads.submit(ask_without_end) for _ in range(2)]
        try:
            leaving = [threads.submit(log_out, user) for user in sessions]
            yield
            for logout in leaving:
                logout.result()
        finally:
            stop.set()
        for one in asking:
            one.result()


def told_of_all(stack: Stack) -> None:
    wait_until_mosaic_is_told(stack, sessions=LOGOUTS, timeout=60)
    assert {session.user_id for session in stack.mosaic.live_sessions()} == {"ada"}
    assert rows(stack, "SELECT count(*), sum(sessions_ended) FROM logout_requests") == [
        (LOGOUTS, LOGOUTS)
    ]


@POOLS
@pytest.mark.usefixtures("patient_mosaic")
def test_a_worker_told_to_stop_under_load_ends_in_time_with_code_0_and_loses_nothing(
    stack: Stack, client: SessionClient, pool: str
) -> None:
    first = stack.worker("-P", pool, "-c", "4", name="first")
    stack.beat()
    registered(stack, client)
    sessions = all_logged_in(stack, client)
    stack.mosaic.faults.add(LOGOUT, "latency", seconds=1)

    with load(client, sessions):
        poll_until(lambda: stack.mosaic.calls.count(LOGOUT) >= 3, 30, what="calls under way")
        first.terminate(timeout=SOFT_LIMIT_SECONDS + 5)
        stack.worker("-P", pool, "-c", "4", name="second")

    told_of_all(stack)
    assert first.returncode == 0
    # What was under way was finished, so that nobody had to do it again.
    assert stack.mosaic.calls.count(LOGOUT) == LOGOUTS


@POOLS
def test_what_a_worker_killed_at_the_end_of_its_grace_left_behind_is_done_by_the_next(
    stack: Stack, client: SessionClient, pool: str
) -> None:
    first = stack.worker("-P", pool, "-c", "4", name="first")
    stack.beat()
    registered(stack, client)
    sessions = all_logged_in(stack, client)

    with load(client, sessions), stack.mosaic.gates.hold(LOGOUT) as gate:
        gate.wait_arrived(2, timeout_seconds=30)  # done there, not yet answered
        first.send(signal.SIGTERM)
        first.wait_for_line("Warm shutdown")
        first.kill()
        gate.release()  # before there are more calls, which would stand at it until they time out
        stack.worker("-P", pool, "-c", "4", name="second")

    told_of_all(stack)
    # Told again at most where the worker died with the answer.
    assert LOGOUTS <= stack.mosaic.calls.count(LOGOUT) <= LOGOUTS + 4


@POOLS
@pytest.mark.usefixtures("patient_mosaic")
def test_a_worker_told_to_stop_at_once_ends_and_the_next_does_what_it_left(
    stack: Stack, client: SessionClient, pool: str
) -> None:
    """SIGQUIT, and again while it waits for its jobs (Celery's soft shutdown)."""
    first = stack.worker("-P", pool, "-c", "2", name="first")
    stack.beat()
    session = registered(stack, client)

    with stack.mosaic.gates.hold(LOGOUT) as gate:
        client.logout(user_id="ada", session_ref=session.session_ref, timeout=60)
        gate.wait_arrived(1, timeout_seconds=30)
        first.send(signal.SIGQUIT)
        first.wait_for_line("Initiating Soft Shutdown")
        first.send(signal.SIGQUIT)
        first.wait_for_line("Waiting gracefully for cold shutdown")
        gate.release()
        first.wait(timeout=SOFT_LIMIT_SECONDS + 5)
    stack.worker("-P", pool, "-c", "2", name="second")

    wait_until_mosaic_is_told(stack, timeout=120)
    assert "NotImplementedError" not in first.log_text()
    assert "Traceback" not in first.log_text()
    assert stack.mosaic.live_sessions() == []


def test_beat_that_waits_for_its_broker_when_it_is_told_to_stop_stops(stack: Stack) -> None:
    beat = stack.beat()
    beat.wait_for_line("beat: Waking up")  # frozen while it sends, it says nothing for 20 s
    stack.redis.freeze()
    sending = beat.log_text().count("Sending due task")
    poll_until(lambda: beat.log_text().count("Sending due task") > sending, 30)

    beat.send(signal.SIGTERM)
    # From here on nothing holds it up.
    stack.redis.thaw()

    assert beat.wait(timeout=30) == 0
