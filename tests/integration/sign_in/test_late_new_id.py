"""Mosaic gives a session a new id in an answer that comes after the session has ended here."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from session_client.contract import Reason, Verdict
from simulator.idp.endpoints import Endpoint
from tests.integration.outbox.propagation_rig import by_queue
from tests.stage import Stage

ASK = Endpoint.SESSION_AUTHENTICATE


def log_out(stage: Stage, ref: str) -> None:
    stage.log_out(session_ref=ref)


def log_out_and_tell(stage: Stage, ref: str) -> None:
    stage.log_out(session_ref=ref)
    assert stage.tell_mosaic() == ["confirmed"]  # of an id that it does not know any more


def find_it_gone(stage: Stage, ref: str) -> None:
    del ref
    assert stage.silent_auth("ada", "shop").reason == Reason.GONE_AT_IDP


def let_it_expire(stage: Stage, ref: str) -> None:
    del ref
    with stage.services.store.write() as connection:
        connection.exec_driver_sql(
            "UPDATE idp_sessions SET ended_at = created_at, end_cause = 'expired',"
            " sealed_session_id = NULL"
        )


ENDINGS: dict[str, tuple[Callable[[Stage, str], None], Reason]] = {
    "logged out, and Mosaic not told yet": (log_out, Reason.LOGGED_OUT),
    "logged out, and Mosaic told": (log_out_and_tell, Reason.LOGGED_OUT),
    "gone at Mosaic": (find_it_gone, Reason.GONE_AT_IDP),
    "expired": (let_it_expire, Reason.EXPIRED),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_mosaic_is_told_of_the_end_by_the_id_that_came_too_late(stage: Stage, ending: str) -> None:
    end, reason = ENDINGS[ending]
    stage.add_app("shop")
    stage.add_app("forum")
    ref = str(stage.registered())
    state = stage.mosaic.state
    (session,) = state.live_sessions("ada")
    state.faults.add(ASK, "rotate_session_id", client_id="client-forum", times=1)

    with (
        state.gates.hold(ASK, "client-forum") as gate,
        stage.meanwhile(lambda: stage.silent_auth("ada", "forum")) as asked,
    ):
        gate.wait_arrived()
        state.sessions._by_id.pop(session.session_id)
        end(stage, ref)
        gate.release()
        answer = asked.result(timeout=60)

    assert (answer.verdict, answer.reason) == (Verdict.LOGIN_REQUIRED, reason)
    assert len(state.live_sessions("ada")) == 1
    assert stage.tell_mosaic() == ["confirmed"]
    assert state.live_sessions("ada") == []
    (row,) = stage.sessions()
    assert row.sealed_session_id is None
    # Whoever knows only the old id still finds the session.
    again = stage.log_out(session_id=session.session_id)
    assert (again.sessions_ended, again.idp_unconfirmed) == (0, 0)


def test_a_worker_that_tells_of_the_old_id_meanwhile_confirms_nothing(stage: Stage) -> None:
    stage.add_app("shop")
    stage.add_app("forum")
    ref = str(stage.registered())
    state = stage.mosaic.state
    (session,) = state.live_sessions("ada")
    state.faults.add(ASK, "rotate_session_id", client_id="client-forum", times=1)

    with (
        state.gates.hold(ASK, "client-forum") as gate,
        stage.meanwhile(lambda: stage.silent_auth("ada", "forum")) as asked,
    ):
        gate.wait_arrived()
        state.sessions._by_id.pop(session.session_id)
        stage.log_out(session_ref=ref)
        with (
            state.gates.hold(Endpoint.SESSION_LOGOUT) as telling,
            stage.meanwhile(stage.tell_mosaic) as told,
        ):
            telling.wait_arrived()
            gate.release()
            asked.result(timeout=60)
            telling.release()
            assert told.result(timeout=60) == [None]

    assert stage.tell_mosaic() == ["confirmed"]
    assert state.live_sessions("ada") == []


def test_a_session_that_lives_on_is_not_ended_by_a_new_id(stage: Stage) -> None:
    stage.add_app("shop")
    by_queue(stage, "forum")
    stage.registered()
    state = stage.mosaic.state
    for _ in range(3):
        state.faults.add(ASK, "rotate_session_id", times=1)
        assert stage.silent_auth("ada", "shop").verdict is Verdict.AUTHENTICATED

    assert stage.logouts() == []
    assert [row.ended_at for row in stage.sessions()] == [None]
