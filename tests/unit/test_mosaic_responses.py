"""Every answer Mosaic can give, and what it means to us: one case a row, and its borders."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_client.contract import Reason
from worker.errors import (
    ClientRefused,
    InvalidRequest,
    LogoutRefused,
    MosaicContractBroken,
    MosaicRateLimited,
    MosaicUnavailable,
    PageInstead,
    ProofRefused,
    SessionGone,
    SessionWorkerError,
    UserRefused,
)
from worker.mosaic.asked import Asked, Endpoint
from worker.mosaic.http_calls import MAX_BODY_BYTES, HttpAnswer
from worker.mosaic.login_calls import CALLS
from worker.mosaic.reading import Reading, accept
from worker.mosaic.response_content import Content, normalised
from worker.mosaic.responses import TABLE, Row

TOKEN, JWKS = Endpoint.TOKEN, Endpoint.JWKS
PASSWORD, OTP, SEND = Endpoint.PASSWORD_PROOF, Endpoint.OTP_PROOF, Endpoint.OTP_SEND
LINK, LINK_SEND, VERIFY = Endpoint.LINK_PROOF, Endpoint.LINK_SEND, Endpoint.SOCIAL_VERIFY
TOTP, SOCIAL_START = Endpoint.TOTP_PROOF, Endpoint.SOCIAL_START
APPROVAL, APPROVAL_START = Endpoint.TOTP_TRANSACTION_PROOF, Endpoint.TOTP_TRANSACTION_START
PASSKEY, PASSKEY_START = Endpoint.WEBAUTHN_PROOF, Endpoint.WEBAUTHN_START
SOCIAL, BIOMETRICS = Endpoint.SOCIAL_PROOF, Endpoint.BIOMETRICS_PROOF
AUTHENTICATE, LOGOUT, REFRESH = Endpoint.AUTHENTICATE, Endpoint.LOGOUT, Endpoint.REFRESH
LIST, DELETE = Endpoint.LIST_SESSIONS, Endpoint.DELETE_SESSIONS
FRONTEND = Endpoint.DELETE_FRONTEND_SESSIONS
DONE = None
URL = "https://mosaic.example/cis"
GONE = {"message": "Session not found", "error_code": 400}
OTHER = {"message": "device_id must be a string", "error_code": 400}
INACTIVE = {"message": "User is not active", "error_code": "user_not_active"}
PAGE = b"<html>welcome</html>"

Case = tuple[Endpoint, int, Any, type[SessionWorkerError] | None]

CASES: list[Case] = [
    # What was asked for.
    (TOKEN, 200, {}, DONE),
    (TOKEN, 201, {}, DONE),
    (JWKS, 200, {}, DONE),
    (AUTHENTICATE, 200, {}, DONE),
    (AUTHENTICATE, 201, {}, DONE),
    (AUTHENTICATE, 202, {}, MosaicContractBroken),
    (AUTHENTICATE, 204, b"", MosaicContractBroken),
    (LOGOUT, 204, b"", DONE),
    (LOGOUT, 200, b"", DONE),
    (LOGOUT, 200, {"result": 1}, DONE),
    (LOGOUT, 200, {"error": "maintenance"}, MosaicContractBroken),
    (LOGOUT, 201, {}, MosaicContractBroken),
    (LOGOUT, 202, b"", MosaicContractBroken),
    (LIST, 200, [], DONE),
    (LIST, 200, {"sessions": []}, MosaicContractBroken),
    (LIST, 204, b"", MosaicContractBroken),
    (LIST, 404, GONE, MosaicContractBroken),
    (LIST, 404, {"error_code": "user_not_found"}, UserRefused),
    (DELETE, 204, b"", DONE),
    (DELETE, 200, b"", PageInstead),
    (DELETE, 200, {"result": 1}, MosaicContractBroken),
    (DELETE, 404, OTHER, MosaicContractBroken),
    (DELETE, 403, {"message": "Forbidden"}, ClientRefused),
    (FRONTEND, 200, {"result": {"deleted_count": 0}}, DONE),
    (FRONTEND, 200, {"result": {"deleted_count": True}}, MosaicContractBroken),
    (FRONTEND, 200, {"result": {"deleted_count": 0}, "error": "x"}, MosaicContractBroken),
    (FRONTEND, 204, b"", MosaicContractBroken),
    # The session is gone: a 400 or a 404 that says so, and no other.
    (LOGOUT, 400, GONE, DONE),
    (LOGOUT, 404, GONE, DONE),
    (LOGOUT, 409, GONE, MosaicContractBroken),
    (AUTHENTICATE, 400, GONE, SessionGone),
    (AUTHENTICATE, 404, GONE, SessionGone),
    (AUTHENTICATE, 422, GONE, MosaicContractBroken),
    (AUTHENTICATE, 403, GONE, ClientRefused),
    (AUTHENTICATE, 500, GONE, MosaicUnavailable),
    (AUTHENTICATE, 400, {"error_code": "auth_session_not_found"}, SessionGone),
    (AUTHENTICATE, 400, {"error_code": 400, "ts_error_code": "invalidAuthSession"}, SessionGone),
    (AUTHENTICATE, 400, {"error": "session_not_found"}, SessionGone),
    (AUTHENTICATE, 400, {"error_description": "  SESSION   not-found. "}, SessionGone),
    (AUTHENTICATE, 400, {"message": ["Session not found"]}, SessionGone),
    (AUTHENTICATE, 400, {"message": ["Session not found", "and more"]}, MosaicContractBroken),
    (AUTHENTICATE, 400, {"message": "Session not found for device"}, MosaicContractBroken),
    (AUTHENTICATE, 400, ["Session not found"], MosaicContractBroken),
    (AUTHENTICATE, 400, OTHER, MosaicContractBroken),
    (AUTHENTICATE, 404, OTHER, MosaicContractBroken),
    (LOGOUT, 404, OTHER, MosaicContractBroken),
    (LOGOUT, 400, OTHER, LogoutRefused),
    (LOGOUT, 422, {"error_code": "system_invalid_input"}, LogoutRefused),
    (LOGOUT, 418, OTHER, MosaicContractBroken),
    (LOGOUT, 404, b"", MosaicContractBroken),
    # It passes.
    (JWKS, 429, b"", MosaicUnavailable),
    # A wrong address of the key set fails every registration: waiting does not help.
    (JWKS, 404, PAGE, MosaicContractBroken),
    (JWKS, 404, OTHER, MosaicContractBroken),
    (AUTHENTICATE, 429, INACTIVE, MosaicRateLimited),
    (LOGOUT, 429, GONE, MosaicRateLimited),
    (TOKEN, 429, PAGE, MosaicRateLimited),
    (AUTHENTICATE, 408, {}, MosaicUnavailable),
    (LOGOUT, 421, INACTIVE, MosaicUnavailable),
    (TOKEN, 425, {}, MosaicUnavailable),
    (LOGOUT, 500, GONE, MosaicUnavailable),
    (TOKEN, 599, {}, MosaicUnavailable),
    (AUTHENTICATE, 600, b"", MosaicContractBroken),
    # About the user: neither client nor operator has to do with it.
    (AUTHENTICATE, 403, INACTIVE, UserRefused),
    (AUTHENTICATE, 401, INACTIVE, UserRefused),
    (AUTHENTICATE, 404, {"error_code": "user_not_found"}, UserRefused),
    (AUTHENTICATE, 400, {"message": "User not found", "error_code": "400"}, UserRefused),
    (AUTHENTICATE, 403, {"error_code": 403, "ts_error_code": "auth_locked"}, UserRefused),
    (AUTHENTICATE, 403, {"message": ["User is not active", "?"]}, ClientRefused),
    (LOGOUT, 403, INACTIVE, UserRefused),
    (TOKEN, 403, INACTIVE, ClientRefused),
    # About the client.
    (AUTHENTICATE, 400, {"message": "App not found"}, ClientRefused),
    (LOGOUT, 404, {"error_code": "client_not_found"}, ClientRefused),
    (TOKEN, 400, {"error": "invalid_client"}, ClientRefused),
    (REFRESH, 400, {"error": "invalid_client"}, ClientRefused),
    (TOKEN, 400, {"message": "Invalid client credentials"}, ClientRefused),
    (TOKEN, 400, {"message": ["Invalid client_id"], "error_code": 400}, ClientRefused),
    (TOKEN, 400, {"error": "invalid_request"}, ClientRefused),
    (TOKEN, 422, {"error": "invalid_request"}, MosaicContractBroken),
    (TOKEN, 401, OTHER, ClientRefused),
    (TOKEN, 403, OTHER, ClientRefused),
    (AUTHENTICATE, 401, OTHER, ClientRefused),
    (LOGOUT, 403, {"message": "Forbidden"}, ClientRefused),
    # Who answered was not Mosaic.
    (AUTHENTICATE, 300, GONE, MosaicContractBroken),
    (TOKEN, 399, b"", MosaicContractBroken),
    (TOKEN, 404, PAGE, MosaicContractBroken),
    (AUTHENTICATE, 404, b"", MosaicContractBroken),
    (AUTHENTICATE, 405, PAGE, MosaicContractBroken),
    (TOKEN, 401, b"", ClientRefused),
    (LOGOUT, 401, PAGE, ClientRefused),
    (TOKEN, 403, PAGE, PageInstead),
    (AUTHENTICATE, 403, b"", PageInstead),
    (LOGOUT, 403, PAGE, PageInstead),
    (AUTHENTICATE, 400, PAGE, PageInstead),
    (LOGOUT, 200, PAGE, PageInstead),
    (TOKEN, 503, PAGE, PageInstead),
    (AUTHENTICATE, 200, b"", PageInstead),
    (AUTHENTICATE, 200, b'{"access_tok', PageInstead),
    (AUTHENTICATE, 200, b"[" * 100_000, PageInstead),
    (AUTHENTICATE, 200, b"\xff\xfe\xfd", PageInstead),
    (AUTHENTICATE, 200, None, PageInstead),
    # A step of a login: what is wrong with a proof is nobody's fault but its sender's.
    (PASSWORD, 200, {}, DONE),
    (REFRESH, 200, {}, DONE),
    (REFRESH, 400, {"error": "invalid_grant"}, ProofRefused),
    (REFRESH, 401, {"error": "invalid_grant"}, ProofRefused),
    (REFRESH, 401, {"message": "Invalid refresh token"}, ProofRefused),
    (REFRESH, 401, {"error_code": "user_not_found"}, UserRefused),
    (REFRESH, 401, OTHER, ClientRefused),
    (VERIFY, 401, {"message": "Invalid code"}, ProofRefused),
    (VERIFY, 401, OTHER, ClientRefused),
    (SEND, 401, OTHER, ClientRefused),
    (LINK_SEND, 401, {"message": "Token is invalid"}, ClientRefused),
    (REFRESH, 404, GONE, SessionGone),
    (SEND, 200, {"message": "OTP sent"}, DONE),
    (PASSWORD, 400, {"message": "Invalid credentials", "error_code": 400}, ProofRefused),
    (PASSWORD, 401, {"message": "Invalid credentials", "error_code": 401}, ProofRefused),
    (OTP, 400, {"error_code": "auth_invalid_credentials", "message": "Invalid"}, ProofRefused),
    (OTP, 400, {"error_code": "auth_otp_passcode_expired", "message": "x"}, ProofRefused),
    (PASSWORD, 401, {"message": "Invalid credentials", "error": "Unauthorized"}, ProofRefused),
    (OTP, 403, {"error_code": "auth_locked", "message": "Too many"}, UserRefused),
    (OTP, 403, {"message": "Too many failed attempts", "error_code": 403}, ProofRefused),
    (TOTP, 401, {"message": "Invalid token", "error_code": 401}, ProofRefused),
    (TOTP, 423, {"message": "Locked out", "error_code": 423}, ProofRefused),
    (PASSWORD, 403, {"message": "Password is locked"}, UserRefused),
    (PASSWORD, 403, {"message": "Password expired", "error": "Forbidden"}, ProofRefused),
    (PASSWORD, 403, {"message": "User is not assigned to the app"}, ProofRefused),
    (TOTP, 403, {"message": "The authenticator app is not set up"}, ProofRefused),
    (TOTP, 403, {"error_code": "auth_suspended"}, ProofRefused),
    (LINK, 400, {"message": "Invalid magic link code", "error_code": "400"}, ProofRefused),
    (LINK, 400, {"message": "User not found", "error_code": "400"}, UserRefused),
    (LINK, 400, GONE, SessionGone),
    (VERIFY, 400, GONE, ProofRefused),
    (PASSKEY, 400, {"error_code": "webauthn_encoded_result", "message": "x"}, ProofRefused),
    (PASSKEY_START, 401, {"error_code": "no_credentials_registered"}, UserRefused),
    (PASSKEY_START, 404, {"error_code": "client_not_found"}, ClientRefused),
    (SEND, 403, INACTIVE, UserRefused),
    (SEND, 403, {"message": "User may not sign in by mail"}, UserRefused),
    (SEND, 403, {"message": "The app may not send mail"}, ClientRefused),
    (SEND, 404, {"error_code": "user_phone_number_missing"}, UserRefused),
    (SEND, 404, {"error_code": "auth_login_preferences_missing"}, UserRefused),
    (SEND, 400, {"error_code": "external_provider_configuration_error"}, MosaicContractBroken),
    (SEND, 400, {"error_code": "system_invalid_input", "message": "x"}, ProofRefused),
    (LINK_SEND, 400, {"message": "redirect_uri is not allowed"}, InvalidRequest),
    (SOCIAL_START, 400, {"message": ["redirectUri is not configured"]}, InvalidRequest),
    (LINK_SEND, 403, {"message": "Public signup not allowed"}, UserRefused),
    (LINK_SEND, 403, {"message": "Public sign-up is not allowed for this app"}, UserRefused),
    (LINK_SEND, 403, {"message": "publicSignup is disabled", "error_code": "403"}, UserRefused),
    (LINK_SEND, 403, {"error_code": "public_signup_not_allowed"}, UserRefused),
    (LINK_SEND, 403, {"message": "The app may not set public signup"}, ClientRefused),
    (LINK_SEND, 404, {"message": "App not found", "error_code": "404"}, ClientRefused),
    (OTP, 400, {"error_code": "system_invalid_input", "message": "x"}, ProofRefused),
    # And our client token is not accepted only where just that is said.
    (PASSWORD, 401, {"message": "Unauthorized", "error_code": 401}, ClientRefused),
    (PASSWORD, 401, PAGE, ClientRefused),
    (PASSWORD, 401, {"message": "Invalid token", "error_code": 401}, ClientRefused),
    (PASSWORD, 401, {"message": "jwt expired", "error_code": 401}, ClientRefused),
    (TOTP, 401, {"message": "Access token is invalid", "error_code": 401}, ClientRefused),
    (PASSWORD, 403, {"message": "Forbidden"}, ClientRefused),
    (PASSWORD, 403, {"message": "Forbidden resource", "error": "Forbidden"}, ClientRefused),
    (PASSWORD, 403, {"message": "The client is locked"}, ClientRefused),
    (PASSWORD, 403, {"message": "API key is missing"}, ClientRefused),
    (PASSWORD, 403, {"message": "Password login is off for this app"}, ClientRefused),
    (REFRESH, 403, {"message": "Password expired"}, ClientRefused),
    (PASSWORD, 403, PAGE, PageInstead),
    (PASSWORD, 404, PAGE, MosaicContractBroken),
    (PASSWORD, 404, OTHER, MosaicContractBroken),
    (PASSWORD, 429, b"", MosaicRateLimited),
    (PASSWORD, 503, {}, MosaicUnavailable),
]


def answer(status: int, body: Any, retry_after: float | None = None) -> HttpAnswer:
    content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    headers = {} if retry_after is None else {b"retry-after": [str(retry_after)]}
    return HttpAnswer(status, content, headers)


def row_of(case: Case) -> Row:
    endpoint, status, body, _ = case
    asked = Asked(endpoint, URL, answer(status, body))
    return next(row for row in TABLE if row.fits(Content.of(asked.answer), asked))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_each_answer_means_one_thing(case: Case) -> None:
    endpoint, status, body, expected = case
    if expected is DONE:
        accept(endpoint, URL, answer(status, body))
        return

    with pytest.raises(SessionWorkerError) as caught:
        accept(endpoint, URL, answer(status, body))

    assert type(caught.value) is expected


def test_every_row_has_a_case() -> None:
    asks_for_options = {row for row in TABLE if row.words == "options refused"}

    assert {row_of(case) for case in CASES} == set(TABLE) - asks_for_options


@pytest.mark.parametrize(
    ("status", "body", "options", "expected"),
    [
        (400, OTHER, ("claims", "resource"), InvalidRequest),
        (422, OTHER, ("org_id",), InvalidRequest),
        (400, OTHER, (), MosaicContractBroken),
        (400, GONE, ("org_id",), SessionGone),
        (400, {"message": "User not found"}, ("org_id",), UserRefused),
        (400, PAGE, ("org_id",), PageInstead),
        (403, OTHER, ("org_id",), ClientRefused),
    ],
)
def test_a_request_with_options_may_be_refused_for_them(
    status: int, body: Any, options: tuple[str, ...], expected: type[SessionWorkerError]
) -> None:
    with pytest.raises(SessionWorkerError) as caught:
        Reading(Asked(AUTHENTICATE, URL, answer(status, body), options)).value()

    assert type(caught.value) is expected
    if isinstance(caught.value, InvalidRequest):
        told = (caught.value.reason, caught.value.detail)
        assert told == (Reason.OPTIONS_REFUSED, ", ".join(options))


AUTHENTICATES = (PASSWORD, OTP, LINK, TOTP, APPROVAL, SOCIAL, PASSKEY, BIOMETRICS)
_RFC_6750 = "The access token expired"
# What resource servers and gateways answer to a client token that is none any more.
TOKEN_IS_OVER: list[dict[str, Any]] = [
    *(
        {"error": code, "message": message}
        for code in ("Unauthorized", "unauthorized")
        for message in (
            "The access token has been revoked",
            "Access token was revoked by an administrator",
            "Access token signature is invalid",
            "Full authentication is required to access this resource",
            "Unauthorized",
        )
    ),
    *({"error": "invalid_token", name: _RFC_6750} for name in ("message", "error_description")),
    {"error": "invalid_token"},
    {"error": "invalid_token", "message": "The access token is malformed"},
    {"error_code": 401, "message": "The access token has expired"},
    {"error_code": 401, "message": "Bearer token has been revoked"},
    {"error_code": 401, "message": "Presented access token is unknown"},
    {"error_code": 401, "message": "Not authorized"},
]


@pytest.mark.parametrize("body", TOKEN_IS_OVER, ids=str)
@pytest.mark.parametrize("endpoint", [*AUTHENTICATES, REFRESH, VERIFY])
def test_a_client_token_that_is_over_is_no_wrong_proof(
    endpoint: Endpoint, body: dict[str, Any]
) -> None:
    reading = Reading(Asked(endpoint, URL, answer(401, body), is_token_proven=True))

    assert (reading.blames_client_token, reading.proves_client_token) == (True, False)
    with pytest.raises(ClientRefused):
        reading.value()


PROOF_IS_WRONG = [
    "Invalid credentials",
    "Wrong password",
    "Incorrect PIN",
    "Invalid code",
    "Invalid magic link",
    "Invalid TOTP token",
    "Passcode has expired",
    "Authentication failed",
    "Login failed",
    "Unknown user",
    "Invalid username or password",
    "User may not sign in",
    "Account is not set up for this method",
    "Too many attempts",
    "No access token for wrong credentials",
]


@pytest.mark.parametrize("message", PROOF_IS_WRONG)
@pytest.mark.parametrize("code", ["Unauthorized", "unauthorized", "invalid_token", None])
def test_a_401_that_names_the_proof_or_its_user_is_about_them(
    message: str, code: str | None
) -> None:
    body = {"message": message, **({} if code is None else {"error": code})}
    for endpoint in AUTHENTICATES:
        reading = Reading(Asked(endpoint, URL, answer(401, body)))

        # The server may have looked at the proof first: nothing is said of our client token.
        told = (reading.blames_client_token, reading.proves_client_token)
        assert told == (False, False), endpoint
        with pytest.raises(ProofRefused):
            reading.value()


@pytest.mark.parametrize("message", ["Invalid token", "Token is invalid", "The token has expired"])
@pytest.mark.parametrize("endpoint", [OTP, LINK, TOTP, APPROVAL])
@pytest.mark.parametrize("code", ["Unauthorized", "invalid_token", "totp_failed", None])
def test_a_proof_that_is_called_a_token_is_no_client_token(
    endpoint: Endpoint, message: str, code: str | None
) -> None:
    body = {"message": message, **({} if code is None else {"error": code})}

    with pytest.raises(ProofRefused):
        accept(endpoint, URL, answer(401, body))


@pytest.mark.parametrize(
    ("endpoint", "message"),
    [
        (REFRESH, "Invalid refresh token"),
        (REFRESH, "The refresh token has been revoked"),
        (VERIFY, "Invalid code"),
        (VERIFY, "The state is unknown"),
    ],
)
@pytest.mark.parametrize("code", ["Unauthorized", "unauthorized", "invalid_grant"])
def test_a_401_that_names_what_was_brought_is_about_that(
    endpoint: Endpoint, message: str, code: str
) -> None:
    with pytest.raises(ProofRefused):
        accept(endpoint, URL, answer(401, {"error": code, "message": message}))


FIRST_STEPS = (SEND, LINK_SEND, SOCIAL_START, APPROVAL_START, PASSKEY_START)


def test_each_call_of_the_methods_is_in_these_tables() -> None:
    of_methods = {call.endpoint for call in CALLS.values()}

    assert {*FIRST_STEPS, *AUTHENTICATES} == of_methods - {VERIFY}


# A right that our client lacks, as gateways and resource servers word it, also of "the user" that
# a client is to them.
NO_RIGHT = [
    *(
        f"{whom} {what}"
        for whom in ("User", "The user", "This account")
        for what in (
            "is not authorized to access this resource",
            "does not have the required role",
            "has insufficient permissions",
            "lacks the scope users:authenticate",
            "is not authorised to perform: execute-api:Invoke",
            "is not permitted to use this API: access denied",
        )
    ),
    "Not authorized to perform this operation",
    "You are not authorised",
    "Access denied",
    "Access is denied",
    "Insufficient scope",
    "Operation not permitted",
    "The access token lacks a scope",
    "Invalid access token",
    "jwt expired",
]


@pytest.mark.parametrize("message", NO_RIGHT)
@pytest.mark.parametrize("status_name", ["Forbidden", None])
def test_a_missing_right_is_the_clients(message: str, status_name: str | None) -> None:
    body = {"message": message, **({} if status_name is None else {"error": status_name})}
    for endpoint in (*FIRST_STEPS, *AUTHENTICATES):
        reading = Reading(Asked(endpoint, URL, answer(403, body), is_token_proven=True))

        assert reading.blames_client_token, endpoint
        with pytest.raises(ClientRefused):
            reading.value()


def test_a_user_who_is_not_authorized_is_our_client_where_the_token_is_not_accepted() -> None:
    body = {"error": "Unauthorized", "message": "User is not authorized to access this resource"}
    for endpoint in AUTHENTICATES:
        with pytest.raises(ClientRefused):
            accept(endpoint, URL, answer(401, body))


# What keeps one user out, in words that are on no page.
USERS_STATES = [
    *(
        f"{whom} {has_become} {state}"
        for whom in ("User", "The user", "Your account")
        for has_become in ("is", "was", "has been", "is temporarily")
        for state in ("locked", "blocked", "suspended", "disabled by an administrator", "inactive")
    ),
    "User is not verified",
    "User may not sign in by mail",
    "User is not authorized to log in",
    "This account has expired",
    "Access denied: user is locked",
    "Access denied. Your account has been suspended",
    "Not authorized: the user is disabled",
    "User role admin is locked",
    "Too many attempts, access denied",
]


@pytest.mark.parametrize("message", USERS_STATES)
@pytest.mark.parametrize("status_name", ["Forbidden", None])
def test_a_state_of_the_user_is_the_users(message: str, status_name: str | None) -> None:
    body = {"message": message, **({} if status_name is None else {"error": status_name})}
    for endpoint in (*FIRST_STEPS, *AUTHENTICATES):
        with pytest.raises((UserRefused, ProofRefused)) as caught:
            accept(endpoint, URL, answer(403, body))
        assert endpoint not in FIRST_STEPS or type(caught.value) is UserRefused, endpoint


@pytest.mark.parametrize(
    "message",
    [
        "User management is off here",
        "User resources cannot be reached with this token",
        "Account service: request not signed",
    ],
)
def test_a_first_step_is_no_users_fault_without_a_word_of_their_state(message: str) -> None:
    for endpoint in FIRST_STEPS:
        with pytest.raises(ClientRefused):
            accept(endpoint, URL, answer(403, {"message": message}))


@pytest.mark.parametrize(
    "message",
    [
        "Access denied: wrong password",
        "Access denied: invalid code",
        "Not authorized: password expired",
        "Invalid credentials, access denied",
    ],
)
def test_a_wrong_proof_is_one_whatever_it_is_denied(message: str) -> None:
    for endpoint in AUTHENTICATES:
        with pytest.raises(ProofRefused):
            accept(endpoint, URL, answer(403, {"message": message}))


INVALID = {"error_code": "system_invalid_input", "message": "Invalid input"}
OF_CODE = {"error_code": "system_invalid_input", "message": ["passcode must be a string"]}
OF_RESOURCE = {"message": "resource is not configured", "error_code": 400}
ALL_WISHES = ("claims", "client_attributes", "device_id", "org_id", "resource")


@pytest.mark.parametrize(
    ("body", "options", "expected"),
    [
        (OF_RESOURCE, ALL_WISHES, InvalidRequest),
        (OF_RESOURCE, ("resource",), InvalidRequest),
        (OF_RESOURCE, ("client_attributes",), ProofRefused),
        ({"message": ["organization is unknown"]}, ("org_id",), InvalidRequest),
        # The app's own wishes, where no other field is named that was sent.
        (INVALID, ALL_WISHES, InvalidRequest),
        (INVALID, ("client_attributes", "device_id"), ProofRefused),
        (OF_CODE, ALL_WISHES, ProofRefused),
        ({"message": ["Invalid credentials"], "error_code": 400}, ALL_WISHES, ProofRefused),
    ],
)
def test_a_login_is_refused_for_its_options_where_they_are_named_or_nothing_is(
    body: Any, options: tuple[str, ...], expected: type[SessionWorkerError]
) -> None:
    sent = {"passcode": "123456", "identifier": "ada", **dict.fromkeys(options, "x")}

    with pytest.raises(expected):
        Reading(Asked(OTP, URL, answer(400, body), options, sent=sent)).value()


@pytest.mark.parametrize("body", [{}, [], {"message": "Not today"}, {"error_code": "no_luck"}])
def test_a_403_for_a_proof_that_blames_nobody_is_about_a_client_token_that_never_worked(
    body: Any,
) -> None:
    for is_proven, expected in ((True, ProofRefused), (False, ClientRefused)):
        asked = Asked(PASSWORD, URL, answer(403, body), is_token_proven=is_proven)
        with pytest.raises(expected):
            Reading(asked).value()


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (INACTIVE, Reason.USER_NOT_ACTIVE),
        ({"message": "User was suspended"}, Reason.USER_NOT_ACTIVE),
        ({"message": "?", "error_code": "auth_locked"}, Reason.USER_LOCKED),
        ({"message": "The user account is locked."}, Reason.USER_LOCKED),
        ({"message": "User has been temporarily locked"}, Reason.USER_LOCKED),
        ({"message": "Forbidden", "error_code": "auth_password_locked"}, Reason.USER_LOCKED),
        ({"error_code": "404", "message": "User not found"}, Reason.USER_UNKNOWN),
    ],
)
def test_what_is_said_of_the_user_is_told_in_a_word_of_ours(body: Any, reason: Reason) -> None:
    with pytest.raises(UserRefused) as caught:
        accept(AUTHENTICATE, URL, answer(403, body))

    assert caught.value.reason is reason


@pytest.mark.parametrize("status", [429, 503])
def test_the_wait_mosaic_asks_for_is_passed_on(status: int) -> None:
    with pytest.raises((MosaicRateLimited, MosaicUnavailable)) as caught:
        accept(AUTHENTICATE, URL, answer(status, b"", retry_after=17.0))

    assert caught.value.retry_after == 17.0


@pytest.mark.parametrize(("status", "asked"), [(429, None), (503, None), (503, 0.0)])
def test_without_a_wait_the_usual_one_is_suggested(status: int, asked: float | None) -> None:
    with pytest.raises((MosaicRateLimited, MosaicUnavailable)) as caught:
        accept(AUTHENTICATE, URL, answer(status, b"", retry_after=asked))

    assert caught.value.retry_after == 1.0


@pytest.mark.parametrize(
    ("charset", "encoding"),
    [
        (None, "utf-8"),
        ("utf-8", "utf-8-sig"),
        ("utf-16", "utf-16"),
        ("iso-8859-1", "latin-1"),
        ("windows-1252", "cp1252"),
        ("no-such-charset", "utf-8"),
    ],
)
def test_a_body_is_read_in_the_charset_it_declares(charset: str | None, encoding: str) -> None:
    body = json.dumps({"message": "Session not found", "ü": "é"}, ensure_ascii=False)
    declared = "" if charset is None else f"; charset={charset}"
    headers = {b"content-type": [f"application/json{declared}"]}

    with pytest.raises(SessionGone):
        accept(AUTHENTICATE, URL, HttpAnswer(400, body.encode(encoding), headers))


def test_no_error_repeats_what_mosaic_said() -> None:
    with pytest.raises(MosaicContractBroken) as caught:
        accept(AUTHENTICATE, URL, answer(400, {"message": "bad session s3cr3t", "error": "s3cr3t"}))

    assert "s3cr3t" not in str(caught.value)
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"error_code": "auth_invalid_credentials", "message": "x"}, "auth_invalid_credentials"),
        ({"error_code": 400, "ts_error_code": "auth_otp_expired"}, "auth_otp_expired"),
        ({"error": "invalid_grant", "error_code": "no_luck"}, "no_luck, invalid_grant"),
        ({"error": "invalid_grant", "error_code": "invalid_grant"}, "invalid_grant"),
    ],
)
def test_a_refusal_names_mosaics_slugs(body: Any, named: str) -> None:
    with pytest.raises(ProofRefused) as caught:
        accept(PASSWORD, URL, answer(400, body))

    assert str(caught.value).endswith(f"400 not accepted ({named})")


SECRETS = ["123456", "1_2_3", "s3cr3t_id", "Some_Thing", "plain", "a__b", "_a_b", "a_b.c_d", "ä_b"]


@pytest.mark.parametrize("text", [*SECRETS, "open_sesame", "a_" + "b" * 70, ["open_sesame"]])
def test_a_refusal_names_nothing_else_that_stands_in_place_of_a_slug(text: Any) -> None:
    body = {"error_code": text, "ts_error_code": text, "error": text, "message": "no"}
    sent = {"username": "ada", "password": "say open_sesame"}
    with pytest.raises(ProofRefused) as caught:
        Reading(Asked(PASSWORD, URL, answer(400, body), sent=sent)).value()

    assert str(caught.value).endswith("400 not accepted")


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
)


@given(
    endpoint=st.sampled_from(Endpoint),
    status=st.integers(100, 999),
    body=st.binary(max_size=40) | ANY_JSON | st.none(),
)
def test_whatever_is_answered_is_one_of_our_errors_or_a_success(
    endpoint: Endpoint, status: int, body: Any
) -> None:
    try:
        accept(endpoint, URL, answer(status, body))
    except SessionWorkerError as error:
        assert str(error)  # noqa: PT017 - either way is right, if it is one of these
    else:
        assert status in {200, 201, 204, 400, 404}


@pytest.mark.parametrize(
    "text", ["Session not found", "SESSION_NOT_FOUND", "session-not-found.", "sessionNotFound"]
)
def test_slugs_and_sentences_are_compared_alike(text: str) -> None:
    assert normalised(text) == "session not found"


WORDY = ["account has been temporarily ", "wrong password has been ", "not authorized to ", "user "]


@pytest.mark.parametrize("phrase", WORDY)
@pytest.mark.parametrize("status", [400, 401, 403])
def test_a_body_as_large_as_may_be_is_soon_read(phrase: str, status: int) -> None:
    times = MAX_BODY_BYTES // len(phrase) - 100
    of_one = json.dumps({"message": phrase * times})
    of_many = json.dumps({"message": (phrase * times).split()[: times // 2]})

    began_at = time.process_time()
    for body in (of_one, of_many):
        with pytest.raises(SessionWorkerError):
            accept(PASSWORD, URL, HttpAnswer(status, body.encode()))

    assert time.process_time() - began_at < 1.0


def test_no_words_of_the_table_end_a_sentence_since_what_to_do_follows_them() -> None:
    assert [row.words for row in TABLE if row.words.endswith((".", "?", "!"))] == []
