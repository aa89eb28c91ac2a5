"""Mosaic may leave the ID token out. What the access token proves is used, and nothing more."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from session_client.contract import Reason, Verdict
from simulator.server import SimulatorServer
from tests.integration.mosaic.gateway_rig import Gateway, behind, told_operator
from tests.stage import Stage, claims_of

ASK = "session/authenticate"


@pytest.fixture
def stage(sqlite_url: str, redis_url: str, mosaic: SimulatorServer) -> Iterator[Stage]:
    """A stage that shares answers, and whose Mosaic sends no ID token."""
    with Stage(sqlite_url, redis_url, mosaic, reuse_seconds="30") as stage:
        stage.add_app("shop")
        stage.add_app("forum")
        stage.mosaic.state.faults.add(ASK, "missing_id_token")
        yield stage


def test_tokens_are_handed_out_where_no_factor_is_asked_for(stage: Stage) -> None:
    ref = stage.registered()
    stage.pass_time(days=2)

    answer = stage.silent_auth(max_age=3 * 24 * 3600)

    assert answer.verdict is Verdict.AUTHENTICATED
    assert answer.tokens.id_token is None
    assert claims_of(answer.tokens.access_token)["sub"] == "ada"
    assert stage.session(ref).amr == ["pwd"]
    assert stage.session(ref).last_used_at > stage.now() - timedelta(minutes=5)


def test_the_time_of_the_login_is_the_one_that_is_stored(stage: Stage) -> None:
    stage.registered()
    stage.pass_time(days=2)

    answer = stage.silent_auth(max_age=24 * 3600)

    assert (answer.verdict, answer.reason) == (
        Verdict.INTERACTION_REQUIRED,
        Reason.MAX_AGE_EXCEEDED,
    )


@pytest.mark.parametrize("is_shared", [False, True])
def test_a_factor_is_not_proven_by_it(stage: Stage, *, is_shared: bool) -> None:
    ref = stage.registered(amr=("pwd", "sms", "mfa"))
    if is_shared:  # by a request that asked for no factor
        assert stage.silent_auth().verdict is Verdict.AUTHENTICATED

    answer = stage.silent_auth(amr_all_of=["mfa"])

    assert (answer.verdict, answer.reason) == (Verdict.INTERACTION_REQUIRED, Reason.AMR_UNPROVEN)
    assert (answer.missing_amr, answer.session_ref) == (("mfa",), str(ref))
    assert answer.tokens is None
    assert stage.mosaic.state.calls.count(ASK) == 1


def answering(**changes: Any) -> Gateway:
    body = {"access_token": "opaque", "token_type": "Bearer", "expires_in": 3600}
    return Gateway(200, body | changes)


def test_an_access_token_that_cannot_be_read_gives_nothing_out(stage: Stage) -> None:
    with behind(stage, answering(), "kiosk"), capture_logs() as logs:
        ref = stage.registered("ada", "kiosk")
        answer = stage.silent_auth("ada", "kiosk")

    assert (answer.verdict, answer.reason) == (
        Verdict.TEMPORARILY_UNAVAILABLE,
        Reason.IDP_UNAVAILABLE,
    )
    assert answer.tokens is None
    assert told_operator(logs) == ["token rejected: no ID token, and the access token's format"]
    assert stage.session(ref).ended_at is None


def test_an_access_token_of_another_user_quarantines_the_session(stage: Stage) -> None:
    gateway = answering()
    with behind(stage, gateway, "kiosk"):
        ref = stage.registered("ada", "kiosk")
        gateway.body["access_token"] = stage.login("bob", "kiosk").access_token
        answer = stage.silent_auth("ada", "kiosk")

    assert (answer.verdict, answer.reason) == (Verdict.LOGIN_REQUIRED, Reason.QUARANTINED)
    assert stage.session(ref).end_cause == "quarantined"
