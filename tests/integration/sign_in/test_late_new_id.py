"""Mosaic gives a session a new id in an answer that comes after the session has ended here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import update

from models import EndCause, IdpSession, Logout
from session_client import requests
from session_client.contract import Reason, Verdict
from simulator.controls.gates import Gate
from simulator.idp.endpoints import Endpoint
from simulator.server import SimulatorServer
from tests.integration.storage.pg_locks import (
    DEADLOCK,
    failures,
    one_behind_the_other,
    patient_locks,
)
from tests.stage import Stage
from worker.outbox import leases
from worker.sessions import mosaic_ids, queries
from worker.sign_in.late_id import keep_late_id

__all__ = ["failures"]

ASK = Endpoint.SESSION_AUTHENTICATE


@pytest.fixture
def apps(stage: Stage) -> Stage:
    stage.add_app("shop")
    stage.add_app("forum")
    return stage


@contextmanager
def renamed_meanwhile(stage: Stage) -> Iterator[tuple[UUID, Gate, Future[Any]]]:
    """Hold the answer that gives ada's session a new id, her old one forgotten at Mosaic."""
    ref = stage.registered()
    state = stage.mosaic.state
    (session,) = state.live_sessions("ada")
    state.faults.add(ASK, "rotate_session_id", client_id="client-forum", times=1)
    with (
        state.gates.hold(ASK, "client-forum") as gate,
        stage.meanwhile(lambda: stage.silent_auth("ada", "forum")) as asked,
    ):
        gate.wait_arrived()
        state.sessions.forget_id(session.session_id)
        yield ref, gate, asked


def log_out(stage: Stage, ref: UUID) -> None:
    stage.log_out(session_ref=str(ref))


def log_out_and_tell(stage: Stage, ref: UUID) -> None:
    log_out(stage, ref)
    assert stage.tell_mosaic() == ["confirmed"]  # of an id that it does not know any more


def find_it_gone(stage: Stage, _: UUID) -> None:
    assert stage.silent_auth("ada", "shop").reason == Reason.GONE_AT_IDP


def let_it_expire(stage: Stage, ref: UUID) -> None:
    change(stage, ref, ended_at=stage.now(), end_cause="expired", sealed_session_id=None)


def change(stage: Stage, ref: UUID, **values: Any) -> None:
    with stage.services.store.write() as connection:
        connection.execute(update(IdpSession).where(IdpSession.id == ref).values(**values))


ENDINGS: dict[str, tuple[Callable[[Stage, UUID], None], Reason]] = {
    "logged out, and Mosaic not told yet": (log_out, Reason.LOGGED_OUT),
    "logged out, and Mosaic told": (log_out_and_tell, Reason.LOGGED_OUT),
    "gone at Mosaic": (find_it_gone, Reason.GONE_AT_IDP),
    "expired": (let_it_expire, Reason.EXPIRED),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_mosaic_is_told_of_the_end_by_the_id_that_came_too_late(apps: Stage, ending: str) -> None:
    end, reason = ENDINGS[ending]
    state = apps.mosaic.state
    with renamed_meanwhile(apps) as (ref, gate, asked):
        end(apps, ref)
        gate.release()
        answer = asked.result(timeout=60)

    assert (answer.verdict, answer.reason) == (Verdict.LOGIN_REQUIRED, reason)
    (session,) = state.live_sessions("ada")
    assert apps.tell_mosaic() == ["confirmed"]
    assert state.live_sessions("ada") == []
    assert apps.session(ref).sealed_session_id is None
    # It is found by the new id as well as by the old one.
    again = apps.log_out(session_id=session.session_id)
    assert (again.sessions_ended, again.idp_unconfirmed) == (0, 0)


def test_a_delivery_that_was_given_up_begins_anew_with_the_id_that_came_late(apps: Stage) -> None:
    with renamed_meanwhile(apps) as (ref, gate, asked):
        log_out(apps, ref)
        given_up = {"closed_at": apps.now(), "outcome": leases.DEAD, "attempts": 12}
        with apps.services.store.write() as connection:
            crashes = leases.MAX_CRASHES + 1
            connection.execute(update(Logout).values(**given_up, crashes=crashes))
        gate.release()
        asked.result(timeout=60)

    (owed,) = apps.logouts()
    assert (owed.closed_at, owed.outcome, owed.attempts, owed.crashes) == (None, None, 0, 0)
    assert apps.tell_mosaic() == ["confirmed"]
    assert apps.mosaic.state.live_sessions("ada") == []


def test_a_worker_that_tells_of_the_old_id_meanwhile_confirms_nothing(apps: Stage) -> None:
    state = apps.mosaic.state
    with renamed_meanwhile(apps) as (ref, gate, asked):
        log_out(apps, ref)
        with (
            state.gates.hold(Endpoint.SESSION_LOGOUT) as telling,
            apps.meanwhile(apps.tell_mosaic) as told,
        ):
            telling.wait_arrived()
            gate.release()
            asked.result(timeout=60)
            telling.release()
            assert told.result(timeout=60) == [None]

    assert apps.tell_mosaic() == ["confirmed"]
    assert state.live_sessions("ada") == []


def test_a_worker_that_closes_the_delivery_meanwhile_waits_in_no_ring(
    postgres_url: str, redis_url: str, mosaic: SimulatorServer, failures: list[str]
) -> None:
    with patient_locks(), Stage(postgres_url, redis_url, mosaic) as stage:
        stage.add_app("shop")
        stage.add_app("forum")
        with renamed_meanwhile(stage) as (ref, gate, asked):
            log_out(stage, ref)

            def settle() -> None:
                gate.release()
                asked.result(timeout=60)

            # The one wants the session and then its delivery; the other has closed the delivery.
            one_behind_the_other(stage, ref, [settle, stage.tell_mosaic])

        assert DEADLOCK not in failures
        assert stage.tell_mosaic() == ["confirmed"]
        assert mosaic.state.live_sessions("ada") == []


def test_no_tokens_pass_by_the_end_of_the_row_that_has_the_new_id(
    postgres_url: str, redis_url: str, mosaic: SimulatorServer
) -> None:
    state = mosaic.state
    with patient_locks(), Stage(postgres_url, redis_url, mosaic) as stage:
        stage.add_app("shop")
        one, other = stage.registered(), stage.registered()
        ids = [session.session_id for session in state.live_sessions("ada")]
        state.sessions._by_id[ids[0]] = state.sessions._by_id[ids[1]]
        visit = requests.SilentAuth(session_ref=str(one), user_id="ada")
        with (
            state.gates.hold(ASK) as gate,
            stage.meanwhile(lambda: stage.ask("shop", visit)) as asked,
        ):
            gate.wait_arrived()

            def settle() -> Any:
                gate.release()
                return asked.result(timeout=60)

            end = partial(log_out, stage, other)
            _, answer = one_behind_the_other(stage, other, [end, settle])

        assert (answer.verdict, answer.reason) == (Verdict.LOGIN_REQUIRED, Reason.LOGGED_OUT)
        assert answer.tokens is None


@pytest.mark.parametrize("cause", [EndCause.EXPIRED, EndCause.GONE_AT_IDP])
def test_a_session_that_lives_is_not_ended_for_another_row_that_has_its_id(
    apps: Stage, cause: EndCause
) -> None:
    state = apps.mosaic.state
    one, other = apps.registered(), apps.registered()
    ids = [session.session_id for session in state.live_sessions("ada")]
    change(apps, other, ended_at=apps.now(), end_cause=cause.value, sealed_session_id=None)
    # Mosaic answers with the other row's id, and the session changes meanwhile.
    state.sessions._by_id[ids[0]] = state.sessions._by_id[ids[1]]
    with (
        state.gates.hold(ASK, "client-forum") as gate,
        apps.meanwhile(lambda: apps.silent_auth("ada", "forum")) as asked,
    ):
        gate.wait_arrived()
        change(apps, one, version=IdpSession.version + 1)
        gate.release()
        answer = asked.result(timeout=60)

    assert answer.verdict is Verdict.AUTHENTICATED
    assert apps.session(one).ended_at is None
    assert apps.logouts() == []


def test_the_new_id_of_a_session_that_changes_meanwhile_is_kept(apps: Stage) -> None:
    with renamed_meanwhile(apps) as (ref, gate, asked):
        change(apps, ref, version=IdpSession.version + 1)
        gate.release()
        answer = asked.result(timeout=60)

    assert answer.verdict is Verdict.AUTHENTICATED
    assert apps.session(ref).ended_at is None
    log_out(apps, ref)
    assert apps.tell_mosaic() == ["confirmed"]
    assert apps.mosaic.state.live_sessions("ada") == []


def test_a_new_id_that_comes_late_takes_no_later_one_back(apps: Stage) -> None:
    ref, state = apps.registered(), apps.mosaic.state
    state.faults.add(ASK, "rotate_session_id", client_id="client-forum", times=1)
    with (
        state.gates.hold(ASK, "client-forum") as gate,
        apps.meanwhile(lambda: apps.silent_auth("ada", "forum")) as asked,
    ):
        gate.wait_arrived()
        earlier = list(state.sessions._by_id)
        state.faults.add(ASK, "rotate_session_id", client_id="client-shop", times=1)
        assert apps.silent_auth("ada", "shop").verdict is Verdict.AUTHENTICATED
        for session_id in earlier:
            state.sessions.forget_id(session_id)
        gate.release()
        asked.result(timeout=60)

    assert apps.silent_auth("ada", "shop").verdict is Verdict.AUTHENTICATED
    assert apps.session(ref).ended_at is None


def keep(stage: Stage, ref: UUID, session_id: str) -> None:
    """Have an answer about the session bring an id that comes late."""
    shop = stage.services.apps.find("shop")
    with stage.services.store.read() as connection:
        session = queries.by_id(connection, ref)
    assert shop is not None
    assert session is not None
    found, owed = keep_late_id(stage.services, shop, session, session_id)
    assert (found and found.id, owed) == (ref, ())


def test_a_new_id_that_an_app_registers_this_very_moment_is_left_to_its_row(
    apps: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = apps.registered(), apps.registered()
    _, its_id = (session.session_id for session in apps.mosaic.state.live_sessions("ada"))
    before = [apps.session(ref).session_hash for ref in (one, other)]
    monkeypatch.setattr(mosaic_ids, "find", lambda *_, **__: None)  # it looked a moment before

    keep(apps, one, its_id)

    assert [apps.session(ref).session_hash for ref in (one, other)] == before


def test_an_id_that_another_session_had_before_is_left_to_that_one(apps: Stage) -> None:
    one = apps.registered()
    other = apps.registered()
    before = apps.session(one).session_hash
    _, its_old_id = (session.session_id for session in apps.mosaic.state.live_sessions("ada"))
    apps.mosaic.state.faults.add(ASK, "rotate_session_id", times=1)
    assert apps.silent_auth("ada", "shop").session_ref == str(other)

    keep(apps, one, its_old_id)

    assert apps.session(one).session_hash == before


def test_a_session_that_lives_on_is_not_ended_by_a_new_id(apps: Stage) -> None:
    apps.registered()
    for _ in range(3):
        apps.mosaic.state.faults.add(ASK, "rotate_session_id", times=1)
        assert apps.silent_auth("ada", "shop").verdict is Verdict.AUTHENTICATED

    assert apps.logouts() == []
    assert [row.ended_at for row in apps.sessions()] == [None]
