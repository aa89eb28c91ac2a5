"""The Redis users that docs/operations.md gives to apps and workers: enough to work, no more."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
import redis

from sandbox.ports import free_port
from sandbox.processes import poll_until
from sandbox.redis_server import RedisServer, find_valkey_binary
from sandbox.stack import Stack
from session_client import (
    AsyncSessionClient,
    Authenticated,
    Registered,
    SessionClient,
    SessionInfo,
    Status,
    broker,
)
from tests.acceptance.client_rig import ROOT, TAKE_NOTICES, Apps, running, working
from tests.redis_users import WORKER, documented_rules, refused_commands, url_of, version_of
from tests.sending import send
from worker.maintenance.last_runs import Run, key_of

USERS = ("shop", "desk", WORKER)
UNACKED, UNACKED_INDEX = "app:desk:unacked", "app:desk:unacked_index"


# The one whose rules know no more than keys and commands, and one that knows all that is written.
SERVERS = {"at hand": None, "valkey": find_valkey_binary()}
on_each_server = pytest.mark.parametrize("own_redis", SERVERS.values(), ids=SERVERS, indirect=True)


@pytest.fixture
def own_redis(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    with RedisServer(binary=getattr(request, "param", None)) as server:
        with redis.Redis.from_url(server.url()) as admin:
            for user in USERS:
                rules = documented_rules(user, version_of(admin))
                admin.execute_command("ACL", "SETUSER", user, *rules)
        yield server


@pytest.fixture
def app_url(own_redis: RedisServer) -> str:
    return url_of("shop", own_redis)


def test_apps_and_workers_with_the_documented_redis_users_can_do_all_they_need(
    own_redis: RedisServer, app_url: str
) -> None:
    with (
        Stack(redis=own_redis, broker_url=url_of(WORKER, own_redis)) as stack,
        redis.Redis.from_url(own_redis.url()) as admin,
    ):
        stack.migrate()
        key = stack.add_app("shop")
        stack.add_app("desk", "--notice-queue", "desk-notices")
        stack.beat()
        stack.worker("-c", "2")
        login = stack.mosaic.login("ada", "client-shop")
        with SessionClient(broker_url=app_url, app_id="shop", app_key=key) as client:
            registered = client.register(
                user_id="ada", session_id=login.session_id, id_token=login.id_token, timeout=20
            )
            assert isinstance(registered, Registered)
            silent = client.silent_auth(user_id="ada", timeout=20)
            sessions = client.status(user_id="ada", timeout=20)
            receipt = client.logout(
                user_id="ada", session_ref=registered.session_ref, wait="idp", timeout=20
            )
        later = asyncio.run(sessions_of("ada", app_url, key))
        poll_until(lambda: admin.exists(key_of(Run.SWEEP)), 60, what="a sweep")

    assert isinstance(silent, Authenticated)
    assert later == ()
    assert len(sessions) == 1
    assert (receipt.sessions_ended, receipt.idp_confirmed) == (1, 1)
    assert refused_commands(own_redis) == set()


async def sessions_of(user_id: str, app_url: str, key: str) -> tuple[SessionInfo, ...]:
    async with AsyncSessionClient(broker_url=app_url, app_id="shop", app_key=key) as client:
        return await client.status(user_id=user_id, timeout=20)


def test_a_worker_with_the_documented_redis_user_takes_over_and_shows_how_things_are(
    own_redis: RedisServer, app_url: str
) -> None:
    health, metrics = free_port(), free_port()
    with (
        Stack(
            redis=own_redis,
            broker_url=url_of(WORKER, own_redis),
            settings={"metrics_port": metrics},
        ) as stack,
        redis.Redis.from_url(own_redis.url()) as admin,
    ):
        stack.migrate()
        key = stack.add_app("shop")
        with SessionClient(broker_url=app_url, app_id="shop", app_key=key) as client:
            asked = send(client, Status(user_id="ada"), timeout=120)
            leave_a_job_to_a_worker_that_died(admin, "sessions", "unacked", "unacked_index")
            stack.worker("-c", "2")
            stack.start("monitor", "mosaic-sessions", "monitor", "--port", str(health))

            assert asked.wait() == ()
        said = poll_until(lambda: got(f"http://127.0.0.1:{health}/healthz"), 60)
        shown = got(f"http://127.0.0.1:{metrics}/metrics")
        status = json.loads(stack.run("mosaic-sessions", "status", "--json", expect=None))

    assert '"workers"' not in said
    assert 'mosaic_sessions_queue_depth{queue="login"} 0.0' in shown
    assert status["unacknowledged"] == 0
    assert refused_commands(own_redis) == set()


def test_the_workers_user_may_do_all_that_its_scripts_do() -> None:
    scripts = [path.read_text(encoding="utf-8") for path in (ROOT / "worker").rglob("*.lua")]
    commands = {command for text in scripts for command in re.findall(r'call\("([A-Z]+)"', text)}

    rules = documented_rules(WORKER, (7, 2))

    assert commands
    assert {f"+{command.lower()}" for command in commands} <= set(rules)


def got(url: str) -> str:
    """What is served there, whatever its status; nothing while nobody listens."""
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:  # noqa: S310 - ours
            return str(answer.read().decode())
    except urllib.error.HTTPError as error:
        with error:
            return error.read().decode()
    except OSError:
        return ""


@on_each_server
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
            assert isinstance(desk.silent_auth(user_id="ada", timeout=20), Authenticated)
            apps.clients["shop"].logout(user_id="ada", session_ref=ref, timeout=20)
            poll_until(lambda: admin.llen("desk-notices") > 0, 60)
            leave_a_job_to_a_worker_that_died(admin, "desk-notices", UNACKED, UNACKED_INDEX)

            with running(
                "desk", tmp_path, *TAKE_NOTICES,
                SESSION_BROKER_URL=desk_url, SESSION_APP_ID="desk",
                SESSION_APP_KEY=apps.keys["desk"], SESSIONS_DB=str(database),
            ):  # fmt: skip
                poll_until(lambda: not admin.exists(UNACKED, UNACKED_INDEX), 120)
                told = apps.clients["shop"].logout(
                    user_id="ada", session_ref=ref, wait="all", timeout=60
                )

        assert told.apps_confirmed == ("desk",)
        assert refused_commands(own_redis) == set()  # not even on the side


def leave_a_job_to_a_worker_that_died(
    admin: redis.Redis, queue: str, unacked: str, unacked_index: str
) -> None:
    """Note the queue's next job as a worker does that takes one; then nothing more."""
    message: Any = admin.rpop(queue)
    admin.hset(unacked, "taken", json.dumps([json.loads(message), "", queue]))
    admin.zadd(unacked_index, {"taken": time.time() - 2 * broker.VISIBILITY_TIMEOUT_SECONDS})


# What CLIENT can do to others: stop them, cut them off, and listen in on their keys.
EVERYBODYS = [
    ("CLIENT", "PAUSE", "1"),
    ("CLIENT", "KILL", "TYPE", "normal"),
    ("CLIENT", "TRACKING", "ON", "BCAST"),
    ("CLIENT", "LIST"),
    ("CLIENT", "NO-EVICT", "on"),
    ("CLIENT", "UNBLOCK", "1"),
    ("CLIENT", "REPLY", "OFF"),
]


QUEUES = ["auth", "login", "sessions", "logout"]


@on_each_server
@pytest.mark.parametrize("user", ["shop", "desk"])
@pytest.mark.parametrize("queue", QUEUES)
def test_only_before_redis_7_can_an_app_take_from_a_queue_what_it_published(
    own_redis: RedisServer, user: str, queue: str
) -> None:
    with (
        redis.Redis.from_url(own_redis.url()) as admin,
        redis.Redis.from_url(url_of(user, own_redis)) as app,
    ):
        app.lpush(queue, "a-job")
        with suppress(redis.exceptions.NoPermissionError):
            app.blpop([queue], 1)

        assert admin.llen(queue) == (1 if version_of(admin) >= (7,) else 0)


@on_each_server
def test_from_redis_7_on_an_app_with_a_queue_can_do_nothing_to_others_but_publish(
    own_redis: RedisServer,
) -> None:
    """Anything else in the place of a queue would stop all workers."""
    rests = ["", "x", "1", "x y", "1 x", "0 1", "0 -1", "x 1"]
    done = set()
    with (
        redis.Redis.from_url(own_redis.url()) as admin,
        redis.Redis.from_url(url_of("desk", own_redis)) as app,
    ):
        rules = " ".join(documented_rules("desk", version_of(admin)))
        for command in re.findall(r"\+([a-z]+)(?=[ )])", rules):
            for queue in QUEUES:
                for rest in rests:
                    with suppress(redis.exceptions.ResponseError):  # refused, or wrongly asked
                        app.execute_command(command, queue, *rest.split())
                        done.add(command)
                    admin.delete(*QUEUES)
        is_old = version_of(admin) < (7,)

    harmless = {"ping"}  # it says its argument again
    assert done - harmless == {"lpush"} or (is_old and "set" in done)


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
        ("SADD", "_kombu.binding.auth", "to-me"),
        ("SMEMBERS", "_kombu.binding.auth"),
        *EVERYBODYS,
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
        ("SADD", "_kombu.binding.auth", "to-me"),
        ("LLEN", "auth"),
        ("RPOP", "auth"),
        *EVERYBODYS,
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


@pytest.mark.parametrize(
    "command",
    [
        ("CONFIG", "SET", "maxmemory", "1"),
        ("CONFIG", "GET", "*"),
        ("FLUSHALL",),
        ("ACL", "LIST"),
        ("SHUTDOWN",),
        ("KEYS", "*"),
        ("MONITOR",),
        ("GET", "somebody-elses"),
        ("LPUSH", "an-apps-own-queue", "{}"),
        ("PUBLISH", "celery.pidbox", "{}"),
        ("SUBSCRIBE", "anything"),
        ("EVAL", "return redis.call('GET', KEYS[1])", "1", "somebody-elses"),
        *EVERYBODYS,
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_a_worker_can_do_nothing_to_what_is_not_its_own(
    own_redis: RedisServer, command: tuple[str, ...]
) -> None:
    with (
        redis.Redis.from_url(url_of(WORKER, own_redis)) as worker,
        pytest.raises(redis.exceptions.NoPermissionError),
    ):
        worker.execute_command(*command)
