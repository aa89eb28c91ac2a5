"""The calls about logins and browsers: what is asked, on which queue, and how answers are read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import redis

from session_client import (
    Authenticated,
    BeginSocial,
    BeginWebauthn,
    Code,
    CodeIssued,
    CodeSent,
    ConfigurationError,
    Denied,
    IssueLink,
    IssueOtp,
    Link,
    LinkIssued,
    LinkSent,
    LoginRequired,
    LogoutReceipt,
    NotAcknowledged,
    NotAnswered,
    Password,
    Reason,
    SealBroken,
    SendLink,
    SendOtp,
    SessionClient,
    SocialBegun,
    SocialVerified,
    Ticket,
    VerifySocial,
    WebauthnBegun,
    Wishes,
    challenge_of,
    contract,
    new_verifier,
)
from tests.integration.client.client_rig import KEY, Content, Responder, answer_to, sealed

CANARY = "canary-7f3a"
TOKEN = "msb1_" + "x" * 43
GIVEN = {"access_token": "a", "token_type": "bearer", "expires_in": 60}
ENDS_AT = "2026-11-16T08:00:00Z"
HANDLE: Content = {"login": "a-handle", "expires_in": 600}


@pytest.fixture
def client(redis_url: str) -> Iterator[SessionClient]:
    with SessionClient(broker_url=redis_url, app_id="shop", app_key=KEY) as client:
        yield client


@dataclass
class Asked:
    """What a call sent, and what it returned."""

    request: Content
    answer: Any


def asking(
    client: SessionClient,
    redis_url: str,
    call: Callable[[SessionClient], Any],
    **answer: Any,
) -> Asked:
    with Responder(redis_url, lambda request: [sealed(answer_to(request, **answer))]) as worker:
        answered = call(client)
    (request,) = worker.requests
    return Asked(request, answered)


FIRST_STEPS: list[tuple[Any, Content, Any]] = [
    (SendOtp("sms", "+1", "phone_number"), {}, CodeSent(**HANDLE)),
    (IssueOtp("ada", "user_id"), {"code": "123456"}, CodeIssued(**HANDLE, code="123456")),
    (SendLink("https://a.example/in", "a@a.example", "email"), {"state": "s"},
     LinkSent(**HANDLE, state="s")),
    (IssueLink("https://a.example/in", "ada", "user_id"), {"state": "s", "code": "c"},
     LinkIssued(**HANDLE, state="s", code="c")),
    (BeginSocial("google", "https://a.example/in"),
     {"state": "s", "authorization_url": "https://g.example"},
     SocialBegun(**HANDLE, state="s", authorization_url="https://g.example")),
    (VerifySocial("c", "s"), {"claims": {"sub": "g-1"}},
     SocialVerified(**HANDLE, claims={"sub": "g-1"})),
    (BeginWebauthn(), {"options": {"challenge": "c"}},
     WebauthnBegun(**HANDLE, options={"challenge": "c"})),
]  # fmt: skip


@pytest.mark.parametrize(
    ("step", "data", "begun"), FIRST_STEPS, ids=lambda each: type(each).__name__
)
def test_a_first_step_gives_its_handle_and_what_to_show(
    client: SessionClient, redis_url: str, step: Any, data: Content, begun: object
) -> None:
    login = "an-earlier-handle" if step.needs_login else None

    asked = asking(
        client,
        redis_url,
        lambda client: client.start(
            step, login=login, wishes=Wishes(user_agent="Firefox"), timeout=60
        ),
        data=HANDLE | data | {"of a newer worker": 1},
    )

    assert asked.request["task"] == "sessions.start"
    assert asked.request["payload"] == {
        "method": step.method, "step": step.step, "fields": step.fields(),
        "client_attributes": {"user_agent": "Firefox"},
    } | ({"login": login} if login else {})  # fmt: skip
    assert asked.answer == begun


def test_a_first_step_that_is_refused_has_begun_nothing(
    client: SessionClient, redis_url: str
) -> None:
    asked = asking(
        client, redis_url, lambda client: client.start(SendOtp("sms"), step_up=TOKEN, timeout=60),
        verdict="access_denied", reason="too_many_attempts", retry_after=30,
    )  # fmt: skip

    assert asked.request["payload"]["step_up"] == TOKEN
    assert asked.request["payload"]["fields"] == {"channel": "sms"}
    assert asked.answer == Denied(Reason.TOO_MANY_ATTEMPTS, 30)


@pytest.mark.parametrize(
    ("data", "timeout"),
    # What is no object may be forged: the client waits for the true answer.
    [({}, 60), ({"login": "a-handle"}, 60), (None, 60), ([1], 5)],
)
def test_a_first_step_without_its_handle_is_no_answer(
    client: SessionClient, redis_url: str, data: Any, timeout: float
) -> None:
    def call(client: SessionClient) -> None:
        with pytest.raises(SealBroken, match="shape"):
            client.start(BeginWebauthn(), timeout=timeout)

    asking(client, redis_url, call, data=data)


def test_a_login_asks_once_with_all_that_it_was_given(
    client: SessionClient, redis_url: str
) -> None:
    wishes = Wishes(resource="r", claims={"a": 1}, org_id="o", user_agent="u", ip_address="::1")

    asked = asking(
        client,
        redis_url,
        lambda client: client.authenticate(
            Password("ada", "p\x00ssword"),
            replaces=TOKEN,
            known_browser="a-mark",
            device_id="phone",
            wishes=wishes,
            request_id="r" * 16,
            timeout=60,
        ),
        verdict="authenticated",
        data={
            "tokens": GIVEN, "user_id": "ada", "session_ref": "ref", "amr": ["pwd"],
            "expires_at": "2026-11-16T08:00:00Z", "browser_token": TOKEN,
            "known_browser": "a-newer-mark",
        },
    )  # fmt: skip

    assert asked.request["request_id"] == "r" * 16
    assert asked.request["payload"] == {
        "method": "password",
        "fields": {"username": "ada", "password": "p\x00ssword", "username_type": "username"},
        "replaces": TOKEN, "known_browser": "a-mark", "device_id": "phone", "resource": "r",
        "claims": {"a": 1}, "org_id": "o",
        "client_attributes": {"user_agent": "u", "ip_address": "::1"},
    }  # fmt: skip
    login: Authenticated = asked.answer
    assert (login.user_id, login.session_ref, login.amr) == ("ada", "ref", ("pwd",))
    assert (login.browser_token, login.known_browser) == (TOKEN, "a-newer-mark")


@pytest.mark.parametrize(
    ("proof", "method"), [(Code("123456"), "otp"), (Link("c", "s"), "link")], ids=["code", "link"]
)
def test_a_second_step_takes_the_handle_along_and_in_a_step_up_the_token_too(
    client: SessionClient, redis_url: str, proof: Any, method: str
) -> None:
    asked = asking(
        client, redis_url,
        lambda client: client.authenticate(proof, login="a-handle", step_up=TOKEN, timeout=60),
        verdict="access_denied", reason="invalid_credentials",
    )  # fmt: skip

    payload = asked.request["payload"]
    assert (payload["method"], payload["login"], payload["step_up"]) == (method, "a-handle", TOKEN)
    assert asked.answer == Denied(Reason.INVALID_CREDENTIALS)


def test_a_login_that_is_not_answered_is_not_asked_again(
    client: SessionClient, redis_url: str
) -> None:
    with redis.Redis.from_url(redis_url) as admin:
        with pytest.raises(NotAnswered):
            client.authenticate(Password("ada", "p"), timeout=1.5)

        assert admin.llen("login") == 1


def test_a_ticket_is_asked_for_with_the_challenge_and_redeemed_with_the_verifier(
    client: SessionClient, redis_url: str
) -> None:
    verifier = new_verifier()
    assert contract.is_verifier(verifier)
    assert contract.is_challenge(challenge_of(verifier))
    assert verifier != new_verifier()

    issued = asking(
        client, redis_url,
        lambda client: client.ticket(
            browser_token=TOKEN, for_app="forum", challenge=challenge_of(verifier), timeout=60
        ),
        data={"ticket": "mst1_t", "transfer_url": "https://f.example/t", "expires_in": 60},
    )  # fmt: skip
    redeemed = asking(
        client, redis_url,
        lambda client: client.silent_auth(
            ticket="mst1_t", verifier=verifier, replaces=TOKEN, timeout=60
        ),
        verdict="authenticated",
        data={"tokens": GIVEN, "user_id": "ada", "session_ref": "ref", "browser_token": TOKEN},
    )  # fmt: skip

    assert issued.request["payload"]["for_app"] == "forum"
    ticket: Ticket = issued.answer
    assert (ticket.ticket, ticket.transfer_url, ticket.expires_in) == (
        "mst1_t", "https://f.example/t", 60
    )  # fmt: skip
    assert redeemed.request["payload"] == {
        "ticket": "mst1_t", "verifier": verifier, "replaces": TOKEN
    }  # fmt: skip
    assert redeemed.answer.browser_token == TOKEN


def test_the_challenge_is_that_of_pkce() -> None:
    # RFC 7636, appendix B
    verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"

    assert challenge_of(verifier) == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"


def test_a_user_is_revoked_until_it_is_acknowledged_and_mosaic_has_confirmed(
    client: SessionClient, redis_url: str
) -> None:
    with pytest.raises(NotAcknowledged) as caught:
        client.revoke_user("ada", timeout=0.3)
    request_id = caught.value.request_id
    states = iter(["pending", "pending", "confirmed"])

    def answers(request: Content) -> list[bytes]:
        state = "pending" if request["task"] == "sessions.revoke_user" else next(states)
        return [sealed(answer_to(request, data={"receipt_id": "x", "idp_user": state}))]

    with Responder(redis_url, answers) as worker:
        receipt = client.revoke_user("ada", request_id=request_id, wait="idp", timeout=60)

    tasks = [request["task"] for request in worker.requests]
    assert set(tasks[:-3]) == {"sessions.revoke_user"}
    assert tasks[-3:] == ["sessions.receipt"] * 3
    assert {request["request_id"] for request in worker.requests[:-3]} == {request_id}
    assert worker.requests[0]["payload"] == {"user_id": "ada"}
    assert receipt.idp_user == "confirmed"


@pytest.mark.parametrize(
    ("names", "payload"),
    [
        ({"browser_token": TOKEN, "device_id": "d"}, {"browser_token": TOKEN, "device_id": "d"}),
        ({"session_ref": "r", "user_id": "ada"}, {"session_ref": "r", "user_id": "ada"}),
        ({"user_id": "ada"}, {"user_id": "ada"}),
    ],
)
def test_a_silent_authentication_names_its_session_as_it_was_told(
    client: SessionClient, redis_url: str, names: Content, payload: Content
) -> None:
    asked = asking(
        client, redis_url, lambda client: client.silent_auth(**names, timeout=60),
        verdict="login_required", reason="token_replaced",
    )  # fmt: skip

    assert asked.request["payload"] == payload
    assert asked.answer.reason == Reason.TOKEN_REPLACED


def test_a_browser_without_a_token_is_nobodys_and_nobody_is_asked(
    client: SessionClient, redis_url: str
) -> None:
    silent = client.silent_auth(browser_token=None, device_id="phone", max_age=60)
    ticket = client.ticket(browser_token=None, for_app="forum", challenge="c" * 43)
    receipt = client.logout(browser_token=None, wait="all")

    assert silent == LoginRequired(Reason.NO_SESSION)
    assert ticket == LoginRequired(Reason.NO_SESSION)
    assert receipt == LogoutReceipt(sessions_ended=0, receipt_id=None)
    with redis.Redis.from_url(redis_url) as admin:
        assert admin.keys() == []


@pytest.mark.parametrize(
    "names",
    [
        {},
        {"browser_token": None, "user_id": "ada"},
        {"browser_token": TOKEN, "user_id": "ada"},
        {"browser_token": None, "ticket": "t", "verifier": "v"},
        {"session_ref": "r"},
        {"ticket": "t"},
        {"browser_token": TOKEN, "replaces": TOKEN},
    ],
    ids=str,
)
def test_a_session_named_in_no_way_or_in_two_is_the_callers_mistake(
    client: SessionClient, names: Content
) -> None:
    with pytest.raises(ConfigurationError):
        client.silent_auth(**names)


@pytest.mark.parametrize(
    "names",
    [{}, {"browser_token": None, "user_id": "ada"}, {"browser_token": None, "everywhere": True}],
)
def test_a_logout_of_nothing_in_particular_is_the_callers_mistake(
    client: SessionClient, names: Content
) -> None:
    with pytest.raises(ConfigurationError):
        client.logout(**names)


def test_a_logout_by_browser_token_needs_nothing_else(
    client: SessionClient, redis_url: str
) -> None:
    asked = asking(
        client, redis_url, lambda client: client.logout(browser_token=TOKEN, timeout=60),
        reason="no_session", data={"sessions_ended": 0},
    )  # fmt: skip

    assert asked.request["payload"] == {"scope": "session", "browser_token": TOKEN}
    assert asked.answer == LogoutReceipt()


def test_a_registration_says_what_it_replaces(client: SessionClient, redis_url: str) -> None:
    asked = asking(
        client, redis_url,
        lambda client: client.register(
            user_id="ada", session_id="s", id_token="t", replaces=TOKEN, timeout=60
        ),
        data={"session_ref": "ref", "expires_at": ENDS_AT, "browser_token": TOKEN},
    )  # fmt: skip

    assert asked.request["payload"]["replaces"] == TOKEN
    assert asked.answer.browser_token == TOKEN


SECRET_CALLS: list[Callable[[SessionClient], Any]] = [
    lambda client: client.start(VerifySocial(CANARY, CANARY), login=CANARY, timeout=1.0),
    lambda client: client.start(SendOtp("sms"), step_up=CANARY, timeout=1.0),
    lambda client: client.authenticate(
        Password("ada", CANARY), replaces=CANARY, known_browser=CANARY, timeout=1.0
    ),
    lambda client: client.silent_auth(browser_token=CANARY, timeout=1.0),
    lambda client: client.silent_auth(
        ticket=CANARY, verifier=CANARY + "v" * 43, replaces=CANARY, timeout=1.0
    ),
    lambda client: client.ticket(
        browser_token=CANARY, for_app="forum", challenge="c" * 43, timeout=1.0
    ),
    lambda client: client.logout(browser_token=CANARY, timeout=1.0),
    lambda client: client.register(
        user_id="ada", session_id=CANARY, id_token=CANARY, replaces=CANARY, timeout=1.0
    ),
]


@pytest.mark.parametrize("call", SECRET_CALLS)
def test_no_secret_of_a_call_is_in_clear_on_the_broker_or_in_its_error(
    client: SessionClient, redis_url: str, call: Callable[[SessionClient], Any]
) -> None:
    with pytest.raises((NotAnswered, NotAcknowledged)) as caught:
        call(client)

    with redis.Redis.from_url(redis_url) as admin:
        (key,) = admin.keys()
        lying: Any = admin.lrange(key, 0, -1)
    assert lying
    assert CANARY not in f"{lying}{caught.value!r}{caught.value}"
