"""That the database's disk has failed, noted in Redis for operators who ask how the service is.

Whether PostgreSQL's disk has space is known only to what needs more of it. So the process that
meets it notes it, and the note goes by itself when nobody has met it for a while.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Final

import redis
import structlog

from worker.errors import StoreDiskFails
from worker.storage.redis_client import value_and_age

log = structlog.get_logger()

KEY: Final = "mosaic-sessions:disk-failed"
KEPT_SECONDS: Final = 120
NOTE_EVERY_SECONDS: Final = 5.0  # each write fails, and each note costs its request a trip


@dataclass(frozen=True, slots=True)
class DiskNote:
    """What the database said, and how long ago."""

    says: str
    age_seconds: float


class DiskNotes:
    """Notes failures of one process. Safe for all threads; does without Redis."""

    def __init__(self, client: redis.Redis) -> None:
        self._redis = client
        self._noted_at = -math.inf

    def note(self, failure: StoreDiskFails) -> None:
        """Note it, unless this process has done so a moment ago."""
        now = time.monotonic()
        if now - self._noted_at < NOTE_EVERY_SECONDS:
            return
        self._noted_at = now
        try:
            self._redis.set(KEY, str(failure), ex=KEPT_SECONDS)
        except redis.RedisError as error:
            log.warning("disk_failure_not_noted", error=type(error).__name__)


def latest(client: redis.Redis) -> DiskNote | None:
    """Return the latest note of any process. Raises `redis.RedisError`."""
    found = value_and_age(client, KEY, KEPT_SECONDS)
    if found is None:
        return None
    says, age_seconds = found
    return DiskNote(says.decode(errors="replace"), age_seconds)
