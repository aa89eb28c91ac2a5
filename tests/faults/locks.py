"""Holding the database's write lock, as a stuck process would."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

from sandbox.stack import Stack


@contextmanager
def locked(stack: Stack, seconds: float) -> Iterator[None]:
    """Hold the lock for *seconds*; leaving waits until it is given back."""
    with _locked_during(stack, lambda: threading.Event().wait(seconds)):
        yield


@contextmanager
def locked_until_left(stack: Stack) -> Iterator[None]:
    """Hold the lock for as long as the block lasts."""
    is_left = threading.Event()
    with _locked_during(stack, is_left.wait):
        try:
            yield
        finally:
            is_left.set()


@contextmanager
def _locked_during(stack: Stack, wait: Callable[[], object]) -> Iterator[None]:
    is_locked = threading.Event()

    def hold() -> None:
        with closing(sqlite3.connect(stack.folder / "sessions.db", timeout=60)) as connection:
            connection.isolation_level = None
            connection.execute("BEGIN EXCLUSIVE")
            is_locked.set()
            wait()
            connection.execute("ROLLBACK")

    holder = threading.Thread(target=hold)
    holder.start()
    try:
        assert is_locked.wait(60)
        yield
    finally:
        holder.join()
