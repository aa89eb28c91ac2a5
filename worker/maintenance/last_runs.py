"""When maintenance last did its work: beat may be gone, or its queue without a worker.

A note is a key that expires, and what is left of its life tells its age: by Redis' clock alone, so
that it does not matter whose machine wrote it, and whose reads it.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import redis
import structlog

from worker.wiring import Services

log = structlog.get_logger()

KEY_PREFIX: Final = "mosaic-sessions:last-run:"
KEPT_SECONDS: Final = 7 * 24 * 3600  # longer than an operator overlooks it


class Run(StrEnum):
    """What beat has done again and again."""

    SWEEP = "sweep"
    EXPIRE_SESSIONS = "expire_sessions"
    # Noted only when nothing was left to delete: what cannot keep up must be seen.
    PURGE_HISTORY = "purge_history"


def note(services: Services, run: Run) -> None:
    """Note that *run* has done its work just now. What cannot be noted is done all the same."""
    try:
        services.redis.set(key_of(run), services.now().isoformat(), ex=KEPT_SECONDS)
    except redis.RedisError as error:
        log.warning("run_not_noted", what=run, error=type(error).__name__)


def ages(client: redis.Redis) -> dict[Run, float | None]:
    """Return how many seconds ago each was; None if not within a week. Raises `RedisError`."""
    pipeline = client.pipeline(transaction=False)
    for run in Run:
        pipeline.pttl(key_of(run))
    return {run: _age(left) for run, left in zip(Run, pipeline.execute(), strict=True)}


def is_within(services: Services, run: Run, seconds: float) -> bool:
    """Whether *run* was done less than so many *seconds* ago; False where Redis does not tell."""
    try:
        milliseconds_left = services.redis.pttl(key_of(run))
    except redis.RedisError:
        return False
    age = _age(milliseconds_left)
    return age is not None and age < seconds


def key_of(run: Run) -> str:
    """Return the key under which *run* is noted."""
    return f"{KEY_PREFIX}{run}"


def _age(milliseconds_left: int) -> float | None:
    # Less than 0: there is none, or one that never expires, which is not ours.
    return None if milliseconds_left < 0 else max(0.0, KEPT_SECONDS - milliseconds_left / 1000)
