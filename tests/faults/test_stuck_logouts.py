"""Mosaic hangs on logouts while users wait at a login screen (scenario F19)."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from statistics import median

import pytest

from sandbox.processes import poll_until
from sandbox.stack import PREFIX, Stack
from session_client import (
    Authenticated,
    Logout,
    NotAnswered,
    Registered,
    SessionClient,
    SilentAuth,
)
from tests.faults.looking import (
    deliveries,
    log_lines,
    outcomes,
    registered,
    wait_until_mosaic_is_told,
)
from tests.sending import send

AUTHENTICATE = "session/authenticate"
LOGOUT = "session/logout"
STUCK = 50
SLOTS = 4
STUCK_SECONDS = 2.5
# The client's own patience; behind all that hang it would take half a minute.
LOGOUT_SECONDS = 10.0
MARGIN_SECONDS = 1.0  # who waits behind a stuck call waits for longer

pytestmark = pytest.mark.usefixtures("patient_mosaic")


@pytest.fixture
def client(stack: Stack) -> Iterator[SessionClient]:
    key = stack.add_app("shop")
    with SessionClient(broker_url=stack.broker_url, app_id="shop", app_key=key) as client:
        yield client


def all_logged_in(
    stack: Stack, client: SessionClient, kind: str, number: int
) -> dict[str, Registered]:
    users = [f"{kind}-{n}" for n in range(number)]
    with ThreadPoolExecutor(4) as threads:
        sessions = threads.map(lambda user: registered(stack, client, user), users)
        return dict(zip(users, sessions, strict=True))


def seconds_to_get_in(client: SessionClient, users: Sequence[str]) -> list[float]:
    """Sign each user in silently, two at a time; every one must get in."""

    def ask(user: str) -> float:
        begin = time.monotonic()
        answer = client.silent_auth(user_id=user, timeout=20)
        assert isinstance(answer, Authenticated), answer
        return time.monotonic() - begin

    with ThreadPoolExecutor(2) as threads:
        return list(threads.map(ask, users))


def test_fifty_stuck_logouts_keep_nobody_else_waiting(stack: Stack, client: SessionClient) -> None:
    stack.worker("-Q", "auth", "-c", "4", name="auth")
    stack.worker("-Q", "sessions,logout", "-c", "2", name="sessions")
    stack.environment[f"{PREFIX}MOSAIC_TIMEOUT_SECONDS"] = str(STUCK_SECONDS)  # for this one alone
    idp_worker = stack.worker("-Q", "idp,notify,maintenance", "-c", str(SLOTS), name="idp")
    leaving = all_logged_in(stack, client, "leaving", STUCK)
    # Each asks once, so that none is served from an earlier answer.
    others = all_logged_in(stack, client, "other", 40)
    waiting = list(others)
    idle = seconds_to_get_in(client, waiting[:20])

    stack.mosaic.faults.add(LOGOUT, "latency", seconds=60)
    for user, session in leaving.items():
        request = Logout(user_id=user, session_ref=session.session_ref)
        send(client, request, timeout=120)
    poll_until(lambda: len(outcomes(stack)) == STUCK, 60, what="the deliveries to be written down")
    poll_until(lambda: stack.mosaic.calls.count(LOGOUT) >= SLOTS, 30, what="calls to hang")
    early = seconds_to_get_in(client, waiting[20:30])
    poll_until(
        lambda: idp_worker.log_text().count("idp_logout_failed") > SLOTS,
        60,
        what="several to have been given up",
    )
    late = seconds_to_get_in(client, waiting[30:])
    begin = time.monotonic()
    last = others[waiting[-1]].session_ref
    client.logout(user_id=waiting[-1], session_ref=last, timeout=60)
    written_down = time.monotonic() - begin

    assert outcomes(stack) == [None] * (STUCK + 1)  # all the while
    # Not the slowest, which tell of the machine: behind stuck calls nearly all would wait.
    assert median(early + late) <= median(idle) + MARGIN_SECONDS
    assert written_down < LOGOUT_SECONDS
    stack.mosaic.faults.clear()
    stack.beat()
    wait_until_mosaic_is_told(stack, sessions=STUCK + 1, timeout=180)


def test_a_silent_authentication_whose_time_ran_out_in_the_queue_costs_mosaic_nothing(
    stack: Stack, client: SessionClient
) -> None:
    worker = stack.worker("-c", "1")
    for user in ("ada", "bob"):
        registered(stack, client, user)
    with stack.mosaic.gates.hold(AUTHENTICATE, before=True) as gate:
        send(client, SilentAuth(user_id="ada"), timeout=60)
        gate.wait_arrived(timeout_seconds=30)  # the only slot is taken

        with pytest.raises(NotAnswered):
            client.silent_auth(user_id="bob", timeout=2)
        time.sleep(0.5)  # the client gives up a moment before the deadline

    poll_until(
        lambda: any(line.get("reason") == "deadline_passed" for line in log_lines(worker)),
        20,
        what="the late one to be turned away",
    )
    poll_until(
        lambda: deliveries(worker, "sessions.silent_auth", redelivered=False) == 2,
        20,
        what="both to end",
    )
    assert stack.mosaic.calls.count(AUTHENTICATE) == 1
