"""The broker loses what it was given: kombu has no trace of it, the sweep brings it back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sandbox.processes import poll_until
from sandbox.proxy import FaultProxy
from sandbox.redis_server import RedisServer
from sandbox.stack import Stack
from session_client import SessionClient
from tests.faults.conftest import SHORT_TIMES
from tests.faults.looking import (
    broker,
    outcomes,
    registered,
    times_refused,
    wait_until_mosaic_is_told,
)

LOGOUT = "session/logout"

pytestmark = pytest.mark.usefixtures("patient_mosaic")


@pytest.fixture
def proxy(own_redis: RedisServer) -> Iterator[FaultProxy]:
    """Between worker and broker; apps reach the broker directly."""
    with FaultProxy("127.0.0.1", own_redis.port) as proxy:
        yield proxy


@pytest.fixture
def stack(own_redis: RedisServer, proxy: FaultProxy) -> Iterator[Stack]:
    url = f"redis://127.0.0.1:{proxy.port}/0"
    with Stack(redis=own_redis, broker_url=url, settings=SHORT_TIMES) as stack:
        stack.migrate()
        yield stack


@pytest.fixture
def client(stack: Stack) -> Iterator[SessionClient]:
    key = stack.add_app("shop")
    stack.worker("-c", "2")
    stack.beat()
    with SessionClient(broker_url=stack.redis.url(), app_id="shop", app_key=key) as client:
        yield client


def test_a_job_whose_delivery_was_lost_on_the_wire_is_done_once(
    stack: Stack, proxy: FaultProxy, client: SessionClient
) -> None:
    session = registered(stack, client)
    lost = proxy.drop_next_reply(b"logouts.end_at_idp")

    client.logout(user_id="ada", session_ref=session.session_ref, timeout=60)

    assert lost.wait(60)
    wait_until_mosaic_is_told(stack, timeout=60)
    assert stack.mosaic.calls.count(LOGOUT) == 1


def test_black_holed_connections_delay_a_logout_and_do_not_lose_it(
    stack: Stack, proxy: FaultProxy, client: SessionClient
) -> None:
    session = registered(stack, client)
    proxy.black_hole()  # the worker's present connections; new ones are fine

    client.logout(user_id="ada", session_ref=session.session_ref, timeout=90)

    wait_until_mosaic_is_told(stack, timeout=90)
    assert stack.mosaic.calls.count(LOGOUT) == 1


def test_a_broker_that_lost_everything_is_filled_again_from_the_database(
    stack: Stack, client: SessionClient
) -> None:
    sessions = [registered(stack, client, user) for user in ("ada", "bob")]
    stack.mosaic.faults.add(LOGOUT, "status", status=503)
    for user, session in zip(("ada", "bob"), sessions, strict=True):
        client.logout(user_id=user, session_ref=session.session_ref, timeout=60)
    poll_until(lambda: stack.mosaic.calls.count(LOGOUT) >= 2, 60, what="both to be refused")

    stack.redis.restart(keep_data=False, kill=True)
    stack.mosaic.faults.clear()

    wait_until_mosaic_is_told(stack, sessions=2)
    assert stack.mosaic.live_sessions() == []


def test_a_broker_that_is_full_and_then_read_only_stops_no_worker_and_loses_nothing(
    stack: Stack, client: SessionClient
) -> None:
    session = registered(stack, client)
    worker = stack.processes["worker"]
    stack.mosaic.faults.add(LOGOUT, "latency", seconds=1)
    client.logout(user_id="ada", session_ref=session.session_ref)
    poll_until(lambda: stack.mosaic.calls.count(LOGOUT) == 1, 60, what="the call to begin")

    with broker(stack) as redis:
        redis.config_set("maxmemory", "1")  # full, while the job ends
        poll_until(lambda: outcomes(stack) == ["confirmed"], 60, what="the job to end")
        redis.config_set("maxmemory", "0")
        # From here on nobody but the worker writes, so that whom Redis refuses is the worker.
        stack.processes["beat"].terminate()
        redis.replicaof("127.0.0.1", 1)  # read-only, as after a failover
        # Not the worker's log: what it says depends on the command it was at.
        poll_until(
            lambda: times_refused(redis, "READONLY") >= 3, 30, what="the worker to be refused"
        )
        assert redis.info("clients")["blocked_clients"] == 0  # it waits for no job meanwhile
        redis.replicaof("NO", "ONE")

    stack.beat(name="second-beat")
    other = registered(stack, client, "bob")
    client.logout(user_id="bob", session_ref=other.session_ref, timeout=30)
    wait_until_mosaic_is_told(stack, sessions=2)
    assert worker.is_alive


def test_an_outage_of_mosaic_that_outlasts_every_retry_in_a_process(
    stack: Stack, client: SessionClient
) -> None:
    session = registered(stack, client)
    stack.mosaic.faults.add(LOGOUT, "drop_request")
    client.logout(user_id="ada", session_ref=session.session_ref, timeout=60)
    poll_until(lambda: stack.mosaic.calls.count(LOGOUT) >= 4, 90, what="several attempts")
    assert outcomes(stack) == [None]

    stack.mosaic.faults.clear()

    wait_until_mosaic_is_told(stack)
    assert stack.mosaic.live_sessions() == []


def test_two_beats_do_everything_once(stack: Stack, client: SessionClient) -> None:
    stack.beat(name="second-beat")
    sessions = {user: registered(stack, client, user) for user in ("ada", "bob", "eve")}
    stack.mosaic.faults.add(LOGOUT, "status", status=503, times=3)

    for user, session in sessions.items():
        client.logout(user_id=user, session_ref=session.session_ref, timeout=60)

    wait_until_mosaic_is_told(stack, sessions=3)
    assert stack.mosaic.calls.count(LOGOUT) == 6  # each refused once, told once
