"""A worker that counts its round trips: `python -m benchmarks.counting FILE celery-arguments…`.

The counts are of the real process and exact: each write of redis-py, each statement handed to
psycopg or to libpq (one in turn counts once, with its BEGIN and COMMIT), and each BEGIN, COMMIT and
ROLLBACK that psycopg sends by itself. They lie in a small file that the bench reads between two
requests.
"""

from __future__ import annotations

import functools
import mmap
import struct
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from celery.bin.celery import main as celery_main
from psycopg import Connection, Cursor
from redis.connection import AbstractConnection

from worker.storage.libpq import PreparedStatement

KINDS: Final = ("redis", "statements", "transaction_control")
_FORMAT: Final = f"{len(KINDS)}q"


def create(path: Path) -> None:
    """Make the file, all counts zero."""
    path.write_bytes(bytes(struct.calcsize(_FORMAT)))


def read(path: Path) -> dict[str, int]:
    """Return the counts so far."""
    return dict(zip(KINDS, struct.unpack(_FORMAT, path.read_bytes()), strict=True))


class Counts:
    """The counts of this process."""

    def __init__(self, path: Path) -> None:
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), 0)
        self._counts = dict.fromkeys(KINDS, 0)
        self._lock = threading.Lock()

    def add(self, kind: str) -> None:
        """Count one more."""
        with self._lock:
            self._counts[kind] += 1
            struct.pack_into(_FORMAT, self._memory, 0, *self._counts.values())


def install(counts: Counts) -> None:
    """Count from now on, in this process."""
    _count_calls(AbstractConnection, "send_packed_command", lambda: counts.add("redis"))
    _count_calls(Cursor, "execute", lambda: counts.add("statements"))
    _count_calls(Cursor, "executemany", lambda: counts.add("statements"))
    _count_calls(PreparedStatement, "run", lambda: counts.add("statements"))
    _count_calls(Connection, "_exec_command", lambda: counts.add("transaction_control"))


def _count_calls(owner: type, name: str, count: Callable[[], None]) -> None:
    original = getattr(owner, name)

    @functools.wraps(original)
    def counted(*arguments: Any, **named: Any) -> Any:
        count()
        return original(*arguments, **named)

    setattr(owner, name, counted)


if __name__ == "__main__":
    install(Counts(Path(sys.argv[1])))
    sys.argv[1:] = sys.argv[2:]
    celery_main()
