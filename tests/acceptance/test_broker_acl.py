"""The Redis user that docs/operations.md gives to an app: enough to work, and no more."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from sandbox.redis_server import RedisServer
from sandbox.stack import Stack
from session_client import SessionClient, Verdict

OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"
PASSWORD = "an-app-password"


def documented_rules() -> list[str]:
    """Return the words of the documented ACL line for the app `shop`."""
    text = OPERATIONS.read_text(encoding="utf-8")
    line = re.search(r"^user shop (.*?)\n```", text, re.MULTILINE | re.DOTALL)
    assert line is not None
    return line[1].replace("\\\n", " ").replace(">…", f">{PASSWORD}").split()


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        with redis.Redis.from_url(server.url()) as admin:
            admin.execute_command("ACL", "SETUSER", "shop", *documented_rules())
        yield server


@pytest.fixture
def app_url(own_redis: RedisServer) -> str:
    return own_redis.url().replace("redis://", f"redis://shop:{PASSWORD}@")


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
