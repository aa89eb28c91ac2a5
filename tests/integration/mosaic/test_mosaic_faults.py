"""A wrong address or a wrong secret is noted for operators, until it works."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Final

import pytest

from tests.integration.mosaic.mosaic_rig import Free, Rig, authenticate, running_rig
from worker.errors import SessionWorkerError, TokenRejected
from worker.mosaic import ClientSecret, MosaicApp, MosaicGateway
from worker.mosaic.faults import KEY, REMEMBERED_SECONDS, Fault, Faults

Change = Callable[[MosaicApp], MosaicApp]
Call = Callable[[Rig, MosaicGateway, MosaicApp], object]


@pytest.fixture
def rig() -> Iterator[Rig]:
    with running_rig() as rig:
        yield rig


def verify(rig: Rig, gateway: MosaicGateway, app: MosaicApp) -> object:
    return gateway.verify_id_token(app, rig.state.mint_id_token(), "ada")


def sign_in(rig: Rig, gateway: MosaicGateway, app: MosaicApp) -> object:
    return authenticate(gateway, app, rig.login().session_id)


def log_out(rig: Rig, gateway: MosaicGateway, app: MosaicApp) -> None:
    gateway.logout_session(Free(), app, rig.login().session_id, timeout_seconds=10)


def present(rig: Rig) -> list[Fault]:
    return Faults(rig.connect(), rig.now).present()


WRONG: dict[str, tuple[Call, Change, str, str]] = {
    "path of the key set": (
        verify,
        lambda app: replace(app, jwks_url=f"{app.base_url}/wrong"),
        "jwks {url}/wrong",
        "jwks at {url}/wrong: 404",
    ),
    "another page as key set": (
        verify,
        lambda app: replace(app, jwks_url=f"{app.base_url}/_simulator/faults"),
        "jwks {url}/_simulator/faults",
        "",
    ),
    "host of the key set": (
        verify,
        lambda app: replace(app, jwks_url="https://no-such-host.invalid/jwks"),
        "jwks https://no-such-host.invalid/jwks",
        "does not resolve",
    ),
    "port of the key set": (
        verify,
        lambda app: replace(app, jwks_url="http://127.0.0.1:1/jwks"),
        "jwks http://127.0.0.1:1/jwks",
        "refused",
    ),
    "secret": (
        sign_in,
        lambda app: replace(app, credential=ClientSecret("wrong")),
        "client token shop",
        "wrong client id, secret or key",
    ),
    "path of the token endpoint": (
        sign_in,
        lambda app: replace(app, token_url=f"{app.base_url}/wrong"),
        "client token shop",
        "client token at {url}/wrong: 404",
    ),
    "host of the token endpoint": (
        log_out,
        lambda app: replace(app, token_url="https://no-such-host.invalid/token"),
        "client token shop",
        "does not resolve",
    ),
    "base URL, signing in": (
        sign_in,
        lambda app: replace(app, base_url=f"{app.base_url}/wrong"),
        "session/authenticate shop",
        "{url}/wrong/cis/v1/auth/session/authenticate: 404",
    ),
    "base URL, logging out": (
        log_out,
        lambda app: replace(app, base_url=f"{app.base_url}/wrong"),
        "session/logout shop",
        "{url}/wrong/cis/v1/auth/session/logout: 404",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_noted_by_name_until_it_works(rig: Rig, what: str) -> None:
    call, spoil, name, words = WRONG[what]
    gateway = rig.gateway()

    with pytest.raises(SessionWorkerError):
        call(rig, gateway, spoil(rig.app))
    (fault,) = present(rig)
    for fixed in (gateway, rig.gateway()):
        call(rig, fixed, rig.app)

    assert fault.name == name.format(url=rig.app.base_url)
    assert words.format(url=rig.app.base_url) in fault.detail
    same_place = spoil(rig.app).jwks_url == rig.app.jwks_url
    assert (present(rig) == []) == same_place  # another key set says nothing of this one


ASK = "session/authenticate"
JWE = "eyJhbGciOiJSU0EtT0FFUC0yNTYifQ.a.b.c.d"
OF_SETUP: dict[str, tuple[str, dict[str, Any], str]] = {
    "encrypted": ("change_answer", {"changes": {"id_token": JWE}}, "encrypted"),
    "algorithm": ("alg_none", {}, "alg"),
    "issuer": ("wrong_iss", {}, "iss"),
    "signature": ("wrong_signature", {}, "signature"),
    "key": ("unknown_kid", {}, "kid"),
    "audience": ("wrong_aud", {}, "aud"),
    "expired": ("expired", {}, "exp"),
    "opaque access token": (
        "change_answer",
        {"changes": {"access_token": "opaque"}, "without": ["id_token"]},
        "no ID token, and the access token's format",
    ),
}
OF_ONE_USER: dict[str, tuple[str, dict[str, Any]]] = {
    "another user's": ("wrong_sub", {}),
    "odd factors": ("change_claims", {"changes": {"amr": [7]}}),
    "too long a name": ("change_claims", {"changes": {"sub": "x" * 256}}),
}


@pytest.mark.parametrize("what", OF_SETUP)
def test_tokens_that_are_rejected_for_how_a_client_is_set_up_are_noted_until_they_are_good(
    rig: Rig, what: str
) -> None:
    kind, details, check = OF_SETUP[what]
    gateway = rig.gateway()
    rig.state.faults.add(ASK, kind, **details)

    with pytest.raises(TokenRejected):
        sign_in(rig, gateway, rig.app)
    (fault,) = present(rig)
    rig.state.faults.clear()
    sign_in(rig, gateway, rig.app)

    assert (fault.name, fault.detail) == ("tokens shop", f"token rejected: {check}")
    assert present(rig) == []


@pytest.mark.parametrize("what", OF_ONE_USER)
def test_tokens_that_may_be_odd_for_one_user_are_noted_as_no_fault(rig: Rig, what: str) -> None:
    kind, details = OF_ONE_USER[what]
    rig.state.faults.add(ASK, kind, **details)

    with pytest.raises(TokenRejected):
        sign_in(rig, rig.gateway(), rig.app)

    assert present(rig) == []


def test_a_token_that_an_app_hands_in_is_noted_as_no_fault(rig: Rig) -> None:
    with pytest.raises(TokenRejected, match="encrypted"):
        rig.gateway().verify_id_token(rig.app, JWE, "ada")

    assert present(rig) == []


def test_a_mosaic_that_is_down_is_left_to_the_breaker(rig: Rig) -> None:
    rig.state.faults.add("session/authenticate", "status", status=503)

    with pytest.raises(SessionWorkerError):
        sign_in(rig, rig.gateway(), rig.app)

    assert present(rig) == []


def test_a_fault_that_nobody_meets_any_more_is_forgotten(rig: Rig) -> None:
    with pytest.raises(SessionWorkerError):
        verify(rig, rig.gateway(), replace(rig.app, jwks_url=f"{rig.mosaic.url}/wrong"))
    rig.advance(REMEMBERED_SECONDS + 1)

    assert present(rig) == []


def test_what_was_put_right_is_looked_at_anew(rig: Rig) -> None:
    gateway = rig.gateway()
    with pytest.raises(SessionWorkerError):
        verify(rig, gateway, replace(rig.app, jwks_url=f"{rig.mosaic.url}/wrong"))

    gateway.faults.forget()

    assert present(rig) == []


def test_without_redis_the_calls_go_on(rig: Rig) -> None:
    gateway = rig.gateway(redis_timeout_seconds=1)
    rig.redis_server.stop()

    assert verify(rig, gateway, rig.app)
    with pytest.raises(SessionWorkerError, match="404"):
        verify(rig, rig.gateway(), replace(rig.app, jwks_url=f"{rig.mosaic.url}/wrong"))


FORGED: Final = {"endpoint": "session/logout", "who": "shop", "error": "", "detail": "", "at": 9e9}


@pytest.mark.parametrize(
    "written",
    [
        *("", "no json", "[]", "{}", '{"at": 1}', '{"at": "x"}', "[" * 9999),
        json.dumps({**FORGED, "at": 10**400}),
        *(json.dumps({**FORGED, name: []}) for name in FORGED),
    ],
)
def test_what_no_worker_wrote_is_no_fault(rig: Rig, written: str) -> None:
    rig.redis.hset(KEY, "forged", written)

    assert present(rig) == []
