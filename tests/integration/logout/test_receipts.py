"""A receipt says what has become of a logout, at Mosaic and at each app."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import update

from models import Logout, Notice, new_id
from session_client import contract, requests
from session_client.contract import LogoutScope, LogoutWait, Reason, Verdict
from tests.integration.outbox.propagation_rig import by_queue, confirm, deliver, notices, receipt
from tests.stage import Stage
from worker.outbox import leases, mosaic_logouts


@pytest.fixture(autouse=True)
def _apps(stage: Stage) -> None:
    stage.add_app("shop")
    by_queue(stage, "forum")
    by_queue(stage, "blog")
    by_queue(stage, "desk", capabilities=("logout_user",))


def shared(stage: Stage, *app_ids: str) -> UUID:
    ref = stage.registered("ada", "shop")
    for app_id in app_ids:
        assert stage.silent_auth("ada", app_id).verdict is Verdict.AUTHENTICATED
    return ref


def notice_of(stage: Stage, app_id: str, ref: UUID | None = None) -> UUID:
    (found,) = (
        row.id
        for row in notices(stage)
        if row.app_id == app_id and ref in {None, row.idp_session_id}
    )
    return UUID(str(found))


def at_idp(proof: Any) -> tuple[int, int, int]:
    assert proof.idp_failed == 0
    return proof.idp_pending, proof.idp_confirmed, proof.idp_unconfirmed


def at_apps(proof: Any) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    return proof.apps_pending, proof.apps_confirmed, proof.apps_failed


def test_it_follows_each_app_from_pending_to_its_end(stage: Stage) -> None:
    ref = shared(stage, "forum", "blog")
    first = stage.log_out(session_ref=str(ref))
    assert (first.sessions_ended, at_idp(first)) == (1, (1, 0, 0))
    assert at_apps(first) == (("blog", "forum"), (), ())
    assert not first.has_reached(LogoutWait.ALL)

    confirm(stage, notice_of(stage, "forum"), "forum")
    second = receipt(stage, first.receipt_id)
    assert at_apps(second) == (("blog",), ("forum",), ())

    stage.tell_mosaic()
    stage.pass_time(days=4)
    deliver(stage, notice_of(stage, "blog"))
    third = receipt(stage, first.receipt_id)
    assert (third.sessions_ended, at_idp(third)) == (1, (0, 1, 0))
    assert at_apps(third) == ((), ("forum",), ("blog",))
    assert third.has_reached(LogoutWait.ALL)
    assert {second.receipt_id, third.receipt_id} == {first.receipt_id}


def test_a_question_that_is_repeated_gets_its_answer_again_and_a_new_one_what_is_so_now(
    stage: Stage,
) -> None:
    ref = shared(stage)
    question = requests.Receipt(stage.log_out(session_ref=str(ref)).receipt_id)
    asked = stage.seal("shop", question)
    first = stage.deliver(asked)
    stage.tell_mosaic()

    again, anew = stage.deliver(asked), stage.ask("shop", question)

    assert at_idp(first) == at_idp(again) == (1, 0, 0)
    assert at_idp(anew) == (0, 1, 0)


def test_what_mosaic_never_confirmed_is_counted_apart(stage: Stage) -> None:
    ref = shared(stage)
    stage.mosaic.state.faults.add("session/logout", "status", status=500)
    receipt_id = stage.log_out(session_ref=str(ref)).receipt_id
    stage.pass_time(days=15)
    assert stage.tell_mosaic() == ["expired_unconfirmed"]

    assert at_idp(receipt(stage, receipt_id)) == (0, 0, 1)


def test_a_dead_lettered_logout_has_failed_until_it_is_replayed(stage: Stage) -> None:
    receipt_id = stage.log_out(session_ref=str(shared(stage))).receipt_id
    with stage.services.store.write() as connection:
        connection.execute(update(Logout).values(outcome=leases.DEAD, closed_at=stage.now()))

    given_up = receipt(stage, receipt_id)
    assert (given_up.idp_failed, given_up.idp_pending, given_up.idp_unconfirmed) == (1, 0, 0)
    assert given_up.has_reached(LogoutWait.IDP)

    assert mosaic_logouts.replay_dead_lettered(stage.services) == 1
    assert at_idp(receipt(stage, receipt_id)) == (1, 0, 0)
    assert stage.tell_mosaic() == ["confirmed"]
    assert at_idp(receipt(stage, receipt_id)) == (0, 1, 0)


def test_of_several_sessions_one_open_notice_keeps_the_app_pending_and_one_failure_tells(
    stage: Stage,
) -> None:
    refs = [shared(stage, "forum")]
    stage.pass_time(minutes=1)
    refs.append(shared(stage, "forum"))
    first = stage.log_out(app_id="desk", scope=LogoutScope.USER)
    assert (first.sessions_ended, at_idp(first)) == (2, (2, 0, 0))
    confirm(stage, notice_of(stage, "forum", refs[0]), "forum")
    assert at_apps(receipt(stage, first.receipt_id, "desk")) == (("forum",), (), ())

    stage.pass_time(days=4)
    deliver(stage, notice_of(stage, "forum", refs[1]))
    assert at_apps(receipt(stage, first.receipt_id, "desk")) == ((), (), ("forum",))

    confirm(stage, notice_of(stage, "forum", refs[1]), "forum")
    assert at_apps(receipt(stage, first.receipt_id, "desk")) == ((), ("forum",), ())


def test_a_dead_notice_counts_as_failed(stage: Stage) -> None:
    ref = shared(stage, "forum")
    receipt_id = stage.log_out(session_ref=str(ref)).receipt_id
    with stage.services.store.write() as connection:
        connection.execute(update(Notice).values(outcome="dead", closed_at=stage.now()))

    assert at_apps(receipt(stage, receipt_id)) == ((), (), ("forum",))


def test_only_the_app_that_asked_may_read_it(stage: Stage) -> None:
    ref = shared(stage, "forum")
    receipt_id = stage.log_out(session_ref=str(ref)).receipt_id

    answers = [
        receipt(stage, receipt_id, "forum"),
        receipt(stage, receipt_id, "desk"),
        receipt(stage, str(new_id())),
    ]

    assert {answer.verdict for answer in answers} == {Verdict.INVALID_REQUEST}
    assert {answer.reason for answer in answers} == {Reason.NO_RECEIPT}
    assert {answer.receipt_id for answer in answers} == {None}


def test_reading_it_changes_nothing(stage: Stage) -> None:
    ref = shared(stage, "forum")
    receipt_id = stage.log_out(session_ref=str(ref)).receipt_id
    before = stage.dump()

    assert receipt(stage, receipt_id) is not None
    assert stage.dump() == before


@pytest.mark.parametrize("redis_remembers", [True, False])
def test_the_same_logout_again_shows_the_same_receipt_as_it_stands_now(
    stage: Stage, *, redis_remembers: bool
) -> None:
    ref = shared(stage, "forum")
    sent = stage.seal("shop", requests.Logout(user_id="ada", session_ref=str(ref)))
    first = stage.deliver(sent)
    stage.tell_mosaic()
    confirm(stage, notice_of(stage, "forum"), "forum")
    if not redis_remembers:
        stage.redis.flushall()

    second = stage.deliver(sent)

    assert second.receipt_id == first.receipt_id
    assert (first.idp_pending, at_apps(first)) == (1, (("forum",), (), ()))
    assert (second.idp_confirmed, at_apps(second)) == (1, ((), ("forum",), ()))


def test_it_speaks_of_apps_that_an_earlier_logout_still_has_to_tell(stage: Stage) -> None:
    ref = shared(stage, "forum")
    stage.log_out(session_ref=str(ref))
    stage.tell_mosaic()

    proof = stage.log_out(app_id="desk", scope=LogoutScope.USER)

    assert (proof.sessions_ended, at_idp(proof)) == (0, (0, 1, 0))
    assert at_apps(proof) == (("forum",), (), ())


def test_it_does_not_name_the_app_that_asks(stage: Stage) -> None:
    ref = shared(stage, "forum", "blog")
    stage.log_out(session_ref=str(ref))

    proof = stage.log_out(app_id="forum", session_ref=str(ref))

    assert at_apps(proof) == (("blog",), (), ())


@pytest.mark.parametrize("app_id", ["shop", "desk"])
def test_it_names_the_sessions_that_the_app_shares_and_no_others(stage: Stage, app_id: str) -> None:
    ours = {shared(stage, "desk"), shared(stage, "desk", "forum")}
    stage.remember(stage.login("ada", "blog"), app_id="blog")
    if app_id == "shop":
        ours = {min(ours)}

    receipts = [
        stage.log_out(app_id="desk", scope=LogoutScope.USER)
        if app_id == "desk"
        else stage.log_out(session_ref=str(min(ours)))
    ]
    receipts.append(receipt(stage, receipts[0].receipt_id, app_id))

    for proof in receipts:
        assert {UUID(ref) for ref in proof.session_refs} == ours


def test_it_names_no_more_sessions_than_an_answer_holds_and_of_them_the_newest(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contract, "MAX_SESSION_REFS", 2)
    refs = [shared(stage, "desk") for _ in range(3)]

    proof = stage.log_out(app_id="desk", scope=LogoutScope.USER)

    assert [UUID(ref) for ref in proof.session_refs] == sorted(refs, reverse=True)[:2]
