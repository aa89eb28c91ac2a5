"""What Mosaic says of a user, a client or a request is told to those it concerns alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from session_client.contract import Reason, Verdict
from simulator.server import SimulatorServer
from tests.integration.mosaic.gateway_rig import PAGE, Gateway, behind, told_operator
from tests.integration.mosaic.mosaic_rig import RawServer
from tests.stage import Stage
from worker.mosaic import client_tokens
from worker.operations import apps, mosaic_limits

ASK = "session/authenticate"
INACTIVE = {"message": "User is not active", "error_code": "user_not_active"}
LOCKED = {"message": "?", "error_code": "auth_locked"}
UNKNOWN = {"message": "User not found", "error_code": "400"}
TEMPORARY, LOGIN = Verdict.TEMPORARILY_UNAVAILABLE, Verdict.LOGIN_REQUIRED


@pytest.fixture(autouse=True)
def _apps(sqlite_stage: Stage) -> None:
    sqlite_stage.add_app("shop")
    sqlite_stage.add_app("forum")


def refuse(stage: Stage, status: int, body: dict[str, Any]) -> None:
    details = {"message": body["message"], "error_code": body["error_code"]}
    stage.mosaic.state.faults.add(ASK, "status", status=status, **details)


def fetched(stage: Stage) -> int:
    return stage.mosaic.state.calls.count("token")


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (403, INACTIVE, Reason.USER_NOT_ACTIVE),
        (403, LOCKED, Reason.USER_LOCKED),
        (400, UNKNOWN, Reason.USER_UNKNOWN),
        (404, {"message": "?", "error_code": "user_not_found"}, Reason.USER_UNKNOWN),
    ],
)
def test_what_is_said_of_the_user_is_a_verdict_that_costs_nobody_anything(
    sqlite_stage: Stage, status: int, body: dict[str, Any], reason: Reason
) -> None:
    stage = sqlite_stage
    ref = stage.registered()
    refuse(stage, status, body)

    with capture_logs() as logs:
        answer = stage.silent_auth()

    assert (answer.verdict, answer.reason) == (LOGIN, reason)
    assert fetched(stage) == 1  # the token of the call itself
    assert told_operator(logs) == []
    assert stage.session(ref).ended_at is None  # a user who is let in again finds it
    stage.mosaic.state.faults.clear()
    assert stage.silent_auth().verdict is Verdict.AUTHENTICATED


def test_a_403_that_is_not_about_the_user_is_tried_once_more_with_a_fresh_client_token(
    sqlite_stage: Stage,
) -> None:
    sqlite_stage.registered()
    refuse(sqlite_stage, 403, {"message": "Forbidden", "error_code": 403})

    with capture_logs() as logs:
        answer = sqlite_stage.silent_auth()

    assert (answer.verdict, answer.reason) == (TEMPORARY, Reason.CLIENT_REFUSED)
    assert fetched(sqlite_stage) == 2
    assert len(told_operator(logs)) == 1


def test_a_refusal_of_the_apps_own_fields_is_for_the_app_to_mend(sqlite_stage: Stage) -> None:
    sqlite_stage.registered()
    refuse(sqlite_stage, 400, {"message": "unknown resource", "error_code": 400})

    with capture_logs() as logs:
        answer = sqlite_stage.silent_auth(resource="https://api.example", org_id="org")
        plain = sqlite_stage.silent_auth()

    assert answer.verdict is Verdict.INVALID_REQUEST
    assert (answer.reason, answer.detail) == (Reason.OPTIONS_REFUSED, "org_id, resource")
    # Without such fields the worker's own request was refused.
    assert (plain.verdict, plain.reason) == (TEMPORARY, Reason.IDP_UNAVAILABLE)
    assert len(told_operator(logs)) == 1


# --- what is not Mosaic's answer


def page(status: int) -> Gateway:
    return Gateway(status, PAGE)


@pytest.mark.parametrize("status", [200, 400, 403, 421, 425, 503])
def test_a_page_is_a_temporary_failure_and_costs_no_client_token(
    sqlite_stage: Stage, status: int
) -> None:
    with behind(sqlite_stage, page(status), "kiosk"), capture_logs() as logs:
        sqlite_stage.registered("ada", "kiosk")
        answer = sqlite_stage.silent_auth("ada", "kiosk")

    assert (answer.verdict, answer.reason) == (TEMPORARY, Reason.IDP_UNAVAILABLE)
    assert answer.retry_after == 1.0
    assert fetched(sqlite_stage) == 1
    assert told_operator(logs) == []


@pytest.fixture
def cautious(sqlite_url: str, redis_url: str, mosaic: SimulatorServer) -> Iterator[Stage]:
    """A stage whose breaker opens after three failures."""
    with Stage(sqlite_url, redis_url, mosaic, breaker_failures="3") as stage:
        yield stage


USERS = ("ada", "bob", "eve", "kim")


def registered(stage: Stage) -> None:
    """A session of each user: one that fails alone speaks for nobody else."""
    for user in USERS:
        stage.registered(user, "kiosk")


def held_back(stage: Stage, server: RawServer) -> list[bool]:
    """Whether each user is answered without anybody being asked."""
    held = []
    for user in USERS:
        server.requests.clear()
        answer = stage.silent_auth(user, "kiosk")
        assert (answer.verdict, answer.reason) == (TEMPORARY, Reason.IDP_UNAVAILABLE)
        held.append(not server.requests)
    return held


def test_pages_open_the_breaker(cautious: Stage) -> None:
    with behind(cautious, page(403), "kiosk") as server:
        registered(cautious)

        assert held_back(cautious, server) == [False, False, False, True]


def test_pages_instead_of_client_tokens_open_it_too(cautious: Stage) -> None:
    with behind(cautious, page(200), "kiosk") as server:
        registered(cautious)
        apps.set_app(cautious.services, "kiosk", token_url=f"{server.url}/oidc/token")
        cautious.reread_apps()

        assert held_back(cautious, server) == [False, False, False, True]


def test_a_page_instead_of_a_client_token_is_counted_once_however_many_requests_hear_of_it(
    cautious: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_tokens, "SLOW_SECONDS", 0.0)  # so that it is not asked for anew
    with behind(cautious, page(200), "kiosk") as server:
        registered(cautious)
        apps.set_app(cautious.services, "kiosk", token_url=f"{server.url}/oidc/token")
        cautious.reread_apps()

        assert held_back(cautious, server) == [False, True, True, True]

    breakers = mosaic_limits.traffic_state(cautious.services).breakers
    assert {breaker.state for breaker in breakers} == {"closed"}


def test_an_endpoint_of_the_apps_own_for_client_tokens_speaks_for_no_other(
    cautious: Stage,
) -> None:
    with RawServer(page(200)) as elsewhere:
        cautious.add_app("kiosk", token_url=f"{elsewhere.url}/oidc/token")
        registered(cautious)

        assert held_back(cautious, elsewhere) == [False] * 4
