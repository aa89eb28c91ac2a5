"""Whatever Mosaic answers, the app hears of Mosaic and never of a defect of the worker."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from session_client.contract import Reason, Verdict
from tests.integration.mosaic.gateway_rig import Gateway, behind
from tests.integration.mosaic.mosaic_rig import RawServer
from tests.stage import Stage

TEXTS = st.text(max_size=12) | st.sampled_from(["\ud800", "a.b.c", "e30.W10.c", "\0", "9" * 5000])
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | TEXTS
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=2), max_leaves=4)
TOKENS = ["access_token", "id_token", "session_id", "expires_in", "refresh_token", "token_type"]
ERRORS = ["message", "error_code", "ts_error_code", "error", "error_description"]
FIELDS = st.sampled_from([*TOKENS, *ERRORS])
# Fields of a good answer that are other than they should be, or a body of another kind altogether.
BODIES = st.dictionaries(FIELDS, VALUES, max_size=3) | VALUES | st.binary(max_size=30)
STATUSES = st.sampled_from([200, 201, 400, 403, 404]) | st.integers(200, 999)
OF_MOSAIC = {
    Reason.IDP_UNAVAILABLE,
    Reason.CLIENT_REFUSED,
    Reason.USER_NOT_ACTIVE,
    Reason.USER_LOCKED,
    Reason.USER_UNKNOWN,
}


@pytest.fixture
def asking(sqlite_stage: Stage) -> Iterator[tuple[Stage, Gateway, dict[str, Any]]]:
    gateway = Gateway()
    with behind(sqlite_stage, gateway, "kiosk"):
        sqlite_stage.registered("ada", "kiosk")
        id_token = sqlite_stage.mosaic.state.mint_id_token(aud="client-kiosk")
        yield sqlite_stage, gateway, {"access_token": "a", "expires_in": 60, "id_token": id_token}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(status=STATUSES, body=BODIES)
@example(status=200, body={"session_id": "\ud800"})
@example(status=200, body={"expires_in": 1e308})
@example(status=200, body={"id_token": "a.b.c"})
@example(status=200, body={"access_token": None, "error": "maintenance"})
def test_an_answer_to_a_silent_authentication_is_never_called_a_defect_of_the_worker(
    asking: tuple[Stage, Gateway, dict[str, Any]], status: int, body: Any
) -> None:
    stage, gateway, good = asking
    assume(status != 429)  # would pause the calls that follow, by Redis' clock
    gateway.status = status
    gateway.body = good | body if isinstance(body, dict) else body

    with capture_logs() as logs:
        answer = stage.silent_auth("ada", "kiosk")

    assert answer.verdict is Verdict.AUTHENTICATED or answer.reason in OF_MOSAIC, answer
    assert not [line for line in logs if line["event"] == "task_bug"]


BROKEN: list[Any] = [b"", b"<html>", b"[", [], "text", {}, {"keys": [{}]}, {"keys": 7}]


@pytest.mark.parametrize("url", ["token_url", "jwks_url"])
def test_nor_is_one_in_place_of_a_client_token_or_a_key_set(sqlite_stage: Stage, url: str) -> None:
    stage, gateway = sqlite_stage, Gateway()
    with RawServer(gateway) as server:
        stage.add_app("shop")
        stage.add_app("kiosk", **{url: server.url})
        login = stage.login("ada", "shop")
        stage.remember(login)
        for gateway.status in (200, 400, 403, 404):
            for gateway.body in BROKEN:
                with capture_logs() as logs:
                    answers = [stage.silent_auth("ada", "kiosk")]
                    if url == "jwks_url":
                        kiosks = stage.login("eve", "kiosk")
                        answers.append(stage.remember(kiosks, "eve", "kiosk"))

                told = (gateway.status, gateway.body, logs)
                assert {answer.reason for answer in answers} <= OF_MOSAIC, told
                assert not [line for line in logs if line["event"] == "task_bug"], told
