"""ID tokens with all the custom data there may be: 100 KB of the user, and as much of the app."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pytest

from session_client.contract import Verdict
from simulator.server import SimulatorServer
from tests.integration.mosaic.gateway_rig import Gateway, behind
from tests.stage import Stage, claims_of

FULL: Final = {"text": "x" * 100 * 1024}


def large_token(stage: Stage, app_id: str) -> str:
    return stage.mosaic.state.mint_id_token(
        aud=f"client-{app_id}", custom_data=FULL, custom_app_data=FULL
    )


def test_a_login_with_a_large_token_is_registered(stage: Stage) -> None:
    stage.add_app("shop")
    login = stage.login("ada", "shop")

    answer = stage.remember(login, id_token=large_token(stage, "shop"))

    assert answer.verdict is Verdict.OK


@pytest.fixture
def sharing(sqlite_url: str, redis_url: str, mosaic: SimulatorServer) -> Iterator[Stage]:
    with Stage(sqlite_url, redis_url, mosaic, reuse_seconds="30") as stage:
        yield stage


def test_a_large_token_reaches_the_app_and_those_who_ask_the_same(sharing: Stage) -> None:
    stage = sharing
    gateway = Gateway(200, {"access_token": "a" * 8192, "expires_in": 3600})
    with behind(stage, gateway, "kiosk") as server:
        stage.registered("ada", "kiosk")
        gateway.body["id_token"] = large_token(stage, "kiosk")

        answers = [stage.silent_auth("ada", "kiosk") for _ in range(2)]

    assert len(server.requests) == 1
    for answer in answers:
        assert answer.verdict is Verdict.AUTHENTICATED
        assert claims_of(answer.tokens.id_token)["custom_data"] == FULL
