"""A disk without space, for one process: the kernel refuses to let its files grow.

SQLite meets the same failed write as on a full disk. Unlike a small file system this needs no
rights, and can be given and taken while the process runs.
"""

from __future__ import annotations

import resource
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager

from sandbox.processes import ManagedProcess
from sandbox.stack import Stack

PADDING_BYTES = 1_500_000


@contextmanager
def full_disk(stack: Stack, worker: ManagedProcess) -> Iterator[None]:
    """Let no file of *worker* become longer than the database's log of writes is now.

    That log is made long first: the limit holds for every file, and what the worker prints goes
    to a file too, which must stay well below it.
    """
    _lengthen_the_log_of_writes(stack)
    log_of_writes = stack.folder / "sessions.db-wal"
    length = log_of_writes.stat().st_size
    assert length > PADDING_BYTES > 2 * len(worker.log_text())
    before = resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (length, resource.RLIM_INFINITY))
    try:
        yield
    finally:
        resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, before)


def _lengthen_the_log_of_writes(stack: Stack) -> None:
    with closing(sqlite3.connect(stack.folder / "sessions.db", timeout=10)) as connection:
        connection.execute("PRAGMA wal_autocheckpoint=0")  # it would begin the log anew
        connection.execute("CREATE TABLE padding (content BLOB)")
        connection.execute("INSERT INTO padding VALUES (zeroblob(?))", (PADDING_BYTES,))
        connection.commit()
