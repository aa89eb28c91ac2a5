"""Worker and beat where they may write nowhere and have no home: they remember nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx

from sandbox.ports import HOST, free_port
from sandbox.processes import poll_until
from sandbox.redis_server import RedisServer
from sandbox.stack import START_SECONDS, Stack
from session_client.contract import Queue
from tests.stage import redis_client

# Nobody can write a file there, not even root.
READ_ONLY = Path("/proc")
PASSWORD = "proxy-canary"


def sent(url: str) -> set[str]:
    with redis_client(url) as client:
        waiting: Any = client.lrange(Queue.MAINTENANCE.value, 0, -1)
    return {json.loads(message)["headers"]["task"] for message in waiting}


def test_beat_in_a_read_only_folder_has_all_its_work_done_at_once(
    redis_server: RedisServer, redis_url: str
) -> None:
    everything = {"maintenance.sweep", "maintenance.expire_sessions", "maintenance.purge_history"}
    port = free_port()
    with Stack(redis=redis_server, settings={"beat_port": port}) as stack:
        stack.environment.pop("HOME", None)
        beat = stack.beat(cwd=READ_ONLY)
        poll_until(lambda: sent(redis_url) == everything or not beat.is_alive, 60)

        assert beat.is_alive, beat.log_text()
        assert httpx.get(f"http://{HOST}:{port}/livez", timeout=60).text == "ok\n"


def test_a_worker_in_a_read_only_folder_starts_and_names_the_proxies_it_does_not_use(
    redis_server: RedisServer, redis_url: str
) -> None:
    port = free_port()
    with Stack(redis=redis_server, settings={"metrics_port": port}) as stack:
        stack.migrate()
        stack.environment.pop("HOME", None)
        stack.environment["HTTPS_PROXY"] = f"http://user:{PASSWORD}@{HOST}:1"
        words = ("celery", "-A", "worker", "worker", "-P", "processes", "-c", "1")
        worker = stack.start("worker", *words, cwd=READ_ONLY)
        worker.wait_for_line("ready.", timeout=START_SECONDS)
        alive = httpx.get(f"http://{HOST}:{port}/livez", timeout=60)
        log = worker.log_text()

    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    (told,) = [line for line in lines if line["event"] == "proxies_not_used"]
    assert told["variables"] == ["HTTPS_PROXY"]
    assert "MOSAIC_SESSIONS_MOSAIC_PROXY" in told["what_to_do"]
    assert PASSWORD not in log
    assert (alive.status_code, alive.text) == (200, "ok\n")
