"""What a client believes of what lies on its reply list, and who may take it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from sandbox.processes import poll_until
from session_client import (
    AsyncSessionClient,
    Denied,
    InvalidRequest,
    LoginAnswer,
    LoginRequired,
    Logout,
    LogoutNotice,
    LogoutReceipt,
    NotAcknowledged,
    NotAnswered,
    Password,
    Registered,
    SealBroken,
    SessionClient,
    Status,
    Unauthorized,
    WorkerUnavailable,
    contract,
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

LOGOUT = Logout(user_id="ada", everywhere=True)


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


def put(admin: redis.Redis, pending: Pending[Any], *items: bytes) -> None:
    admin.rpush(contract.reply_key("shop", pending.request_id), *items)


def in_clear(pending: Pending[Any], verdict: str) -> bytes:
    told = content(pending.request_id, verdict=verdict, reason="unknown_app")
    return json.dumps(told).encode()


def test_an_answer_in_clear_that_says_yes_to_a_logout_is_not_believed(
    client: SessionClient, admin: redis.Redis
) -> None:
    pending = send(client, LOGOUT)
    put(admin, pending, in_clear(pending, "ok"))

    with pytest.raises(SealBroken, match="only refuse"):
        pending.wait()


def test_a_refusal_in_clear_is_believed(client: SessionClient, admin: redis.Redis) -> None:
    pending = send(client, LOGOUT)
    put(admin, pending, in_clear(pending, "unauthorized"))

    with pytest.raises(Unauthorized, match="unknown_app"):
        pending.wait()


def test_an_answer_sealed_for_another_request_is_not_believed(
    client: SessionClient, admin: redis.Redis
) -> None:
    pending = send(client, LOGOUT)
    put(admin, pending, sealed(content("another-request-1")))

    with pytest.raises(SealBroken, match="another request"):
        pending.wait()


def test_an_answer_sealed_with_another_apps_key_is_not_believed(
    client: SessionClient, admin: redis.Redis
) -> None:
    pending = send(client, LOGOUT)
    put(admin, pending, sealed(content(pending.request_id), OTHER_KEY))

    with pytest.raises(SealBroken, match="unknown key"):
        pending.wait()


def test_another_app_cannot_open_an_answer_it_steals(
    client: SessionClient, admin: redis.Redis, redis_url: str
) -> None:
    pending = send(client, Status(user_id="ada"))
    put(admin, pending, sealed(content(pending.request_id, "sessions.status")))

    # It knows request id and list, but not the key.
    with SessionClient(broker_url=redis_url, app_id="shop", app_key=OTHER_KEY) as thief:
        stolen = Pending(thief, pending.request, pending.message, pending.until)

        with pytest.raises(SealBroken, match="unknown key"):
            stolen.wait()


def test_a_true_answer_behind_a_forged_one_is_the_one_that_counts(
    client: SessionClient, redis_url: str
) -> None:
    def answers(request: dict[str, Any]) -> list[bytes]:
        return [json.dumps(answer_to(request)).encode(), b"x", sealed(answer_to(request))]

    with Responder(redis_url, answers):
        assert client.status(user_id="ada", timeout=60) == ()


def test_with_forged_answers_only_the_forgery_is_told_when_time_is_up(
    client: SessionClient, redis_url: str
) -> None:
    with (
        Responder(redis_url, lambda request: [json.dumps(answer_to(request)).encode()]),
        pytest.raises(SealBroken, match="only refuse"),
    ):
        client.status(user_id="ada", timeout=0.5)


def test_forged_answers_do_not_end_the_wait_for_an_acknowledgement(
    client: SessionClient, redis_url: str
) -> None:
    def answers(request: dict[str, Any]) -> list[bytes]:
        forged = json.dumps(answer_to(request)).encode()
        return [forged, b"rubbish", sealed(answer_to(request, data={"receipt_id": "true"}))]

    with Responder(redis_url, answers):
        assert client.logout(user_id="ada", everywhere=True, timeout=60).receipt_id == "true"


def test_a_logout_with_forged_answers_only_is_not_acknowledged(
    client: SessionClient, redis_url: str
) -> None:
    def answers(request: dict[str, Any]) -> list[bytes]:
        return [json.dumps(answer_to(request)).encode()]

    with Responder(redis_url, answers), pytest.raises(NotAcknowledged, match="only refuse"):
        client.logout(user_id="ada", everywhere=True, timeout=5)


def test_a_refused_logout_is_not_acknowledged_and_says_why(
    client: SessionClient, redis_url: str
) -> None:
    refusal = {"verdict": "unauthorized", "reason": "not_permitted", "detail": "capability needed"}

    def answers(request: dict[str, Any]) -> list[bytes]:
        return [sealed(answer_to(request, **refusal))]

    with Responder(redis_url, answers), pytest.raises(Unauthorized) as caught:
        client.logout(user_id="ada", everywhere=True, timeout=60)

    assert str(caught.value) == "not_permitted (capability needed)"


def test_a_logout_is_repeated_to_the_bit_until_it_is_acknowledged(
    client: SessionClient, redis_url: str
) -> None:
    seen: list[dict[str, Any]] = []

    def answers(request: dict[str, Any]) -> list[bytes]:
        seen.append(request)
        later = answer_to(request, verdict="temporarily_unavailable", retry_after=0.05)
        return [] if len(seen) == 1 else [sealed(later if len(seen) < 4 else answer_to(request))]

    with Responder(redis_url, answers):
        receipt = client.logout(user_id="ada", everywhere=True, timeout=60)

    assert receipt == LogoutReceipt()
    assert len(seen) >= 4  # once more after each second without an answer
    assert seen == [seen[0]] * len(seen)


def test_a_logout_put_off_by_the_worker_ends_with_its_last_word(
    client: SessionClient, redis_url: str
) -> None:
    def answers(request: dict[str, Any]) -> list[bytes]:
        put_off = {"verdict": "temporarily_unavailable", "reason": "store_unavailable"}
        return [sealed(answer_to(request, **put_off))]

    with Responder(redis_url, answers), pytest.raises(NotAcknowledged) as caught:
        client.logout(user_id="ada", everywhere=True, timeout=4)

    assert isinstance(caught.value.__cause__, WorkerUnavailable)
    assert "(store_unavailable)" in str(caught.value)


def test_an_answer_that_comes_by_itself_after_a_put_off_is_taken(
    client: SessionClient, redis_url: str
) -> None:
    def answers(request: dict[str, Any]) -> list[bytes]:
        put_off = answer_to(request, verdict="temporarily_unavailable", retry_after=30)
        return [sealed(put_off), sealed(answer_to(request))]

    with Responder(redis_url, answers):
        started = time.monotonic()
        assert client.logout(user_id="ada", everywhere=True, timeout=20) == LogoutReceipt()

    assert time.monotonic() - started < 15


def test_a_registration_is_repeated_until_it_is_answered(
    client: SessionClient, redis_url: str
) -> None:
    seen: list[dict[str, Any]] = []

    def answers(request: dict[str, Any]) -> list[bytes]:
        seen.append(request)
        return [] if len(seen) == 1 else [sealed(answer_to(request))]

    with Responder(redis_url, answers):
        answer = client.register(user_id="ada", session_id="s", id_token="t", timeout=60)

    assert isinstance(answer, Registered)
    assert seen == [seen[0]] * len(seen)


def test_a_registration_that_nobody_answers_may_be_repeated_under_its_id(
    client: SessionClient, redis_url: str
) -> None:
    given = {"user_id": "ada", "session_id": "s", "id_token": "t"}
    with pytest.raises(NotAnswered) as caught:
        client.register(**given, timeout=0.3)
    request_id = caught.value.request_id
    assert request_id is not None

    with Responder(redis_url) as worker:
        client.register(**given, request_id=request_id, timeout=60)

    assert {request["request_id"] for request in worker.requests} == {request_id}


def late_for_the_first(url: str) -> Responder:
    """Take what lies on the queues: the first message is too late, whichever else is served."""
    seen: list[Content] = []

    def answers(request: Content) -> list[bytes]:
        seen.append(request)
        told = {"verdict": "access_denied", "reason": "not_allowed", "data": {}}
        if len(seen) == 1:
            told |= {"verdict": "invalid_request", "reason": "deadline_passed"}
        return [sealed(answer_to(request, **told))]

    return Responder(url, answers)


PROOF: dict[str, Any] = {"proof": Password("ada", "secret"), "request_id": "a-form-clicked-twice"}


def test_what_is_repeated_under_its_id_is_not_told_that_the_one_before_was_too_late(
    client: SessionClient, redis_url: str
) -> None:
    with pytest.raises(NotAnswered):
        client.authenticate(**PROOF, timeout=0.3)

    with late_for_the_first(redis_url) as worker:
        answer = client.authenticate(**PROOF, timeout=60)

    assert answer == Denied("not_allowed")
    assert len(worker.requests) == 2


def test_what_the_asyncio_client_repeats_is_not_told_that_the_one_before_was_too_late(
    redis_url: str,
) -> None:
    async def ask() -> LoginAnswer:
        async with AsyncSessionClient(broker_url=redis_url, app_id="shop", app_key=KEY) as client:
            with pytest.raises(NotAnswered):
                await client.authenticate(**PROOF, timeout=0.3)
            with late_for_the_first(redis_url):
                return await client.authenticate(**PROOF, timeout=60)

    assert asyncio.run(ask()) == Denied("not_allowed")


def test_what_is_too_late_itself_is_told_so(redis_url: str) -> None:
    def too_late(request: Content) -> list[bytes]:
        told = {"verdict": "invalid_request", "reason": "deadline_passed"}
        return [sealed(answer_to(request, **told))]

    async def ask() -> LoginAnswer:
        async with AsyncSessionClient(broker_url=redis_url, app_id="shop", app_key=KEY) as client:
            return await client.authenticate(**PROOF, timeout=1)

    with Responder(redis_url, too_late), pytest.raises(InvalidRequest, match="deadline_passed"):
        asyncio.run(ask())


def test_what_is_repeated_under_its_id_gets_no_answer_that_came_too_late_for_the_one_before(
    client: SessionClient, redis_url: str
) -> None:
    def saying(verdict: str, reason: str) -> Responder:
        told = {"verdict": verdict, "reason": reason, "data": {}}
        return Responder(redis_url, lambda request: [sealed(answer_to(request, **told))])

    with pytest.raises(NotAnswered):
        client.authenticate(**PROOF, timeout=0.3)
    with saying("access_denied", "not_allowed") as worker:
        poll_until(lambda: worker.requests, 60, what="the worker to take the first one")
    # What it is now only the worker knows: a session may have ended meanwhile.
    with saying("login_required", "logged_out"):
        answer = client.authenticate(**PROOF, timeout=60)

    assert answer == LoginRequired("logged_out")


def test_a_confirmation_can_be_repeated_as_the_error_says(
    client: SessionClient, redis_url: str
) -> None:
    notice = LogoutNotice(notice_id="n", user_id="ada", session_ref="r")
    with pytest.raises(NotAcknowledged) as caught:
        client.confirm(notice, timeout=0.3)
    request_id = caught.value.request_id

    with Responder(redis_url) as worker:
        client.confirm(notice, request_id=request_id, timeout=60)

    assert {request["request_id"] for request in worker.requests} == {request_id}


def test_duplicate_answers_are_harmless(client: SessionClient, redis_url: str) -> None:
    def answers(request: dict[str, Any]) -> list[bytes]:
        session = {
            "session_ref": request["request_id"], "apps": [], "amr": [], "device_id": None,
            "authenticated_at": "2026-11-02T08:00:00Z", "expires_at": "2026-11-16T08:00:00Z",
        }  # fmt: skip
        return [sealed(answer_to(request, data={"sessions": [session]}))] * 3

    with Responder(redis_url, answers) as worker:
        told = [client.status(user_id="ada", timeout=60)[0].session_ref for _ in range(5)]

    assert told == [request["request_id"] for request in worker.requests]
    assert len(set(told)) == 5


def test_no_secret_is_on_the_broker_while_the_message_waits(
    client: SessionClient, admin: redis.Redis
) -> None:
    with pytest.raises(NotAcknowledged):
        client.logout(user_id="ada", session_id="the-session", timeout=0.3)

    (item,) = admin.lrange("logout", 0, -1)
    message = json.loads(item)

    assert b"the-session" not in item
    assert message["headers"]["argsrepr"] == message["headers"]["kwargsrepr"] == "-"
    keys: list[Any] = admin.keys()
    assert keys == [b"logout"]
