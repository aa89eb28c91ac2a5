"""Private ports on 127.0.0.1, chosen so that a server can be restarted on its own.

A port picked by the system (`bind` to 0) lies in the range that outgoing connections
are numbered from. While a server is down, a client that keeps reconnecting to such a
port may be given that very number as its own and then talk to itself, which also keeps
the server from coming back. So we choose from below that range.

Several processes choose at the same time (the test run has workers), and a port whose
server is down looks free to the others. So each is also reserved, among all processes of
this user, until the one it was given to ends.
"""

from __future__ import annotations

import fcntl
import functools
import os
import random
import socket
import tempfile
from pathlib import Path

HOST = "127.0.0.1"
PRIVATE_PORTS = range(20_000, 32_000)  # Linux numbers outgoing connections from 32768, macOS 49152

_handed_out: set[int] = set()


def free_port() -> int:
    """Return a port on 127.0.0.1 that no process listens on and that no other was given."""
    for port in random.sample(PRIVATE_PORTS, k=len(PRIVATE_PORTS)):
        if port not in _handed_out and _can_listen(port) and _reserve(port):
            _handed_out.add(port)
            return port
    raise RuntimeError("no free private port on 127.0.0.1")


def fixed_port(port: int) -> int:
    """Return *port* where it can be had, so that it is the same at each run; else another one."""
    if port not in _handed_out and _can_listen(port) and _reserve(port):
        _handed_out.add(port)
        return port
    return free_port()


def _can_listen(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def _reserve(port: int) -> bool:
    """Lock the port's byte of a shared file; the system unlocks it however we end."""
    try:
        fcntl.lockf(_reservations(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except OSError:
        return False
    return True


@functools.cache
def _reservations() -> int:
    # Opened once and never closed: closing any handle of it would give up all our locks.
    path = Path(tempfile.gettempdir()) / f"sandbox-ports-{os.getuid()}"
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
