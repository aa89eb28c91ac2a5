"""Apps that are told of logouts: some well, some not."""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import parse_qs

from joserfc import jwt
from joserfc.jwk import KeySet

from sandbox.ports import HOST, free_port

# Answers a request on its own; returns the notice's status if it answered in the usual way.
Manner = Callable[[BaseHTTPRequestHandler], int | None]


def well(_: BaseHTTPRequestHandler) -> int:
    """As it should be."""
    return 200


class Receiver:
    """A back-channel logout endpoint that behaves in one manner, and notes what it was told."""

    def __init__(self, manner: Manner = well) -> None:
        self.manner = manner
        self.told: list[str] = []  # the `jti` of each notice it accepted
        self.asked = 0
        self.port = free_port()
        self._keys: KeySet | None = None
        self._server = ThreadingHTTPServer((HOST, self.port), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}/backchannel-logout"

    def trust(self, jwks: KeySet) -> None:
        """Accept only notices that these keys have signed."""
        self._keys = jwks

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                receiver.asked += 1
                length = int(self.headers["Content-Length"])
                form = parse_qs(self.rfile.read(length).decode())
                status = receiver.manner(self)
                if status is None:
                    return
                if status == 200:
                    receiver._accept(form["logout_token"][0])
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        return Handler

    def _accept(self, token: str) -> None:
        assert self._keys is not None
        claims = jwt.decode(token, self._keys, algorithms=["RS256"]).claims
        self.told.append(claims["jti"])
