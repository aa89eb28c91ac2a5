"""The broker breaks while jobs are under way (scenarios F7, F8, F10).

Each test counts what Mosaic saw: a job that is delivered twice must not be done twice.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from sandbox.processes import poll_until
from sandbox.stack import Stack
from session_client import (
    Authenticated,
    NotAnswered,
    Registered,
    SessionClient,
    SilentAuth,
    Wishes,
)
from tests.faults.looking import (
    broker,
    deliveries,
    registered,
    wait_until_mosaic_is_told,
)
from tests.sending import send

END_AT_IDP = "logouts.end_at_idp"
POOLS = pytest.mark.parametrize("pool", ["threads", "processes"])

pytestmark = pytest.mark.usefixtures("patient_mosaic")


@POOLS
def test_connections_killed_during_a_call_deliver_the_job_twice_but_call_mosaic_once(
    stack: Stack, pool: str
) -> None:
    key = stack.add_app("shop")
    worker = stack.worker("-P", pool, "-c", "2")
    with (
        SessionClient(broker_url=stack.broker_url, app_id="shop", app_key=key) as client,
        broker(stack) as redis,
    ):
        session = registered(stack, client)
        with stack.mosaic.gates.hold("session/logout") as gate:
            client.logout(user_id="ada", session_ref=session.session_ref, timeout=60)
            gate.wait_arrived()
            redis.client_kill_filter(_type="normal", skipme=True)
            # Before the call ends: a job that is done by then would not come again.
            poll_until(
                lambda: deliveries(worker, END_AT_IDP, redelivered=True) >= 1,
                60,
                what="the second delivery",
            )
        wait_until_mosaic_is_told(stack)

    assert worker.is_alive
    assert stack.mosaic.calls.count("session/logout") == 1
    assert stack.mosaic.live_sessions() == []


@POOLS
@pytest.mark.parametrize("kill", [False, True], ids=["stopped", "killed"])
def test_a_redis_restart_with_a_job_under_way_loses_nothing_and_stops_no_worker(
    stack: Stack, pool: str, *, kill: bool
) -> None:
    key = stack.add_app("shop")
    worker = stack.worker("-P", pool, "-c", "2")
    pid = worker.pid
    beat = stack.beat()
    with SessionClient(broker_url=stack.broker_url, app_id="shop", app_key=key) as client:
        session = registered(stack, client)
        with stack.mosaic.gates.hold("session/logout") as gate:
            client.logout(user_id="ada", session_ref=session.session_ref, timeout=60)
            gate.wait_arrived()
            stack.redis.stop(kill=kill)
        poll_until(
            lambda: stack.mosaic.calls.log()[-1].status is not None,
            60,
            what="the call to end while Redis is away",
        )
        stack.redis.start()
        answer = client.register(
            user_id="bob",
            session_id=(login := stack.mosaic.login("bob", "client-shop")).session_id,
            id_token=login.id_token,
            timeout=60,
        )
        wait_until_mosaic_is_told(stack)

    assert isinstance(answer, Registered)
    assert (worker.is_alive, worker.pid) == (True, pid)
    assert beat.is_alive
    assert stack.mosaic.calls.count("session/logout") == 1


def is_answered(client: SessionClient) -> bool:
    """Whether the worker is back; a request may get lost while it finds its way to Redis."""
    with suppress(NotAnswered):
        client.status(user_id="ada", timeout=5)
        return True
    return False


def test_jobs_that_end_while_redis_is_away_leave_every_slot_usable(stack: Stack) -> None:
    users = ("ada", "bob", "eve")  # three, or they would share one call
    slots = len(users)
    key = stack.add_app("shop")
    worker = stack.worker("-c", str(slots))
    with SessionClient(broker_url=stack.broker_url, app_id="shop", app_key=key) as client:
        for user in users:
            registered(stack, client, user)
        with stack.mosaic.gates.hold("session/authenticate") as gate:
            for user in users:
                send(client, SilentAuth(user_id=user), timeout=60)
            gate.wait_arrived(slots)  # all slots are busy
            stack.redis.stop()
        poll_until(
            lambda: worker.log_text().count("answer_not_delivered") == slots,
            60,
            what="the jobs to end without Redis",
        )
        stack.redis.start()
        poll_until(lambda: is_answered(client), 60, what="the worker to be back")
        # What Redis still had notes of comes again, and has no business at the next gate.
        with broker(stack) as redis:
            poll_until(
                lambda: redis.llen("auth") == redis.hlen("unacked") == 0, 60, what="it to be done"
            )

        # As many as there are slots, and all of them served side by side.
        with (
            ThreadPoolExecutor(slots) as threads,
            stack.mosaic.gates.hold("session/authenticate") as gate,
        ):
            asked = [
                threads.submit(
                    client.silent_auth, user_id=user, wishes=Wishes(resource="urn:anew"), timeout=60
                )
                for user in users
            ]
            gate.wait_arrived(slots)
        answers = [answer.result() for answer in asked]

    assert all(isinstance(answer, Authenticated) for answer in answers)
    assert worker.is_alive
    in_flight = [call for call in stack.mosaic.calls.log() if call.status is None]
    assert in_flight == []
