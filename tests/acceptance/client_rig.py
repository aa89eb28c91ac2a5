"""Apps on a whole system: their keys, their clients, and what they know of a user's login."""

from __future__ import annotations

import base64
import json
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from sandbox.environment import base_variables
from sandbox.processes import ManagedProcess
from sandbox.stack import Stack
from session_client import AsyncSessionClient, Registered, SessionClient

ROOT = Path(__file__).parent.parent.parent


class Apps:
    """The apps of one stack."""

    def __init__(self, stack: Stack, *app_ids: str) -> None:
        self.stack = stack
        self.keys = {app_id: stack.add_app(app_id) for app_id in app_ids}
        self.clients = {app_id: self.client(app_id) for app_id in app_ids}

    def client(self, app_id: str, key: str | None = None) -> SessionClient:
        key = key or self.keys[app_id]
        return SessionClient(broker_url=self.stack.broker_url, app_id=app_id, app_key=key)

    def awaited(self, app_id: str, key: str | None = None) -> AsyncSessionClient:
        key = key or self.keys[app_id]
        return AsyncSessionClient(broker_url=self.stack.broker_url, app_id=app_id, app_key=key)

    def login(self, user_id: str, app_id: str = "shop") -> Any:
        return self.stack.mosaic.login(user_id, f"client-{app_id}", amr=("pwd",))

    def register(self, user_id: str, app_id: str = "shop") -> Registered:
        login = self.login(user_id, app_id)
        answer = self.clients[app_id].register(
            user_id=user_id, session_id=login.session_id, id_token=login.id_token, timeout=20
        )
        assert isinstance(answer, Registered), answer
        return answer

    def close(self) -> None:
        for client in self.clients.values():
            client.close()


@contextmanager
def working(stack: Stack, *arguments: str) -> Iterator[ManagedProcess]:
    """Run a worker for as long as the block lasts."""
    worker = stack.worker(*arguments)
    try:
        yield worker
    finally:
        worker.terminate(timeout=20)


# The command of examples/queue_app.py, with one thread for a machine that is busy with the rest.
TAKE_NOTICES: Final = (
    "celery", "-A", "examples.queue_app", "worker", "-Q", "desk-notices",
    "--without-gossip", "--without-mingle", "--without-heartbeat", "-l", "info",
    "-P", "threads", "-c", "1",
)  # fmt: skip


@contextmanager
def running(name: str, folder: Path, *command: str, **environment: str) -> Iterator[ManagedProcess]:
    """Run a command of ours that is no part of the stack."""
    with ManagedProcess(
        [Path(sys.executable).parent / command[0], *command[1:]],
        environment={**base_variables(), **environment},
        log_path=folder / f"{name}.log",
        cwd=ROOT,
    ) as process:
        yield process


def subject_of(id_token: str | None) -> str:
    assert id_token is not None
    payload = id_token.split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return str(claims["sub"])


def count(stack: Stack, table: str) -> int:
    with sqlite3.connect(f"file:{stack.folder / 'sessions.db'}?mode=ro", uri=True) as connection:
        rows = connection.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608
    connection.close()
    return int(rows[0])
