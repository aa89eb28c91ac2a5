"""The Redis that carries answers and caches is away, the broker is not (scenario F11)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from statistics import median

import pytest

from sandbox.processes import poll_until
from sandbox.redis_server import RedisServer
from sandbox.stack import Stack
from session_client import (
    Authenticated,
    BrokerUnavailable,
    Logout,
    NotAnswered,
    Registered,
    SessionClient,
)
from tests.faults.conftest import SHORT_TIMES
from tests.faults.looking import registered, rows, wait_until_mosaic_is_told
from tests.sending import send

WAITING_SECONDS = 2.0
IN_TIME_SECONDS = WAITING_SECONDS + 10  # it is meant to be told from waiting for ever
USERS = [f"user-{number}" for number in range(10)]

pytestmark = pytest.mark.usefixtures("patient_mosaic")


@pytest.fixture
def replies() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def stack(own_redis: RedisServer, replies: RedisServer) -> Iterator[Stack]:
    with Stack(redis=own_redis, settings=SHORT_TIMES) as stack:
        stack.environment["REDIS_URL"] = replies.url()
        stack.migrate()
        yield stack


@pytest.fixture
def client(stack: Stack, replies: RedisServer) -> Iterator[SessionClient]:
    key = stack.add_app("shop")
    stack.worker("-c", "4")
    stack.beat()
    with SessionClient(
        broker_url=stack.broker_url, app_id="shop", app_key=key, reply_url=replies.url()
    ) as client:
        yield client


def seconds_until_told_that_none_will_come(client: SessionClient) -> float:
    begin = time.monotonic()
    with pytest.raises((BrokerUnavailable, NotAnswered)):
        client.silent_auth(user_id="ada", timeout=WAITING_SECONDS)
    return time.monotonic() - begin


def send_logout(client: SessionClient, session: Registered, user: str) -> str:
    """Send it without waiting for the answer; return its request id."""
    request = Logout(user_id=user, session_ref=session.session_ref)
    return send(client, request, timeout=60).request_id


def ended(stack: Stack) -> int:
    query = "SELECT count(*) FROM idp_sessions WHERE end_cause = 'logout'"
    return int(rows(stack, query)[0][0])


def each_is_written_down_before_the_next(
    stack: Stack, client: SessionClient, sessions: dict[str, Registered]
) -> tuple[dict[str, str], list[float]]:
    """Log everybody out; return the request ids, and how long each took to be committed."""
    sent: dict[str, str] = {}
    seconds: list[float] = []
    for user, session in sessions.items():
        begin = time.monotonic()
        sent[user] = send_logout(client, session, user)
        poll_until(lambda: ended(stack) == len(sent), 30, what="the logout to be committed")
        seconds.append(time.monotonic() - begin)
    return sent, seconds


def all_is_well_again(
    stack: Stack,
    client: SessionClient,
    sessions: dict[str, Registered],
    sent: dict[str, str],
) -> None:
    """Each logout has its receipt, nothing was done twice, and who stayed is signed in."""
    for user, request_id in sent.items():
        receipt = client.logout(
            user_id=user,
            session_ref=sessions[user].session_ref,
            request_id=request_id,
            timeout=20,
        )
        assert receipt.sessions_ended == 1
        assert client.receipt(str(receipt.receipt_id), timeout=20).idp_pending == 0
    assert rows(stack, "SELECT count(*) FROM logout_requests") == [(len(sent),)]
    assert stack.mosaic.calls.count("session/logout") == len(sent)
    answer = client.silent_auth(user_id="ada", timeout=20)
    assert isinstance(answer, Authenticated)
    assert stack.processes["worker"].is_alive


def test_without_answers_waiters_hear_in_time_and_logouts_are_as_quick_as_ever(
    stack: Stack, client: SessionClient, replies: RedisServer
) -> None:
    registered(stack, client)
    sessions = {user: registered(stack, client, user) for user in USERS}
    replies.stop(kill=True)

    waited = seconds_until_told_that_none_will_come(client)
    sent, seconds = each_is_written_down_before_the_next(stack, client, sessions)
    wait_until_mosaic_is_told(stack, sessions=len(USERS))
    replies.start()

    assert waited < IN_TIME_SECONDS
    assert median(seconds) < 1  # not the slowest: that one tells of the machine
    all_is_well_again(stack, client, sessions, sent)


def test_answers_that_go_nowhere_delay_logouts_by_seconds_and_lose_none(
    stack: Stack, client: SessionClient, replies: RedisServer
) -> None:
    """Frozen, it accepts connections and says nothing: only time-outs tell."""
    registered(stack, client)
    sessions = {user: registered(stack, client, user) for user in USERS}
    replies.freeze()

    waited = seconds_until_told_that_none_will_come(client)
    # All at once: each holds its slot until the time-outs are over.
    sent = {user: send_logout(client, session, user) for user, session in sessions.items()}
    wait_until_mosaic_is_told(stack, sessions=len(USERS), timeout=40)
    replies.thaw()

    assert waited < IN_TIME_SECONDS
    all_is_well_again(stack, client, sessions, sent)
