"""Logged out everywhere means: also what was logged in before and is registered after."""

from __future__ import annotations

import functools
import threading
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select

from models import IdpSession, UserWatermark
from session_client.contract import LogoutScope, Reason, Verdict
from simulator.gates import wait_until
from simulator.server import SimulatorServer
from tests.integration.pg_locks import patient_locks
from tests.integration.propagation_rig import by_queue, notices, waits_for_a_lock
from tests.stage import Stage
from worker.lifecycle import ending, logout, maintenance, registering, watermarks
from worker.lifecycle.revoking import revoke


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


def live(stage: Stage) -> list[UUID]:
    return [session.id for session in stage.sessions() if session.ended_at is None]


def marks(stage: Stage) -> list[Any]:
    with stage.services.store.read() as connection:
        return list(connection.execute(select(UserWatermark.__table__)).all())


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


def test_a_logout_of_one_session_or_device_leaves_later_registrations_alone(stage: Stage) -> None:
    login = stage.login("ada", "shop")
    ref = stage.registered(device_id="phone")
    stage.pass_time(seconds=2)
    stage.log_out(session_ref=str(ref))
    stage.log_out(scope=LogoutScope.DEVICE, device_id="phone")

    assert marks(stage) == []
    assert stage.remember(login).verdict is Verdict.OK


def test_the_latest_logout_counts_whatever_comes_after_it(stage: Stage) -> None:
    sent = stage.now()
    stage.pass_time(hours=1)
    everywhere(stage)
    (before,) = marks(stage)

    stage.pass_time(hours=-1)  # another worker's clock
    everywhere(stage)

    assert marks(stage) == [before]
    assert before.logged_out_at > sent


def test_a_refused_logout_everywhere_sets_no_watermark(stage: Stage) -> None:
    assert stage.log_out(scope=LogoutScope.USER).verdict is Verdict.UNAUTHORIZED
    assert marks(stage) == []


def test_a_registration_that_races_a_logout_everywhere_leaves_nothing_alive(
    stage: Stage,
) -> None:
    for _ in range(12):
        login = stage.login("ada", "shop")
        stage.pass_time(seconds=2)

        registration, proof = stage.at_once(
            functools.partial(stage.remember, login), functools.partial(everywhere, stage)
        )

        assert proof.verdict is Verdict.OK
        assert registration.verdict in {Verdict.OK, Verdict.LOGIN_REQUIRED}
        assert live(stage) == []
    assert len(stage.logouts()) == len(stage.sessions()) == 12


@pytest.fixture
def pg(postgres_url: str, redis_url: str, mosaic: SimulatorServer) -> Any:
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


def test_a_logout_everywhere_waits_for_a_registration_that_began_before_it(
    pg: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    login = pg.login("ada", "shop")
    pg.pass_time(seconds=2)
    # It has looked for a watermark and found none, and has not committed.
    pause = Pause(watermarks.is_before_watermark)
    monkeypatch.setattr(registering, "is_before_watermark", pause)

    with pg.meanwhile(lambda: pg.remember(login)) as coming:
        assert pause.reached.wait(60)
        with pg.meanwhile(lambda: everywhere(pg)) as leaving:
            wait_until(lambda: leaving.done() or waits_for_a_lock(pg), 60)
            pause.go_on.set()

    assert coming.result().verdict is Verdict.OK
    assert leaving.result().sessions_ended == 1
    assert live(pg) == []


def test_a_registration_waits_for_a_logout_everywhere_that_began_before_it(
    pg: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    login = pg.login("ada", "shop")
    pg.pass_time(seconds=2)
    # It has ended what it saw, and has not committed: the new session it did not see.
    pause = Pause(ending.end_sessions)
    monkeypatch.setattr(logout, "end_sessions", pause)

    with pg.meanwhile(lambda: everywhere(pg)) as leaving:
        assert pause.reached.wait(60)
        with pg.meanwhile(lambda: pg.remember(login)) as coming:
            wait_until(lambda: coming.done() or waits_for_a_lock(pg), 60)
            pause.go_on.set()

    assert leaving.result().sessions_ended == 0
    assert coming.result().reason == Reason.LOGGED_OUT
    assert live(pg) == []
    assert pg.tell_mosaic() == ["confirmed"]


def test_an_old_watermark_is_purged_and_a_recent_one_is_kept(stage: Stage) -> None:
    everywhere(stage)
    stage.pass_time(days=29, hours=23)
    assert maintenance.purge_history(stage.services).rows["watermarks"] == 0
    assert len(marks(stage)) == 1
    stage.pass_time(hours=2)

    assert maintenance.purge_history(stage.services).rows["watermarks"] == 1
    assert marks(stage) == []
