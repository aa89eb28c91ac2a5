"""Telling Mosaic: until it has confirmed, whoever crashes, and never longer than needed."""

from __future__ import annotations

import random
import time
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from pytest_mock import MockerFixture
from sqlalchemy import update
from structlog.testing import capture_logs

from models import App, IdpSession, Logout
from session_client.contract import LogoutScope, Reason, Verdict
from tests.stage import Stage
from worker.errors import BreakerOpen
from worker.mosaic import MosaicGateway
from worker.operations import apps
from worker.outbox import leases, mosaic_logouts
from worker.outbox.leases import MAX_HELD_BACK_SECONDS, pause_before_next, wake_due
from worker.outbox.mosaic_logouts import end_at_idp
from worker.traffic import Application, Permit, Traffic

TELL = "session/logout"


@pytest.fixture(autouse=True)
def _apps(request: pytest.FixtureRequest) -> None:
    for name in ("stage", "sqlite_stage"):
        if name in request.fixturenames:
            found: Stage = request.getfixturevalue(name)
            found.add_app("shop")
            found.add_app("forum")
            found.add_app("desk", capabilities=("logout_user",))


def told(stage: Stage) -> int:
    return stage.mosaic.state.calls.count(TELL)


def logged_out(stage: Stage, **fields: Any) -> tuple[UUID, str]:
    """Register and log out a session; return the delivery and the session's id at Mosaic."""
    login = stage.login("ada", "shop")
    ref = stage.remember(login).session_ref
    assert stage.log_out(session_ref=ref, **fields).verdict is Verdict.OK
    (delivery,) = (row.id for row in stage.logouts() if row.idp_session_id == UUID(ref))
    return delivery, login.session_id


def test_a_logout_no_app_can_send_calls_the_operator_and_is_kept(sqlite_stage: Stage) -> None:
    delivery, _ = logged_out(sqlite_stage)
    with sqlite_stage.services.store.write() as connection:  # as after a restore of half a backup
        connection.execute(update(Logout).values(requested_by="gone"))
        connection.execute(update(IdpSession).values(registered_by="gone"))

    with capture_logs() as logs:
        outcome = end_at_idp(sqlite_stage.services, delivery)

    (line,) = [line for line in logs if line["event"] == "operator_must_act"]
    assert (line["app"], line["error"]) == ("gone", "OperatorMustAct")
    assert "register one anew" in line["detail"]
    (row,) = sqlite_stage.logouts()
    assert outcome is row.outcome is None
    assert "register one anew" in row.last_error
    assert told(sqlite_stage) == 0


def test_mosaic_is_told_and_the_session_id_forgotten(stage: Stage) -> None:
    delivery, session_id = logged_out(stage)
    assert stage.sessions()[0].sealed_session_id is not None

    outcome = end_at_idp(stage.services, delivery)

    (row,) = stage.logouts()
    assert outcome == row.outcome == "confirmed"
    assert row.closed_at is not None
    assert not stage.mosaic.state.is_live(session_id)
    assert stage.sessions()[0].sealed_session_id is None
    assert stage.events()[-1] == ("idp_confirmed", None)


def test_a_confirmed_delivery_is_never_worked_on_again(stage: Stage) -> None:
    delivery, _ = logged_out(stage)
    end_at_idp(stage.services, delivery)
    before = stage.dump()

    assert end_at_idp(stage.services, delivery) is None
    assert stage.dump() == before
    assert told(stage) == 1


@pytest.mark.parametrize("status", [204, 400, 404])
def test_a_session_already_dead_at_mosaic_counts_as_confirmed(stage: Stage, status: int) -> None:
    stage.mosaic.state.policy.change(dead_logout_status=status)
    delivery, session_id = logged_out(stage)
    stage.mosaic.state.end_session(session_id)

    assert end_at_idp(stage.services, delivery) == "confirmed"


def test_another_400_is_not_taken_for_a_confirmation(sqlite_stage: Stage) -> None:
    delivery, session_id = logged_out(sqlite_stage)
    sqlite_stage.mosaic.state.faults.add(TELL, "status", status=400, message="Bad request")

    assert end_at_idp(sqlite_stage.services, delivery) is None
    assert sqlite_stage.mosaic.state.is_live(session_id)
    assert sqlite_stage.logouts()[0].closed_at is None


def test_an_outage_of_mosaic_undoes_nothing_and_ends_in_a_confirmation(stage: Stage) -> None:
    delivery, session_id = logged_out(stage)
    stage.mosaic.state.faults.add(TELL, "status", status=503)

    for attempt in range(1, 7):
        assert end_at_idp(stage.services, delivery) is None
        (row,) = stage.logouts()
        assert (row.attempts, row.closed_at, row.leased_until) == (attempt, None, None)
        assert row.next_attempt_at > stage.now()
        assert "503" in row.last_error
        assert stage.silent_auth().verdict is Verdict.LOGIN_REQUIRED
        stage.pass_time(minutes=5, seconds=5)
    stage.mosaic.state.faults.clear()

    assert wake_due(stage.services, Logout) == [delivery]
    assert end_at_idp(stage.services, delivery) == "confirmed"
    assert not stage.mosaic.state.is_live(session_id)


def test_waiting_for_a_turn_takes_from_the_time_of_the_call(
    sqlite_stage: Stage, mocker: MockerFixture
) -> None:
    # Otherwise the lease, which outlives two timeouts, could end while Mosaic is being told.
    delivery, _ = logged_out(sqlite_stage)
    admit = Traffic.admit_logout

    def after_a_while(traffic: Traffic, app: Application, session: str, **options: bool) -> Permit:
        time.sleep(0.3)
        return admit(traffic, app, session, **options)

    mocker.patch.object(Traffic, "admit_logout", after_a_while)
    told_in = mocker.spy(MosaicGateway, "logout_session")

    assert end_at_idp(sqlite_stage.services, delivery) == "confirmed"

    seconds = told_in.call_args.kwargs["timeout_seconds"]
    assert seconds <= sqlite_stage.settings.mosaic_timeout_seconds - 0.3


def test_an_attempt_before_its_time_makes_no_call(stage: Stage) -> None:
    delivery, _ = logged_out(stage)
    stage.mosaic.state.faults.add(TELL, "status", status=503, times=1)
    end_at_idp(stage.services, delivery)

    assert end_at_idp(stage.services, delivery) is None
    assert told(stage) == 1


def test_the_next_attempt_waits_as_long_as_mosaic_asks(sqlite_stage: Stage) -> None:
    delivery, _ = logged_out(sqlite_stage)
    sqlite_stage.mosaic.state.faults.add(TELL, "rate_limited", retry_after=90, times=1)

    end_at_idp(sqlite_stage.services, delivery)

    assert sqlite_stage.logouts()[0].next_attempt_at - sqlite_stage.now() > timedelta(seconds=85)


def test_an_answer_lost_on_its_way_is_asked_for_again(stage: Stage) -> None:
    delivery, session_id = logged_out(stage)
    stage.mosaic.state.faults.add(TELL, "drop_answer", times=1)

    assert end_at_idp(stage.services, delivery) is None
    assert not stage.mosaic.state.is_live(session_id)
    stage.pass_time(minutes=1)

    assert end_at_idp(stage.services, delivery) == "confirmed"


def test_where_the_callers_client_may_not_the_registrants_is_used(stage: Stage) -> None:
    stage.mosaic.state.policy.change(only_creator_may_log_out=True)
    login = stage.login("ada", "shop")
    stage.remember(login)
    stage.log_out(app_id="desk", scope=LogoutScope.USER)

    assert stage.tell_mosaic() == ["confirmed"]
    assert not stage.mosaic.state.is_live(login.session_id)
    tried = [call.client_id for call in stage.mosaic.state.calls.log() if call.endpoint == TELL]
    assert list(dict.fromkeys(tried)) == ["client-desk", "client-shop"]


def test_where_the_callers_secret_no_longer_opens_the_registrants_client_is_used(
    sqlite_stage: Stage,
) -> None:
    login = sqlite_stage.login("ada", "shop")
    sqlite_stage.remember(login)
    sqlite_stage.log_out(app_id="desk", scope=LogoutScope.USER)
    _spoil_secret(sqlite_stage, "desk")

    assert sqlite_stage.tell_mosaic() == ["confirmed"]
    assert not sqlite_stage.mosaic.state.is_live(login.session_id)


def test_where_the_registrants_row_does_not_open_the_callers_client_is_used(
    sqlite_stage: Stage,
) -> None:
    login = sqlite_stage.login("ada", "shop")
    sqlite_stage.remember(login)
    sqlite_stage.log_out(app_id="desk", scope=LogoutScope.USER)
    _spoil_secret(sqlite_stage, "shop")

    assert sqlite_stage.tell_mosaic() == ["confirmed"]
    assert not sqlite_stage.mosaic.state.is_live(login.session_id)


def _spoil_secret(stage: Stage, app_id: str) -> None:
    with stage.services.store.write() as connection:
        connection.execute(
            update(App)
            .where(App.app_id == app_id)
            .values(sealed_client_secret=b"\x01\x02k1 not for this row, nor any other")
        )
    stage.reread_apps()


def test_a_disabled_apps_logouts_still_reach_mosaic(sqlite_stage: Stage) -> None:
    delivery, session_id = logged_out(sqlite_stage)
    apps.disable_app(sqlite_stage.services, "shop")
    sqlite_stage.reread_apps()

    assert end_at_idp(sqlite_stage.services, delivery) == "confirmed"
    assert not sqlite_stage.mosaic.state.is_live(session_id)


def test_mosaic_is_told_until_the_session_would_have_ended_by_itself(stage: Stage) -> None:
    delivery, _ = logged_out(stage)
    stage.mosaic.state.faults.add(TELL, "status", status=500)

    stage.pass_time(days=13, hours=23)
    assert end_at_idp(stage.services, delivery) is None
    stage.pass_time(hours=2)

    assert end_at_idp(stage.services, delivery) == "expired_unconfirmed"
    (row,) = stage.logouts()
    assert row.outcome == "expired_unconfirmed"
    assert row.last_error is not None  # it stands visible as failed, with the reason
    assert stage.sessions()[0].sealed_session_id is None
    assert stage.events()[-1] == ("idp_given_up", None)


def test_an_app_with_short_sessions_does_not_give_up_early(stage: Stage) -> None:
    stage.add_app("kiosk", session_lifetime_seconds=60)
    ref = stage.registered("ada", "shop")
    stage.silent_auth("ada", "kiosk")
    stage.mosaic.state.faults.add(TELL, "status", status=500, times=2)
    stage.log_out(app_id="kiosk", session_ref=str(ref))
    stage.tell_mosaic()
    stage.pass_time(minutes=5)

    assert stage.tell_mosaic() == [None]
    stage.pass_time(minutes=5)
    assert stage.tell_mosaic() == ["confirmed"]


# --- leases


def test_two_workers_on_one_delivery_make_one_call(stage: Stage) -> None:
    delivery, _ = logged_out(stage)

    outcomes = stage.at_once(*[lambda: end_at_idp(stage.services, delivery)] * 6)

    assert sorted(outcomes, key=str) == [None] * 5 + ["confirmed"]
    assert told(stage) == 1
    assert stage.logouts()[0].attempts == 1


def test_while_one_worker_waits_for_mosaic_another_leaves_its_delivery_alone(stage: Stage) -> None:
    delivery, _ = logged_out(stage)

    with (
        stage.mosaic.state.gates.hold(TELL) as gate,
        stage.meanwhile(lambda: end_at_idp(stage.services, delivery)) as working,
    ):
        gate.wait_arrived()
        stage.pass_time(seconds=30)
        assert wake_due(stage.services, Logout) == []
        assert end_at_idp(stage.services, delivery) is None
        gate.release()

    assert working.result() == "confirmed"
    assert told(stage) == 1


def test_a_dead_workers_delivery_is_taken_over_when_its_lease_ends(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    delivery, _ = logged_out(stage)
    with monkeypatch.context() as patch:
        patch.setattr(mosaic_logouts, "_tell_mosaic", _die)
        with pytest.raises(KeyboardInterrupt):
            end_at_idp(stage.services, delivery)

    assert end_at_idp(stage.services, delivery) is None
    assert wake_due(stage.services, Logout) == []
    stage.pass_time(seconds=61)
    assert wake_due(stage.services, Logout) == [delivery]
    assert wake_due(stage.services, Logout) == []  # woken once, not by every sweep
    assert end_at_idp(stage.services, delivery) == "confirmed"


def _die(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("fault", [None, "status"])
def test_a_worker_that_lost_its_lease_cannot_write_back(stage: Stage, fault: str | None) -> None:
    delivery, _ = logged_out(stage)
    if fault:  # the first worker comes back with a failure, else with a success
        stage.mosaic.state.faults.add(TELL, fault, status=500, times=1)

    with (
        stage.mosaic.state.gates.hold(TELL) as gate,
        stage.meanwhile(lambda: end_at_idp(stage.services, delivery)) as late,
    ):
        gate.wait_arrived(1)
        stage.pass_time(seconds=61)
        with stage.meanwhile(lambda: end_at_idp(stage.services, delivery)) as heir:
            gate.wait_arrived(2)
            taken_over = stage.logouts()[0]
            assert taken_over.attempts == 2
            gate.release()

    outcomes = (late.result(), heir.result())
    (row,) = stage.logouts()
    assert outcomes == (None, "confirmed")
    assert (row.outcome, row.attempts, row.lease_token) == ("confirmed", 2, None)
    assert [event for event, _ in stage.events()].count("idp_confirmed") == 1


# --- sweeping


def test_a_sweep_leaves_alone_what_a_message_has_just_woken(stage: Stage) -> None:
    delivery, _ = logged_out(stage)

    assert wake_due(stage.services, Logout) == []
    stage.pass_time(seconds=11)
    assert wake_due(stage.services, Logout) == [delivery]


def test_sweeps_at_once_share_the_work(stage: Stage) -> None:
    for _ in range(12):
        stage.registered()
    stage.log_out(app_id="desk", scope=LogoutScope.USER)
    stage.pass_time(seconds=11)

    woken = stage.at_once(*[lambda: wake_due(stage.services, Logout)] * 4)

    deliveries = [delivery for share in woken for delivery in share]
    assert sorted(deliveries) == sorted(row.id for row in stage.logouts())


def test_a_delivery_that_does_not_exist_is_nobodys(sqlite_stage: Stage) -> None:
    assert end_at_idp(sqlite_stage.services, UUID(int=7)) is None


def test_pauses_double_with_jitter_up_to_a_limit() -> None:
    for attempts, ceiling in [(1, 2), (2, 4), (5, 32), (9, 300), (10_000, 300)]:
        pauses = [pause_before_next(attempts, 2.0, 300.0, 0) for _ in range(200)]
        assert ceiling / 10 <= min(pauses) < max(pauses) <= ceiling
        assert len(set(pauses)) > 1


def test_a_pause_is_never_shorter_than_asked_for() -> None:
    assert pause_before_next(1, 2, 300, 60) >= 60


def test_a_sweep_takes_the_least_tried_first_in_the_order_they_were_put_off(stage: Stage) -> None:
    ids = [logged_out(stage)[0] for _ in range(6)]
    with stage.services.store.write() as connection:
        for place, (logout, attempts) in enumerate(zip(ids, (3, 0, 1, 0, 12, 1), strict=True)):
            due = stage.now() - timedelta(seconds=place)
            tried = {"attempts": attempts, "next_attempt_at": due, "woken_at": due}
            connection.execute(update(Logout).where(Logout.id == logout).values(tried))
    stage.pass_time(seconds=11)

    woken = wake_due(stage.services, Logout)

    assert [ids.index(logout) for logout in woken] == [3, 1, 5, 2, 0, 4]


@pytest.mark.parametrize(("tries", "most"), [(0, 2), (1, 2), (3, 8), (12, MAX_HELD_BACK_SECONDS)])
def test_what_failed_keeps_its_own_back_off_while_a_breaker_is_open(
    sqlite_stage: Stage, monkeypatch: pytest.MonkeyPatch, tries: int, most: float
) -> None:
    delivery, _ = logged_out(sqlite_stage)
    with sqlite_stage.services.store.write() as connection:
        connection.execute(update(Logout).values(attempts=tries))

    def held(*_: object, **__: object) -> None:
        raise BreakerOpen("", Reason.IDP_UNAVAILABLE, 5.0)

    monkeypatch.setattr(Traffic, "admit_logout", held)
    monkeypatch.setattr(random, "uniform", lambda _, ceiling: ceiling)

    end_at_idp(sqlite_stage.services, delivery)

    (row,) = sqlite_stage.logouts()
    assert row.attempts == tries
    waits = (row.next_attempt_at - sqlite_stage.now()).total_seconds()
    assert most + 4 < waits <= most + 5


def test_what_was_put_off_is_woken_as_soon_as_it_is_due(sqlite_stage: Stage) -> None:
    delivery, _ = logged_out(sqlite_stage)
    sqlite_stage.mosaic.state.faults.add(TELL, "status", status=500, times=1)
    end_at_idp(sqlite_stage.services, delivery)
    assert wake_due(sqlite_stage.services, Logout) == []

    sqlite_stage.pass_time(seconds=3)

    assert wake_due(sqlite_stage.services, Logout) == [delivery]


def test_a_sweep_takes_the_longest_due_and_no_more_than_it_may(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(5):
        stage.registered()
        stage.log_out(app_id="desk", scope=LogoutScope.USER)
        stage.pass_time(seconds=1)
    in_order = [row.id for row in sorted(stage.logouts(), key=lambda row: row.next_attempt_at)]
    stage.pass_time(seconds=11)
    monkeypatch.setattr(leases, "SWEEP_BATCH", 2)

    sweeps = [set(wake_due(stage.services, Logout)) for _ in range(4)]

    assert sweeps == [set(in_order[:2]), set(in_order[2:4]), set(in_order[4:]), set()]
