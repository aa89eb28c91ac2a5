"""The folder in which the children of a pool count.

Each start has a new one, inside the folder the operator named or the system's temporary one. It is
locked for as long as a process of that start lives, so that what a killed worker left behind can
be told from what is in use, and removed by the next start.
"""

from __future__ import annotations

import atexit
import fcntl
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Final

_PREFIX: Final = "mosaic-sessions-metrics-"
_LOCK: Final = "lock"

# Held open until the last process that was forked from here has ended.
_locks: list[int] = []


def new_folder(inside: str | None) -> Path:
    """Return a new, empty folder, which goes when this process ends. Raises OSError."""
    parent = Path(inside or tempfile.gettempdir())
    parent.mkdir(parents=True, exist_ok=True)
    for left in parent.glob(f"{_PREFIX}*"):
        _remove_unless_used(left)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
    # Under another name until it is locked: a start at the same time must not find it unlocked.
    lock = os.open(folder / f"new-{_LOCK}", os.O_CREAT | os.O_RDWR, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    (folder / f"new-{_LOCK}").rename(folder / _LOCK)
    _locks.append(lock)
    atexit.register(_remove_at_the_end, folder, os.getpid())
    return folder


def _remove_unless_used(folder: Path) -> None:
    with suppress(OSError):
        if folder.lstat().st_uid != os.geteuid():
            return  # other users may write to a temporary folder, too
        lock = os.open(folder / _LOCK, os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder)
        finally:
            os.close(lock)


def _remove_at_the_end(folder: Path, owner: int) -> None:
    if os.getpid() == owner:  # a child that ends must not take its siblings' counts with it
        shutil.rmtree(folder, ignore_errors=True)
