"""Looking at a running stack from outside: its database, its broker, its logs."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import redis

from sandbox.processes import ManagedProcess, poll_until
from sandbox.stack import Stack
from session_client import Registered, SessionClient


@contextmanager
def broker(stack: Stack) -> Iterator[redis.Redis]:
    client = redis.Redis.from_url(stack.redis.url())
    try:
        yield client
    finally:
        client.close()


def times_refused(client: redis.Redis, why: str) -> int:
    """Return how often Redis has answered with this error since it was started."""
    errors: Any = client.info("errorstats")
    return int(errors.get(f"errorstat_{why}", {}).get("count", 0))


def rows(stack: Stack, query: str) -> list[tuple[Any, ...]]:
    """Return what *query* finds in the stack's SQLite database."""
    with closing(sqlite3.connect(stack.folder / "sessions.db", timeout=10)) as connection:
        found = connection.execute(query).fetchall()
        connection.commit()
        return found


def outcomes(stack: Stack) -> list[str | None]:
    """Return how each delivery to tell Mosaic ended; None for one that is open."""
    return [row[0] for row in rows(stack, "SELECT outcome FROM logouts ORDER BY created_at, id")]


def wait_until_mosaic_is_told(stack: Stack, sessions: int = 1, timeout: float = 90) -> None:
    poll_until(
        lambda: outcomes(stack) == ["confirmed"] * sessions,
        timeout,
        what=f"{sessions} logouts to be confirmed by Mosaic",
    )


def log_lines(process: ManagedProcess) -> list[dict[str, Any]]:
    """Return the structured lines a process logged, but for one that it is still writing."""
    lines = process.log_text().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("\n")]


def deliveries(process: ManagedProcess, task: str, *, redelivered: bool) -> int:
    """Return how often *task* ended at this worker, first deliveries or repeated ones."""
    return sum(
        1
        for line in log_lines(process)
        if line.get("task") == task
        and line.get("logger") == "celery.app.trace"
        and line.get("redelivered") is redelivered
    )


def registered(
    stack: Stack, client: SessionClient, user_id: str = "ada", app_id: str = "shop"
) -> Registered:
    """Log a user in at Mosaic and register the session through the worker."""
    login = stack.mosaic.login(user_id, f"client-{app_id}")
    answer = client.register(
        user_id=user_id,
        session_id=login.session_id,
        id_token=login.id_token,
        timeout=60,
    )
    assert isinstance(answer, Registered), answer
    return answer


def resident(worker: ManagedProcess) -> int:
    """How many bytes of memory the worker has."""
    return _memory(worker, "VmRSS")


def largest(worker: ManagedProcess) -> int:
    """How many it had at most."""
    return _memory(worker, "VmHWM")


def _memory(worker: ManagedProcess, which: str) -> int:
    text = Path(f"/proc/{worker.pid}/status").read_text(encoding="ascii")
    (line,) = (line for line in text.splitlines() if line.startswith(which))
    return int(line.split()[1]) * 1024
