from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from simulator.app import create_app
from simulator.idp.state import MosaicState
from simulator.server import SimulatorServer

AUTHENTICATE = "session/authenticate"
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # httpx would load all root certificates


class App:
    """One app with a live session, talking to the simulator."""

    def __init__(self, server: SimulatorServer, client_id: str) -> None:
        server.state.add_client(client_id, "secret")
        self.session_id = server.state.login("ada", client_id).session_id
        self.http = httpx.Client(base_url=server.url, trust_env=False, verify=NO_TLS)
        form = {"grant_type": "client_credentials", "client_id": client_id}
        answer = self.http.post("/oidc/token", data={**form, "client_secret": "secret"})
        self.http.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"

    def authenticate(self, session_id: str | None = None) -> httpx.Response:
        return self._post("authenticate", session_id)

    def log_out(self, session_id: str | None = None) -> httpx.Response:
        return self._post("logout", session_id)

    def _post(self, verb: str, session_id: str | None) -> httpx.Response:
        body = {"session_id": session_id or self.session_id}
        return self.http.post(f"/cis/v1/auth/session/{verb}", json=body)


@pytest.fixture
def server() -> Iterator[SimulatorServer]:
    with SimulatorServer() as running:
        yield running


@pytest.fixture
def shop(server: SimulatorServer) -> Iterator[App]:
    app = App(server, "shop")
    yield app
    app.http.close()


@pytest.fixture
def forum(server: SimulatorServer) -> Iterator[App]:
    app = App(server, "forum")
    yield app
    app.http.close()


def test_an_outage_lasts_as_many_calls_as_asked(state: MosaicState, shop: App) -> None:
    state.faults.add(AUTHENTICATE, "status", status=503, times=2)

    statuses = [shop.authenticate().status_code for _ in range(3)]

    assert statuses == [503, 503, 200]


def test_a_fault_without_a_count_lasts_until_cleared(state: MosaicState, shop: App) -> None:
    state.faults.add("*", "status", status=500)
    assert [shop.authenticate().status_code for _ in range(3)] == [500] * 3

    state.faults.clear()

    assert shop.authenticate().status_code == 200


def test_a_fault_can_strike_one_client_only(state: MosaicState, shop: App, forum: App) -> None:
    state.faults.add(AUTHENTICATE, "status", status=403, client_id="shop")

    assert shop.authenticate().status_code == 403
    assert forum.authenticate().status_code == 200


def test_a_misspelt_fault_is_refused(state: MosaicState) -> None:
    with pytest.raises(ValueError, match="sesion"):
        state.faults.add("sesion/authenticate", "status")


def test_a_status_comes_with_any_message(state: MosaicState, shop: App) -> None:
    said = {"message": ["Session not found"], "error_code": "session_gone"}
    state.faults.add(
        AUTHENTICATE,
        "status",
        status=400,
        message=["Session not found"],
        error_code="session_gone",
    )

    assert shop.authenticate().json() == said
    assert state.is_live(shop.session_id)


@pytest.mark.parametrize("retry_after", [None, 7])
def test_rate_limiting_may_say_when_to_return(
    state: MosaicState, shop: App, retry_after: int | None
) -> None:
    state.faults.add(AUTHENTICATE, "rate_limited", retry_after=retry_after)

    response = shop.authenticate()

    assert response.status_code == 429
    assert response.headers.get("Retry-After") == (str(retry_after) if retry_after else None)


def test_latency_keeps_the_caller_waiting(state: MosaicState, shop: App) -> None:
    state.faults.add(AUTHENTICATE, "latency", seconds=0.2)
    started = time.monotonic()

    assert shop.authenticate().status_code == 200
    assert time.monotonic() - started >= 0.2


def test_a_dropped_request_is_never_worked_on(state: MosaicState, shop: App) -> None:
    state.faults.add("session/logout", "drop_request", times=1)

    with pytest.raises(httpx.RemoteProtocolError, match="without sending a response"):
        shop.log_out()

    assert state.is_live(shop.session_id)
    assert state.calls.log()[-1].status is None


def test_a_dropped_answer_hides_that_the_work_was_done(state: MosaicState, shop: App) -> None:
    state.faults.add("session/logout", "drop_answer", times=1)

    with pytest.raises(httpx.RemoteProtocolError, match="without sending a response"):
        shop.log_out()

    assert not state.is_live(shop.session_id)


def test_an_answer_can_be_cut_in_the_middle(state: MosaicState, shop: App) -> None:
    state.faults.add(AUTHENTICATE, "cut_body", times=1)

    with pytest.raises(httpx.RemoteProtocolError, match="without sending complete"):
        shop.authenticate()


def test_an_answer_can_be_half_a_json_document(state: MosaicState, shop: App) -> None:
    state.faults.add(AUTHENTICATE, "invalid_json")

    response = shop.authenticate()

    assert response.status_code == 200
    with pytest.raises(ValueError, match="Unterminated"):
        response.json()


@pytest.mark.parametrize("kind", ["wrong_signature", "unknown_kid", "alg_none", "hs256_public_key"])
def test_a_forged_token_does_not_verify(state: MosaicState, shop: App, kind: str) -> None:
    state.faults.add(AUTHENTICATE, kind)

    token = shop.authenticate().json()["id_token"]

    with pytest.raises((JoseError, ValueError)):
        verified(shop, token)


@pytest.mark.parametrize(
    ("kind", "claim"),
    [("wrong_sub", "sub"), ("wrong_aud", "aud"), ("wrong_iss", "iss"), ("expired", "exp")],
)
def test_a_lying_token_verifies_and_is_wrong_in_one_claim(
    state: MosaicState, shop: App, kind: str, claim: str
) -> None:
    honest = verified(shop, shop.authenticate().json()["id_token"])
    state.faults.add(AUTHENTICATE, kind)

    told = verified(shop, shop.authenticate().json()["id_token"])

    assert told[claim] != honest[claim]
    assert told["tid"] == honest["tid"]
    if claim == "exp":
        assert told["exp"] < state.clock.now()


def verified(app: App, token: str) -> dict[str, Any]:
    keys = KeySet.import_key_set(app.http.get("/cis/oidc/jwks").json())
    return jwt.decode(token, keys).claims


def test_the_id_token_can_be_missing(state: MosaicState, shop: App) -> None:
    state.faults.add(AUTHENTICATE, "missing_id_token", times=1)

    assert "id_token" not in shop.authenticate().json()
    assert "id_token" in shop.authenticate().json()


def test_a_rotated_session_answers_to_both_ids(state: MosaicState, shop: App) -> None:
    state.faults.add(AUTHENTICATE, "rotate_session_id", times=1)

    renamed = shop.authenticate().json()["session_id"]

    assert renamed != shop.session_id
    assert shop.authenticate(shop.session_id).json()["session_id"] == renamed
    assert len(state.live_sessions()) == 1
    shop.log_out(renamed)
    assert not state.is_live(shop.session_id)


def test_a_gate_holds_an_answer_whose_work_is_done(state: MosaicState, shop: App) -> None:
    with ThreadPoolExecutor() as pool, state.gates.hold("session/logout") as gate:
        answer = pool.submit(shop.log_out)
        gate.wait_arrived()

        assert not state.is_live(shop.session_id)
        assert not answer.done()

        gate.release()
        assert answer.result(timeout=60).status_code == 204


def test_a_gate_before_the_work_lets_something_else_come_first(
    state: MosaicState, shop: App, forum: App
) -> None:
    with (
        ThreadPoolExecutor() as pool,
        state.gates.hold(AUTHENTICATE, "shop", before=True) as gate,
    ):
        answer = pool.submit(shop.authenticate)
        gate.wait_arrived()
        forum.log_out(shop.session_id)
        assert forum.authenticate().status_code == 200

        gate.release()
        assert answer.result(timeout=60).json()["message"] == "Session not found"


def test_waiting_at_a_gate_where_nobody_comes_ends_in_time(state: MosaicState) -> None:
    gate = state.gates.hold(AUTHENTICATE)

    with pytest.raises(TimeoutError):
        gate.wait_arrived(timeout_seconds=0.02)


def test_stopping_the_server_releases_the_calls_at_its_gates() -> None:
    with ThreadPoolExecutor() as pool:
        with SimulatorServer() as server:
            shop = App(server, "shop")
            gate = server.state.gates.hold(AUTHENTICATE)
            answer = pool.submit(shop.authenticate)
            gate.wait_arrived()

        assert answer.result(timeout=60).status_code == 200
        shop.http.close()


def test_calls_are_counted_by_endpoint_and_client(
    state: MosaicState, shop: App, forum: App
) -> None:
    shop.authenticate()
    shop.authenticate("guessed")
    forum.authenticate()

    assert state.calls.count() == 5
    assert state.calls.count(AUTHENTICATE) == 3
    assert state.calls.count(AUTHENTICATE, "shop") == 2
    assert state.calls.count(client_id="forum") == 2
    assert [call.status for call in state.calls.log()[-3:]] == [200, 400, 200]
    assert state.calls.log()[-2].session_id == "guessed"


async def call_in_process(app: Any) -> httpx.Response:
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://mosaic") as http:
        return await http.get("/cis/oidc/jwks")


def test_without_a_connection_a_hang_up_is_an_error() -> None:
    state = MosaicState()
    state.faults.add("jwks", "drop_request")

    with pytest.raises(ConnectionResetError):
        asyncio.run(call_in_process(create_app(state)))
