"""The Redis users that docs/operations.md gives to apps: enough to work, and no more."""

from __future__ import annotations

import json
import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import redis

from sandbox.processes import poll_until
from sandbox.redis_server import RedisServer
from sandbox.stack import Stack
from session_client import SessionClient, Verdict, broker
from tests.acceptance.client_rig import TAKE_NOTICES, Apps, running, working

OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"
PASSWORD = "an-app-password"
UNACKED, UNACKED_INDEX = "app:desk:unacked", "app:desk:unacked_index"


def documented_rules(app_id: str) -> list[str]:
    """Return the words of the documented ACL line for an app."""
    text = OPERATIONS.read_text(encoding="utf-8")
    line = re.search(rf"^user {app_id} (.*?)\n```", text, re.MULTILINE | re.DOTALL)
    assert line is not None
    return line[1].replace("\\\n", " ").replace(">…", f">{PASSWORD}").split()


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        with redis.Redis.from_url(server.url()) as admin:
            for app_id in ("shop", "desk"):
                admin.execute_command("ACL", "SETUSER", app_id, *documented_rules(app_id))
        yield server


@pytest.fixture
def app_url(own_redis: RedisServer) -> str:
    return url_of("shop", own_redis)


def url_of(app_id: str, own_redis: RedisServer) -> str:
    return own_redis.url().replace("redis://", f"redis://{app_id}:{PASSWORD}@")


def test_an_app_with_the_documented_redis_user_can_do_all_it_needs(
    own_redis: RedisServer, app_url: str
) -> None:
    with Stack(redis=own_redis) as stack:
        stack.migrate()
        key = stack.add_app("shop")
        stack.worker("-c", "2")
        login = stack.mosaic.login("ada", "client-shop")
        with SessionClient(broker_url=app_url, app_id="shop", app_key=key) as client:
            registered = client.register(
                user_id="ada", session_id=login.session_id, id_token=login.id_token, timeout=20
            )
            silent = client.silent_auth(user_id="ada", timeout=20)
            receipt = client.logout(user_id="ada", session_ref=registered.session_ref, timeout=20)

    assert silent.verdict is Verdict.AUTHENTICATED
    assert receipt.sessions_ended == 1


def test_the_example_with_a_queue_works_with_the_redis_user_documented_for_it(
    own_redis: RedisServer, tmp_path: Path
) -> None:
    database = tmp_path / "desk.db"
    with closing(sqlite3.connect(database)) as sessions, sessions:
        sessions.execute("CREATE TABLE sessions (session_ref TEXT PRIMARY KEY)")
    with Stack(redis=own_redis) as stack, redis.Redis.from_url(own_redis.url()) as admin:
        stack.migrate()
        stack.beat()
        apps = Apps(stack, "shop")
        apps.keys["desk"] = stack.add_app("desk", "--notice-queue", "desk-notices")
        desk_url = url_of("desk", own_redis)
        desk = SessionClient(broker_url=desk_url, app_id="desk", app_key=apps.keys["desk"])
        with closing(apps), desk, working(stack):
            ref = apps.register("ada").session_ref
            assert desk.silent_auth(user_id="ada", timeout=20).verdict is Verdict.AUTHENTICATED
            apps.clients["shop"].logout(user_id="ada", session_ref=ref, timeout=20)
            leave_a_notice_to_a_worker_that_died(admin)

            with running(
                "desk", tmp_path, *TAKE_NOTICES,
                BROKER_URL=desk_url, APP_ID="desk", APP_KEY=apps.keys["desk"],
                SESSIONS_DB=str(database),
            ):  # fmt: skip
                poll_until(lambda: not admin.exists(UNACKED, UNACKED_INDEX), 120)
                told = apps.clients["shop"].logout(
                    user_id="ada", session_ref=ref, wait="all", timeout=60
                )

        assert told.apps_confirmed == ("desk",)
        assert admin.acl_log() == []  # nothing was tried that is refused, not even on the side


def leave_a_notice_to_a_worker_that_died(admin: redis.Redis) -> None:
    """Note the app's notice as its own worker does when it takes one; then nothing more."""
    poll_until(lambda: admin.llen("desk-notices") > 0, 60)
    message: Any = admin.rpop("desk-notices")
    admin.hset(UNACKED, "taken", json.dumps([json.loads(message), "", "desk-notices"]))
    admin.zadd(UNACKED_INDEX, {"taken": time.time() - 2 * broker.VISIBILITY_TIMEOUT_SECONDS})


@pytest.mark.parametrize(
    "command",
    [
        ("HGET", "unacked", "a-job"),
        ("HDEL", "unacked", "a-job"),
        ("ZRANGE", "unacked_index", "0", "-1"),
        ("ZREM", "unacked_index", "a-job"),
        ("SET", "unacked_mutex", "held"),
        ("HGET", "app:shop:unacked", "a-job"),
        ("BRPOP", "shop-notices", "0.01"),
        ("BLPOP", "reply:shop:0123456789abcdef", "0.01"),
        ("EVAL", "return 1", "0"),
        ("KEYS", "*"),
        ("SUBSCRIBE", "anything"),
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_an_app_with_a_queue_cannot_touch_what_the_workers_or_other_apps_have_under_way(
    own_redis: RedisServer, command: tuple[str, ...]
) -> None:
    with (
        redis.Redis.from_url(url_of("desk", own_redis)) as app,
        pytest.raises(redis.exceptions.NoPermissionError),
    ):
        app.execute_command(*command)


@pytest.mark.parametrize(
    "command",
    [
        ("KEYS", "*"),
        ("CONFIG", "GET", "*"),
        ("FLUSHALL",),
        ("EVAL", "return 1", "0"),
        ("PUBLISH", "celery.pidbox", "{}"),
        ("SUBSCRIBE", "anything"),
        ("MONITOR",),
        ("LRANGE", "auth", "0", "-1"),
        ("BLPOP", "reply:forum:0123456789abcdef", "0.01"),
        ("LPUSH", "maintenance", "{}"),
        ("SET", "mosaic-sessions:worker:fake", "{}"),
        ("HGETALL", "request:shop:0123456789abcdef"),
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_an_app_can_neither_look_around_nor_command_anybody(
    app_url: str, command: tuple[str, ...]
) -> None:
    with (
        redis.Redis.from_url(app_url) as app,
        pytest.raises(redis.exceptions.NoPermissionError),
    ):
        app.execute_command(*command)
