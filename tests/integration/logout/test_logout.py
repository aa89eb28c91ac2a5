"""Logging out: what ends, who may end it, and what the receipt proves."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select

from models import LogoutRequest, new_id
from session_client import requests
from session_client.contract import LogoutScope, Reason, Verdict
from tests.stage import Stage
from worker.maintenance.expire import expire_sessions


@pytest.fixture(autouse=True)
def _apps(request: pytest.FixtureRequest) -> None:
    for name in ("stage", "sqlite_stage"):
        if name in request.fixturenames:
            found: Stage = request.getfixturevalue(name)
            found.add_app("shop")
            found.add_app("forum")
            found.add_app("desk", capabilities=("logout_user",))


def live(stage: Stage) -> set[UUID]:
    return {session.id for session in stage.sessions() if session.ended_at is None}


def receipts(stage: Stage) -> list[Any]:
    with stage.services.store.read() as connection:
        return list(connection.execute(select(LogoutRequest.__table__)).all())


# --- what ends


@pytest.mark.parametrize("how", ["session_ref", "session_id"])
def test_one_session_ends_and_only_that_one(stage: Stage, how: str) -> None:
    login = stage.login("ada", "shop")
    ref = stage.remember(login).session_ref
    others = {stage.registered("ada"), stage.registered("bob")}

    named = {"session_ref": ref, "session_id": login.session_id}[how]
    receipt = stage.log_out(**{how: named})

    assert receipt.verdict is Verdict.OK
    assert (receipt.sessions_ended, receipt.idp_pending, receipt.idp_confirmed) == (1, 1, 0)
    assert live(stage) == others
    assert stage.session(UUID(ref)).end_cause == "logout"
    assert stage.mosaic.state.calls.count("session/logout") == 0  # the answer does not wait for it


def test_a_devices_sessions_end_and_no_others(stage: Stage) -> None:
    stage.registered(device_id="phone")
    stage.registered(device_id="phone")
    others = {stage.registered(device_id="laptop"), stage.registered()}

    receipt = stage.log_out(scope=LogoutScope.DEVICE, device_id="phone")

    assert (receipt.sessions_ended, receipt.idp_pending) == (2, 2)
    assert live(stage) == others


def test_a_device_logout_leaves_sessions_the_app_does_not_share(stage: Stage) -> None:
    shops = stage.registered("ada", "shop", device_id="phone")
    stage.registered("ada", "forum", device_id="phone")

    receipt = stage.log_out(app_id="forum", scope=LogoutScope.DEVICE, device_id="phone")

    assert receipt.sessions_ended == 1
    assert live(stage) == {shops}


def test_all_of_a_users_sessions_end_whoever_opened_them(stage: Stage) -> None:
    stage.registered("ada", "shop")
    stage.registered("ada", "forum", device_id="phone")
    bobs = stage.registered("bob", "shop")

    receipt = stage.log_out(app_id="desk", scope=LogoutScope.USER)

    assert (receipt.sessions_ended, receipt.idp_pending) == (2, 2)
    assert live(stage) == {bobs}


def test_nothing_to_end_is_a_success_too(stage: Stage) -> None:
    receipt = stage.log_out(app_id="desk", scope=LogoutScope.USER)

    assert receipt.verdict is Verdict.OK
    assert (receipt.sessions_ended, receipt.idp_pending, receipt.idp_confirmed) == (0, 0, 0)


def test_a_session_past_its_time_that_nobody_pruned_yet_is_logged_out_all_the_same(
    stage: Stage,
) -> None:
    ref = stage.registered()
    stage.pass_time(days=15)

    receipt = stage.log_out(session_ref=str(ref))

    assert receipt.sessions_ended == 1
    assert stage.tell_mosaic() == ["confirmed"]


def test_a_session_that_expired_here_but_lives_at_mosaic_is_ended_there(stage: Stage) -> None:
    stage.mosaic.state.policy.change(session_seconds=90 * 86_400)
    login = stage.login("ada", "shop")
    ref = UUID(stage.remember(login).session_ref)
    stage.pass_time(days=15)
    expire_sessions(stage.services)

    first = stage.log_out(session_id=login.session_id)
    again = stage.log_out(session_id=login.session_id)

    assert (first.sessions_ended, first.idp_pending) == (0, 1)
    assert (again.sessions_ended, again.idp_pending) == (0, 1)
    assert stage.session(ref).end_cause == "expired"
    assert stage.tell_mosaic() == ["confirmed"]
    assert not stage.mosaic.state.is_live(login.session_id)
    assert stage.log_out(session_id=login.session_id).idp_confirmed == 1
    assert stage.session(ref).sealed_session_id is None


def test_a_session_mosaic_has_ended_itself_is_nothing_to_tell(stage: Stage) -> None:
    login = stage.login("ada", "shop")
    stage.remember(login)
    stage.mosaic.state.end_session(login.session_id)
    stage.silent_auth("ada", "shop")

    receipt = stage.log_out(session_id=login.session_id)

    assert receipt.verdict is Verdict.OK
    assert (receipt.sessions_ended, receipt.idp_pending, receipt.idp_confirmed) == (0, 0, 0)


def test_a_receipt_speaks_of_sessions_somebody_else_logged_out(stage: Stage) -> None:
    ref = stage.registered()
    stage.registered()
    stage.log_out(session_ref=str(ref))

    receipt = stage.log_out(app_id="desk", scope=LogoutScope.USER)

    assert (receipt.sessions_ended, receipt.idp_pending) == (1, 2)


# --- who may


def test_ending_all_of_a_users_sessions_needs_the_capability(stage: Stage) -> None:
    stage.registered()
    before = stage.dump()

    answer = stage.log_out(scope=LogoutScope.USER)

    assert (answer.verdict, answer.reason) == (Verdict.UNAUTHORIZED, Reason.NOT_PERMITTED)
    assert stage.dump() == before


def test_an_app_that_does_not_share_the_session_may_not_end_it_by_reference(stage: Stage) -> None:
    ref = stage.registered("ada", "shop")
    before = stage.dump()

    answer = stage.log_out(app_id="forum", session_ref=str(ref))

    assert (answer.verdict, answer.reason) == (Verdict.UNAUTHORIZED, Reason.NOT_PERMITTED)
    assert stage.dump() == before


def test_an_app_that_has_the_session_id_may_end_the_session_without_sharing_it(
    stage: Stage,
) -> None:
    login = stage.login("ada", "shop")
    ref = UUID(stage.remember(login).session_ref)
    bobs = stage.registered("bob", "shop")

    receipt = stage.log_out(app_id="forum", session_id=login.session_id)

    assert (receipt.verdict, receipt.sessions_ended) == (Verdict.OK, 1)
    assert stage.session(ref).end_cause == "logout"
    assert live(stage) == {bobs}


def test_an_app_that_was_given_tokens_may_end_the_session(stage: Stage) -> None:
    ref = stage.registered("ada", "shop")
    stage.silent_auth("ada", "forum")

    receipt = stage.log_out(app_id="forum", session_ref=str(ref))

    assert receipt.sessions_ended == 1


@pytest.mark.parametrize("how", ["session_ref", "session_id"])
def test_a_session_of_another_user_is_not_ended(stage: Stage, how: str) -> None:
    login = stage.login("ada", "shop")
    ref = stage.remember(login).session_ref
    before = stage.dump()

    named = {"session_ref": ref, "session_id": login.session_id}[how]
    answer = stage.log_out("bob", **{how: named})

    assert (answer.verdict, answer.reason) == (Verdict.UNAUTHORIZED, Reason.NOT_PERMITTED)
    assert stage.dump() == before


def test_a_reference_nobody_gave_out_is_refused(stage: Stage) -> None:
    before = stage.dump()

    answer = stage.log_out(session_ref=str(new_id()))

    assert (answer.verdict, answer.reason) == (Verdict.INVALID_REQUEST, Reason.NO_SESSION)
    assert stage.dump() == before


# --- once is enough


def test_the_same_request_twice_is_one_logout_with_one_receipt(stage: Stage) -> None:
    ref = stage.registered()
    sent = stage.seal("shop", requests.Logout(user_id="ada", session_ref=str(ref)))
    first = stage.deliver(sent)
    before = stage.dump()

    second = stage.deliver(sent)

    assert second == first
    assert stage.dump() == before


def test_a_repeated_request_hears_what_has_been_confirmed_since(stage: Stage) -> None:
    ref = stage.registered()
    sent = stage.seal("shop", requests.Logout(user_id="ada", session_ref=str(ref)))
    first = stage.deliver(sent)
    stage.tell_mosaic()

    second = stage.deliver(sent)

    assert second.receipt_id == first.receipt_id
    assert second.sessions_ended == first.sessions_ended == 1
    assert (first.idp_confirmed, first.idp_pending) == (0, 1)
    assert (second.idp_confirmed, second.idp_pending) == (1, 0)


def test_a_repeated_request_ends_no_session_that_came_after_it(stage: Stage) -> None:
    stage.registered()
    sent = stage.seal("desk", requests.Logout(user_id="ada", everywhere=True))
    stage.deliver(sent)
    stage.pass_time(seconds=1)  # a login of the very second counts as one from before
    after = stage.registered()

    receipt = stage.deliver(sent)

    assert receipt.sessions_ended == 1
    assert live(stage) == {after}


@pytest.mark.parametrize("redis_remembers", [True, False])
def test_a_request_id_used_for_something_else_is_refused(
    stage: Stage, *, redis_remembers: bool
) -> None:
    refs = [stage.registered(), stage.registered()]
    first, second = (
        stage.seal(
            "shop", requests.Logout(user_id="ada", session_ref=str(ref)), request_id="r" * 22
        )
        for ref in refs
    )
    stage.deliver(first)
    if not redis_remembers:
        stage.redis.flushall()
    before = stage.dump()

    answer = stage.deliver(second)

    assert (answer.verdict, answer.reason) == (Verdict.INVALID_REQUEST, Reason.REQUEST_ID_REUSED)
    assert stage.dump() == before


def test_two_apps_may_use_the_same_request_id(stage: Stage) -> None:
    shops, forums = stage.registered("ada", "shop"), stage.registered("ada", "forum")

    answers = [
        stage.ask(app_id, requests.Logout(user_id="ada", session_ref=str(ref)), request_id="r" * 22)
        for app_id, ref in (("shop", shops), ("forum", forums))
    ]

    assert [answer.sessions_ended for answer in answers] == [1, 1]


@pytest.mark.parametrize("scope", ["session", "unknown session", "expired session", "user"])
def test_the_same_request_many_times_at_once_is_one_logout(stage: Stage, scope: str) -> None:
    login = stage.login("ada", "shop")
    if scope != "unknown session":
        stage.remember(login)
    if scope == "expired session":
        stage.pass_time(days=15)
        expire_sessions(stage.services)
    request = (
        requests.Logout(user_id="ada", everywhere=True)
        if scope == "user"
        else requests.Logout(user_id="ada", session_id=login.session_id)
    )
    app_id = "desk" if scope == "user" else "shop"
    sent = stage.seal(app_id, request)

    stage.at_once(*[lambda: stage.run(sent)] * 6)

    answers = [stage.answer_to(sent) for _ in range(6)]
    assert {answer.verdict for answer in answers} == {Verdict.OK}
    assert len({answer.receipt_id for answer in answers}) == 1
    assert len(receipts(stage)) == 1
    assert len(stage.logouts()) == 1
    # What expired has no event of its own.
    ended = [event for event in stage.events() if event[0] == "ended"]
    assert len(ended) == (scope != "expired session")
    assert live(stage) == set()


def test_different_logouts_of_one_session_at_once_make_one_delivery(stage: Stage) -> None:
    login = stage.login("ada", "shop")
    ref = stage.remember(login).session_ref
    stage.silent_auth("ada", "forum")

    answers = stage.at_once(
        *[lambda: stage.log_out(session_ref=ref)] * 2,
        *[lambda: stage.log_out(session_id=login.session_id)] * 2,
        *[lambda: stage.log_out(app_id="forum", session_ref=ref)] * 2,
        *[lambda: stage.log_out(app_id="desk", scope=LogoutScope.USER)] * 2,
    )

    assert {answer.verdict for answer in answers} == {Verdict.OK}
    assert sum(answer.sessions_ended for answer in answers) == 1
    assert len(stage.logouts()) == 1
    assert len(receipts(stage)) == 8


def test_without_redis_a_logout_is_committed_all_the_same(
    sqlite_stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = sqlite_stage.registered()
    sent = sqlite_stage.seal("shop", requests.Logout(user_id="ada", session_ref=str(ref)))
    pool = sqlite_stage.redis.connection_pool
    pool.disconnect()
    monkeypatch.setitem(pool.connection_kwargs, "port", 1)

    sqlite_stage.run(sent)

    assert live(sqlite_stage) == set()
