"""Private ports on 127.0.0.1, chosen so that a server can be restarted on its own.

A port picked by the system (`bind` to 0) lies in the range that outgoing connections
are numbered from. While a server is down, a client that keeps reconnecting to such a
port may be given that very number as its own and then talk to itself, which also keeps
the server from coming back. So we choose from below that range.
"""

from __future__ import annotations

import random
import socket

HOST = "127.0.0.1"
PRIVATE_PORTS = range(20_000, 32_000)  # Linux numbers outgoing connections from 32768, macOS 49152

_handed_out: set[int] = set()


def free_port() -> int:
    """Return a port on 127.0.0.1 that nobody listens on and that we gave to nobody else."""
    for port in random.sample(PRIVATE_PORTS, k=200):
        if port not in _handed_out and _can_listen(port):
            _handed_out.add(port)
            return port
    raise RuntimeError("no free private port on 127.0.0.1")


def _can_listen(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
