"""Calls an ASGI app in this process, from tests that block."""

from __future__ import annotations

import asyncio
import threading
from typing import Any, Final

import httpx

PATIENT: Final = 30.0


class AsgiTransport(httpx.BaseTransport):
    """Runs an ASGI app on one loop of its own, for callers that block."""

    def __init__(self, app: Any) -> None:
        self._transport = httpx.ASGITransport(app=app)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return asyncio.run_coroutine_threadsafe(self._handle(request), self._loop).result(PATIENT)

    async def _handle(self, request: httpx.Request) -> httpx.Response:
        request.stream = httpx.ByteStream(request.read())
        response = await self._transport.handle_async_request(request)
        content = await response.aread()
        return httpx.Response(
            response.status_code, headers=response.headers.raw, content=content, request=request
        )

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
