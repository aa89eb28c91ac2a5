"""What a client believes of what lies on its reply list, and who may take it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis

from session_client import (
    Authentication,
    Logout,
    LogoutNotice,
    LogoutReceipt,
    NotAcknowledged,
    NotAnswered,
    PendingAnswer,
    SealBroken,
    SessionClient,
    SessionList,
    SilentAuth,
    Status,
    Verdict,
    contract,
    inbox,
)
from tests.integration.client.client_rig import KEY, OTHER_KEY, Responder, answer_to, sealed

LOGOUT = Logout(user_id="ada", scope="user")


@pytest.fixture
def client(redis_url: str) -> Iterator[SessionClient]:
    with SessionClient(broker_url=redis_url, app_id="shop", app_key=KEY) as client:
        yield client


@pytest.fixture
def admin(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as admin:
        yield admin


def content(request_id: str, task: str = "sessions.logout", **changes: Any) -> dict[str, Any]:
    asked = {"v": 1, "task": task, "app_id": "shop", "request_id": request_id}
    return answer_to(asked, **changes)


def put(admin: redis.Redis, pending: PendingAnswer[Any], *items: bytes) -> None:
    admin.rpush(contract.reply_key("shop", pending.request_id), *items)


def in_clear(pending: PendingAnswer[Any], verdict: str) -> bytes:
    told = content(pending.request_id, verdict=verdict, reason="unknown_app")
    return json.dumps(told).encode()


def test_an_answer_in_clear_that_says_yes_to_a_logout_is_not_believed(
    client: SessionClient, admin: redis.Redis
) -> None:
    pending = client.send(LOGOUT, LogoutReceipt)
    put(admin, pending, in_clear(pending, "ok"))

    with pytest.raises(SealBroken, match="only refuse"):
        pending.wait()


def test_a_refusal_in_clear_is_believed(client: SessionClient, admin: redis.Redis) -> None:
    pending = client.send(LOGOUT, LogoutReceipt)
    put(admin, pending, in_clear(pending, "unauthorized"))

    assert pending.wait().verdict is Verdict.UNAUTHORIZED


def test_an_answer_sealed_for_another_request_is_not_believed(
    client: SessionClient, admin: redis.Redis
) -> None:
    pending = client.send(LOGOUT, LogoutReceipt)
    put(admin, pending, sealed(content("another-request-1")))

    with pytest.raises(SealBroken, match="another request"):
        pending.wait()


def test_an_answer_sealed_with_another_apps_key_is_not_believed(
    client: SessionClient, admin: redis.Redis
) -> None:
    pending = client.send(LOGOUT, LogoutReceipt)
    put(admin, pending, sealed(content(pending.request_id), OTHER_KEY))

    with pytest.raises(SealBroken, match="unknown key"):
        pending.wait()


def test_another_app_cannot_open_an_answer_it_steals(
    client: SessionClient, admin: redis.Redis, redis_url: str
) -> None:
    pending = client.send(Status(user_id="ada"), SessionList)
    put(admin, pending, sealed(content(pending.request_id, "sessions.status")))

    # It knows request id and list, but not the key.
    with SessionClient(broker_url=redis_url, app_id="shop", app_key=OTHER_KEY) as thief:
        stolen = thief.send(Status(user_id="ada"), SessionList, request_id=pending.request_id)

        with pytest.raises(SealBroken, match="unknown key"):
            stolen.wait()


def test_a_true_answer_behind_a_forged_one_is_still_read(
    client: SessionClient, admin: redis.Redis
) -> None:
    pending = client.send(LOGOUT, LogoutReceipt)
    put(admin, pending, in_clear(pending, "ok"), sealed(content(pending.request_id)))
    with pytest.raises(SealBroken):
        pending.wait()

    assert pending.wait().verdict is Verdict.OK


def test_forged_answers_do_not_end_the_wait_for_an_acknowledgement(
    client: SessionClient, redis_url: str
) -> None:
    def answers(request: dict[str, Any]) -> list[bytes]:
        forged = json.dumps(answer_to(request)).encode()
        return [forged, b"rubbish", sealed(answer_to(request, data={"receipt_id": "true"}))]

    with Responder(redis_url, answers):
        assert client.logout(user_id="ada", scope="user", timeout=60).receipt_id == "true"


def test_a_logout_with_forged_answers_only_is_not_acknowledged(
    client: SessionClient, redis_url: str
) -> None:
    def answers(request: dict[str, Any]) -> list[bytes]:
        return [json.dumps(answer_to(request)).encode()]

    with Responder(redis_url, answers), pytest.raises(NotAcknowledged, match="only refuse"):
        client.logout(user_id="ada", scope="user", timeout=5)


def test_a_refused_logout_is_not_acknowledged_and_says_why(
    client: SessionClient, redis_url: str
) -> None:
    refusal = {"verdict": "unauthorized", "reason": "not_permitted", "detail": "capability needed"}

    def answers(request: dict[str, Any]) -> list[bytes]:
        return [sealed(answer_to(request, **refusal))]

    with Responder(redis_url, answers), pytest.raises(NotAcknowledged) as caught:
        client.logout(user_id="ada", scope="user", timeout=60)

    assert caught.value.answer is not None
    assert caught.value.answer.verdict is Verdict.UNAUTHORIZED
    assert caught.value.answer.reason == "not_permitted"
    assert caught.value.is_final
    assert "unauthorized: not_permitted (capability needed)" in str(caught.value)


def test_a_logout_is_repeated_to_the_bit_until_it_is_acknowledged(
    client: SessionClient, redis_url: str
) -> None:
    seen: list[dict[str, Any]] = []

    def answers(request: dict[str, Any]) -> list[bytes]:
        seen.append(request)
        later = answer_to(request, verdict="temporarily_unavailable", retry_after=0.05)
        return [] if len(seen) == 1 else [sealed(later if len(seen) < 4 else answer_to(request))]

    with Responder(redis_url, answers):
        receipt = client.logout(user_id="ada", scope="user", timeout=60)

    assert receipt.verdict is Verdict.OK
    assert len(seen) >= 4  # once more after each second without an answer
    assert seen == [seen[0]] * len(seen)


def test_a_logout_put_off_by_the_worker_ends_with_its_last_word(
    client: SessionClient, redis_url: str
) -> None:
    def answers(request: dict[str, Any]) -> list[bytes]:
        put_off = {"verdict": "temporarily_unavailable", "reason": "store_unavailable"}
        return [sealed(answer_to(request, **put_off))]

    with Responder(redis_url, answers), pytest.raises(NotAcknowledged) as caught:
        client.logout(user_id="ada", scope="user", timeout=4)

    assert caught.value.answer is not None
    assert caught.value.answer.reason == "store_unavailable"
    assert not caught.value.is_final
    assert "(temporarily_unavailable: store_unavailable)" in str(caught.value)


def test_an_answer_that_comes_by_itself_after_a_put_off_is_taken(
    client: SessionClient, redis_url: str
) -> None:
    def answers(request: dict[str, Any]) -> list[bytes]:
        put_off = answer_to(request, verdict="temporarily_unavailable", retry_after=30)
        return [sealed(put_off), sealed(answer_to(request))]

    with Responder(redis_url, answers):
        started = time.monotonic()
        assert client.logout(user_id="ada", scope="user", timeout=20).verdict is Verdict.OK

    assert time.monotonic() - started < 15


def test_a_registration_is_acknowledged_in_the_same_way(
    client: SessionClient, redis_url: str
) -> None:
    with Responder(redis_url) as worker:
        answer = client.register(
            user_id="ada", session_id="s", id_token="t", until_acknowledged=True
        )

    assert answer.verdict is Verdict.OK
    assert {request["task"] for request in worker.requests} == {"sessions.register"}


@pytest.mark.parametrize("until_acknowledged", [False, True])
def test_a_registration_can_be_repeated_as_the_error_says(
    client: SessionClient, redis_url: str, *, until_acknowledged: bool
) -> None:
    given = {"user_id": "ada", "session_id": "s", "id_token": "t"}
    with pytest.raises(NotAcknowledged) as caught:
        client.register(**given, until_acknowledged=True, timeout=0.3)
    request_id = caught.value.request_id

    with Responder(redis_url) as worker:
        answer = client.register(
            **given, until_acknowledged=until_acknowledged, request_id=request_id, timeout=60
        )

    assert answer.request_id == request_id
    assert {request["request_id"] for request in worker.requests} == {request_id}


def test_a_confirmation_can_be_repeated_as_the_error_says(
    client: SessionClient, redis_url: str
) -> None:
    notice = LogoutNotice(notice_id="n", user_id="ada", session_ref="r")
    with pytest.raises(NotAcknowledged) as caught:
        client.confirm_notice(notice, timeout=0.3)
    request_id = caught.value.request_id

    with Responder(redis_url) as worker:
        client.confirm_notice(notice, request_id=request_id, timeout=60)

    assert {request["request_id"] for request in worker.requests} == {request_id}


def test_duplicate_answers_are_harmless(client: SessionClient, redis_url: str) -> None:
    with Responder(redis_url, lambda request: [sealed(answer_to(request))] * 3):
        answers = [client.status(user_id="ada", timeout=60) for _ in range(5)]

    assert len({answer.request_id for answer in answers}) == 5


def test_nobody_needs_to_wait_and_anybody_may(client: SessionClient, redis_url: str) -> None:
    pending = client.send(Status(user_id="ada"), SessionList, timeout=20)

    with ThreadPoolExecutor(4) as threads, Responder(redis_url):
        answers = [f.result() for f in [threads.submit(pending.wait) for _ in range(4)]]

    assert [answer.request_id for answer in answers] == [pending.request_id] * 4
    assert pending.wait(0) is answers[0]


def test_an_answer_that_lies_ready_is_taken_after_the_requests_own_time(
    client: SessionClient, admin: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    pending = client.send(SilentAuth(user_id="ada"), Authentication, timeout=2)
    with pytest.raises(NotAnswered):
        pending.wait()
    # What it spends on an answer that lies ready: a busy Redis takes longer to hand it over.
    monkeypatch.setattr(inbox, "_SHORTEST_WAIT_SECONDS", 30)
    put(admin, pending, sealed(content(pending.request_id, "sessions.silent_auth")))

    assert pending.wait().verdict is Verdict.OK


def test_a_second_reader_does_not_wait_longer_than_it_wants(
    client: SessionClient, admin: redis.Redis
) -> None:
    pending = client.send(Status(user_id="ada"), SessionList, timeout=30)
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(pending.wait)
        started = time.monotonic()
        with pytest.raises(NotAnswered):
            pending.wait(0.1)

        assert time.monotonic() - started < 10
        put(admin, pending, sealed(content(pending.request_id, "sessions.status")))
        assert first.result().verdict is Verdict.OK


def test_no_secret_is_on_the_broker_while_the_message_waits(
    client: SessionClient, admin: redis.Redis
) -> None:
    client.send(Logout(user_id="ada", session_id="the-session"), LogoutReceipt)

    (item,) = admin.lrange("logout", 0, -1)
    message = json.loads(item)

    assert b"the-session" not in item
    assert message["headers"]["argsrepr"] == message["headers"]["kwargsrepr"] == "-"
    keys: list[Any] = admin.keys()
    assert [key for key in keys if not key.startswith(b"_kombu.binding")] == [b"logout"]
