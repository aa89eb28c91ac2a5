"""An answer that comes after the news of its session's end signs nobody in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import redis

from session_client import (
    Authenticated,
    InvalidNotice,
    LoginRequired,
    LogoutSpool,
    Reason,
    Register,
    SessionClient,
    SilentAnswer,
    SilentAuth,
    SqliteSpool,
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
from tests.sending import Pending, send

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


def asked(client: SessionClient) -> Pending[SilentAnswer]:
    return send(client, SilentAuth(user_id="ada"), timeout=60)


def arrives(admin: redis.Redis, pending: Pending[Any], **changes: Any) -> None:
    """Have an answer come that the worker gave before the session ended."""
    content = {"v": 1, "app_id": "shop", "request_id": pending.request_id} | changes
    admin.rpush(contract.reply_key("shop", pending.request_id), sealed(content))


def tokens_of(ref: str) -> Content:
    return {
        "task": "sessions.silent_auth",
        "verdict": "authenticated",
        "data": {"tokens": GIVEN, "user_id": "ada", "session_ref": ref},
    }


def notice_of(ref: str, key: Any = KEY) -> str:
    content = {
        "v": 1, "task": "sessions.logged_out", "app_id": "shop", "notice_id": "n",
        "issued_at": "2026-11-02T08:00:00Z", "user_id": "ada", "session_ref": ref,
        "cause": "revoked", "ended_at": "2026-11-02T08:00:00Z",
    }  # fmt: skip
    return sealing.seal(key, sealing.Kind.NOTICE, content)


def test_tokens_that_come_after_a_notice_sign_nobody_in(
    client: SessionClient, admin: redis.Redis, ref: str
) -> None:
    pending = asked(client)
    open_notice(notice_of(ref), app_id="shop", app_keys=[KEY])
    arrives(admin, pending, **tokens_of(ref))

    answer = pending.wait()

    assert answer == LoginRequired(Reason.REVOKED)


def test_tokens_of_another_session_are_good(
    client: SessionClient, admin: redis.Redis, ref: str
) -> None:
    pending = asked(client)
    open_notice(notice_of(str(uuid4())), app_id="shop", app_keys=[KEY])
    arrives(admin, pending, **tokens_of(ref))

    assert isinstance(pending.wait(), Authenticated)


def test_what_is_no_notice_of_ours_ends_nothing(
    client: SessionClient, admin: redis.Redis, ref: str
) -> None:
    pending = asked(client)
    with pytest.raises(InvalidNotice):
        open_notice(notice_of(ref, OTHER_KEY), app_id="shop", app_keys=[KEY])
    arrives(admin, pending, **tokens_of(ref))

    assert isinstance(pending.wait(), Authenticated)


def test_a_registration_that_is_answered_after_its_logout_signs_nobody_in(
    client: SessionClient, admin: redis.Redis, ref: str
) -> None:
    request = Register(user_id="ada", session_id="s", id_token="t")
    pending = send(client, request, timeout=60)
    open_notice(notice_of(ref), app_id="shop", app_keys=[KEY])
    arrives(
        admin, pending, task="sessions.register", verdict="ok",
        data={"session_ref": ref, "browser_token": "a-browser-token",
              "expires_at": "2026-11-16T08:00:00Z"},
    )  # fmt: skip

    answer = pending.wait()

    assert answer == LoginRequired(Reason.REVOKED)


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

    assert pending.wait() == LoginRequired(Reason.LOGGED_OUT)


@pytest.mark.parametrize(
    "which",
    [
        {"user_id": "ada", "everywhere": True},
        {"user_id": "ada", "device_id": "phone"},
        {"user_id": "ada", "session_id": "s"},
    ],
    ids=str,
)
def test_a_receipt_says_which_sessions_a_logout_ended(
    client: SessionClient, admin: redis.Redis, redis_url: str, ref: str, which: dict[str, Any]
) -> None:
    pending = asked(client)
    admin.delete("auth")
    with Responder(redis_url, lambda request: ended_by(request, [str(uuid4()), ref])):
        client.logout(**which, timeout=60)
    arrives(admin, pending, **tokens_of(ref))

    assert pending.wait() == LoginRequired(Reason.LOGGED_OUT)


def test_a_spooled_logout_counts_once_it_is_delivered(
    client: SessionClient, admin: redis.Redis, redis_url: str, ref: str, tmp_path: Path
) -> None:
    pending = asked(client)
    admin.delete("auth")
    spool = LogoutSpool(client, SqliteSpool(tmp_path / "logouts.db"), thread=False)
    spool.logout(user_id="ada", session_ref=ref)
    with Responder(redis_url, lambda request: ended_by(request, [ref])):
        assert spool.deliver(timeout=60) == 1
    arrives(admin, pending, **tokens_of(ref))

    assert pending.wait() == LoginRequired(Reason.LOGGED_OUT)


def test_what_one_request_was_told_of_a_session_counts_for_all(
    client: SessionClient, admin: redis.Redis, ref: str
) -> None:
    first, second = (
        asked(client),
        send(client, SilentAuth(browser_token="b"), timeout=60),
    )
    gone: Content = {
        "task": "sessions.silent_auth", "verdict": "login_required", "reason": "gone_at_idp",
        "data": {"session_ref": ref},
    }  # fmt: skip
    arrives(admin, second, **gone)
    arrives(admin, first, **tokens_of(ref))

    assert second.wait() == LoginRequired(Reason.GONE_AT_IDP)
    assert first.wait() == LoginRequired(Reason.GONE_AT_IDP)
