"""The broker delivers at least once: every message twice, in a row and at the same time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

from session_client import contract, requests, times
from session_client.contract import Reason, Verdict
from tests.stage import Sent, Stage
from worker.tasks import logouts, maintenance, notices

ASK = "session/authenticate"


@pytest.fixture
def apps(stage: Stage) -> Stage:
    stage.add_app("shop")
    stage.add_app("forum")
    stage.add_app("desk", capabilities=("logout_user",))
    return stage


def register(stage: Stage) -> Sent:
    login = stage.login("ada", "shop")
    return stage.seal(
        "shop",
        requests.Register(session_id=login.session_id, user_id="ada", id_token=login.id_token),
    )


def silent_auth(stage: Stage) -> Sent:
    stage.registered()
    return stage.seal("forum", requests.SilentAuth(user_id="ada"))


def status(stage: Stage) -> Sent:
    stage.registered()
    return stage.seal("shop", requests.Status(user_id="ada"))


def logout_of_session(stage: Stage) -> Sent:
    ref = stage.registered()
    return stage.seal("shop", requests.Logout(user_id="ada", session_ref=str(ref)))


def logout_of_user(stage: Stage) -> Sent:
    for _ in range(3):
        stage.registered()
    return stage.seal("desk", requests.Logout(user_id="ada", everywhere=True))


def logout_of_device(stage: Stage) -> Sent:
    for _ in range(3):
        stage.registered(device_id="phone")
    return stage.seal("shop", requests.Logout(user_id="ada", device_id="phone"))


def logout_before_registration(stage: Stage) -> Sent:
    login = stage.login("ada", "shop")
    return stage.seal("shop", requests.Logout(user_id="ada", session_id=login.session_id))


MESSAGES = [
    register,
    silent_auth,
    status,
    logout_of_session,
    logout_of_user,
    logout_of_device,
    logout_before_registration,
]


@pytest.mark.parametrize("make", MESSAGES)
def test_a_message_delivered_again_gets_the_same_answer_and_changes_nothing(
    apps: Stage, make: Callable[[Stage], Sent]
) -> None:
    sent = make(apps)
    first = apps.deliver(sent)
    before, calls = apps.dump(), apps.mosaic.state.calls.count()

    second = apps.deliver(sent)

    assert first.is_yes
    assert second == first
    assert apps.dump() == before
    assert apps.mosaic.state.calls.count() == calls


@pytest.mark.parametrize("make", MESSAGES)
def test_a_message_delivered_again_after_redis_forgot_it_is_harmless(
    apps: Stage, make: Callable[[Stage], Sent]
) -> None:
    sent = make(apps)
    first = apps.deliver(sent)
    before = apps.dump()
    apps.redis.flushall()

    second = apps.deliver(sent)

    assert second.verdict is first.verdict
    same = {"idp_sessions", "logouts", "logout_requests", "app_sessions", "session_events"}
    if sent.task is contract.Task.SILENT_AUTH:
        same = {"logouts", "logout_requests"}  # it has asked again, and was given tokens again
    after = apps.dump()
    assert {table: after[table] for table in same} == {table: before[table] for table in same}


@pytest.mark.parametrize("make", MESSAGES)
def test_a_message_delivered_many_times_at_once_is_harmless(
    apps: Stage, make: Callable[[Stage], Sent]
) -> None:
    sent = make(apps)
    live_before = sum(session.ended_at is None for session in apps.sessions())

    apps.at_once(*[lambda: apps.run(sent)] * 5)

    answers = [apps.answer_to(sent) for _ in range(5)]
    assert all(answer.is_yes for answer in answers)
    live = sum(session.ended_at is None for session in apps.sessions())
    is_logout = sent.task is contract.Task.LOGOUT
    assert live == (0 if is_logout else max(live_before, 1))
    assert len(apps.logouts()) == (max(live_before, 1) if is_logout else 0)
    assert len(apps.sessions()) == max(live_before, 1)


def test_an_answer_is_remembered_for_as_long_as_its_message_lives(apps: Stage) -> None:
    login = apps.login("ada", "shop")
    request = requests.Register(session_id=login.session_id, user_id="ada", id_token=login.id_token)
    deadline = times.to_wire(apps.now() + contract.MAX_LIFETIME[request.task] / 2)
    sent = apps.seal("shop", request, deadline=deadline)

    for _ in range(2):  # being asked for does not make it shorter
        apps.deliver(sent)

        (key,) = apps.redis.keys("request:*")
        assert 400 < apps.redis.ttl(key) <= 451


def test_of_a_logout_redis_keeps_nothing_for_the_day_that_its_message_may_live(
    apps: Stage,
) -> None:
    """The database has its receipt; logouts of a day would fill the Redis of the answers."""
    ref = apps.deliver(register(apps)).session_ref
    apps.redis.flushall()
    request = requests.Logout(user_id="ada", session_ref=ref)
    deadline = times.to_wire(apps.now() + contract.MAX_LIFETIME[request.task])

    apps.deliver(apps.seal("shop", request, deadline=deadline))

    (key,) = apps.redis.keys("request:*")
    assert 0 < apps.redis.ttl(key) <= contract.ANSWER_LIFETIME.total_seconds()


def test_a_registration_delivered_again_after_a_logout_is_told_of_it(apps: Stage) -> None:
    sent = register(apps)
    ref = apps.deliver(sent).session_ref
    apps.log_out(session_ref=ref)

    again = apps.deliver(sent)

    assert (again.verdict, again.reason) == (Verdict.LOGIN_REQUIRED, Reason.LOGGED_OUT)


def test_an_answer_outlives_a_claim_that_redis_lost_meanwhile(apps: Stage) -> None:
    sent = silent_auth(apps)
    with (
        apps.mosaic.state.gates.hold(ASK) as gate,
        apps.meanwhile(lambda: apps.deliver(sent)) as first,
    ):
        gate.wait_arrived()
        apps.redis.flushall()
        gate.release()

    other = apps.seal("forum", requests.SilentAuth(user_id="bob"), request_id=sent.request_id)
    assert apps.deliver(other).reason == Reason.REQUEST_ID_REUSED
    assert apps.deliver(sent) == first.result()
    assert all(apps.redis.ttl(key) > 0 for key in apps.redis.keys("request:*"))


def test_the_same_id_with_other_content_is_refused_and_the_first_answer_kept(apps: Stage) -> None:
    sent = silent_auth(apps)
    first = apps.deliver(sent)
    other = apps.seal("forum", requests.SilentAuth(user_id="bob"), request_id=sent.request_id)
    before = apps.dump()

    refused = apps.deliver(other)

    assert (refused.verdict, refused.reason) == (
        Verdict.INVALID_REQUEST,
        Reason.REQUEST_ID_REUSED,
    )
    assert apps.dump() == before
    assert apps.deliver(sent) == first


# --- internal messages


def test_ending_at_mosaic_delivered_many_times_tells_it_once(apps: Stage) -> None:
    apps.deliver(logout_of_session(apps))
    (delivery,) = apps.logouts()

    apps.at_once(*[lambda: logouts.end_at_idp(str(delivery.id))] * 5)
    logouts.end_at_idp(str(delivery.id))

    assert apps.mosaic.state.calls.count("session/logout") == 1
    assert apps.logouts()[0].outcome == "confirmed"


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        (None,),
        (7,),
        ("x\ny",),
        ("\n" + "0" * 31,),
        ("{01a20872-f07c-748e-a5d6-4108532b6f0a}",),
        ("01A20872-F07C-748E-A5D6-4108532B6F0A",),
        ("01a20872-f07c-748e-a5d6-4108532b6f0a", 1),
    ],
)
def test_what_names_no_row_is_dropped_without_a_word_of_it(
    sqlite_stage: Stage, arguments: tuple[Any, ...]
) -> None:
    before = sqlite_stage.dump()

    for task in (logouts.end_at_idp, notices.deliver):
        with capture_logs() as logs:
            task(*arguments)
            task("01a20872-f07c-748e-a5d6-4108532b6f0a", more="x")

        said = [(entry["event"], entry.get("why")) for entry in logs]
        assert said == [("message_rejected", "wrong_arguments")] * 2
    assert sqlite_stage.dump() == before


@pytest.mark.parametrize("task", ["sweep", "expire_sessions", "purge_history"])
def test_maintenance_twice_and_at_once_is_harmless(apps: Stage, task: str) -> None:
    apps.deliver(logout_of_session(apps))
    apps.registered("bob")
    apps.pass_time(days=15)
    run: Callable[[], Any] = getattr(maintenance, task)

    apps.at_once(*[run] * 4)
    before = apps.dump()
    run()

    assert apps.dump() == before
    bobs = next(session for session in apps.sessions() if session.user_id == "bob")
    assert bobs.end_cause == ("expired" if task == "expire_sessions" else None)


def test_a_sweep_puts_a_message_on_the_broker_for_each_delivery_that_is_due(apps: Stage) -> None:
    apps.deliver(logout_of_user(apps))
    apps.redis.flushall()
    apps.pass_time(seconds=11)

    maintenance.sweep()

    queued = apps.redis.lrange("idp", 0, -1)
    assert len(queued) == 3
