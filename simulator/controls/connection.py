"""Hanging up on a caller, which ASGI alone cannot do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

from starlette.types import Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

HANG_UP = "simulator.hang_up"


class HangUpProtocol(H11Protocol):
    """uvicorn's HTTP, with the way to close its connection handed to the app."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wrap the app, so that each scope carries this connection's `close`."""
        super().connection_made(transport)
        inner = self.app

        async def app(scope: Any, receive: Any, send: Any) -> None:
            scope["extensions"] = {**scope.get("extensions", {}), HANG_UP: transport.close}
            await inner(scope, receive, send)

        self.app = app


async def hang_up(scope: Scope) -> None:
    """Close the connection; what was already sent still reaches the caller."""
    close = cast("Callable[[], None] | None", scope.get("extensions", {}).get(HANG_UP))
    if close is None:
        raise ConnectionResetError("the simulator hung up")
    close()
    await asyncio.sleep(0)  # uvicorn learns of it now; otherwise it would answer 500


async def send_half(send: Send, status: int, body: bytes) -> None:
    """Promise the whole *body* and send its first half."""
    length = str(len(body)).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", length)]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})
