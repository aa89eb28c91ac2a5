from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_client import (
    Answer,
    AppKey,
    Authentication,
    LogoutReceipt,
    Reason,
    Registration,
    SealBroken,
    SessionList,
    Started,
    Status,
    Ticket,
    Tokens,
    Verdict,
    messages,
    methods,
    sealing,
    started,
)
from session_client.login_steps import FirstStep
from session_client.messages import Message

KEY = AppKey("k1", bytes(range(32)))
REQUEST_ID = "r" * 16
ASKED = messages.seal(
    Status(user_id="ada"),
    app_id="shop",
    key=KEY,
    request_id=REQUEST_ID,
    lifetime=timedelta(seconds=5),
)


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


def opened(raw: bytes | str, answer_type: type[Answer] = Answer, asked: Message = ASKED) -> Any:
    raw = raw if isinstance(raw, bytes) else raw.encode()
    return messages.open_answer(asked, raw, KEY, answer_type)


def answered(answer_type: type[Answer] = Answer, **changes: Any) -> Any:
    return opened(sealing.seal(KEY, sealing.Kind.ANSWER, content(**changes)), answer_type)


def test_tokens_are_read_and_shown_to_nobody() -> None:
    tokens = {"access_token": "a-1", "token_type": "bearer", "expires_in": 60, "id_token": "i-1"}

    answer = answered(
        Authentication,
        verdict="authenticated",
        data={"tokens": tokens, "session_ref": "ref", "expires_at": "2026-11-16T08:00:00Z"},
    )

    assert answer.is_yes
    assert answer.tokens == Tokens(
        access_token="a-1", token_type="bearer", expires_in=60, id_token="i-1"
    )
    assert answer.expires_at == datetime(2026, 11, 16, 8, tzinfo=UTC)
    assert "a-1" not in repr(answer)
    assert "i-1" not in repr(answer)


def test_what_a_step_up_needs_is_read() -> None:
    answer = answered(
        Authentication,
        verdict="interaction_required",
        reason="amr_missing",
        data={"missing_amr": ["otp"], "max_age_exceeded": True, "session_ref": "ref"},
    )

    assert not answer.is_yes
    assert answer.reason == Reason.AMR_MISSING
    assert (answer.missing_amr, answer.max_age_exceeded) == (("otp",), True)
    assert (answer.session_ref, answer.tokens) == ("ref", None)


def test_sessions_are_read() -> None:
    session = {
        "session_ref": "ref",
        "apps": ["forum", "shop"],
        "amr": ["pwd"],
        "device_id": None,
        "authenticated_at": "2026-11-02T08:00:00Z",
        "expires_at": "2026-11-16T08:00:00Z",
    }

    (info,) = answered(SessionList, data={"sessions": [session]}).sessions

    assert info.apps == ("forum", "shop")
    assert info.expires_at - info.authenticated_at == timedelta(days=14)


@pytest.mark.parametrize(
    "answer_type",
    [Answer, Registration, Authentication, Ticket, SessionList, LogoutReceipt, Started],
)
def test_every_kind_of_answer_reads_a_refusal_without_data(answer_type: type[Answer]) -> None:
    answer = answered(answer_type, verdict="temporarily_unavailable", retry_after=2.5, detail="why")

    assert not answer.is_yes
    assert (answer.retry_after, answer.detail) == (2.5, "why")


@pytest.mark.parametrize(
    ("answer_type", "data"),
    [
        (Registration, {"session_ref": "ref", "new": 1}),
        (Authentication, {"tokens": {"access_token": "a", "token_type": "bearer",
                                     "expires_in": 1, "new": 1}, "new": 1}),
        (SessionList, {"sessions": [], "new": 1}),
        (LogoutReceipt, {"receipt_id": "x", "new": 1}),
    ],
)  # fmt: skip
def test_fields_of_a_newer_worker_are_left_out(
    answer_type: type[Answer], data: dict[str, Any]
) -> None:
    assert answered(answer_type, data=data, new=1).verdict is Verdict.OK


def test_a_reason_of_a_newer_worker_is_passed_on() -> None:
    assert answered(verdict="login_required", reason="moon_in_gemini").reason == "moon_in_gemini"


@pytest.mark.parametrize(
    ("answer_type", "changes"),
    [
        (Answer, {"verdict": "perhaps"}),
        (Answer, {"verdict": None}),
        (Registration, {"data": [1]}),
        (Registration, {"data": {"expires_at": "soon"}}),
        (Authentication, {"data": {"tokens": {"access_token": "a"}}}),
        (Authentication, {"data": {"tokens": "text"}}),
        (SessionList, {"data": {"sessions": [{}]}}),
        (SessionList, {"data": {"sessions": 1}}),
        (LogoutReceipt, {"data": {"sessions_ended": "many"}}),
    ],
)
def test_an_answer_of_another_shape_is_an_error_of_ours(
    answer_type: type[Answer], changes: dict[str, Any]
) -> None:
    with pytest.raises(SealBroken, match="shape"):
        answered(answer_type, **changes)


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

    answer = opened(json.dumps(refusal), LogoutReceipt)

    assert isinstance(answer, LogoutReceipt)
    assert (answer.verdict, answer.reason) == (Verdict.UNAUTHORIZED, Reason.UNKNOWN_APP)


@pytest.mark.parametrize("verdict", [v for v in Verdict if v is not Verdict.UNAUTHORIZED])
def test_nothing_but_a_refusal_is_believed_in_clear(verdict: Verdict) -> None:
    with pytest.raises(SealBroken, match="only refuse"):
        opened(json.dumps(content(verdict=verdict.value)))


@pytest.mark.parametrize(
    "raw",
    [
        b"{",
        b"{}",
        b"\xff\x00",
        b"",
        b"[1]",
        json.dumps({"verdict": "unauthorized", "request_id": "q" * 16}).encode(),
        b'{"verdict":"unauthorized","a":' + b"[" * 50_000 + b"]" * 50_000 + b"}",
        b'{"verdict":"unauthorized","a":"' + b"a" * 100_000 + b'"}',
    ],
    ids=range(8),
)
def test_what_is_no_answer_is_refused(raw: bytes) -> None:
    with pytest.raises(SealBroken):
        opened(raw)


@pytest.mark.parametrize("reason", [{"a": 1}, ["x"], "x" * 100, "x\nERROR y", 5, None])
def test_a_reason_in_clear_is_a_short_word_or_nothing(reason: object) -> None:
    refusal = {"verdict": "unauthorized", "reason": reason, "request_id": REQUEST_ID}

    answer = opened(json.dumps(refusal))

    assert (answer.verdict, answer.reason) == (Verdict.UNAUTHORIZED, None)


def test_data_in_a_refusal_in_clear_is_not_believed() -> None:
    forged = {
        "verdict": "unauthorized",
        "request_id": REQUEST_ID,
        "data": {"receipt_id": "forged", "sessions_ended": 3},
    }

    answer = opened(json.dumps(forged), LogoutReceipt)

    assert (answer.receipt_id, answer.sessions_ended) == (None, 0)


SECRETS = ["access_token", "id_token", "refresh_token", "browser_token", "known_browser", "ticket",
           "login", "state", "code", "authorization_url", "claims", "options"]  # fmt: skip
STARTED: list[type[Answer]] = [
    started._reading(cast("Any", step.gives))
    for step in methods.TABLE
    if issubclass(step, FirstStep)
]


@given(
    kind=st.sampled_from([Registration, Authentication, Ticket, LogoutReceipt, *STARTED]),
    secrets=st.sets(st.sampled_from(SECRETS)),
    verdict=st.sampled_from([Verdict.OK, Verdict.AUTHENTICATED, Verdict.INTERACTION_REQUIRED]),
)
def test_no_secret_of_an_answer_is_in_its_repr(
    kind: type[Answer], secrets: set[str], verdict: Verdict
) -> None:
    told: dict[str, Any] = dict.fromkeys(SECRETS, "dull")
    told |= dict.fromkeys(secrets, "canary-7f3a")
    tokens = {"token_type": "bearer", "expires_in": 60, **told}
    data = {"tokens": tokens, "expires_in": 60, "session_ref": "ref", **told}

    answer = kind.from_wire({"verdict": verdict.value, "request_id": REQUEST_ID, "data": data})

    assert "canary" not in repr(answer)
    assert "canary" not in answer.in_words()
