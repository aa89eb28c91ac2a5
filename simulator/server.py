"""The simulator on a port of its own."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from threading import Thread
from types import TracebackType
from typing import Self

import uvicorn

from simulator.app import create_app
from simulator.controls.connection import HangUpProtocol
from simulator.controls.gates import wait_until
from simulator.idp.state import MosaicState

START_SECONDS = 60.0
STOP_SECONDS = 2.0
# Far longer than callers keep a connection idle: by its own default uvicorn closes one after 5 s,
# as httpx does, and a caller that uses it at that moment is cut off.
KEEP_IDLE_SECONDS = 120
TICK_SECONDS = 0.005


class PromptServer(uvicorn.Server):
    """uvicorn that stops in milliseconds, where its own loops take a fifth of a second a test."""

    async def main_loop(self) -> None:
        """Serve until another thread stops it."""
        while not await self.on_tick(0):  # noqa: ASYNC110 - another thread says so
            await asyncio.sleep(TICK_SECONDS)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no more connections and let the calls under way finish, for a while."""
        for server in self.servers:
            server.close()
        for listener in sockets or []:
            listener.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        with suppress(TimeoutError):
            async with asyncio.timeout(STOP_SECONDS):
                while self.server_state.connections:  # noqa: ASYNC110 - uvicorn keeps a set
                    await asyncio.sleep(TICK_SECONDS)


class SimulatorServer:
    """Serves *state* from a daemon thread for as long as its block lasts."""

    def __init__(
        self, state: MosaicState | None = None, *, host: str = "127.0.0.1", port: int = 0
    ) -> None:
        self.state = state or MosaicState()
        self._socket = _listen(host, port)
        self.url = f"http://{host}:{self._socket.getsockname()[1]}"
        self._server = PromptServer(
            uvicorn.Config(
                create_app(self.state),
                http=HangUpProtocol,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                timeout_keep_alive=KEEP_IDLE_SECONDS,
            )
        )
        self._thread = Thread(
            target=self._server.run, args=([self._socket],), name="mosaic-simulator", daemon=True
        )

    @property
    def token_url(self) -> str:
        """Where clients fetch their access tokens."""
        return f"{self.url}/oidc/token"

    @property
    def api_url(self) -> str:
        """What every other path of Mosaic hangs on."""
        return f"{self.url}/cis"

    @property
    def jwks_url(self) -> str:
        """Where the signing keys are published."""
        return f"{self.url}/cis/oidc/jwks"

    def start(self) -> None:
        """Serve, and return once calls are answered."""
        self._thread.start()
        wait_until(lambda: self._server.started or not self._thread.is_alive(), START_SECONDS)
        if not self._server.started:
            raise RuntimeError("the simulator did not start")

    def stop(self) -> None:
        """Open all gates, let the calls under way finish, and free the port."""
        self.state.gates.release_all()
        self._server.should_exit = True
        self._thread.join(START_SECONDS)
        self._socket.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def _listen(host: str, port: int) -> socket.socket:
    listener = socket.create_server((host, port), backlog=1024)
    # Accepted connections inherit this. Without it an answer sent in two pieces
    # waits 40 ms for the caller's delayed acknowledgement.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener
