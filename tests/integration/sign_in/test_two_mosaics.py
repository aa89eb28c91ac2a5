"""An app may be at another Mosaic than the others: their sessions are none of its business."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

import pytest

from session_client.contract import LogoutScope, Reason, Verdict
from simulator.server import SimulatorServer
from tests.stage import Stage


@pytest.fixture
def elsewhere() -> Iterator[SimulatorServer]:
    with SimulatorServer() as mosaic:
        yield mosaic


@pytest.fixture(autouse=True)
def _apps(stage: Stage, elsewhere: SimulatorServer) -> None:
    stage.add_app("shop")
    stage.add_app("forum")
    url = elsewhere.url
    elsewhere.state.add_client("client-abroad", "secret-of-abroad")
    stage.add_app(
        "abroad",
        base_url=url,
        token_url=f"{url}/oidc/token",
        jwks_url=f"{url}/cis/oidc/jwks",
        capabilities=("logout_user",),
    )


def asked(mosaic: SimulatorServer) -> list[str]:
    return [call.endpoint for call in mosaic.state.calls.log()]


def test_a_session_is_not_given_away_to_another_mosaic_nor_ended_by_its_answer(
    stage: Stage, elsewhere: SimulatorServer
) -> None:
    ref = stage.registered()

    answer = stage.silent_auth("ada", "abroad")

    assert (answer.verdict, answer.reason) == (Verdict.LOGIN_REQUIRED, Reason.NO_SESSION)
    assert asked(elsewhere) == []
    assert stage.session(ref).ended_at is None
    assert stage.silent_auth("ada", "forum").verdict is Verdict.AUTHENTICATED


def test_a_logout_is_told_to_the_mosaic_of_the_session_whoever_asked_for_it(
    stage: Stage, elsewhere: SimulatorServer
) -> None:
    ref = stage.registered()

    stage.log_out("ada", "abroad", scope=LogoutScope.USER)

    assert stage.tell_mosaic() == ["confirmed"]
    assert asked(elsewhere) == []
    assert stage.session(ref).end_cause == "logout"
    assert stage.mosaic.state.live_sessions() == []


def test_at_its_own_mosaic_it_is_served_like_any_other(
    stage: Stage, elsewhere: SimulatorServer
) -> None:
    stage.registered()
    login = elsewhere.state.login("ada", "client-abroad", amr=("pwd",))
    ref = UUID(stage.remember(login, app_id="abroad").session_ref)

    answer = stage.silent_auth("ada", "abroad")

    assert UUID(answer.session_ref) == ref
    assert stage.silent_auth("ada", "forum").verdict is Verdict.AUTHENTICATED
