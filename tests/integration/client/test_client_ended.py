"""An answer that comes after the news of its session's end signs nobody in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import redis

from session_client import (
    Answer,
    Authentication,
    InvalidNotice,
    LogoutSpool,
    PendingAnswer,
    Reason,
    Register,
    Registration,
    SessionClient,
    SilentAuth,
    SqliteSpool,
    Verdict,
    contract,
    open_notice,
    sealing,
)
from tests.integration.client.client_rig import (
    KEY,
    OTHER_KEY,
    Content,
    Responder,
    answer_to,
    sealed,
)

GIVEN = {"access_token": "a-token", "token_type": "bearer", "expires_in": 60}


@pytest.fixture
def client(redis_url: str) -> Iterator[SessionClient]:
    with SessionClient(broker_url=redis_url, app_id="shop", app_key=KEY) as client:
        yield client


@pytest.fixture
def admin(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as admin:
        yield admin


@pytest.fixture
def ref() -> str:
    return str(uuid4())


def asked(client: SessionClient) -> PendingAnswer[Authentication]:
    return client.send(SilentAuth(user_id="ada"), Authentication, timeout=60)


def arrives(admin: redis.Redis, pending: PendingAnswer[Any], **changes: Any) -> None:
    """Have an answer come that the worker gave before the session ended."""
    content = {"v": 1, "app_id": "shop", "request_id": pending.request_id} | changes
    admin.rpush(contract.reply_key("shop", pending.request_id), sealed(content))


def tokens_of(ref: str) -> Content:
    return {
        "task": "sessions.silent_auth",
        "verdict": "authenticated",
        "data": {"tokens": GIVEN, "session_ref": ref},
    }


def notice_of(ref: str, key: Any = KEY) -> str:
    content = {
        "v": 1, "task": "sessions.logged_out", "app_id": "shop", "notice_id": "n",
        "issued_at": "2026-11-02T08:00:00Z", "user_id": "ada", "session_ref": ref,
        "cause": "revoked", "ended_at": "2026-11-02T08:00:00Z",
    }  # fmt: skip
    return sealing.seal(key, sealing.Kind.NOTICE, content)


def outcome(answer: Answer) -> tuple[Verdict, str | None, object]:
    return answer.verdict, answer.reason, getattr(answer, "tokens", None)


def test_tokens_that_come_after_a_notice_sign_nobody_in(
    client: SessionClient, admin: redis.Redis, ref: str
) -> None:
    pending = asked(client)
    open_notice(notice_of(ref), app_id="shop", app_keys=[KEY])
    arrives(admin, pending, **tokens_of(ref))

    answer = pending.wait()

    assert outcome(answer) == (Verdict.LOGIN_REQUIRED, Reason.REVOKED, None)
    assert answer.session_ref == ref


def test_tokens_of_another_session_are_good(
    client: SessionClient, admin: redis.Redis, ref: str
) -> None:
    pending = asked(client)
    open_notice(notice_of(str(uuid4())), app_id="shop", app_keys=[KEY])
    arrives(admin, pending, **tokens_of(ref))

    assert pending.wait().verdict is Verdict.AUTHENTICATED


def test_what_is_no_notice_of_ours_ends_nothing(
    client: SessionClient, admin: redis.Redis, ref: str
) -> None:
    pending = asked(client)
    with pytest.raises(InvalidNotice):
        open_notice(notice_of(ref, OTHER_KEY), app_id="shop", app_keys=[KEY])
    arrives(admin, pending, **tokens_of(ref))

    assert pending.wait().verdict is Verdict.AUTHENTICATED


def test_an_answer_that_was_taken_is_none_any_more_once_its_session_has_ended(
    client: SessionClient, admin: redis.Redis, ref: str
) -> None:
    pending = asked(client)
    arrives(admin, pending, **tokens_of(ref))
    before = pending.wait()
    open_notice(notice_of(ref), app_id="shop", app_keys=[KEY])

    assert before.verdict is Verdict.AUTHENTICATED
    assert outcome(pending.wait()) == (Verdict.LOGIN_REQUIRED, Reason.REVOKED, None)


def test_a_registration_that_is_answered_after_its_logout_signs_nobody_in(
    client: SessionClient, admin: redis.Redis, ref: str
) -> None:
    request = Register(user_id="ada", session_id="s", id_token="t")
    pending = client.send(request, Registration, timeout=60)
    open_notice(notice_of(ref), app_id="shop", app_keys=[KEY])
    arrives(
        admin, pending, task="sessions.register", verdict="ok",
        data={"session_ref": ref, "browser_token": "a-browser-token"},
    )  # fmt: skip

    answer = pending.wait()

    assert outcome(answer) == (Verdict.LOGIN_REQUIRED, Reason.REVOKED, None)
    assert answer.browser_token is None


def ended_by(request: Content, refs: list[str]) -> list[bytes]:
    return [sealed(answer_to(request, data={"receipt_id": "x", "session_refs": refs}))]


@pytest.mark.parametrize("does_the_worker_name_it", [True, False])
def test_tokens_that_come_after_an_own_logout_sign_nobody_in(
    client: SessionClient,
    admin: redis.Redis,
    redis_url: str,
    ref: str,
    *,
    does_the_worker_name_it: bool,
) -> None:
    pending = asked(client)
    admin.delete("auth")
    named = [ref] if does_the_worker_name_it else []
    with Responder(redis_url, lambda request: ended_by(request, named)):
        client.logout(user_id="ada", session_ref=ref, timeout=60)
    arrives(admin, pending, **tokens_of(ref))

    assert outcome(pending.wait()) == (Verdict.LOGIN_REQUIRED, Reason.LOGGED_OUT, None)


@pytest.mark.parametrize(
    "which",
    [
        {"user_id": "ada", "scope": "user"},
        {"user_id": "ada", "scope": "device", "device_id": "phone"},
        {"user_id": "ada", "session_id": "s"},
    ],
    ids=str,
)
def test_a_receipt_says_which_sessions_a_logout_ended(
    client: SessionClient, admin: redis.Redis, redis_url: str, ref: str, which: dict[str, str]
) -> None:
    pending = asked(client)
    admin.delete("auth")
    with Responder(redis_url, lambda request: ended_by(request, [str(uuid4()), ref])):
        client.logout(**which, timeout=60)
    arrives(admin, pending, **tokens_of(ref))

    assert outcome(pending.wait()) == (Verdict.LOGIN_REQUIRED, Reason.LOGGED_OUT, None)


def test_a_spooled_logout_counts_once_it_is_delivered(
    client: SessionClient, admin: redis.Redis, redis_url: str, ref: str, tmp_path: Path
) -> None:
    pending = asked(client)
    admin.delete("auth")
    spool = LogoutSpool(client, SqliteSpool(tmp_path / "logouts.db"))
    spool.logout(user_id="ada", session_ref=ref)
    with Responder(redis_url, lambda request: ended_by(request, [ref])):
        assert spool.deliver(timeout=60) == 1
    arrives(admin, pending, **tokens_of(ref))

    assert outcome(pending.wait()) == (Verdict.LOGIN_REQUIRED, Reason.LOGGED_OUT, None)


def test_what_one_request_was_told_of_a_session_counts_for_all(
    client: SessionClient, admin: redis.Redis, ref: str
) -> None:
    first, second = (
        asked(client),
        client.send(SilentAuth(browser_token="b"), Authentication, timeout=60),
    )
    gone: Content = {
        "task": "sessions.silent_auth", "verdict": "login_required", "reason": "gone_at_idp",
        "data": {"session_ref": ref},
    }  # fmt: skip
    arrives(admin, second, **gone)
    arrives(admin, first, **tokens_of(ref))

    assert second.wait().reason == Reason.GONE_AT_IDP
    assert outcome(first.wait()) == (Verdict.LOGIN_REQUIRED, Reason.GONE_AT_IDP, None)
