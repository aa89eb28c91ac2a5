"""Where answers go: a Redis list for whoever waits, and a memory for whoever repeats.

Each visit is one script and one round trip. Redis' failures come out as they are: the callers
know what can be done without it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from session_client import contract
from worker.storage.redis_scripts import Call, Script, ScriptRunner

ANSWER_SECONDS: Final = int(contract.ANSWER_LIFETIME.total_seconds())

# Claims a request's id for its content, and returns what is known of the id.
_CLAIM: Final = Script("""
redis.call("HSETNX", KEYS[1], "digest", ARGV[1])
redis.call("EXPIRE", KEYS[1], ARGV[2])
return redis.call("HMGET", KEYS[1], "digest", "answer")
""")
# The session is for workers of the release before; this one looks into the answer.
_PUSH: Final = Script("""
redis.call("RPUSH", KEYS[1], ARGV[1])
redis.call("EXPIRE", KEYS[1], ARGV[2])
if ARGV[3] then
  redis.call("HSET", KEYS[2], "answer", ARGV[1], "digest", ARGV[3], "session", ARGV[4])
  redis.call("EXPIRE", KEYS[2], ARGV[5])
end
""")


@dataclass(frozen=True, slots=True)
class Memory:
    """What an answer is remembered with."""

    digest: bytes = field(repr=False)
    session: str  # the one it speaks of, or ""
    seconds: int


@dataclass(frozen=True, slots=True)
class Claimed:
    """What is remembered of a request id."""

    digest: bytes = field(repr=False)  # of the content the id was first used for
    answer: bytes | None = field(repr=False)


class Mailbox:
    """One per process; safe for all threads. Both methods raise `redis.RedisError`."""

    def __init__(self, scripts: ScriptRunner) -> None:
        self._scripts = scripts

    def claim(self, app_id: str, request_id: str, digest: bytes, seconds: int) -> Claimed:
        """Return what the id was used for first, which is *digest* if it is new."""
        keys = [_memory_key(app_id, request_id)]
        known: list[Any] = self._scripts.run(_CLAIM, keys, [digest, seconds])
        return Claimed(*known)

    def push(
        self,
        app_id: str,
        request_id: str,
        raw: bytes,
        memory: Memory | None = None,
        first: Call | None = None,
    ) -> None:
        """Push an answer to whoever waits for it, and keep it with its *memory*.

        *first* is run before it, in the same trip.
        """
        remember = () if memory is None else (memory.digest, memory.session, memory.seconds)
        push = Call(
            _PUSH,
            [contract.reply_key(app_id, request_id), _memory_key(app_id, request_id)],
            [raw, ANSWER_SECONDS, *remember],
        )
        self._scripts.run_all(*(() if first is None else (first,)), push)

    def close(self) -> None:
        """Close every connection."""
        self._scripts.close()


def _memory_key(app_id: str, request_id: str) -> str:
    return f"request:{app_id}:{request_id}"
