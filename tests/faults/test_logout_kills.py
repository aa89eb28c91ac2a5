"""A logout survives the worker being killed, at every step of its way.

The criterion is always the same: Mosaic has ended the session, the delivery is confirmed, and
nothing that matters was done twice.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sandbox.processes import ManagedProcess, poll_until
from sandbox.stack import Stack
from session_client import SessionClient
from session_client.requests import new_request_id
from tests.faults.locks import locked_until_left
from tests.faults.looking import outcomes, registered, rows, wait_until_mosaic_is_told

LOGOUT = "session/logout"


@pytest.fixture
def worker(stack: Stack) -> ManagedProcess:
    return stack.worker("-c", "2", name="first")


@pytest.fixture
def client(stack: Stack, worker: ManagedProcess) -> Iterator[SessionClient]:
    key = stack.add_app("shop")
    with SessionClient(broker_url=stack.broker_url, app_id="shop", app_key=key) as client:
        yield client


def start_successor(stack: Stack) -> None:
    """Start what a supervisor would."""
    stack.worker("-c", "2", name="second")
    stack.beat()


def told_once(stack: Stack) -> None:
    wait_until_mosaic_is_told(stack)
    assert stack.mosaic.live_sessions() == []
    assert rows(stack, "SELECT count(*) FROM logout_requests") == [(1,)]
    assert rows(stack, "SELECT sealed_session_id FROM idp_sessions") == [(None,)]


@pytest.mark.usefixtures("patient_mosaic")  # it is killed before there is a lease
def test_killed_before_the_commit(
    stack: Stack, worker: ManagedProcess, client: SessionClient
) -> None:
    session = registered(stack, client)
    request_id = new_request_id()
    with locked_until_left(stack):
        with pytest.raises(Exception, match="not acknowledged"):
            client.logout(
                user_id="ada", session_ref=session.session_ref, request_id=request_id, timeout=1
            )
        # It waits for the lock when it is killed: nothing is committed, nothing acknowledged.
        worker.kill()
    start_successor(stack)

    client.logout(user_id="ada", session_ref=session.session_ref, request_id=request_id, timeout=60)

    told_once(stack)
    assert stack.mosaic.calls.count(LOGOUT) == 1


def test_killed_after_the_commit_and_before_its_message(
    stack: Stack, worker: ManagedProcess, client: SessionClient
) -> None:
    session = registered(stack, client)
    client.logout(user_id="ada", session_ref=session.session_ref, timeout=60)
    wait_until_mosaic_is_told(stack)
    other = registered(stack, client, "bob")
    # What lies in the database between the commit and the message, and nothing else.
    stack.mosaic.faults.add(LOGOUT, "status", status=503)
    client.logout(user_id="bob", session_ref=other.session_ref, timeout=60)
    worker.kill()
    stack.redis.restart(keep_data=False)
    stack.mosaic.faults.clear()

    start_successor(stack)

    wait_until_mosaic_is_told(stack, sessions=2)
    assert stack.mosaic.live_sessions() == []


def test_killed_at_any_moment_after_the_acknowledgement(
    stack: Stack, worker: ManagedProcess, client: SessionClient
) -> None:
    session = registered(stack, client)

    client.logout(user_id="ada", session_ref=session.session_ref, timeout=60)
    worker.kill()
    start_successor(stack)

    told_once(stack)
    assert stack.mosaic.calls.count(LOGOUT) in {1, 2}


def test_killed_while_mosaic_works(
    stack: Stack, worker: ManagedProcess, client: SessionClient
) -> None:
    session = registered(stack, client)
    with stack.mosaic.gates.hold(LOGOUT, before=True) as gate:
        client.logout(user_id="ada", session_ref=session.session_ref, timeout=60)
        gate.wait_arrived()
        worker.kill()
    # Only now: its own call would stand at the gate until it times out, and be repeated.
    start_successor(stack)

    told_once(stack)
    assert stack.mosaic.calls.count(LOGOUT) in {1, 2}


def test_killed_between_mosaics_answer_and_its_record(
    stack: Stack, worker: ManagedProcess, client: SessionClient
) -> None:
    session = registered(stack, client)
    with stack.mosaic.gates.hold(LOGOUT) as gate:  # done there, not yet answered
        client.logout(user_id="ada", session_ref=session.session_ref, timeout=60)
        gate.wait_arrived()
        assert stack.mosaic.live_sessions() == []
        worker.kill()
    start_successor(stack)

    # Told a second time, and "session not found" is the confirmation.
    told_once(stack)
    assert stack.mosaic.calls.count(LOGOUT) == 2


def test_a_delivery_that_keeps_killing_its_worker_is_dead_lettered_and_seen(
    stack: Stack, worker: ManagedProcess, client: SessionClient
) -> None:
    session = registered(stack, client)
    with stack.mosaic.gates.hold(LOGOUT) as gate:
        client.logout(user_id="ada", session_ref=session.session_ref, timeout=60)
        gate.wait_arrived()
        # As if ten workers had died over it.
        rows(stack, "UPDATE logouts SET crashes = 10")
        worker.kill()
        second = stack.worker("-c", "2", name="second")
        stack.beat()
        poll_until(lambda: outcomes(stack) == ["dead"], 90, what="the delivery to be dead-lettered")

    assert "delivery_dead_lettered" in second.log_text()
