"""Holding the database's write lock, as a stuck process would."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager

from sandbox.stack import Stack


@contextmanager
def locked(stack: Stack, seconds: float) -> Iterator[None]:
    """Hold the lock for *seconds*; leaving waits until it is given back."""
    is_locked = threading.Event()

    def hold() -> None:
        with closing(sqlite3.connect(stack.folder / "sessions.db", timeout=10)) as connection:
            connection.isolation_level = None
            connection.execute("BEGIN EXCLUSIVE")
            is_locked.set()
            threading.Event().wait(seconds)
            connection.execute("ROLLBACK")

    holder = threading.Thread(target=hold)
    holder.start()
    is_locked.wait(10)
    try:
        yield
    finally:
        holder.join()
