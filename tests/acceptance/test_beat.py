"""Beat, wherever it is started: it remembers nothing, so it needs no place to write."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sandbox.processes import poll_until
from sandbox.redis_server import RedisServer
from sandbox.stack import Stack
from session_client.contract import Queue
from tests.stage import redis_client

# Nobody can write a file there, not even root.
READ_ONLY = Path("/proc")


def sent(url: str) -> set[str]:
    with redis_client(url) as client:
        waiting: Any = client.lrange(Queue.MAINTENANCE.value, 0, -1)
    return {json.loads(message)["headers"]["task"] for message in waiting}


def test_beat_in_a_read_only_folder_has_all_its_work_done_at_once(
    redis_server: RedisServer, redis_url: str
) -> None:
    everything = {"maintenance.sweep", "maintenance.expire_sessions", "maintenance.purge_history"}
    with Stack(redis=redis_server) as stack:
        beat = stack.beat(cwd=READ_ONLY)
        poll_until(lambda: sent(redis_url) == everything or not beat.is_alive, 60)

        assert beat.is_alive, beat.log_text()
