"""Logged out everywhere means: also what was logged in before and is registered after."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select

from models import DeviceWatermark, IdpSession, UserWatermark
from session_client import requests
from session_client.contract import LogoutScope, Reason, Verdict
from simulator.controls.gates import wait_until
from simulator.server import SimulatorServer
from tests.databases import set_isolation
from tests.integration.outbox.propagation_rig import by_queue, notices, waits_for_a_lock
from tests.integration.storage.pg_locks import patient_locks
from tests.stage import Stage
from worker import wiring
from worker.logout import end_sessions, logout, revoke_user
from worker.logout import revoke as by_hand
from worker.logout.revoke import revoke
from worker.maintenance.purge import purge_history
from worker.sessions import watermarks
from worker.sign_in import store_session


@pytest.fixture(autouse=True)
def _apps(request: pytest.FixtureRequest) -> None:
    if "stage" in request.fixturenames:
        add_apps(request.getfixturevalue("stage"))


def add_apps(stage: Stage) -> None:
    stage.add_app("shop")
    by_queue(stage, "forum")
    stage.add_app("desk", capabilities=("logout_user",))


def everywhere(stage: Stage) -> Any:
    return stage.log_out(app_id="desk", scope=LogoutScope.USER)


def from_phone(stage: Stage, app_id: str = "shop") -> Any:
    return stage.log_out(app_id=app_id, scope=LogoutScope.DEVICE, device_id="phone")


def live(stage: Stage) -> list[UUID]:
    return [session.id for session in stage.sessions() if session.ended_at is None]


def marks(stage: Stage) -> list[Any]:
    with stage.services.store.read() as connection:
        return list(connection.execute(select(UserWatermark.__table__)).all())


def device_marks(stage: Stage) -> list[Any]:
    with stage.services.store.read() as connection:
        return list(connection.execute(select(DeviceWatermark.__table__)).all())


def test_an_earlier_login_registered_late_is_born_ended_and_told_to_mosaic(stage: Stage) -> None:
    login = stage.login("ada", "shop")
    stage.pass_time(seconds=2)
    everywhere(stage)

    registration = stage.remember(login)

    assert (registration.verdict, registration.reason) == (
        Verdict.LOGIN_REQUIRED,
        Reason.LOGGED_OUT,
    )
    assert registration.session_ref is None
    (session,) = stage.sessions()
    assert session.end_cause == "logout"
    assert stage.events() == [("ended", "logout")]
    assert stage.silent_auth().reason == Reason.LOGGED_OUT
    assert stage.tell_mosaic() == ["confirmed"]
    assert not stage.mosaic.state.is_live(login.session_id)


def test_revoking_all_of_a_user_counts_as_logging_out_everywhere(stage: Stage) -> None:
    login = stage.login("ada", "shop")
    stage.pass_time(seconds=2)
    revoke(stage.services, IdpSession.user_id == "ada", reason="taken over", all_of_user="ada")

    assert stage.remember(login).reason == Reason.LOGGED_OUT
    assert stage.tell_mosaic() == ["confirmed"]


def test_registering_it_again_says_the_same_and_owes_nothing_more(stage: Stage) -> None:
    login = stage.login("ada", "shop")
    stage.pass_time(seconds=2)
    everywhere(stage)
    stage.remember(login)
    before = stage.dump()

    assert stage.remember(login).reason == Reason.LOGGED_OUT
    assert stage.dump() == before


def test_the_app_that_registers_what_is_born_ended_is_told_by_the_answer_alone(
    stage: Stage,
) -> None:
    login = stage.login("ada", "forum")
    stage.pass_time(seconds=2)
    everywhere(stage)

    assert stage.remember(login, app_id="forum").reason == Reason.LOGGED_OUT
    assert notices(stage) == []


def test_the_app_whose_login_was_born_ended_may_name_it_in_a_logout(stage: Stage) -> None:
    login = stage.login("ada", "shop")
    stage.pass_time(seconds=2)
    everywhere(stage)
    stage.remember(login)

    proof = stage.log_out(session_id=login.session_id)

    assert (proof.verdict, proof.sessions_ended, proof.idp_pending) == (Verdict.OK, 0, 1)
    assert notices(stage) == []


def test_a_later_login_is_welcome(stage: Stage) -> None:
    everywhere(stage)
    stage.pass_time(seconds=2)

    ref = stage.registered()

    assert stage.silent_auth().verdict is Verdict.AUTHENTICATED
    assert live(stage) == [ref]


def test_another_users_login_is_not_touched(stage: Stage) -> None:
    login = stage.login("bob", "shop")
    stage.pass_time(seconds=2)
    everywhere(stage)

    assert stage.remember(login, "bob").verdict is Verdict.OK


def test_a_logout_of_one_session_leaves_later_registrations_alone(stage: Stage) -> None:
    login = stage.login("ada", "shop")
    ref = stage.registered(device_id="phone")
    stage.pass_time(seconds=2)
    stage.log_out(session_ref=str(ref))

    assert (marks(stage), device_marks(stage)) == ([], [])
    assert stage.remember(login, device_id="phone").verdict is Verdict.OK


def test_a_device_logout_leaves_a_later_registration_without_a_device_alone(stage: Stage) -> None:
    login = stage.login("ada", "shop")
    stage.pass_time(seconds=2)
    from_phone(stage)

    assert marks(stage) == []
    assert stage.remember(login).verdict is Verdict.OK


@pytest.mark.parametrize("leaving", ["shop", "desk"])
@pytest.mark.parametrize("shared_by", ["registering it", "getting tokens from it"])
def test_a_session_that_becomes_of_the_device_only_after_its_logout_is_ended_then(
    stage: Stage, leaving: str, shared_by: str
) -> None:
    login = stage.login("ada", "shop")
    if shared_by == "registering it":
        stage.remember(login)
    else:
        at_forum = stage.mosaic.state.add_factor(login.session_id, "client-forum", "sms")
        stage.remember(at_forum, app_id="forum")
        assert stage.silent_auth(app_id="shop").verdict is Verdict.AUTHENTICATED
    stage.pass_time(seconds=2)
    from_phone(stage, leaving)

    late = stage.remember(login, device_id="phone")

    assert late.reason == Reason.LOGGED_OUT
    assert stage.silent_auth(device_id="phone").verdict is Verdict.LOGIN_REQUIRED
    assert live(stage) == []


@pytest.mark.parametrize("leaving", ["shop", "desk"])
def test_an_earlier_login_of_a_logged_out_device_is_born_ended_and_told_to_mosaic(
    stage: Stage, leaving: str
) -> None:
    login = stage.login("ada", "shop")
    stage.pass_time(seconds=2)
    from_phone(stage, leaving)

    registration = stage.remember(login, device_id="phone")

    assert (registration.verdict, registration.reason) == (
        Verdict.LOGIN_REQUIRED,
        Reason.LOGGED_OUT,
    )
    assert stage.silent_auth(device_id="phone").reason == Reason.LOGGED_OUT
    assert stage.tell_mosaic() == ["confirmed"]
    assert not stage.mosaic.state.is_live(login.session_id)


@pytest.mark.parametrize("who", [{"user_id": "bob"}, {"device_id": "laptop"}])
def test_a_device_logout_leaves_other_users_and_devices_alone(
    stage: Stage, who: dict[str, str]
) -> None:
    whose = {"user_id": "ada", "device_id": "phone"} | who
    login = stage.login(whose["user_id"], "shop")
    stage.pass_time(seconds=2)
    from_phone(stage)

    assert stage.remember(login, **whose).verdict is Verdict.OK


def test_a_later_login_from_a_logged_out_device_is_welcome(stage: Stage) -> None:
    from_phone(stage)
    stage.pass_time(seconds=2)

    ref = stage.registered(device_id="phone")

    assert live(stage) == [ref]


def test_a_device_logout_leaves_what_its_app_does_not_share_alone_however_late_it_comes(
    stage: Stage,
) -> None:
    login, late = stage.login("ada", "shop"), stage.login("ada", "shop")
    ref = UUID(stage.remember(login, device_id="phone").session_ref)
    stage.pass_time(seconds=2)
    from_phone(stage, "forum")

    repeated = stage.remember(login, device_id="phone")
    registration = stage.remember(late, device_id="phone")

    assert UUID(repeated.session_ref) == ref
    assert registration.verdict is Verdict.OK
    assert set(live(stage)) == {ref, UUID(registration.session_ref)}


def test_a_login_that_joins_a_session_of_the_logged_out_device_ends_it_for_all(
    stage: Stage,
) -> None:
    login = stage.login("ada", "shop")
    at_forum = stage.mosaic.state.add_factor(login.session_id, "client-forum", "sms")
    stage.remember(login, device_id="phone")
    stage.pass_time(seconds=2)
    from_phone(stage, "forum")

    registration = stage.remember(at_forum, app_id="forum")  # it need not say the device again

    assert registration.reason == Reason.LOGGED_OUT
    assert live(stage) == []


def test_a_session_given_to_the_app_since_a_device_logout_may_be_registered_again(
    stage: Stage,
) -> None:
    login = stage.login("ada", "shop")
    stage.remember(login, device_id="phone")
    logged_in_at = int(stage.now().timestamp())
    stage.pass_time(seconds=2)
    from_phone(stage, "forum")
    assert stage.silent_auth(app_id="forum", device_id="phone").verdict is Verdict.AUTHENTICATED
    token = stage.mosaic.state.mint_id_token(aud="client-forum", auth_time=logged_in_at)

    answer = stage.remember(login, app_id="forum", id_token=token, device_id="phone")

    assert answer.verdict is Verdict.OK


def test_the_latest_logout_counts_whatever_comes_after_it(stage: Stage) -> None:
    sent = stage.now()
    stage.pass_time(hours=1)
    everywhere(stage)
    (before,) = marks(stage)

    stage.pass_time(hours=-1)  # another worker's clock
    everywhere(stage)

    assert marks(stage) == [before]
    assert before.logged_out_at > sent


def test_the_latest_logout_of_a_device_counts_and_each_app_has_its_own(stage: Stage) -> None:
    stage.pass_time(hours=1)
    apps = ("shop", "desk")
    for app_id in apps:
        from_phone(stage, app_id)
    before = device_marks(stage)

    stage.pass_time(hours=-1)  # another worker's clock
    for app_id in apps:
        from_phone(stage, app_id)

    assert len(before) == 2
    assert device_marks(stage) == before


def test_a_refused_logout_everywhere_sets_no_watermark(stage: Stage) -> None:
    assert stage.log_out(scope=LogoutScope.USER).verdict is Verdict.UNAUTHORIZED
    assert marks(stage) == []


LOGOUTS = {"everywhere": everywhere, "of the device": from_phone}


@pytest.mark.parametrize("how", LOGOUTS)
def test_a_registration_that_races_a_logout_leaves_nothing_alive(stage: Stage, how: str) -> None:
    for _ in range(12):
        login = stage.login("ada", "shop")
        stage.pass_time(seconds=2)

        registration, proof = stage.at_once(
            functools.partial(stage.remember, login, device_id="phone"),
            functools.partial(LOGOUTS[how], stage),
        )

        assert proof.verdict is Verdict.OK
        assert registration.verdict in {Verdict.OK, Verdict.LOGIN_REQUIRED}
        assert live(stage) == []
    assert len(stage.logouts()) == len(stage.sessions()) == 12


@pytest.fixture(params=["read committed", "repeatable read"])
def pg(
    request: pytest.FixtureRequest, postgres_url: str, redis_url: str, mosaic: SimulatorServer
) -> Any:
    """On a database whose operator has chosen how transactions are kept apart by default."""
    set_isolation(postgres_url, request.param)
    with patient_locks(), Stage(postgres_url, redis_url, mosaic) as stage:
        add_apps(stage)
        yield stage


class Pause:
    """Lets a function do its work, then holds whoever called it, in their transaction."""

    def __init__(self, work: Any) -> None:
        self._work = work
        self.reached, self.go_on = threading.Event(), threading.Event()

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        done = self._work(*arguments, **options)
        self.reached.set()
        assert self.go_on.wait(60)
        return done


@pytest.mark.parametrize("how", LOGOUTS)
def test_a_logout_waits_for_a_registration_that_began_before_it(
    pg: Stage, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    login = pg.login("ada", "shop")
    pg.pass_time(seconds=2)
    # It has looked for a watermark and found none, and has not committed.
    look = "is_before_watermark" if how == "everywhere" else "is_before_device_watermark"
    pause = Pause(getattr(watermarks, look))
    monkeypatch.setattr(store_session, look, pause)

    with pg.meanwhile(lambda: pg.remember(login, device_id="phone")) as coming:
        assert pause.reached.wait(60)
        with pg.meanwhile(lambda: LOGOUTS[how](pg)) as leaving:
            wait_until(lambda: leaving.done() or waits_for_a_lock(pg), 60)
            pause.go_on.set()

    assert coming.result().verdict is Verdict.OK
    assert leaving.result().sessions_ended == 1
    assert live(pg) == []


@pytest.mark.parametrize("how", LOGOUTS)
def test_a_registration_waits_for_a_logout_that_began_before_it(
    pg: Stage, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    login = pg.login("ada", "shop")
    pg.pass_time(seconds=2)
    # It has ended what it saw, and has not committed: the new session it did not see.
    pause = Pause(end_sessions.end_sessions)
    monkeypatch.setattr(logout, "end_sessions", pause)

    with pg.meanwhile(lambda: LOGOUTS[how](pg)) as leaving:
        assert pause.reached.wait(60)
        with pg.meanwhile(lambda: pg.remember(login, device_id="phone")) as coming:
            wait_until(lambda: coming.done() or waits_for_a_lock(pg), 60)
            pause.go_on.set()

    assert leaving.result().sessions_ended == 0
    assert coming.result().reason == Reason.LOGGED_OUT
    assert live(pg) == []
    assert pg.tell_mosaic() == ["confirmed"]


def by_an_app(stage: Stage) -> int:
    receipt = stage.ask("office", requests.RevokeUser(user_id="ada"))
    return int(receipt.sessions_ended)


def by_an_operator(stage: Stage) -> int:
    theirs = IdpSession.user_id == "ada"
    return revoke(stage.services, theirs, reason="has left", all_of_user="ada").count


@pytest.mark.parametrize(
    ("end", "where"), [(by_an_app, revoke_user), (by_an_operator, by_hand)], ids=["app", "operator"]
)
def test_a_revocation_and_a_registration_wait_for_each_other(
    pg: Stage, monkeypatch: pytest.MonkeyPatch, end: Callable[[Stage], int], where: Any
) -> None:
    pg.add_app("office", capabilities=("revoke_user",))
    first, second = pg.login("ada", "shop"), pg.login("ada", "shop")
    pg.pass_time(seconds=2)
    registering = Pause(watermarks.is_before_watermark)
    with monkeypatch.context() as patch:
        patch.setattr(store_session, "is_before_watermark", registering)
        with pg.meanwhile(lambda: pg.remember(first)) as coming:
            assert registering.reached.wait(60)
            with pg.meanwhile(lambda: end(pg)) as leaving:
                wait_until(lambda: leaving.done() or waits_for_a_lock(pg), 60)
                registering.go_on.set()
    assert coming.result().verdict is Verdict.OK
    assert leaving.result() == 1

    revoking = Pause(end_sessions.end_sessions)
    monkeypatch.setattr(where, "end_sessions", revoking)
    with pg.meanwhile(lambda: end(pg)) as leaving:
        assert revoking.reached.wait(60)
        with pg.meanwhile(lambda: pg.remember(second)) as coming:
            wait_until(lambda: coming.done() or waits_for_a_lock(pg), 60)
            revoking.go_on.set()

    assert coming.result().reason == Reason.LOGGED_OUT
    assert live(pg) == []


@pytest.mark.parametrize("how", LOGOUTS)
def test_a_worker_whose_clock_is_behind_takes_no_login_from_before_a_logout_for_a_later_one(
    pg: Stage, how: str
) -> None:
    """The database's clock is real, so what is past on stage must be so there."""
    behind = wiring.build(pg.settings, now=lambda: pg.now() - timedelta(seconds=30))
    pg.pass_time(seconds=-10)
    login = pg.login("ada", "shop")
    pg.pass_time(seconds=10)

    with closing(behind), wiring.use(behind):
        proof = LOGOUTS[how](pg)
        registration = pg.remember(login, device_id="phone")

    assert proof.verdict is Verdict.OK
    assert registration.reason == Reason.LOGGED_OUT
    assert live(pg) == []


def test_an_old_watermark_is_purged_and_a_recent_one_is_kept(stage: Stage) -> None:
    everywhere(stage)
    from_phone(stage)
    stage.pass_time(days=29, hours=23)
    counts = purge_history(stage.services).rows
    assert (counts["watermarks"], counts["device_watermarks"]) == (0, 0)
    assert len(marks(stage)) == len(device_marks(stage)) == 1
    stage.pass_time(hours=2)

    counts = purge_history(stage.services).rows

    assert (counts["watermarks"], counts["device_watermarks"]) == (1, 1)
    assert marks(stage) == device_marks(stage) == []
