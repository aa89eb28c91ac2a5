"""The declared table against the vendor's pages, and the simulator against the table."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.idp.api import HANDLERS
from simulator.idp.contract import PUBLISHED, Caller, Published
from simulator.idp.endpoints import Endpoint
from simulator.idp.shapes import Object, Shape
from simulator.idp.state import MosaicState
from tests.unit.simulator.app import AMR_BY_METHOD, App

AUTH = "/cis/v1/auth"
WISHES = "resource claims org_id client_attributes device_id"
SIGN_IN = f"session_id {WISHES}"
WITHOUT_DEVICE = SIGN_IN.removesuffix(" device_id")
SEND = "email_content client_attributes device_id generate_request_id"
TOKENS = "access_token token_type expires_in session_id"

# The vendor's table, written down a second time: path, who calls, required, optional, answered.
PAGES = {
    f"{AUTH}/password/authenticate": (
        "C",
        "username password",
        f"username_type {WITHOUT_DEVICE}",
        TOKENS,
    ),
    f"{AUTH}/otp/send": (
        "C",
        "channel identifier_type identifier",
        f"expires_in custom_email custom_phone_number custom_sms_input approval_data {SEND}",
        "message",
    ),
    f"{AUTH}/otp/authenticate": (
        "C",
        "passcode identifier_type identifier",
        f"request_id {SIGN_IN}",
        TOKENS,
    ),
    f"{AUTH}/link/email/send": (
        "C",
        "redirect_uri",
        f"email identifier identifier_type state email_expiration channel {SEND}",
        "message",
    ),
    f"{AUTH}/link/email/authenticate": ("C", "code", f"request_id {SIGN_IN}", TOKENS),
    f"{AUTH}/totp/authenticate": ("C", "token identifier", f"identifier_type {SIGN_IN}", TOKENS),
    f"{AUTH}/totp/transaction/start": (
        "C",
        "approval_data identifier_type identifier",
        SIGN_IN,
        "approval_data challenge",
    ),
    f"{AUTH}/totp/transaction/authenticate": (
        "C",
        "token identifier",
        f"identifier_type {SIGN_IN}",
        TOKENS,
    ),
    f"{AUTH}/totp/register": ("U", "", "device_id label allow_override", "secret uri"),
    f"{AUTH}/social/{{provider}}/start": ("C", "redirect_uri", "state", "authorization_url"),
    f"{AUTH}/social/{{provider}}/verify": ("C", "code state", "", "transaction_id claims"),
    f"{AUTH}/social/{{provider}}/authenticate": (
        "C",
        "transaction_id user_id",
        WITHOUT_DEVICE,
        TOKENS,
    ),
    f"{AUTH}/webauthn/authenticate/start": (
        "-",
        "client_id",
        "username identifier timeout approval_data",
        "webauthn_session_id credential_request_options",
    ),
    f"{AUTH}/webauthn/authenticate": ("C", "webauthn_encoded_result", WITHOUT_DEVICE, TOKENS),
    f"{AUTH}/webauthn/cross-device/authenticate/init": (
        "-",
        "client_id",
        "username approval_data",
        "cross_device_ticket_id",
    ),
    f"{AUTH}/webauthn/cross-device/attach-device": ("-", "cross_device_ticket_id", "", "status"),
    f"{AUTH}/webauthn/cross-device/authenticate/start": (
        "-",
        "cross_device_ticket_id",
        "",
        "webauthn_session_id credential_request_options",
    ),
    f"{AUTH}/webauthn/cross-device/abort": ("C", "cross_device_ticket_id", "", ""),
    f"{AUTH}/mobile-biometrics/start": (
        "C",
        "",
        "identifier identifier_type user_id device_id approval_data timeout",
        "challenge",
    ),
    f"{AUTH}/mobile-biometrics/authenticate": (
        "C",
        "signature challenge key_id user_id",
        SIGN_IN,
        TOKENS,
    ),
    f"{AUTH}/mobile-biometrics/register": (
        "U",
        "publicKey publicKeyId os",
        "encryptionType device_id challenge attestation_encoded_result displayName",
        "",
    ),
    f"{AUTH}/session/authenticate": ("C", "session_id", WISHES, TOKENS),
    f"{AUTH}/session/logout": ("C", "session_id", "", ""),
    f"{AUTH}/token/refresh": (
        "C",
        "refresh_token",
        "",
        "access_token token_type expires_in",
    ),
    "/oidc/token": (
        "-",
        "grant_type",
        "client_id client_secret client_assertion client_assertion_type resource",
        "access_token expires_in token_type",
    ),
}

VALUES: dict[str, Any] = {
    "channel": "email",
    "expires_in": 5,
    "email_expiration": 5,
    "timeout": 60,
    "generate_request_id": True,
    "allow_override": True,
    "claims": {"id_token": {"email": None}, "access_token": {}, "userinfo": {}},
    "client_attributes": {"user_agent": "Firefox", "ip_address": "203.0.113.1"},
    "email_content": {"subject": "Sign in"},
    "custom_sms_input": {"custom_message": "{otp} for {app}", "sender_id": "Shop"},
    "approval_data": {"sum": "200"},
    "username_type": "email",
    "encryptionType": "ec",
    "secondary_emails": ["b@example.com"],
    "secondary_phone_numbers": ["+300"],
    "address": {"city": "Paris"},
    "name": {"first_name": "Bob"},
    "custom_app_data": {},
    "custom_data": {"tier": "gold"},
    "credentials": {"password": "pw", "force_replace": True},
    "delegated_access": {"actor_id": "u-1", "permissions": ["read"]},
}


def by_path(path: str) -> Published:
    return next(one for one in PUBLISHED.values() if path in one.paths)


def names(shape: Shape, *, required: bool) -> set[str]:
    return {name for name, kind in shape.items() if kind.required is required}


def whole(published: Published) -> dict[str, Any]:
    """A request with every field that can stand in it together."""
    left_out = set().union(*published.either[1:])
    return {
        name: VALUES.get(name, "text") for name in published.request or {} if name not in left_out
    }


with_bodies = pytest.mark.parametrize(
    "published", [one for one in PUBLISHED.values() if one.request], ids=lambda one: one.endpoint
)


def test_every_endpoint_is_declared_and_answered() -> None:
    assert set(PUBLISHED) == set(HANDLERS) == set(Endpoint)


@pytest.mark.parametrize("path", PAGES)
def test_the_table_says_what_the_pages_say(path: str) -> None:
    published = by_path(path)
    caller, required, optional, answered = PAGES[path]
    request = published.request or {}

    assert published.caller == Caller(caller)
    assert names(request, required=True) == set(required.split())
    assert names(request, required=False) == set(optional.split())
    shown = published.answer.fields if isinstance(published.answer, Object) else {}
    assert names(shown, required=True) == set(answered.split())


@with_bodies
def test_a_request_with_every_published_field_is_taken(published: Published) -> None:
    assert published.request_complaints(whole(published)) == []


@with_bodies
@settings(max_examples=30)
@given(data=st.data())
def test_a_request_that_strays_from_its_page_is_told_so(
    published: Published, data: st.DataObject
) -> None:
    request = copy.deepcopy(whole(published))
    required = sorted(names(published.request or {}, required=True))
    kind = data.draw(st.sampled_from(["missing", "unknown", "wrong"][not required :]))

    if kind == "missing":
        del request[data.draw(st.sampled_from(required))]
    elif kind == "unknown":
        request[data.draw(st.text(min_size=1).filter(lambda name: name not in request))] = "x"
    else:
        name = data.draw(st.sampled_from(sorted(request)))
        request[name] = data.draw(st.sampled_from([None, "", [7]]))

    assert published.request_complaints(request)


@with_bodies
def test_the_simulator_refuses_a_field_no_page_has(
    state: MosaicState, shop: App, published: Published
) -> None:
    path = published.paths[0].replace("{provider}", "google")
    sent: dict[str, Any] = {"surprise": "x", **whole(published)}
    headers = {}
    if published.caller is Caller.USER:
        headers = {"Authorization": f"Bearer {shop.password().json()['access_token']}"}

    answer = shop.http.request(
        published.method,
        path,
        headers=headers,
        params=sent if published.method == "GET" else None,
        data=sent if published.is_form else None,
        json=None if published.is_form or published.method == "GET" else sent,
    )

    assert answer.status_code == 400
    assert "surprise is unknown" in answer.text
    assert state.calls.complaints() == [f"{published.endpoint} request: surprise is unknown"]


@pytest.mark.parametrize("method", [*AMR_BY_METHOD])
def test_every_method_keeps_to_the_pages_from_first_call_to_last(
    state: MosaicState, shop: App, method: str
) -> None:
    ask, _ = AMR_BY_METHOD[method]

    session_id = ask(shop).json()["session_id"]
    shop.post("session/authenticate", session_id=session_id)
    shop.http.get(f"{AUTH}/users/ada/sessions")
    shop.post("session/logout", session_id=session_id)

    assert state.calls.complaints() == []


@pytest.mark.parametrize(
    ("endpoint", "status", "body", "complaint"),
    [
        ("session/logout", 200, None, "success is 204"),
        ("session/logout", 204, {}, "must be empty"),
        ("token/refresh", 200, {"token_type": "Bearer", "expires_in": 1}, "access_token is req"),
        ("token/refresh", 200, None, "must be an object"),
        ("sessions/list", 200, [{"session_id": "s"}], "start_time is required"),
        ("otp/send", 404, {"message": "?", "error_code": "no_such_slug"}, "not documented"),
        ("otp/send", 404, {"message": "?"}, "error_code is required"),
        ("otp/send", 404, "not found", "must be an object"),
        ("users/create", 409, {"message": "?", "error_code": 409, "ts_error_code": "x"}, "not doc"),
    ],
)
def test_an_answer_that_strays_from_its_page_is_told_so(
    endpoint: str, status: int, body: object, complaint: str
) -> None:
    found = PUBLISHED[Endpoint(endpoint)].answer_complaints(status, body)

    assert any(complaint in one for one in found)


def test_a_time_without_its_zone_is_no_date_time() -> None:
    listed = {"session_id": "s", "expiration_time": "2026-01-01T00:00:00Z"}
    published = PUBLISHED[Endpoint.SESSIONS_LIST]

    for wrong in ("2026-01-01T00:00:00", 1767225600, "soon"):
        assert published.answer_complaints(200, [{**listed, "start_time": wrong}])


def test_a_deviation_of_the_policy_is_told_as_one(state: MosaicState, shop: App) -> None:
    state.login("ada", "shop")
    state.policy.change(session_times="seconds")

    shop.http.get(f"{AUTH}/users/ada/sessions")

    (told, _) = state.calls.complaints()
    assert told.startswith("sessions/list answer: answer[0].start_time must be a date")
    state.calls.clear()
    assert len(state.calls.complaints()) == 2
    state.calls.forgive()
    assert state.calls.complaints() == []
