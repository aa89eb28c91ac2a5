"""The database is locked while jobs are under way (scenario F20 on SQLite)."""

from __future__ import annotations

import time

import pytest

from sandbox.stack import Stack
from session_client import Authenticated, SessionClient, WorkerUnavailable
from tests.faults.locks import locked, locked_until_left
from tests.faults.looking import outcomes, registered, rows, wait_until_mosaic_is_told

LOCKED_SECONDS = 6.5  # longer than the busy timeout, so that statements fail


@pytest.mark.usefixtures("patient_mosaic")
def test_a_logout_during_a_locked_database_is_acknowledged_only_once_it_is_committed(
    stack: Stack,
) -> None:
    key = stack.add_app("shop")
    worker = stack.worker("-c", "2")
    with SessionClient(broker_url=stack.broker_url, app_id="shop", app_key=key) as client:
        session = registered(stack, client)

        with locked(stack, LOCKED_SECONDS):
            receipt = client.logout(user_id="ada", session_ref=session.session_ref, timeout=90)
            # Acknowledged means committed: the row is there at this very moment.
            assert rows(stack, "SELECT end_cause FROM idp_sessions") == [("logout",)]

        wait_until_mosaic_is_told(stack)

    assert receipt.sessions_ended == 1
    assert rows(stack, "SELECT count(*) FROM logout_requests") == [(1,)]
    assert stack.mosaic.calls.count("session/logout") == 1
    assert worker.is_alive


def test_an_app_that_cannot_wait_is_told_to_try_later_and_nothing_is_half_done(
    stack: Stack,
) -> None:
    key = stack.add_app("shop")
    worker = stack.worker("-c", "2")
    with SessionClient(broker_url=stack.broker_url, app_id="shop", app_key=key) as client:
        registered(stack, client)

        # The tokens are fetched, but the renewal cannot be written: they are not handed out.
        with (
            locked_until_left(stack),
            pytest.raises(WorkerUnavailable, match="store_unavailable") as caught,
        ):
            client.silent_auth(user_id="ada", timeout=60)

        time.sleep(caught.value.retry_after or 0)  # until then identical requests are told the same
        after = client.silent_auth(user_id="ada", timeout=60)

    assert isinstance(after, Authenticated)
    assert outcomes(stack) == []
    assert worker.is_alive


def test_a_locked_database_delays_telling_mosaic_and_loses_nothing(stack: Stack) -> None:
    key = stack.add_app("shop")
    stack.worker("-c", "2")
    stack.beat()
    with SessionClient(broker_url=stack.broker_url, app_id="shop", app_key=key) as client:
        session = registered(stack, client)
        with stack.mosaic.gates.hold("session/logout") as gate:
            client.logout(user_id="ada", session_ref=session.session_ref, timeout=60)
            gate.wait_arrived()

            with locked(stack, LOCKED_SECONDS):
                gate.release()

        wait_until_mosaic_is_told(stack)

    # Told while the outcome could not be written, and so perhaps told again: never less than once.
    assert stack.mosaic.calls.count("session/logout") in {1, 2}
    assert stack.mosaic.live_sessions() == []
