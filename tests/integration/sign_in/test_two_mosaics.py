"""An app may be at another Mosaic than the others: their sessions are none of its business."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import pytest

from session_client import logins, methods, requests
from session_client.contract import LogoutScope, Reason, Verdict
from simulator.server import SimulatorServer
from tests.stage import Stage
from worker.operations import apps


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


# --- an app that has moved there


def by_reference(stage: Stage, shared: Any) -> Any:
    named = requests.SilentAuth(session_ref=shared.session_ref, user_id="ada")
    return stage.ask("forum", named)


def by_refresh_token(stage: Stage, shared: Any) -> Any:
    return stage.ask("forum", requests.Refresh(refresh_token=shared.tokens.refresh_token))


def by_step_up(stage: Stage, shared: Any) -> Any:
    token = stage.signed_in().browser_token
    proof = methods.Password("ada", "a secret of hers")
    return stage.ask("forum", logins.Authenticate(proof=proof, step_up=token))


@pytest.mark.parametrize("ask", [by_reference, by_refresh_token, by_step_up])
def test_an_app_that_has_moved_gives_its_new_mosaic_nothing_of_the_sessions_it_knew(
    stage: Stage, elsewhere: SimulatorServer, ask: Callable[[Stage, Any], Any]
) -> None:
    apps.set_app(stage.services, "forum", allow=("offline",), methods=("password",))
    ref = stage.registered()
    shared = stage.silent_auth("ada", "forum")
    elsewhere.state.add_client("client-forum", "secret-of-forum")
    apps.set_app(
        stage.services,
        "forum",
        base_url=elsewhere.url,
        token_url=elsewhere.token_url,
        jwks_url=elsewhere.jwks_url,
    )
    stage.reread_apps()

    answer = ask(stage, shared)

    assert (answer.verdict, answer.reason) == (Verdict.LOGIN_REQUIRED, Reason.NO_SESSION)
    assert asked(elsewhere) == []
    assert stage.session(ref).ended_at is None
