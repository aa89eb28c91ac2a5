"""The disk under the database is full (scenario F20)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sandbox.processes import ManagedProcess, poll_until
from sandbox.stack import Stack
from session_client import Logout, NotAcknowledged, SessionClient, Verdict
from tests.faults.full_disk import full_disk
from tests.faults.looking import outcomes, registered, rows, wait_until_mosaic_is_told
from tests.heard import told
from tests.sending import send

LOGOUT = "session/logout"
IN = (Verdict.AUTHENTICATED, None)


@pytest.fixture
def worker(stack: Stack) -> ManagedProcess:
    return stack.worker("-c", "2")


@pytest.fixture
def client(stack: Stack, worker: ManagedProcess) -> Iterator[SessionClient]:
    key = stack.add_app("shop")
    with SessionClient(broker_url=stack.broker_url, app_id="shop", app_key=key) as client:
        yield client


def test_on_a_full_disk_nothing_is_acknowledged_and_nothing_is_handed_out(
    stack: Stack, worker: ManagedProcess, client: SessionClient
) -> None:
    session = registered(stack, client)
    registered(stack, client, "bob")
    with full_disk(stack, worker):
        with pytest.raises(NotAcknowledged, match="store_unavailable") as refused:
            client.logout(user_id="ada", session_ref=session.session_ref, timeout=10)
        # The tokens are fetched, but the renewal cannot be written: they are not handed out.
        answer = told(lambda: client.silent_auth(user_id="bob", timeout=15))
        assert rows(stack, "SELECT count(*) FROM logout_requests") == [(0,)]
        assert rows(stack, "SELECT count(*) FROM idp_sessions WHERE ended_at IS NOT NULL") == [(0,)]

    receipt = client.logout(
        user_id="ada",
        session_ref=session.session_ref,
        request_id=refused.value.request_id,
        timeout=30,
    )
    wait_until_mosaic_is_told(stack)
    poll_until(
        lambda: told(lambda: client.silent_auth(user_id="bob", timeout=15)) == IN,
        20,
        what="bob to get in",
    )

    assert answer == (Verdict.TEMPORARILY_UNAVAILABLE, "store_unavailable")
    assert receipt.sessions_ended == 1
    assert rows(stack, "SELECT count(*) FROM logout_requests") == [(1,)]
    assert stack.mosaic.calls.count(LOGOUT) == 1
    assert worker.is_alive


def test_a_logout_nobody_repeats_is_done_when_there_is_space_again(
    stack: Stack, worker: ManagedProcess, client: SessionClient
) -> None:
    session = registered(stack, client)
    with full_disk(stack, worker):
        # Sent once: `logout` would send it again, and the worker be spared its own attempt.
        request = Logout(user_id="ada", session_ref=session.session_ref)
        refused = told(send(client, request, timeout=60).wait)
        assert outcomes(stack) == []

    wait_until_mosaic_is_told(stack)  # the worker itself tries again

    assert refused == (Verdict.TEMPORARILY_UNAVAILABLE, "store_unavailable")
    assert rows(stack, "SELECT count(*) FROM logout_requests") == [(1,)]
    assert worker.is_alive


@pytest.mark.usefixtures("patient_mosaic")
def test_mosaics_answer_that_cannot_be_written_down_is_asked_for_again(
    stack: Stack, worker: ManagedProcess, client: SessionClient
) -> None:
    stack.beat()
    session = registered(stack, client)
    with stack.mosaic.gates.hold(LOGOUT) as gate:
        client.logout(user_id="ada", session_ref=session.session_ref, timeout=20)
        gate.wait_arrived(timeout_seconds=30)
        with full_disk(stack, worker):
            gate.release()
            poll_until(
                lambda: "logout_left_to_sweep" in worker.log_text(), 30, what="the failed write"
            )
            assert outcomes(stack) == [None]

    rows(stack, "UPDATE logouts SET leased_until = created_at")  # as if that time were over
    wait_until_mosaic_is_told(stack, timeout=60)

    assert stack.mosaic.calls.count(LOGOUT) == 2
    assert stack.mosaic.live_sessions() == []
    assert worker.is_alive
