"""A logout is closed by what Mosaic itself says, and by nothing that only looks like it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from session_client import requests
from tests.integration.mosaic.gateway_rig import PAGE, Gateway, behind, told_operator
from tests.integration.mosaic.mosaic_rig import RawServer
from tests.stage import Stage
from worker.operations import apps

NOT_FOUND = {"message": "Session not found", "error_code": 400}
# What stands between us and Mosaic, or another Mosaic than ours, says such things.
KONG = {"message": "no Route matched with those values"}
APP_UNKNOWN = {"error_code": "404", "message": "App not found"}
CLIENT_UNKNOWN = {"error_code": "client_not_found", "message": "?"}
USER_UNKNOWN = {"error_code": "user_not_found", "message": "User not found"}


def receipt(stage: Stage, receipt_id: str) -> Any:
    return stage.ask("shop", requests.Receipt(receipt_id=receipt_id))


def test_a_typo_in_the_base_url_confirms_nothing_and_the_mended_url_delivers(
    stage: Stage,
) -> None:
    # The simulator itself answers an unknown path: 404 {"message":"Not Found","error_code":404}.
    mosaic = stage.mosaic
    urls = {"token_url": mosaic.token_url, "jwks_url": mosaic.jwks_url}
    stage.add_app("shop", base_url=f"{mosaic.url}/wrong", **urls)
    login = stage.login("ada", "shop")
    ref = stage.remember(login).session_ref
    first = stage.log_out(session_ref=ref)

    with capture_logs() as logs:
        assert stage.tell_mosaic() == [None]

    standing = receipt(stage, first.receipt_id)
    assert (standing.idp_confirmed, standing.idp_pending) == (0, 1)
    assert mosaic.state.is_live(login.session_id)
    assert stage.sessions()[0].sealed_session_id is not None
    (told,) = told_operator(logs)
    assert f"{mosaic.url}/wrong/cis/v1/auth/session/logout" in told
    assert "Check the app's base URL" in told

    apps.set_app(stage.services, "shop", base_url=mosaic.url)
    stage.reread_apps()
    stage.pass_time(minutes=6)

    assert stage.tell_mosaic() == ["confirmed"]
    assert receipt(stage, first.receipt_id).idp_confirmed == 1
    assert not mosaic.state.is_live(login.session_id)
    assert stage.sessions()[0].sealed_session_id is None


@pytest.mark.parametrize(
    ("status", "body", "calls"),  # … for the operator
    [
        (404, KONG, 1),
        (404, APP_UNKNOWN, 1),
        (404, CLIENT_UNKNOWN, 1),
        (404, USER_UNKNOWN, 1),
        (404, b"<p>Session not found</p>", 1),
        (404, b"", 1),
        (400, {"message": "Bad request"}, 1),
        (410, NOT_FOUND, 1),
        (302, NOT_FOUND, 1),
        (200, NOT_FOUND, 1),
        (200, {"error": "maintenance"}, 1),
        (200, {"result": {"errors": [{"title": "maintenance"}]}}, 1),
        (200, {"success": False}, 1),
        (200, {"status": 503}, 1),
        (200, ["maintenance"], 1),
        (500, NOT_FOUND, 0),
        (503, PAGE, 0),
    ],
)
def test_no_other_answer_closes_it_nor_costs_the_session_id(
    sqlite_stage: Stage, status: int, body: Any, calls: int
) -> None:
    with behind(sqlite_stage, Gateway(status, body)), capture_logs() as logs:
        sqlite_stage.log_out(session_ref=str(sqlite_stage.registered()))

        assert sqlite_stage.tell_mosaic() == [None]

    (row,) = sqlite_stage.logouts()
    assert row.closed_at is None
    assert row.next_attempt_at > sqlite_stage.now()
    assert sqlite_stage.sessions()[0].sealed_session_id is not None
    assert len(told_operator(logs)) == calls


def test_nobody_is_called_for_an_id_that_may_be_made_up(sqlite_stage: Stage) -> None:
    with behind(sqlite_stage, Gateway(400, {"message": "Bad request"})), capture_logs() as logs:
        sqlite_stage.log_out(session_id="made up by the app")

        outcomes = [sqlite_stage.tell_mosaic()]
        sqlite_stage.pass_time(minutes=6)
        outcomes.append(sqlite_stage.tell_mosaic())
        sqlite_stage.pass_time(days=15)
        outcomes.append(sqlite_stage.tell_mosaic())

    # It is owed all the same, for as long as a session lives.
    assert outcomes == [[None], [None], ["expired_unconfirmed"]]
    assert told_operator(logs) == []
    assert "idp_logout_given_up" not in {line["event"] for line in logs}


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (204, b""),
        (200, b""),
        (200, {}),
        (200, {"result": 1, "error": None, "errors": [], "status": "OK", "success": True}),
        (400, NOT_FOUND),
        (404, {"error": "not_found", "ts_error_code": "session_not_found"}),
        (400, {"error_code": "invalid_auth_session", "message": "no"}),
    ],
)
def test_what_says_that_the_session_is_over_closes_it(
    sqlite_stage: Stage, status: int, body: Any
) -> None:
    with behind(sqlite_stage, Gateway(status, body)):
        sqlite_stage.log_out(session_ref=str(sqlite_stage.registered()))

        assert sqlite_stage.tell_mosaic() == ["confirmed"]


# --- and in general

NEAR = ["session", "not", "found", "Not", "Found", "session_not", "session-found", "sessionNot"]
WORDS = st.sampled_from([*NEAR, "auth", "invalid", "app", "user", "client", "gone", "404"])
TEXTS = st.lists(WORDS, max_size=5).map(" ".join) | st.text(max_size=20)
VALUES = TEXTS | st.lists(TEXTS, max_size=3) | st.integers(0, 600) | st.none() | st.booleans()
FIELDS = st.sampled_from(
    ["message", "error_code", "ts_error_code", "error", "error_description", "statusCode", "x"]
)
BODIES = (
    st.dictionaries(FIELDS, VALUES, max_size=4)
    | st.recursive(VALUES, lambda inner: st.dictionaries(FIELDS, inner) | st.lists(inner))
    | TEXTS.map(str.encode)
    | st.binary(max_size=40)
)
# Not 204, which needs no words, nor a 200, of which the table above gives the words.
STATUSES = st.sampled_from([400, 404]) | st.integers(201, 599).filter(lambda s: s != 204)
SAYS_SO = re.compile("sessionnotfound|invalidauthsession")


def says_not_found(body: object) -> bool:
    """Whether the words stand anywhere in *body*, to the letter."""
    text = body.decode("latin-1") if isinstance(body, bytes) else json.dumps(body)
    return SAYS_SO.search(re.sub(r"\\u....|[^a-z]", "", text.casefold())) is not None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(status=STATUSES, body=BODIES)
@example(status=404, body={"message": "Not Found", "error_code": 404})
@example(status=400, body={"message": ["Session not", "found"]})
@example(status=404, body=b"")
def test_no_body_that_does_not_say_so_closes_a_logout(
    owing: tuple[Stage, Gateway, RawServer], status: int, body: Mapping[str, Any] | bytes
) -> None:
    stage, gateway, server = owing
    assume(status != 429)  # would pause the calls that follow, by Redis' clock
    assume(not says_not_found(body))
    gateway.status, gateway.body = status, body
    server.requests.clear()
    stage.pass_time(minutes=6)

    assert stage.tell_mosaic() == [None]

    assert server.requests  # it was asked, and not held back
    assert stage.logouts()[0].closed_at is None
    assert stage.sessions()[0].sealed_session_id is not None


@pytest.fixture
def owing(sqlite_stage: Stage) -> Iterator[tuple[Stage, Gateway, RawServer]]:
    """A logout that is still to be told."""
    gateway = Gateway()
    with behind(sqlite_stage, gateway) as server:
        sqlite_stage.log_out(session_ref=str(sqlite_stage.registered()))
        yield sqlite_stage, gateway, server
