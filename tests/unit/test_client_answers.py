from __future__ import annotations

import base64
import json
import pickle
from datetime import timedelta
from typing import Any

import pytest

from session_client import (
    AppKey,
    Authenticate,
    Authenticated,
    CodeSent,
    Denied,
    InvalidRequest,
    IssueTicket,
    LoginRequired,
    Logout,
    OutcomeUnknown,
    Password,
    Reason,
    Register,
    Registered,
    Request,
    SealBroken,
    SendOtp,
    SilentAuth,
    Start,
    Status,
    StepUpRequired,
    Ticket,
    Tokens,
    Unauthorized,
    Verdict,
    WorkerUnavailable,
    methods,
    sealing,
)
from session_client._core import call, complaints, message, opening
from session_client._core.message import Message
from session_client.login_steps import FirstStep

KEY = AppKey("k1", bytes(range(32)))
REQUEST_ID = "r" * 16
STATUS = Status(user_id="ada", request_id=REQUEST_ID)
ASKED = message.seal(STATUS, app_id="shop", key=KEY)
SILENTLY = SilentAuth(user_id="ada", request_id=REQUEST_ID)
LOGIN = Authenticate(Password("ada", "p"), request_id=REQUEST_ID)
REGISTER = Register(user_id="ada", session_id="s", id_token="t", request_id=REQUEST_ID)
TICKET = IssueTicket(browser_token="b", for_app="forum", challenge="c" * 43)
LOGOUT = Logout(user_id="ada", session_ref="ref")
START: Start[CodeSent] = Start(SendOtp("sms", "+1", "phone_number"))
TOKENS: dict[str, Any] = {"access_token": "a-1", "token_type": "bearer", "expires_in": 60}
SIGNED_IN = {"user_id": "ada", "session_ref": "ref", "tokens": TOKENS}


def content(**changes: Any) -> dict[str, Any]:
    return {
        "v": 1,
        "task": "sessions.status",
        "app_id": "shop",
        "request_id": REQUEST_ID,
        "answered_at": "2026-11-02T08:00:00Z",
        "verdict": "ok",
        **changes,
    }


def opened(raw: bytes | str, request: Request[Any] = STATUS) -> Any:
    """What the call that asked *request* comes to."""
    raw = raw if isinstance(raw, bytes) else raw.encode()
    asked = ASKED if request is STATUS else Message(request.task, "shop", REQUEST_ID, "")
    answer = opening.answered(asked, raw, KEY)
    return call.value_of(request, call.about_people(asked, answer))


def answered(request: Request[Any] = STATUS, **changes: Any) -> Any:
    told = content(**{"task": request.task.value, **changes})
    return opened(sealing.seal(KEY, sealing.Kind.ANSWER, told), request)


def token_of(**claims: Any) -> str:
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    return f"a-head.{payload}.a-signature"


def test_who_is_signed_in_is_read_and_secrets_are_shown_to_nobody() -> None:
    id_token = token_of(sub="ada", email="ada@example.com")

    answer = answered(
        SILENTLY,
        verdict="authenticated",
        data={
            **SIGNED_IN,
            "tokens": {**TOKENS, "id_token": id_token},
            "amr": ["pwd"],
            "authenticated_at": "2026-11-02T07:00:00Z",
            "expires_at": "2026-11-03T08:00:00Z",
        },
    )

    assert answer.tokens == Tokens(**TOKENS, id_token=id_token)
    assert answer.claims == {"sub": "ada", "email": "ada@example.com"}
    # By the worker's clock on both sides: this machine's is years away.
    assert (answer.auth_age, answer.expires_in, answer.amr) == (3600.0, 86_400.0, ("pwd",))
    for secret in ("a-1", id_token, "ada@example.com"):
        assert secret not in repr(answer)


def test_what_a_step_up_needs_is_read() -> None:
    answer = answered(
        SILENTLY,
        verdict="interaction_required",
        reason="amr_missing",
        data={"user_id": "ada", "session_ref": "ref", "missing_amr": ["otp"],
              "max_age_exceeded": True},
    )  # fmt: skip

    assert answer == StepUpRequired(
        reason=Reason.AMR_MISSING, user_id="ada", session_ref="ref", missing_amr=("otp",),
        max_age_exceeded=True,
    )  # fmt: skip


@pytest.mark.parametrize("request_made", [SILENTLY, LOGIN, REGISTER, TICKET, START], ids=repr)
def test_nobody_signed_in_is_a_value_of_every_call_about_people(request_made: Any) -> None:
    answer = answered(request_made, verdict="login_required", reason="logged_out")

    assert answer == LoginRequired(Reason.LOGGED_OUT)


@pytest.mark.parametrize("request_made", [LOGIN, START], ids=repr)
def test_a_login_that_is_not_accepted_is_a_value(request_made: Any) -> None:
    told = {"verdict": "access_denied", "reason": "too_many_attempts", "retry_after": 30}

    assert answered(request_made, **told) == Denied(Reason.TOO_MANY_ATTEMPTS, 30)


@pytest.mark.parametrize("request_made", [STATUS, SILENTLY, LOGIN, REGISTER, LOGOUT], ids=repr)
@pytest.mark.parametrize(
    ("verdict", "reason", "error"),
    [
        ("temporarily_unavailable", "store_unavailable", WorkerUnavailable),
        ("temporarily_unavailable", "outcome_unknown", OutcomeUnknown),
        ("invalid_request", "invalid_payload", InvalidRequest),
        ("unauthorized", "not_permitted", Unauthorized),
    ],
)
def test_what_is_about_machines_is_an_exception(
    request_made: Any, verdict: str, reason: str, error: type[Any]
) -> None:
    with pytest.raises(error) as caught:
        answered(request_made, verdict=verdict, reason=reason, retry_after=2.5, detail="why")

    assert caught.value.request_id == REQUEST_ID
    if error is WorkerUnavailable:
        assert (caught.value.reason, caught.value.retry_after) == (reason, 2.5)
    elif error is not OutcomeUnknown:
        assert str(caught.value) == f"{reason} (why)"
    same = pickle.loads(pickle.dumps(caught.value))  # noqa: S301 - our own
    assert (type(same), same.args, same.__dict__) == (
        error, caught.value.args, caught.value.__dict__
    )  # fmt: skip


def test_a_refusal_is_an_error_in_the_log_once_a_minute_and_reason(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(complaints, "_told_at", {})
    for reason in ("wrong_key", "wrong_key", "unknown_app"):
        with pytest.raises(Unauthorized):
            answered(verdict="unauthorized", reason=reason)

    assert [(record.levelname, record.message) for record in caplog.records] == [
        ("ERROR", f"the worker refuses sessions.status: unauthorized: {reason}")
        for reason in ("wrong_key", "unknown_app")
    ]


def test_what_lets_nobody_in_counts_as_false() -> None:
    weak = StepUpRequired(reason="amr_missing", user_id="ada", session_ref="r", browser_token="b")

    for no in (weak, LoginRequired("no_session"), Denied("invalid_credentials")):
        assert not no
    yes = Authenticated(
        user_id="ada",
        session_ref="r",
        tokens=Tokens(access_token="t", token_type="Bearer", expires_in=60),
    )
    assert bool(yes)


def test_sessions_are_read() -> None:
    session = {
        "session_ref": "ref",
        "apps": ["forum", "shop"],
        "amr": ["pwd"],
        "device_id": None,
        "authenticated_at": "2026-11-02T08:00:00Z",
        "expires_at": "2026-11-16T08:00:00Z",
    }

    (info,) = answered(data={"sessions": [session]})

    assert info.apps == ("forum", "shop")
    assert info.expires_at - info.authenticated_at == timedelta(days=14)


@pytest.mark.parametrize(
    ("request_made", "changes"),
    [
        (REGISTER, {"data": {"session_ref": "r", "expires_at": "2026-11-03T08:00:00Z", "new": 1}}),
        (SILENTLY, {"verdict": "authenticated",
                    "data": {**SIGNED_IN, "tokens": {**TOKENS, "new": 1}, "new": 1}}),
        (STATUS, {"data": {"sessions": [], "new": 1}}),
        (LOGOUT, {"data": {"receipt_id": "x", "new": 1}}),
    ],
    ids=["register", "silent_auth", "status", "logout"],
)  # fmt: skip
def test_fields_of_a_newer_worker_are_left_out(request_made: Any, changes: dict[str, Any]) -> None:
    known = {name: value for name, value in changes.items() if name != "data"}
    data = {name: value for name, value in changes["data"].items() if name != "new"}

    assert answered(request_made, **changes, new=1) == answered(request_made, **known, data=data)


def test_a_reason_of_a_newer_worker_is_passed_on() -> None:
    answer = answered(SILENTLY, verdict="login_required", reason="moon_in_gemini")

    assert answer == LoginRequired("moon_in_gemini")


@pytest.mark.parametrize(
    ("request_made", "changes"),
    [
        (STATUS, {"verdict": "perhaps"}),
        (STATUS, {"verdict": None}),
        (STATUS, {"verdict": "authenticated"}),
        (STATUS, {"answered_at": "soon"}),
        (REGISTER, {"data": [1]}),
        (REGISTER, {"data": {"session_ref": "ref", "expires_at": "soon"}}),
        (SILENTLY, {"verdict": "authenticated", "data": {}}),
        (SILENTLY, {"verdict": "authenticated", "data": {**SIGNED_IN, "tokens": "text"}}),
        (SILENTLY, {"verdict": "authenticated",
                    "data": {**SIGNED_IN, "tokens": {**TOKENS, "id_token": "no token"}}}),
        (SILENTLY, {"verdict": "access_denied"}),
        (STATUS, {"data": {"sessions": [{}]}}),
        (STATUS, {"data": {"sessions": 1}}),
        (LOGOUT, {"data": {"sessions_ended": "many"}}),
        (LOGOUT, {"verdict": "login_required"}),
    ],
    ids=range(14),
)  # fmt: skip
def test_an_answer_of_another_shape_is_an_error_of_ours(
    request_made: Any, changes: dict[str, Any]
) -> None:
    with pytest.raises(SealBroken, match="shape"):
        answered(request_made, **changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"request_id": "q" * 16},
        {"app_id": "forum"},
        {"task": "sessions.logout"},
        {"request_id": None},
    ],
)
def test_an_answer_to_another_request_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(SealBroken, match="another request"):
        answered(**changes)


def test_an_answer_of_another_version_is_refused() -> None:
    with pytest.raises(SealBroken, match="version"):
        answered(v=2)


def test_a_request_sent_back_is_no_answer() -> None:
    with pytest.raises(SealBroken):
        opened(ASKED.envelope)


def test_a_refusal_in_clear_is_believed() -> None:
    refusal = {"verdict": "unauthorized", "reason": "unknown_app", "request_id": REQUEST_ID}

    with pytest.raises(Unauthorized) as caught:
        opened(json.dumps(refusal), LOGOUT)

    assert caught.value.reason == Reason.UNKNOWN_APP


@pytest.mark.parametrize("verdict", [v for v in Verdict if v is not Verdict.UNAUTHORIZED])
def test_nothing_but_a_refusal_is_believed_in_clear(verdict: Verdict) -> None:
    with pytest.raises(SealBroken, match="only refuse"):
        opened(json.dumps(content(verdict=verdict.value)))


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"{", "not an answer"),
        (b"{}", "only refuse"),
        (b"\xff\x00", "compact JWE"),
        (b"", "compact JWE"),
        (b"[1]", "compact JWE"),
        (json.dumps({"verdict": "unauthorized", "request_id": "q" * 16}).encode(), "only refuse"),
        (b'{"verdict":"unauthorized","a":' + b"[" * 30_000 + b"]" * 30_000 + b"}", "not an answer"),
        (b'{"verdict":"unauthorized","a":"' + b"a" * 64 * 1024 + b'"}', "too large"),
    ],
    ids=range(8),
)
def test_what_is_no_answer_is_refused(raw: bytes, why: str) -> None:
    with pytest.raises(SealBroken, match=why):
        opened(raw)


@pytest.mark.parametrize("reason", [{"a": 1}, ["x"], "x" * 100, "x\nERROR y", 5, None])
def test_a_reason_in_clear_is_a_short_word_or_nothing(reason: object) -> None:
    refusal = {"verdict": "unauthorized", "reason": reason, "request_id": REQUEST_ID}

    with pytest.raises(Unauthorized) as caught:
        opened(json.dumps(refusal))

    assert caught.value.reason is None


SECRETS = ["access_token", "id_token", "refresh_token", "browser_token", "known_browser", "ticket",
           "login", "state", "code", "authorization_url", "claims", "options"]  # fmt: skip
KINDS: list[type[Any]] = [Authenticated, StepUpRequired, Registered, Ticket, Tokens]
KINDS += [step.gives for step in methods.TABLE if issubclass(step, FirstStep)]


@pytest.mark.parametrize("kind", KINDS)
def test_no_secret_of_an_answer_is_in_its_repr(kind: type[Any]) -> None:
    told: dict[str, Any] = dict.fromkeys(kind.__dataclass_fields__, "dull")
    told |= {name: "canary-7f3a" for name in SECRETS if name in told}

    assert "canary" not in repr(kind(**told))
