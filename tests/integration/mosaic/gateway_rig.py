"""What stands between the worker and Mosaic, and answers in its own way."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from tests.integration.mosaic.mosaic_rig import RawServer
from tests.stage import Stage

PAGE: Final = b"<html>We are down for maintenance</html>"


@dataclass
class Gateway:
    """Answers every call alike; change it at any time."""

    status: int = 404
    body: Any = None  # bytes as they are, all else as JSON
    headers: tuple[str, ...] = ()

    def __call__(self, connection: socket.socket) -> None:
        body = self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()
        lines = (f"HTTP/1.1 {self.status} X", f"Content-Length: {len(body)}", "Connection: close")
        head = "\r\n".join((*lines, *self.headers))
        connection.sendall(head.encode() + b"\r\n\r\n" + body)


@contextmanager
def behind(
    stage: Stage, gateway: Gateway, app_id: str = "shop", **choices: Any
) -> Iterator[RawServer]:
    """Add an app whose session calls *gateway* answers; everything else of it is Mosaic's."""
    with RawServer(gateway) as server:
        urls = {"token_url": stage.mosaic.token_url, "jwks_url": stage.mosaic.jwks_url}
        stage.add_app(app_id, base_url=server.url, **urls, **choices)
        yield server


def told_operator(logs: list[Any]) -> list[str]:
    """Return what the log asks an operator for."""
    return [line["detail"] for line in logs if line["event"] == "operator_must_act"]
