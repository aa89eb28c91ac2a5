"""Tokens on their way to an app while the user logs out: they come within a second, or not at all.

The slide that was committed is the point of no return, but the Redis that carries the answers may
be slow, and the app may have been told of the logout before its tokens come.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from models import EndCause, IdpSession
from sandbox.processes import poll_until
from sandbox.redis_server import RedisServer
from session_client import contract, logins, methods, requests
from session_client.contract import Reason, Verdict
from simulator.server import SimulatorServer
from tests.stage import ImpatientStage, Sent, Stage, redis_client
from worker.logins import authenticate, call_once, refresh
from worker.logout.end_sessions import end_sessions
from worker.operations import apps
from worker.requests import replies
from worker.sessions import queries
from worker.sessions.audit import Cause
from worker.sign_in import ask_mosaic
from worker.traffic import SharedAnswer

LATE_SECONDS = replies.MAX_TOKENS_AGE_SECONDS + 0.3

pytestmark = pytest.mark.usefixtures("redis_server")  # Celery is configured for one that is up


class SlowRedis:
    """A stage whose Redis stands still when a test says so."""

    def __init__(self, stage: Stage, server: RedisServer) -> None:
        self.stage = stage
        self.server = server
        self.ref = stage.registered("ada", "shop")

    def stand_still(self, seconds: float = LATE_SECONDS) -> None:
        """Take what is sent from now on, and look at it after *seconds*."""
        self.server.freeze()
        threading.Timer(seconds, self.server.thaw).start()

    def log_out(self) -> None:
        """Commit a logout of ada everywhere, and acknowledge it by another Redis."""
        with self.stage.services.store.write() as connection:
            end_sessions(
                connection,
                self.stage.services,
                IdpSession.user_id == "ada",
                EndCause.LOGOUT,
                by=Cause("shop", None),
                lifetime=timedelta(days=1),
            )


@contextmanager
def slow_redis(
    store_url: str, mosaic: SimulatorServer, kind: type[Stage] = ImpatientStage
) -> Iterator[SlowRedis]:
    with (
        RedisServer() as server,
        kind(store_url, server.url(), mosaic, reuse_seconds="30") as stage,
    ):
        stage.add_app("shop")
        stage.add_app("forum")
        yield SlowRedis(stage, server)


@pytest.fixture
def slow(store_url: str, mosaic: SimulatorServer) -> Iterator[SlowRedis]:
    with slow_redis(store_url, mosaic, Stage) as slow:
        yield slow


def after(monkeypatch: pytest.MonkeyPatch, where: tuple[Any, str], act: Callable[[], None]) -> None:
    """Do *act* once, when a function has returned."""
    original = getattr(*where)
    acts = [act]

    def and_then(*arguments: Any, **options: Any) -> Any:
        returned = original(*arguments, **options)
        if acts:
            acts.pop()()
        return returned

    monkeypatch.setattr(*where, and_then)


@pytest.mark.parametrize("is_logged_out", [True, False])
def test_tokens_that_redis_takes_late_are_given_only_if_the_session_is_still_live(
    slow: SlowRedis, monkeypatch: pytest.MonkeyPatch, *, is_logged_out: bool
) -> None:
    def meanwhile() -> None:
        slow.stand_still()
        if is_logged_out:
            slow.log_out()

    after(monkeypatch, (ask_mosaic, "settle"), meanwhile)

    answer = slow.stage.silent_auth()

    if is_logged_out:
        assert (answer.verdict, answer.reason) == (Verdict.LOGIN_REQUIRED, Reason.LOGGED_OUT)
        assert answer.tokens is None
    else:
        assert answer.verdict is Verdict.AUTHENTICATED
        assert UUID(answer.session_ref) == slow.ref


def a_login(stage: Stage) -> Sent:
    return stage.seal("shop", logins.Authenticate(proof=methods.Password("ada", "hers")))


def a_repeated_login(stage: Stage) -> Sent:
    sent = a_login(stage)
    assert stage.deliver(sent).verdict is Verdict.AUTHENTICATED
    stage.redis.flushall()
    return sent


def a_refresh(stage: Stage) -> Sent:
    token = stage.deliver(a_login(stage)).tokens.refresh_token
    return stage.seal("shop", requests.Refresh(refresh_token=token))


@pytest.mark.parametrize(
    ("ask", "where"),
    [
        (a_login, (authenticate, "settle")),
        (a_repeated_login, (call_once, "_repeated")),
        (a_refresh, (refresh, "_store")),
    ],
)
def test_late_tokens_of_a_login_its_repeat_or_a_refresh_are_not_given_after_a_logout(
    slow: SlowRedis,
    monkeypatch: pytest.MonkeyPatch,
    ask: Callable[[Stage], Sent],
    where: tuple[Any, str],
) -> None:
    slow.stage.mosaic.state.add_user("ada", password="hers")
    apps.set_app(slow.stage.services, "shop", allow=("offline",), methods=("password",))
    slow.stage.reread_apps()
    sent = ask(slow.stage)

    def meanwhile() -> None:
        slow.stand_still()
        slow.log_out()

    after(monkeypatch, where, meanwhile)

    answer = slow.stage.deliver(sent)

    assert (answer.verdict, answer.reason) == (Verdict.LOGIN_REQUIRED, Reason.LOGGED_OUT)
    assert answer.tokens is None


def test_tokens_that_a_worker_gave_up_to_push_do_not_come_when_redis_is_back(
    sqlite_url: str, mosaic: SimulatorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with slow_redis(sqlite_url, mosaic) as slow:

        def meanwhile() -> None:
            slow.stand_still(seconds=3.0)
            slow.log_out()

        after(monkeypatch, (ask_mosaic, "settle"), meanwhile)
        sent = slow.stage.seal("forum", requests.SilentAuth(user_id="ada"))

        slow.stage.run(sent)

        with redis_client(slow.server.url()) as client:
            poll_until(client.ping, 30, what="Redis to be back")
            client.set("nothing", "comes after what was sent before")
            assert client.llen(contract.reply_key("forum", sent.request_id)) == 0


def test_a_shared_answer_is_given_only_if_the_session_is_live_once_it_has_come(
    slow: SlowRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = slow.stage.silent_auth()
    single_flight = slow.stage.services.traffic.single_flight
    join, joined = single_flight.join, []

    def and_log_out(plan: Any) -> Any:
        joined.append(join(plan))
        slow.log_out()
        return joined[-1]

    monkeypatch.setattr(single_flight, "join", and_log_out)

    second = slow.stage.silent_auth()

    assert first.verdict is Verdict.AUTHENTICATED
    assert isinstance(joined[0], SharedAnswer)
    assert (second.verdict, second.reason) == (Verdict.LOGIN_REQUIRED, Reason.LOGGED_OUT)


def test_a_repeated_request_is_served_anew_if_its_answer_would_come_late(
    slow: SlowRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = slow.stage.seal("forum", requests.SilentAuth(user_id="ada"))
    assert slow.stage.deliver(sent).verdict is Verdict.AUTHENTICATED

    def meanwhile() -> None:
        slow.stand_still()
        slow.log_out()

    after(monkeypatch, (queries, "is_live"), meanwhile)

    again = slow.stage.deliver(sent)

    assert (again.verdict, again.reason) == (Verdict.LOGIN_REQUIRED, Reason.LOGGED_OUT)


def test_where_each_look_is_followed_by_a_second_of_silence_the_app_is_asked_to_come_back(
    slow: SlowRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replies, "MAX_TOKENS_AGE_SECONDS", -1.0)  # whatever comes is late

    answer = slow.stage.silent_auth()

    assert (answer.verdict, answer.tokens) == (Verdict.TEMPORARILY_UNAVAILABLE, None)


def test_a_worker_that_never_heard_of_redis_clock_asks_for_it(
    slow: SlowRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    after(
        monkeypatch,
        (ask_mosaic, "settle"),
        lambda: setattr(slow.stage.services.reply_store, "_clock", None),
    )

    assert slow.stage.silent_auth().verdict is Verdict.AUTHENTICATED
