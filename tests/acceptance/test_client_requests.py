"""The client against a real worker: what an app team sees."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery
from kombu import Queue

from sandbox.stack import Stack
from session_client import (
    AppKey,
    Authenticated,
    ConfigurationError,
    LoginRequired,
    Logout,
    NotAnswered,
    Reason,
    Registered,
    SessionClient,
    SessionInfo,
    Status,
    Unauthorized,
    Verdict,
    Wishes,
    contract,
    requests,
    times,
)
from session_client._core import opening
from session_client._core.message import Message, seal
from tests.acceptance.client_rig import Apps, subject_of
from tests.heard import authenticated
from tests.sending import send

PATIENT = 30.0


@pytest.fixture(scope="module")
def apps() -> Iterator[Apps]:
    with Stack() as stack:
        stack.migrate()
        apps = Apps(stack, "shop", "forum", "closed")
        stack.run("mosaic-sessions", "apps", "disable", "closed")
        stack.worker()
        yield apps
        apps.close()


@pytest.fixture
def broker(apps: Apps) -> Iterator[redis.Redis]:
    # redis-py's own time-out of 5 s would end a patient BLPOP.
    url = apps.stack.broker_url
    with redis.Redis.from_url(url, socket_timeout=PATIENT + 5) as broker:
        yield broker


def test_a_login_at_one_app_signs_the_user_in_at_another_until_they_log_out(apps: Apps) -> None:
    shop, forum = apps.clients["shop"], apps.clients["forum"]
    registered = apps.register("ada")

    signed_in = forum.silent_auth(user_id="ada", timeout=PATIENT)

    assert isinstance(signed_in, Authenticated)
    assert subject_of(signed_in.tokens.id_token) == "ada"
    (session,) = shop.status(user_id="ada", timeout=PATIENT)
    assert session.session_ref == registered.session_ref == signed_in.session_ref
    assert set(session.apps) == {"forum", "shop"}

    receipt = shop.logout(user_id="ada", session_ref=session.session_ref, timeout=PATIENT)

    assert receipt.sessions_ended == 1
    refused = forum.silent_auth(user_id="ada", timeout=PATIENT)
    assert refused == LoginRequired(Reason.LOGGED_OUT)
    assert shop.status(user_id="ada", timeout=PATIENT) == ()


def test_tokens_with_all_the_custom_data_there_may_be_travel_both_ways(apps: Apps) -> None:
    mosaic, kilobytes = apps.stack.mosaic, "x" * 100 * 1024
    login = apps.login("eve")
    mosaic.change_user("eve", email=kilobytes)  # it stands in the token of who asks for it
    token = mosaic.mint_id_token(
        sub="eve", aud="client-shop", custom_data=kilobytes, custom_app_data=kilobytes
    )

    registered = apps.clients["shop"].register(
        user_id="eve", session_id=login.session_id, id_token=token, timeout=PATIENT
    )
    answer = apps.clients["forum"].silent_auth(
        user_id="eve", wishes=Wishes(claims={"id_token": {"email": None}}), timeout=PATIENT
    )

    assert isinstance(registered, Registered)
    assert isinstance(answer, Authenticated)
    assert len(answer.tokens.id_token or "") > len(kilobytes)


def test_fifty_threads_share_a_client_and_each_gets_its_own_users_tokens(apps: Apps) -> None:
    users = [f"user-{number:02}" for number in range(50)]
    with ThreadPoolExecutor(50) as threads:
        list(threads.map(apps.register, users))

        answers = list(
            threads.map(
                lambda user: apps.clients["forum"].silent_auth(user_id=user, timeout=PATIENT),
                users,
            )
        )

    tokens = [authenticated(answer).tokens for answer in answers]
    assert [subject_of(given.id_token) for given in tokens] == users


def test_eight_threads_with_25_calls_each_get_no_answer_of_another(apps: Apps) -> None:
    users = [f"busy-{number}" for number in range(8)]
    refs = {user: apps.register(user).session_ref for user in users}

    def ask_often(user: str) -> set[str]:
        lists = [apps.clients["shop"].status(user_id=user, timeout=PATIENT) for _ in range(25)]
        return {session.session_ref for sessions in lists for session in sessions}

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(ask_often, users)) == [{refs[user]} for user in users]


def test_an_answer_that_nobody_fetches_is_forgotten_after_a_minute(
    apps: Apps, broker: redis.Redis
) -> None:
    pending = send(apps.clients["shop"], Status(user_id="ada"), timeout=PATIENT)
    key = contract.reply_key("shop", pending.request_id)
    until = time.monotonic() + PATIENT
    while not broker.exists(key):
        assert time.monotonic() < until
        time.sleep(0.01)

    assert 0 < broker.ttl(key) <= contract.ANSWER_LIFETIME.total_seconds()


@pytest.mark.parametrize(
    ("app_id", "key", "reason"),
    [
        ("shop", AppKey.generate().text(), Reason.WRONG_KEY),
        ("nobody", AppKey.generate().text(), Reason.UNKNOWN_APP),
        ("closed", None, Reason.APP_DISABLED),
    ],
    ids=["wrong key", "unknown app", "disabled app"],
)
def test_an_app_that_may_not_ask_is_told_so(
    apps: Apps, app_id: str, key: str | None, reason: Reason
) -> None:
    client = apps.client(app_id, key)
    for ask in (
        lambda: client.silent_auth(user_id="ada", timeout=PATIENT),
        lambda: client.logout(user_id="ada", session_id="any", timeout=PATIENT),
    ):
        with pytest.raises(Unauthorized, match=reason):
            ask()
    client.close()


def test_a_key_of_the_right_name_with_other_bits_is_a_wrong_key(apps: Apps) -> None:
    right = AppKey.parse(apps.keys["shop"])
    forged = AppKey(right.kid, bytes(32))

    with (
        apps.client("shop", forged.text()) as client,
        pytest.raises(Unauthorized, match=Reason.WRONG_KEY),
    ):
        client.status(user_id="ada", timeout=PATIENT)


# --- the asyncio client


def test_many_tasks_share_two_connections_and_each_gets_its_own_users_tokens(
    apps: Apps, broker: redis.Redis
) -> None:
    users = [f"async-{number:02}" for number in range(20)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(apps.register, users))

    async def ask() -> tuple[list[str], int]:
        async with apps.awaited("forum") as forum:
            asked = [forum.silent_auth(user_id=user, timeout=PATIENT) for user in users]
            answers = [authenticated(answer) for answer in await asyncio.gather(*asked)]
            known: Any = broker.client_list()
            return (
                [str(answer.claims["sub"]) for answer in answers],
                sum(client["name"] == "app-forum" for client in known),
            )

    apps.clients["forum"].close()
    assert asyncio.run(ask()) == (users, 2)


def test_refusals_in_clear_reach_the_asyncio_client_too(apps: Apps) -> None:
    async def ask() -> None:
        async with apps.awaited("shop", AppKey.generate().text()) as shop:
            await shop.logout(user_id="ada", session_id="any", timeout=PATIENT)

    with pytest.raises(Unauthorized, match=Reason.WRONG_KEY):
        asyncio.run(ask())


def test_what_a_later_try_of_the_worker_comes_to_goes_where_the_message_says(
    apps: Apps, broker: redis.Redis
) -> None:
    box = requests.new_request_id()
    key, database = AppKey.parse(apps.keys["shop"]), apps.stack.folder / "sessions.db"
    request = Logout(user_id="nobody", session_id="never registered")
    sealed = seal(request, app_id="shop", key=key)

    def answer() -> Verdict:
        item: Any = broker.blpop([contract.reply_key("shop", box)], timeout=PATIENT)
        return opening.answered(sealed, item[1], key).verdict

    rename(database, "logout_requests", "gone")
    broker.lpush("logout", sealed.to_wire(box))
    first = answer()
    rename(database, "gone", "logout_requests")

    assert (first, answer()) == (Verdict.TEMPORARILY_UNAVAILABLE, Verdict.OK)
    assert broker.exists(sealed.reply_key) == 0


def rename(database: Path, table: str, to: str) -> None:
    with closing(sqlite3.connect(database, timeout=30)) as connection, connection:
        connection.execute(f"ALTER TABLE {table} RENAME TO {to}")


# --- what an app is told of itself


def test_an_app_is_told_what_it_may_do_and_by_what_notices_are_proven(apps: Apps) -> None:
    about = apps.clients["shop"].check(timeout=PATIENT)

    assert (about.app_id, about.notice_audience) == ("shop", "client-shop")
    assert about.capabilities == {"silent_by_user"}
    assert abs(about.clock_offset) < 5
    assert (about.notice_issuer, about.notice_keys) == (None, ())  # this worker signs none


def test_a_key_that_is_wrong_shows_at_start_up(apps: Apps) -> None:
    with (
        apps.client("shop", AppKey.generate().text()) as client,
        pytest.raises(Unauthorized, match=Reason.WRONG_KEY),
    ):
        client.check(timeout=PATIENT)


def test_a_database_number_that_is_wrong_shows_at_start_up(apps: Apps) -> None:
    elsewhere = f"{apps.stack.broker_url.rpartition('/')[0]}/7"
    with (
        SessionClient(
            broker_url=elsewhere, app_id="shop", app_key=AppKey.generate().text()
        ) as client,
        pytest.raises(NotAnswered, match="does a worker run, at this broker, and at this database"),
    ):
        client.check(timeout=1)


@pytest.mark.parametrize(("seconds", "way"), [(90, "ahead of"), (-90, "behind"), (30, "ahead of")])
def test_a_clock_that_is_off_shows_at_start_up(
    apps: Apps,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    seconds: int,
    way: str,
) -> None:
    here = times.now
    monkeypatch.setattr(times, "now", lambda: here() + timedelta(seconds=seconds))
    began = time.monotonic()
    if abs(seconds) > 60:
        with pytest.raises(ConfigurationError) as caught:
            apps.clients["shop"].check(timeout=PATIENT)
        text = str(caught.value)
    else:
        apps.clients["shop"].check(timeout=PATIENT)
        text = caplog.text
    took = time.monotonic() - began  # the way back of the answer counts as ours
    said = re.search(r"(\d+) s (ahead of|behind)", text)
    assert said is not None, text
    assert said[2] == way
    assert abs(int(said[1]) - abs(seconds)) <= took + 1


def test_one_session_is_asked_for_by_its_name(apps: Apps) -> None:
    one, two = (apps.register("twice").session_ref for _ in range(2))
    shop = apps.clients["shop"]

    (found,) = shop.status(user_id="twice", session_ref=one, timeout=PATIENT)

    assert found.session_ref == one
    assert {s.session_ref for s in shop.status(user_id="twice", timeout=PATIENT)} == {one, two}
    assert shop.status(user_id="somebody", session_ref=one, timeout=PATIENT) == ()


# --- publishers without this client


STATUS = requests.Status(user_id="a-user-without-the-client", timeout=30)


def sealed_status(apps: Apps) -> Message:
    return seal(STATUS, app_id="shop", key=AppKey.parse(apps.keys["shop"]))


def answer_to(apps: Apps, broker: redis.Redis, message: Message) -> tuple[SessionInfo, ...]:
    item: Any = broker.blpop([message.reply_key], timeout=PATIENT)
    assert item is not None
    key = AppKey.parse(apps.keys["shop"])
    return STATUS.read(opening.answered(message, item[1], key))


def test_a_bare_celery_app_can_publish_a_request(
    apps: Apps, broker: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The variable wins over what an app configures, and other tests have set it.
    monkeypatch.setenv("CELERY_BROKER_URL", apps.stack.broker_url)
    ref = apps.register(STATUS.user_id).session_ref
    message = sealed_status(apps)
    bare = Celery("bare", broker=apps.stack.broker_url, set_as_current=False)
    bare.conf.task_queues = [Queue(message.queue.value)]

    with bare.connection_for_write() as connection, bare.amqp.Producer(connection) as producer:
        bare.send_task(
            "sessions.status",
            kwargs=message.kwargs,
            task_id=message.request_id,
            queue=message.queue.value,
            ignore_result=True,
            producer=producer,
        )

    assert ref in {session.session_ref for session in answer_to(apps, broker, message)}


def test_a_message_written_by_hand_as_a_node_app_does_is_served(
    apps: Apps, broker: redis.Redis
) -> None:
    ref = apps.register(STATUS.user_id).session_ref
    message = sealed_status(apps)
    body = json.dumps([[], message.kwargs, {}]).encode()
    written = {
        "body": base64.b64encode(body).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {"task": "sessions.status", "id": message.request_id},
        "properties": {
            "body_encoding": "base64",
            "correlation_id": message.request_id,
            "delivery_info": {"exchange": "", "routing_key": message.queue.value},
            "delivery_mode": 2,
            "delivery_tag": "any-unique-text-1",
            "priority": 0,
        },
    }

    broker.lpush(message.queue.value, json.dumps(written))

    assert ref in {session.session_ref for session in answer_to(apps, broker, message)}
