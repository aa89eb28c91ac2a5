"""A server that says something else than the one behind it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress

from sandbox.ports import HOST


class Disguise:
    """Passes everything on, what the server says by way of *change*."""

    def __init__(self, port: int, change: Callable[[bytes], bytes]) -> None:
        self._upstream = port
        self._change = change
        self._socket = socket.create_server((HOST, 0))
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._socket.accept()
                server = socket.create_connection((HOST, self._upstream))
                for one, other, change in (
                    (client, server, bytes),
                    (server, client, self._change),
                ):
                    pump = threading.Thread(target=self._pump, args=(one, other, change))
                    pump.daemon = True
                    pump.start()

    @staticmethod
    def _pump(one: socket.socket, other: socket.socket, change: Callable[[bytes], bytes]) -> None:
        with suppress(OSError), one, other:
            while chunk := one.recv(65536):
                other.sendall(change(chunk))

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
