"""The other apps are told when a session ends: which of them, of which end, and while they link."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from uuid import UUID

import pytest

from models import EndCause, IdpSession
from session_client.contract import Reason, Verdict
from simulator.controls.gates import wait_until
from simulator.server import SimulatorServer
from tests.integration.outbox.propagation_rig import (
    ASK,
    Broker,
    by_post,
    by_queue,
    deliver,
    notices,
    signing,
    the_notice,
    waits_for_a_lock,
)
from tests.integration.storage.pg_locks import patient_locks
from tests.stage import Stage
from worker.errors import StoreUnavailable
from worker.logout import end_sessions
from worker.logout.revoke import revoke
from worker.maintenance.expire import expire_sessions
from worker.outbox import app_notices
from worker.sign_in import slide
from worker.storage.database import Store
from worker.tasks import wake_ups


@pytest.fixture
def crowd(store_url: str, redis_url: str, mosaic: SimulatorServer) -> Iterator[Stage]:
    """Five apps that share sessions, which may live for twenty days."""
    cap = str(20 * 86_400)
    with signing(store_url, redis_url, mosaic, session_absolute_cap_seconds=cap) as stage:
        by_queue(stage, "shop")
        by_queue(stage, "forum")
        by_post(stage, "blog", "http://127.0.0.1:1/logout")
        by_queue(stage, "stock", notify_on_expiry=True)
        stage.add_app("mute")
        by_queue(stage, "stranger")  # shares nothing
        yield stage


BROWSERS: dict[UUID, str] = {}  # the token of the browser in which a session began


def shared_by_all(stage: Stage) -> UUID:
    answer = stage.signed_in("ada", "shop")
    for app_id in ("forum", "blog", "stock", "mute"):
        assert stage.silent_auth("ada", app_id).verdict is Verdict.AUTHENTICATED
    ref = UUID(answer.session_ref)
    BROWSERS[ref] = answer.browser_token
    return ref


def end(stage: Stage, ref: UUID, cause: EndCause) -> None:
    """Bring about that the session ends for *cause*, by shop where an app has a part in it."""
    if cause is EndCause.LOGOUT:
        stage.log_out(session_ref=str(ref))
    elif cause is EndCause.GONE_AT_IDP:
        (session,) = stage.mosaic.state.live_sessions()
        stage.mosaic.state.end_session(session.session_id)
        stage.silent_auth("ada", "shop")
    elif cause is EndCause.EXPIRED:
        stage.pass_time(days=15)
        expire_sessions(stage.services)
    elif cause is EndCause.QUARANTINED:
        stage.mosaic.state.faults.add(ASK, "wrong_sub", times=1)
        stage.silent_auth("ada", "shop")
    elif cause is EndCause.REVOKED:
        revoke(stage.services, IdpSession.id == ref, reason="stolen laptop")
    elif cause is EndCause.REPLACED:
        stage.remember(stage.login("bob", "shop"), "bob", replaces=BROWSERS[ref])
    else:
        stage.pass_time(days=12)
        stage.silent_auth("ada", "shop")
        stage.pass_time(days=9)
        expire_sessions(stage.services)


OTHERS = {"forum", "blog", "stock"}
ALL = OTHERS | {"shop"}
TOLD: dict[EndCause, set[str]] = {
    EndCause.LOGOUT: OTHERS,
    EndCause.GONE_AT_IDP: ALL,
    EndCause.EXPIRED: {"stock"},
    EndCause.QUARANTINED: ALL,
    EndCause.REVOKED: ALL,
    EndCause.CAP_REACHED: ALL,
    EndCause.REPLACED: OTHERS,
}
TOLD_MOSAIC = set(EndCause) - {EndCause.GONE_AT_IDP, EndCause.EXPIRED}


@pytest.mark.parametrize("cause", list(EndCause))
def test_an_end_is_told_to_all_that_share_the_session_and_want_to_know_but_who_logged_out(
    crowd: Stage, cause: EndCause
) -> None:
    ref = shared_by_all(crowd)

    end(crowd, ref, cause)

    assert crowd.session(ref).end_cause == cause
    rows = notices(crowd)
    assert {row.app_id for row in rows} == TOLD[cause]
    assert len(rows) == len(TOLD[cause])
    assert {(row.idp_session_id, row.cause, row.closed_at) for row in rows} == {(ref, cause, None)}
    assert [row.idp_session_id for row in crowd.logouts()] == [ref] * (cause in TOLD_MOSAIC)
    noted = [event for event in crowd.events() if event[0] in {"ended", "expired"}]
    assert noted == [("expired", "1") if cause is EndCause.EXPIRED else ("ended", cause)]
    assert (crowd.session(ref).sealed_session_id is None) == (cause not in TOLD_MOSAIC)


# Those that a request brings about. Maintenance and the operators' verbs wake theirs by themselves.
BY_REQUESTS = [EndCause.LOGOUT, EndCause.GONE_AT_IDP, EndCause.QUARANTINED, EndCause.REPLACED]


@pytest.mark.parametrize("cause", BY_REQUESTS)
def test_an_end_by_a_request_wakes_all_that_must_be_told_at_once(
    crowd: Stage, cause: EndCause, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = shared_by_all(crowd)
    woken: list[UUID] = []
    monkeypatch.setattr(wake_ups, "_wake", lambda _, ids: woken.extend(ids))

    end(crowd, ref, cause)

    assert set(woken) == {row.id for row in (*notices(crowd), *crowd.logouts())}
    assert len(woken) == len(set(woken)) > 1


def test_a_session_that_ends_with_the_one_whose_id_it_is_given_wakes_its_apps_at_once(
    crowd: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    login = crowd.login("ada", "shop")
    crowd.remember(login)
    for app_id in ("forum", "stock"):
        assert crowd.silent_auth("ada", app_id).verdict is Verdict.AUTHENTICATED
    sessions = crowd.mosaic.state.sessions
    (session,) = sessions.live("ada")
    sessions.give_new_id(session)
    renamed = crowd.mosaic.state.add_factor(login.session_id, "client-shop", "sms")
    crowd.remember(renamed)
    crowd.log_out(session_id=renamed.session_id)
    before = {row.id for row in (*notices(crowd), *crowd.logouts())}
    woken: list[UUID] = []
    monkeypatch.setattr(wake_ups, "_wake", lambda _, ids: woken.extend(ids))

    answer = crowd.silent_auth("ada", "forum")

    assert answer.reason == Reason.LOGGED_OUT
    assert set(woken) == {row.id for row in (*notices(crowd), *crowd.logouts())} - before
    assert len(woken) > 1


@pytest.mark.parametrize("cause", list(EndCause))
def test_an_end_whose_notices_cannot_be_written_is_none(
    crowd: Stage, cause: EndCause, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = shared_by_all(crowd)

    def write_then_fail(*arguments: Any) -> list[UUID]:
        assert app_notices.add_notices(*arguments)
        raise StoreUnavailable

    with monkeypatch.context() as patch, suppress(StoreUnavailable):
        patch.setattr(end_sessions, "add_notices", write_then_fail)
        end(crowd, ref, cause)

    assert crowd.session(ref).ended_at is None
    assert crowd.session(ref).sealed_session_id is not None
    assert notices(crowd) == crowd.logouts() == []
    assert {"ended", "expired"}.isdisjoint(event for event, _ in crowd.events())


def test_an_app_that_gets_tokens_from_another_session_is_told_that_its_first_is_gone(
    crowd: Stage,
) -> None:
    other = crowd.registered("ada", "shop")
    crowd.pass_time(hours=1)
    login = crowd.login("ada", "shop")
    gone = UUID(crowd.remember(login).session_ref)
    crowd.mosaic.state.end_session(login.session_id)

    answer = crowd.silent_auth("ada", "shop")

    assert (answer.verdict, answer.session_ref) == (Verdict.AUTHENTICATED, str(other))
    notice = the_notice(crowd)
    assert (notice.app_id, notice.idp_session_id) == ("shop", gone)


def test_an_app_that_asks_for_tokens_is_told_when_its_session_was_logged_out_under_another_id(
    crowd: Stage,
) -> None:
    mine = crowd.registered("ada", "shop")
    crowd.mosaic.state.faults.add(ASK, "rotate_session_id", times=1)

    with (
        crowd.mosaic.state.gates.hold(ASK) as gate,
        crowd.meanwhile(lambda: crowd.silent_auth("ada", "shop")) as asking,
    ):
        gate.wait_arrived()
        (at_mosaic,) = crowd.mosaic.state.live_sessions()
        crowd.log_out(app_id="blog", session_id=at_mosaic.session_id)
        gate.release()

    assert asking.result().reason == Reason.LOGGED_OUT
    assert crowd.session(mine).end_cause == "logout"
    assert the_notice(crowd).app_id == "shop"


def test_an_app_that_shares_another_session_of_the_user_is_not_told(crowd: Stage) -> None:
    crowd.registered("ada", "stranger", device_id="phone")
    ref = crowd.registered("ada", "shop")

    crowd.log_out(session_ref=str(ref))

    assert notices(crowd) == []


def test_more_sessions_than_fit_in_one_statement_are_told_of(
    crowd: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app_notices, "_SLICE", 2)
    refs = {crowd.registered("ada", "shop") for _ in range(5)}

    revoke(crowd.services, IdpSession.user_id == "ada", reason="stolen laptop")

    assert {row.idp_session_id for row in notices(crowd)} == refs
    assert len(notices(crowd)) == 5


def test_an_app_whose_tokens_came_too_late_has_no_share_and_is_owed_nothing(
    crowd: Stage,
) -> None:
    ref = crowd.registered("ada", "shop")
    with (
        crowd.mosaic.state.gates.hold(ASK) as gate,
        crowd.meanwhile(lambda: crowd.silent_auth("ada", "forum")) as asking,
    ):
        gate.wait_arrived()
        crowd.log_out(session_ref=str(ref))
        gate.release()

    late = asking.result()
    assert (late.verdict, late.reason, late.tokens) == (
        Verdict.LOGIN_REQUIRED,
        Reason.LOGGED_OUT,
        None,
    )
    assert notices(crowd) == []


def test_a_logout_that_overtakes_its_own_apps_registration_is_told_to_the_app_that_was_faster(
    crowd: Stage,
) -> None:
    login = crowd.login("ada", "shop")
    at_forum = crowd.mosaic.state.add_factor(login.session_id, "client-forum", "sms")
    ref = UUID(crowd.remember(login).session_ref)
    broker = Broker()

    proof = crowd.log_out(app_id="forum", session_id=login.session_id)
    registration = crowd.remember(at_forum, app_id="forum")

    assert (proof.verdict, proof.sessions_ended, proof.idp_pending) == (Verdict.OK, 1, 1)
    assert proof.apps_pending == ("shop",)
    deliver(crowd, the_notice(crowd).id, broker)
    assert broker.open_last(crowd, "shop").session_ref == str(ref)
    assert (registration.verdict, registration.reason) == (
        Verdict.LOGIN_REQUIRED,
        Reason.LOGGED_OUT,
    )
    given = crowd.silent_auth(app_id="forum")
    assert (given.verdict, given.reason) == (Verdict.LOGIN_REQUIRED, Reason.LOGGED_OUT)
    assert crowd.tell_mosaic() == ["confirmed"]
    assert not crowd.mosaic.state.is_live(login.session_id)


def test_whoever_was_given_tokens_while_a_logout_ran_is_told_of_it(crowd: Stage) -> None:
    for _ in range(12):
        ref = crowd.registered("ada", "shop")

        given, ended = crowd.at_once(
            lambda: crowd.silent_auth("ada", "forum"),
            functools.partial(crowd.log_out, session_ref=str(ref)),
        )

        told = {row.app_id for row in notices(crowd) if row.idp_session_id == ref}
        assert ended.sessions_ended == 1
        assert (given.verdict is Verdict.AUTHENTICATED) == (told == {"forum"})
        assert (given.verdict is Verdict.LOGIN_REQUIRED) == (told == set())


def test_a_logout_that_waits_for_a_link_under_way_tells_the_app_that_linked(
    postgres_url: str, redis_url: str, mosaic: SimulatorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with patient_locks(), signing(postgres_url, redis_url, mosaic) as stage:
        stage.add_app("shop")
        by_queue(stage, "forum")
        ref = stage.registered("ada", "shop")
        reached, go_on = threading.Event(), threading.Event()

        run = Store.run

        def link_then_wait(store: Store, statement: Any, parameters: Any) -> Any:
            if statement is not slide._ALL_IN_ONE:
                return run(store, statement, parameters)
            with store.write() as connection:
                rows = connection.execute(statement, parameters).all()
                reached.set()
                assert go_on.wait(60)
                return rows

        monkeypatch.setattr(Store, "run", link_then_wait)
        with stage.meanwhile(lambda: stage.silent_auth("ada", "forum")) as asking:
            assert reached.wait(60)  # linked, and not committed
            with stage.meanwhile(lambda: stage.log_out(session_ref=str(ref))) as leaving:
                wait_until(lambda: leaving.done() or waits_for_a_lock(stage), 60)
                assert not leaving.done()
                go_on.set()

        assert asking.result().verdict is Verdict.AUTHENTICATED
        assert leaving.result().apps_pending == ("forum",)
        assert the_notice(stage).app_id == "forum"
