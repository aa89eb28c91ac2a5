"""Whatever others have written where a shared answer should be, requests are served."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from tests.integration.traffic.traffic_rig import Process, Starter, lead, plan, publish
from worker.traffic import SharedAnswer

ANSWER = "mosaic-sessions:flight:call:answer"


def now_us() -> int:
    return int(time.time() * 1_000_000)


def failure(**content: Any) -> Callable[[], bytes]:
    return lambda: b"%d:-%b" % (now_us(), json.dumps(content).encode())


GARBAGE: dict[str, Callable[[], bytes]] = {
    "nothing": lambda: b"",
    "no time": lambda: b"garbage",
    "an abandoned lead": lambda: b"abandoned",
    "only a time": lambda: b"%d:" % now_us(),
    "not sealed": lambda: b"%d:+garbage" % now_us(),
    "a cut seal": lambda: b"%d:+\x01\x02k1\x00" % now_us(),
    "no failure": lambda: b"%d:-{" % now_us(),
    "a failure of another kind": lambda: b"%d:-[]" % now_us(),
    "a failure without a reason": failure(retry_after=1),
    "a failure of the future": failure(reason="unheard_of", retry_after=1),
    "a failure without a time": failure(reason="idp_unavailable", retry_after=None),
    "a failure for ever": failure(reason="idp_unavailable", retry_after=float("inf")),
    "a failure for no number": failure(reason="idp_unavailable", retry_after=float("nan")),
    "a failure for a year": failure(reason="idp_unavailable", retry_after=365 * 86400),
    "a failure in the past": failure(reason="idp_unavailable", retry_after=-1),
    "a failure too long to count": failure(reason="idp_unavailable", retry_after=10**400),
    "a failure too deep": lambda: b"%d:-%b" % (now_us(), b"[" * 100_000),
    "bytes": lambda: b"%d:-\xff\xfe" % now_us(),
}


def test_garbage_in_an_answer_is_flown_over(process: Process) -> None:
    for name, garbage in GARBAGE.items():
        process.redis.flushall()
        process.redis.rpush(ANSWER, garbage())

        publish(process.traffic, lead(process), {}, version=1, seconds=60)

        assert isinstance(process.single_flight.join(plan()), SharedAnswer), name


def test_an_answer_sealed_with_a_key_that_left_the_ring_is_flown_over(start: Starter) -> None:
    old = start(key=b"o")
    publish(old.traffic, lead(old), {}, version=1, seconds=60)

    lead(start(key=b"n"))


def test_an_answer_sealed_for_another_call_is_passed_over(process: Process) -> None:
    publish(process.traffic, lead(process, name="another"), {}, version=1, seconds=60)
    process.redis.rename("mosaic-sessions:flight:another:answer", ANSWER)

    lead(process)


def test_an_old_answer_that_is_said_to_be_new_is_flown_over(process: Process) -> None:
    publish(process.traffic, lead(process), {}, version=1, seconds=60)
    raw: Any = process.redis.lpop(ANSWER)
    published_at, _, sealed = raw.partition(b":")

    process.redis.rpush(ANSWER, b"%d:%b" % (int(published_at) + 1, sealed))
    lead(process)


def test_keys_of_another_kind_cost_the_sharing_and_nothing_else(process: Process) -> None:
    process.redis.set(ANSWER, "not a list")

    publish(process.traffic, lead(process), {}, version=1, seconds=60)
