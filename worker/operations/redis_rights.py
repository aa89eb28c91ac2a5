"""The commands of Redis that workers and operators use, and which of them we may not use."""

from __future__ import annotations

import secrets
from typing import Final

import redis

from worker.storage.redis_client import refused_command

_KEY: Final = "mosaic-sessions:doctor:{}"
_SCRIPT: Final = "return 1"
_SHA1: Final = "e0e1f9fabfc9d4800c877a703b823ac0578ff8db"  # of the script
_CHANNEL: Final = "/0.celeryev/doctor"

# Each with arguments that do no harm: K is a key of our own. Redis looks at their number first,
# then at the right, and at the rest last.
COMMANDS: Final[dict[str, tuple[object, ...]]] = {
    "time": (),
    "info": ("server",),
    "scan": (0, "MATCH", "K"),
    "publish": (_CHANNEL, ""),
    "watch": ("K",),
    "unwatch": (),
    "eval": (_SCRIPT, 0),
    "evalsha": (_SHA1, 0),
    "script|load": ("LOAD", _SCRIPT),
    **dict.fromkeys(("get", "mget", "del", "exists", "pttl", "incr", "smembers"), ("K",)),
    **dict.fromkeys(("rpop", "llen", "hlen", "hvals"), ("K",)),
    "set": ("K", "", "EX", 5),
    "expire": ("K", 5),
    "pexpire": ("K", 5000),
    **dict.fromkeys(("sadd", "lpush", "rpush", "hget", "hmget", "hdel", "zrem"), ("K", "x")),
    "brpop": ("K", 0.01),
    "blmove": ("K", "K", "LEFT", "RIGHT", 0.01),
    "lindex": ("K", 0),
    "hset": ("K", "x", "y"),
    "hsetnx": ("K", "x", "y"),
    "hincrby": ("K", "x", 1),
    "zadd": ("K", 1, "x"),
    "zrange": ("K", 0, 1),
    "multi": (),  # last, or a refused `exec` would leave what follows queued
    "exec": (),
}


def refused(client: redis.Redis) -> list[str]:
    """Return the commands that our user may not use. Raises `redis.RedisError`."""
    key = _KEY.format(secrets.token_hex(4))
    try:
        return [name for name in COMMANDS if _is_refused(client, name, key)]
    finally:
        for ending in ("expire", "del"):  # the first, where the second is refused
            _is_refused(client, ending, key)


def _is_refused(client: redis.Redis, name: str, key: str) -> bool:
    words = [key if word == "K" else word for word in COMMANDS[name]]
    try:
        client.execute_command(name.partition("|")[0].upper(), *words)
    except redis.ResponseError as error:
        return refused_command(error) is not None
    return False
