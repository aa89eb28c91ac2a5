"""The Redis users that docs/operations.md gives to apps and workers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import redis

from sandbox.redis_server import RedisServer

_OPERATIONS: Final = Path(__file__).parents[1] / "docs" / "operations.md"
PASSWORD: Final = "a-password"
WORKER: Final = "session-worker"
_ports: set[int] = set()  # of the servers that have the worker's user


def documented_rules(user: str, version: tuple[int, ...]) -> list[str]:
    """Return the words of the documented ACL line, as a Redis of that version takes them."""
    text = _OPERATIONS.read_text(encoding="utf-8")
    line = re.search(rf"^user {user} (.*?)\n```", text, re.MULTILINE | re.DOTALL)
    assert line is not None
    words = line[1].replace("\\\n", " ").replace(">…", f">{PASSWORD}").split()
    if version < (7,):
        words = [word.replace("%W~", "~").strip("()") for word in words]
    if (7,) <= version < (7, 2):
        words.remove("+client|setinfo")
    return words


def version_of(admin: redis.Redis) -> tuple[int, ...]:
    """Return the version of a Redis, or of a Valkey, which calls itself Redis 7.2 too."""
    told: Any = admin.info("server")
    version = told.get("valkey_version", told["redis_version"])
    return tuple(int(part) for part in version.split(".")[:2])


def url_of(user: str, server: RedisServer) -> str:
    """Return the address under which *user* connects."""
    return server.url().replace("redis://", f"redis://{user}:{PASSWORD}@")


def refused_commands(server: RedisServer) -> set[tuple[str, str]]:
    """Who was refused what since the last reset, but for what is asked on the off chance."""
    with redis.Redis.from_url(server.url()) as admin:
        entries: Any = admin.acl_log()
        refused = {(entry["username"], entry["object"].partition("|")[0]) for entry in entries}
        if entries and version_of(admin) < (7,):
            # redis-py asks for notifications of maintenance. Newer servers say that they have
            # none; this one says that it may not be asked.
            refused = {(user, what) for user, what in refused if what != "client"}
    return refused - {(WORKER, "config")}  # which is content with INFO


def serve_the_worker(server: RedisServer) -> None:
    """Have the worker's documented user on *server*, for all stages there."""
    with redis.Redis.from_url(server.url()) as admin:
        rules = documented_rules(WORKER, version_of(admin))
        # As the page says, each app's queue of notices is added.
        admin.execute_command("ACL", "SETUSER", WORKER, *rules, "~*-notices")
    _ports.add(server.port)


def as_the_worker(url: str) -> str:
    """Return *url* with the worker's documented user, where the server has it."""
    parts = urlsplit(url)
    if parts.port in _ports and parts.username is None:
        return url.replace("redis://", f"redis://{WORKER}:{PASSWORD}@")
    return url
