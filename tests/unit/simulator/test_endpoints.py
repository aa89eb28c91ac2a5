from __future__ import annotations

import ssl
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import KeySet, RSAKey

from simulator.idp.policy import DAY_SECONDS
from simulator.idp.state import MosaicState
from simulator.server import SimulatorServer

AUTH = "/cis/v1/auth"
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # httpx would load all root certificates
NOT_FOUND = {"message": "Session not found", "error_code": 400}
JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


@pytest.fixture
def server() -> Iterator[SimulatorServer]:
    with SimulatorServer() as running:
        running.state.add_client("shop", "shop-secret")
        running.state.add_client("forum", "forum:sécret")
        running.state.add_user("ada", password="pw", email="ada@example.com", phone="+100")
        yield running


@pytest.fixture
def state(server: SimulatorServer) -> MosaicState:
    return server.state


@pytest.fixture
def http(server: SimulatorServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, trust_env=False, verify=NO_TLS) as client:
        yield client


@pytest.fixture
def shop(http: httpx.Client) -> dict[str, str]:
    return bearer(http, "shop", "shop-secret")


@pytest.fixture
def forum(http: httpx.Client) -> dict[str, str]:
    return bearer(http, "forum", "forum:sécret")


def bearer(http: httpx.Client, client_id: str, secret: str) -> dict[str, str]:
    response = ask_token(http, client_id=client_id, client_secret=secret)
    return {"Authorization": f"Bearer {response.json()['access_token']}"}


def ask_token(http: httpx.Client, path: str = "/oidc/token", **form: str) -> httpx.Response:
    return http.post(path, data={"grant_type": "client_credentials", **form})


def post(
    http: httpx.Client, app: dict[str, str], path: str, body: dict[str, Any]
) -> httpx.Response:
    return http.post(f"{AUTH}/{path}", json=body, headers=app)


def silent(http: httpx.Client, app: dict[str, str], session_id: str, **more: Any) -> httpx.Response:
    return post(http, app, "session/authenticate", {"session_id": session_id, **more})


def claims(http: httpx.Client, token: str) -> dict[str, Any]:
    """The claims of a token that verifies against the published keys."""
    keys = KeySet.import_key_set(http.get("/cis/oidc/jwks").json())
    return jwt.decode(token, keys, algorithms=["RS256", "PS256"]).claims


@pytest.mark.parametrize("path", ["/oidc/token", "/cis/oidc/token"])
def test_a_secret_in_the_form_buys_a_client_token(http: httpx.Client, path: str) -> None:
    response = ask_token(http, path, client_id="shop", client_secret="shop-secret")

    assert response.status_code == 200
    assert response.json()["expires_in"] == 3600
    assert response.json()["token_type"] == "Bearer"


def test_a_secret_in_http_basic_is_form_decoded(http: httpx.Client) -> None:
    response = http.post(
        "/oidc/token",
        data={"grant_type": "client_credentials"},
        auth=("forum", "forum%3As%C3%A9cret"),
    )

    assert response.status_code == 200


WRONG_CLIENT = {"message": ["Invalid client_id or client_secret"], "error_code": 400}


def assertion(key: RSAKey, audience: str) -> dict[str, str]:
    soon = int(time.time()) + 60
    told = {"iss": "bank", "sub": "bank", "aud": audience, "jti": "1", "exp": soon}
    return {
        "client_assertion_type": JWT_BEARER,
        "client_assertion": jwt.encode({"alg": "RS256"}, told, key),
    }


def test_a_signed_assertion_buys_one_client_token(
    server: SimulatorServer, http: httpx.Client
) -> None:
    key = RSAKey.generate_key(2048)
    server.state.add_client("bank", public_jwk=key.as_dict(private=False))
    form = assertion(key, server.token_url)

    first, replayed = ask_token(http, **form), ask_token(http, **form)

    assert first.status_code == 200
    assert replayed.status_code == 400
    assert server.state.calls.count("token", "bank") == 2


def test_an_assertion_for_another_audience_is_refused(
    server: SimulatorServer, http: httpx.Client
) -> None:
    key = RSAKey.generate_key(2048)
    server.state.add_client("bank", public_jwk=key.as_dict(private=False))

    response = ask_token(http, **assertion(key, "https://elsewhere.example/token"))

    assert response.json() == WRONG_CLIENT


NOBODY = {"client_id": "nobody", "client_secret": "x"}
WRONG_SECRET = {"client_id": "shop", "client_secret": "wrong"}


@pytest.mark.parametrize("form", [NOBODY, WRONG_SECRET])
def test_a_wrong_client_is_refused_as_the_vendors_page_says_or_as_oauth_does(
    state: MosaicState, http: httpx.Client, form: dict[str, str]
) -> None:
    as_published = ask_token(http, **form)
    state.policy.change(wrong_client_answer="oauth")
    as_oauth = ask_token(http, **form)

    assert (as_published.status_code, as_published.json()) == (400, WRONG_CLIENT)
    assert (as_oauth.status_code, as_oauth.json()["error"]) == (401, "invalid_client")


@pytest.mark.parametrize(
    ("form", "status", "error"),
    [
        ({"client_id": "shop"}, 400, "invalid_request"),
        ({"client_id": "shop", "client_secret": "shop-secret", "x": "y"}, 400, "invalid_request"),
        (
            {"client_id": "shop", "client_secret": "shop-secret", "grant_type": "password"},
            400,
            "unsupported_grant_type",
        ),
    ],
)
def test_bad_token_requests_are_refused_as_oauth_says(
    http: httpx.Client, form: dict[str, str], status: int, error: str
) -> None:
    response = ask_token(http, **form)

    assert (response.status_code, response.json()["error"]) == (status, error)


def test_a_token_request_in_json_is_refused(http: httpx.Client) -> None:
    response = http.post("/oidc/token", json={"grant_type": "client_credentials"})

    assert response.json()["error"] == "invalid_request"


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer guessed"}])
def test_calls_without_a_client_token_are_unauthorised(
    http: httpx.Client, headers: dict[str, str]
) -> None:
    response = silent(http, headers, "any")

    assert response.status_code == 401
    assert set(response.json()) == {"message", "error_code"}


def test_a_client_token_lasts_an_hour_of_the_simulators_clock(
    state: MosaicState, http: httpx.Client, shop: dict[str, str]
) -> None:
    session_id = state.login("ada", "shop").session_id
    state.clock.advance(3590)
    assert silent(http, shop, session_id).status_code == 200

    state.clock.advance(20)

    assert silent(http, shop, session_id).status_code == 401


def test_a_revoked_client_token_is_unauthorised_and_other_clients_keep_theirs(
    state: MosaicState, http: httpx.Client, shop: dict[str, str], forum: dict[str, str]
) -> None:
    session_id = state.login("ada", "shop").session_id

    state.revoke_client_tokens("shop")

    assert silent(http, shop, session_id).status_code == 401
    assert silent(http, forum, session_id).status_code == 200


def test_silent_authentication_answers_tokens_for_the_calling_app(
    state: MosaicState, http: httpx.Client, forum: dict[str, str]
) -> None:
    session_id = state.login("ada", "shop").session_id

    body = silent(http, forum, session_id).json()

    told = claims(http, body["id_token"])
    now = time.time()
    assert body["session_id"] == session_id
    assert body["expires_in"] == 3600
    assert (told["iss"], told["aud"], told["sub"]) == ("https://userid.security", "forum", "ada")
    assert told["exp"] - told["iat"] == 3600
    assert told["iat"] == pytest.approx(now, abs=5)
    assert told["auth_time"] == pytest.approx(now, abs=5)
    assert told["amr"] == ["pwd"]
    assert {"acr", "tid"} <= told.keys()
    assert claims(http, body["access_token"])["sub"] == "ada"


def test_no_token_carries_the_session_id(
    state: MosaicState, http: httpx.Client, shop: dict[str, str]
) -> None:
    session_id = state.login("ada", "shop").session_id

    body = silent(http, shop, session_id).json()

    for token in (body["id_token"], body["access_token"]):
        assert session_id not in str(claims(http, token))


def test_the_tokens_carry_what_was_asked_for(
    state: MosaicState, http: httpx.Client, shop: dict[str, str]
) -> None:
    session_id = state.login("ada", "shop").session_id

    body = silent(
        http,
        shop,
        session_id,
        resource="https://orders.example",
        org_id="acme",
        claims={"id_token": {"email": None}},
        client_attributes={"user_agent": "Firefox", "ip_address": "203.0.113.1"},
        device_id="d" * 80,
    ).json()

    told = claims(http, body["id_token"])
    assert (told["email"], told["org_id"]) == ("ada@example.com", "acme")
    assert claims(http, body["access_token"])["aud"] == "https://orders.example"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"session_id": 7},
        {"session_id": ""},
        {"session_id": "s", "surprise": 1},
        {"session_id": "s", "device_id": "d" * 81},
        {"session_id": "s", "claims": []},
        {"session_id": "s", "claims": {"id_token": "email"}},
        {"session_id": "s", "client_attributes": {"browser": "Firefox"}},
        [],
    ],
)
def test_a_body_of_the_wrong_shape_is_refused(
    http: httpx.Client, shop: dict[str, str], body: Any
) -> None:
    response = post(http, shop, "session/authenticate", body)

    assert response.status_code == 400
    assert set(response.json()) == {"message", "error_code"}
    assert response.json() != NOT_FOUND


@pytest.mark.parametrize(
    ("content", "content_type"), [(b"{", "application/json"), (b"{}", "text/plain")]
)
def test_a_body_that_is_not_json_is_refused(
    http: httpx.Client, shop: dict[str, str], content: bytes, content_type: str
) -> None:
    headers = {**shop, "Content-Type": content_type}

    response = http.post(f"{AUTH}/session/logout", content=content, headers=headers)

    assert response.status_code == 400


def test_an_unknown_path_is_answered_in_the_envelope(http: httpx.Client) -> None:
    assert http.get("/cis/v2").json() == {"message": "Not Found", "error_code": 404}


def test_silent_authentication_starts_the_two_weeks_anew(
    state: MosaicState, http: httpx.Client
) -> None:
    session_id = state.login("ada", "shop").session_id

    for _ in range(3):
        state.clock.advance(13 * DAY_SECONDS)
        shop = bearer(http, "shop", "shop-secret")
        assert silent(http, shop, session_id).status_code == 200

    state.clock.advance(14 * DAY_SECONDS + 1)
    shop = bearer(http, "shop", "shop-secret")
    assert silent(http, shop, session_id).json() == NOT_FOUND
    assert not state.is_live(session_id)


def test_silent_authentication_keeps_the_original_auth_time(
    state: MosaicState, http: httpx.Client, shop: dict[str, str]
) -> None:
    login = state.login("ada", "shop")
    before = claims(http, login.id_token)["auth_time"]
    state.clock.advance(600)

    kept = claims(http, silent(http, shop, login.session_id).json()["id_token"])
    state.policy.change(silent_renews_auth_time=True)
    renewed = claims(http, silent(http, shop, login.session_id).json()["id_token"])

    assert kept["auth_time"] == before
    assert renewed["auth_time"] == pytest.approx(before + 600, abs=5)


def test_a_refresh_rotates_its_token_and_extends_nothing(
    state: MosaicState, http: httpx.Client, shop: dict[str, str]
) -> None:
    login = state.login("ada", "shop")
    expires_at = state.live_sessions()[0].expires_at
    state.clock.advance(60)

    used = {"refresh_token": login.refresh_token}
    first = post(http, shop, "token/refresh", used)
    again = post(http, shop, "token/refresh", used)
    second = post(http, shop, "token/refresh", {"refresh_token": first.json()["refresh_token"]})

    assert (first.status_code, again.status_code, second.status_code) == (200, 400, 200)
    assert "session_id" not in first.json()
    assert claims(http, first.json()["id_token"])["sub"] == "ada"
    assert state.live_sessions()[0].expires_at == expires_at


def test_a_mosaic_that_rotates_none_takes_a_refresh_token_again(
    state: MosaicState, http: httpx.Client, shop: dict[str, str]
) -> None:
    state.policy.change(rotates_refresh_tokens=False)
    used = {"refresh_token": state.login("ada", "shop").refresh_token}

    answers = [post(http, shop, "token/refresh", used) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [200, 200]
    assert "refresh_token" not in answers[0].json()


def test_another_app_cannot_use_a_refresh_token(
    state: MosaicState, http: httpx.Client, forum: dict[str, str]
) -> None:
    login = state.login("ada", "shop")

    response = post(http, forum, "token/refresh", {"refresh_token": login.refresh_token})

    assert response.status_code == 400


def test_logout_ends_one_session_and_its_refresh_tokens(
    state: MosaicState, http: httpx.Client, shop: dict[str, str]
) -> None:
    ended, kept = state.login("ada", "shop"), state.login("ada", "shop")

    response = post(http, shop, "session/logout", {"session_id": ended.session_id})

    refresh = post(http, shop, "token/refresh", {"refresh_token": ended.refresh_token})
    assert (response.status_code, response.content) == (204, b"")
    assert silent(http, shop, ended.session_id).json() == NOT_FOUND
    assert refresh.status_code == 400
    assert [session.session_id for session in state.live_sessions()] == [kept.session_id]


@pytest.mark.parametrize("status", [204, 400, 404])
def test_logging_out_a_dead_session_answers_what_the_policy_says(
    state: MosaicState, http: httpx.Client, shop: dict[str, str], status: int
) -> None:
    session_id = state.login("ada", "shop").session_id
    state.end_session(session_id)
    state.policy.change(dead_logout_status=status)

    response = post(http, shop, "session/logout", {"session_id": session_id})

    assert response.status_code == status


def test_logging_out_an_unknown_session_says_not_found(
    http: httpx.Client, shop: dict[str, str]
) -> None:
    assert post(http, shop, "session/logout", {"session_id": "guessed"}).json() == NOT_FOUND


def test_a_tenant_may_let_only_the_creator_log_a_session_out(
    state: MosaicState, http: httpx.Client, shop: dict[str, str], forum: dict[str, str]
) -> None:
    session = {"session_id": state.login("ada", "shop").session_id}
    state.policy.change(only_creator_may_log_out=True)

    assert post(http, forum, "session/logout", session).status_code == 403
    assert post(http, shop, "session/logout", session).status_code == 204


def test_listing_a_users_sessions_extends_none(
    state: MosaicState, http: httpx.Client, shop: dict[str, str]
) -> None:
    session_id = state.login("ada", "shop").session_id
    state.login("bob", "shop")
    before = state.live_sessions("ada")

    listed = http.get(f"{AUTH}/users/ada/sessions", headers=shop).json()

    assert [row["session_id"] for row in listed] == [session_id]
    began, ends = (
        datetime.fromisoformat(listed[0][name]) for name in ("start_time", "expiration_time")
    )
    assert ends - began == timedelta(days=14)
    assert state.live_sessions("ada") == before


@pytest.mark.parametrize(("unit", "a_second"), [("seconds", 1), ("milliseconds", 1000)])
def test_listed_times_can_be_written_as_numbers(
    state: MosaicState, http: httpx.Client, shop: dict[str, str], unit: str, a_second: int
) -> None:
    state.login("ada", "shop")
    state.policy.change(session_times=unit)

    (listed,) = http.get(f"{AUTH}/users/ada/sessions", headers=shop).json()

    lasts = listed["expiration_time"] - listed["start_time"]
    assert lasts == 14 * DAY_SECONDS * a_second


def test_all_backend_sessions_of_a_user_end_together(
    state: MosaicState, http: httpx.Client, shop: dict[str, str]
) -> None:
    for user in ("ada", "ada", "bob"):
        state.login(user, "shop")
    state.open_frontend_session("ada")

    response = http.delete(f"{AUTH}/users/ada/sessions", headers=shop)

    assert response.status_code == 204
    assert {session.user_id for session in state.live_sessions()} == {"bob"}
    assert state.count_frontend_sessions("ada") == 1


def test_frontend_sessions_end_apart_from_backend_ones(
    state: MosaicState, http: httpx.Client, shop: dict[str, str]
) -> None:
    session_id = state.login("ada", "shop").session_id
    state.open_frontend_session("ada")
    state.open_frontend_session("ada")

    response = http.delete("/cis/v1/sessions/ada", headers=shop)

    assert (response.status_code, response.json()) == (200, {"result": {"deleted_count": 2}})
    assert state.is_live(session_id)


def test_the_sessions_of_an_unknown_user_are_not_found(
    http: httpx.Client, shop: dict[str, str]
) -> None:
    assert http.get(f"{AUTH}/users/eve/sessions", headers=shop).status_code == 404


def test_a_password_opens_a_session(
    state: MosaicState, http: httpx.Client, shop: dict[str, str]
) -> None:
    fields = {"username": "ada", "password": "pw"}

    body = post(http, shop, "password/authenticate", fields).json()

    assert len(body["session_id"]) >= 32
    assert state.is_live(body["session_id"])
    assert claims(http, body["id_token"])["amr"] == ["pwd"]


def test_a_wrong_password_opens_nothing(
    state: MosaicState, http: httpx.Client, shop: dict[str, str]
) -> None:
    response = post(http, shop, "password/authenticate", {"username": "ada", "password": "no"})

    assert response.status_code == 400
    assert state.live_sessions() == []


def test_a_passcode_adds_a_second_factor_and_two_more_weeks(
    state: MosaicState, http: httpx.Client, shop: dict[str, str]
) -> None:
    session_id = state.login("ada", "shop").session_id
    state.clock.advance(1000)
    whom = {"identifier": "ada@example.com", "identifier_type": "email"}

    sent = post(http, shop, "otp/send", {"channel": "email", **whom})
    code = {"passcode": state.outbox.latest("ada@example.com").code, "session_id": session_id}
    body = post(http, shop, "otp/authenticate", {**whom, **code}).json()
    replayed = post(http, shop, "otp/authenticate", {**whom, **code})

    told = claims(http, body["id_token"])
    assert sent.status_code == 200
    assert body["session_id"] == session_id
    assert told["amr"] == ["pwd", "eotp", "mfa"]
    assert told["auth_time"] == told["iat"]
    assert replayed.status_code == 400
    lasts = state.live_sessions()[0].expires_at - state.clock.now()
    assert lasts == pytest.approx(14 * DAY_SECONDS, abs=5)


def test_an_email_link_opens_a_session(
    state: MosaicState, http: httpx.Client, shop: dict[str, str]
) -> None:
    link = {"email": "ada@example.com", "redirect_uri": "https://shop.example/back"}

    post(http, shop, "link/email/send", link)
    message = state.outbox.latest("ada@example.com")
    body = post(http, shop, "link/email/authenticate", {"code": message.code}).json()

    assert message.link == f"https://shop.example/back?code={message.code}"
    assert claims(http, body["id_token"])["amr"] == ["eml"]


def test_a_code_that_came_too_late_is_refused(
    state: MosaicState, http: httpx.Client, shop: dict[str, str]
) -> None:
    link = {"email": "ada@example.com", "redirect_uri": "https://shop.example/back"}
    post(http, shop, "link/email/send", link)
    code = state.outbox.latest("ada@example.com").code

    state.clock.advance(601)

    assert post(http, shop, "link/email/authenticate", {"code": code}).status_code == 400


def test_a_session_takes_no_factor_from_another_user(
    state: MosaicState, http: httpx.Client, shop: dict[str, str]
) -> None:
    session_id = state.login("bob", "shop").session_id
    fields = {"username": "ada", "password": "pw", "session_id": session_id}

    response = post(http, shop, "password/authenticate", fields)

    assert response.status_code == 400
    assert state.live_sessions()[0].amr == ["pwd"]


def test_the_same_factor_twice_is_no_mfa(state: MosaicState, http: httpx.Client) -> None:
    session_id = state.login("ada", "shop").session_id

    again = state.add_factor(session_id, "shop", "pwd")
    other = state.add_factor(session_id, "forum", "webauthn")

    assert claims(http, again.id_token)["amr"] == ["pwd"]
    assert claims(http, other.id_token)["amr"] == ["pwd", "webauthn", "mfa"]


def test_a_rotated_key_signs_and_the_old_one_stays(state: MosaicState, http: httpx.Client) -> None:
    old = state.login("ada", "shop").id_token

    kid = state.rotate_keys()

    keys = http.get("/cis/oidc/jwks").json()["keys"]
    assert [key["kid"] for key in keys][1:] == [kid]
    assert all("d" not in key for key in keys)
    for token in (old, state.login("ada", "shop").id_token):
        assert claims(http, token)["sub"] == "ada"


def test_a_key_can_be_rotated_out_at_once(state: MosaicState, http: httpx.Client) -> None:
    kid = state.rotate_keys(keep_old=False)

    (key,) = http.get("/cis/oidc/jwks").json()["keys"]
    assert key["kid"] == kid


def test_a_minted_token_says_what_the_test_wants(state: MosaicState, http: httpx.Client) -> None:
    state.policy.change(signing_algorithm="PS256")

    told = claims(http, state.mint_id_token(sub="eve", amr=["sms"], acr=None))

    assert (told["sub"], told["amr"], told["aud"]) == ("eve", ["sms"], "shop")
    assert "acr" not in told


def test_a_misspelt_policy_is_refused(state: MosaicState) -> None:
    with pytest.raises(ValueError, match="isuer"):
        state.policy.change(isuer="x")
