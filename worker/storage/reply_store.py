"""Where answers go: a Redis list for the app that waits, and a record for when it repeats.

Each visit is one script and one round trip. Redis' failures come out as they are: the callers
know what can be done without it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Final

from session_client import contract
from worker.storage.redis_scripts import Call, Script, ScriptRunner

ANSWER_SECONDS: Final = int(contract.ANSWER_LIFETIME.total_seconds())

_NOW: Final = """
local time = redis.call("TIME")
local now = time[1] * 1000000 + time[2]
"""
# Claims a request's id for its content, and returns what is known of the id, and Redis' time.
_CLAIM: Final = Script(f"""{_NOW}
redis.call("HSETNX", KEYS[1], "digest", ARGV[1])
redis.call("EXPIRE", KEYS[1], ARGV[2])
local known = redis.call("HMGET", KEYS[1], "digest", "answer")
return {{now, known[1], known[2]}}
""")
# Returns Redis' time, and 1 if it is not too late: the command may have been on its way for long.
_PUSH: Final = Script(f"""{_NOW}
if ARGV[3] ~= "" and now > tonumber(ARGV[3]) then return {{now, 0}} end
redis.call("RPUSH", KEYS[1], ARGV[1])
redis.call("EXPIRE", KEYS[1], ARGV[2])
if ARGV[4] then
  redis.call("HSET", KEYS[2], "answer", ARGV[1], "digest", ARGV[4])
  redis.call("EXPIRE", KEYS[2], ARGV[5])
end
return {{now, 1}}
""")
_LOOK_AT_THE_CLOCK: Final = Script(f"{_NOW} return {{now}}")


@dataclass(frozen=True, slots=True)
class ReplyRecord:
    """What is kept with an answer."""

    digest: bytes = field(repr=False)
    seconds: int


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """What is kept under a request id."""

    digest: bytes = field(repr=False)  # of the content the id was first used for
    answer: bytes | None = field(repr=False)


class ReplyStore:
    """One per process; safe for all threads. Its methods raise `redis.RedisError`."""

    def __init__(self, scripts: ScriptRunner) -> None:
        self._scripts = scripts
        # What Redis' clock (microseconds) had reached at a moment of ours (`time.monotonic`).
        self._clock: tuple[int, float] | None = None

    def claim(self, app_id: str, request_id: str, digest: bytes, seconds: int) -> RequestRecord:
        """Return what the id was used for first, which is *digest* if it is new."""
        keys = [_record_key(app_id, request_id)]
        now, first, answer = self._scripts.run(_CLAIM, keys, [digest, seconds])
        self._set_clock(now)
        return RequestRecord(first, answer)

    def push(  # noqa: PLR0913 - what one trip carries
        self,
        app_id: str,
        request_id: str,
        raw: bytes,
        record: ReplyRecord | None = None,
        first: Call | None = None,
        *,
        until: float | None = None,
        answer_to: str | None = None,
    ) -> bool:
        """Push an answer to the app that waits for it, and keep it with its *record*.

        The list is the request's own, unless the app waits for many answers at *answer_to*.

        *first* is run before it, in the same trip. Returns whether it was pushed: not when Redis
        came to it after *until*, a moment of `time.monotonic`.
        """
        remember = () if record is None else (record.digest, record.seconds)
        push = Call(
            _PUSH,
            [contract.reply_key(app_id, answer_to or request_id), _record_key(app_id, request_id)],
            [raw, ANSWER_SECONDS, "" if until is None else self._at_redis(until), *remember],
        )
        *_, (now, is_pushed) = self._scripts.run_all(*(() if first is None else (first,)), push)
        self._set_clock(now)
        return bool(is_pushed)

    def run_anew(self, call: Call) -> None:
        """Run what may have been run, over a connection that is made now."""
        self._scripts.close()
        self._scripts.run_all(call)

    def close(self) -> None:
        """Close every connection."""
        self._scripts.close()

    def _set_clock(self, redis_now: int) -> None:
        # Behind rather than ahead: Redis looked at it before its answer was on the way.
        self._clock = redis_now, time.monotonic()

    def _at_redis(self, moment: float) -> int:
        """Return what Redis' clock will have reached at *moment*, or a little less."""
        if self._clock is None:
            self._set_clock(*self._scripts.run(_LOOK_AT_THE_CLOCK, [], []))
        assert self._clock is not None, "just set"  # noqa: S101
        redis_then, then = self._clock
        return redis_then + int((moment - then) * 1e6)


def _record_key(app_id: str, request_id: str) -> str:
    return f"request:{app_id}:{request_id}"
