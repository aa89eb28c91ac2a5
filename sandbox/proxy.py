"""A TCP proxy on 127.0.0.1 that breaks connections in the ways networks do.

It runs in a thread of its own. Every fault is in force when its method returns, and
`heal` ends them all. It looks at single chunks, as they come from the system: on
loopback that is a whole reply, if the reply is small.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Self

from sandbox.ports import HOST, free_port

CHUNK_BYTES = 65_536
START_TIMEOUT_SECONDS = 60


class _Connection:
    """A client, the upstream server, and whether what they say still arrives."""

    def __init__(self, client: asyncio.StreamWriter, upstream: asyncio.StreamWriter) -> None:
        self.writers = (client, upstream)
        self.is_in_black_hole = False
        self.ended = asyncio.Event()

    def end(self) -> None:
        for writer in self.writers:
            writer.transport.abort()
        self.ended.set()


class FaultProxy:
    """Listens on `port` and passes everything on, until a test says otherwise.

    With *tls* its clients speak TLS with it, and it speaks in clear with the server behind.
    """

    def __init__(
        self, upstream_host: str, upstream_port: int, *, tls: ssl.SSLContext | None = None
    ) -> None:
        self.host = HOST
        self.port = free_port()
        self._upstream = (upstream_host, upstream_port)
        self._tls = tls
        self._connections: set[_Connection] = set()
        self._swallow_new = False
        self._latency_seconds = 0.0
        self._doomed_reply: tuple[bytes, threading.Event] | None = None
        self._server: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"proxy-{self.port}")
        self._thread.daemon = True  # a test that forgot to close it can still end

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> Self:
        """Listen. Connections to the upstream are made only as clients come."""
        self._thread.start()
        self.accept()
        return self

    def close(self) -> None:
        """Close every connection and stop listening, for good."""
        self.refuse()
        self._run(self._end_all)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def lead_to(self, upstream_port: int) -> None:
        """Connect new clients there from now on; present connections stay where they are."""
        self._upstream = (self._upstream[0], upstream_port)

    # Faults

    def cut(self) -> None:
        """Close all present connections. New ones are welcome."""
        self._run(self._end)

    def refuse(self) -> None:
        """Refuse new connections, as a server that is down does. Present ones stay."""
        self._run(self._stop_listening)

    def accept(self) -> None:
        """Listen again after `refuse`."""
        self._run(self._listen)

    def black_hole(self) -> None:
        """Swallow all that present connections say, both ways, as a forgetful NAT does.

        Neither side is told: when one gives up, the other still believes in the connection.
        """
        self._run(self._swallow_present)

    def black_hole_all(self) -> None:
        """Swallow what present and future connections say; connecting itself works."""
        self._swallow_new = True
        self.black_hole()

    def latency(self, seconds: float) -> None:
        """Hold every chunk for so long, each way: a round trip takes twice that."""
        self._latency_seconds = seconds

    def drop_next_reply(self, containing: bytes) -> threading.Event:
        """Discard the next chunk from the server with these bytes and close that connection.

        The event returned is set once it has happened.
        """
        happened = threading.Event()
        self._doomed_reply = (containing, happened)
        return happened

    def heal(self) -> None:
        """End every fault. Connections in the black hole are closed: they missed too much."""
        self._swallow_new = False
        self._latency_seconds = 0.0
        self._doomed_reply = None
        self._run(self._end_swallowed)
        self.accept()

    # Inside the thread

    def _run(self, step: Callable[[], Awaitable[None]]) -> None:
        async def run() -> None:
            await step()

        asyncio.run_coroutine_threadsafe(run(), self._loop).result(START_TIMEOUT_SECONDS)

    async def _listen(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(
                self._serve, self.host, self.port, ssl=self._tls
            )

    async def _stop_listening(self) -> None:
        if self._server is not None:
            # A client accepted a moment ago must still find it open: asyncio would drop that
            # connection without closing it.
            for listener in self._server.sockets:
                self._loop.remove_reader(listener)
            await asyncio.sleep(0)
            self._server.close()
            self._server = None

    async def _end(self) -> None:
        for connection in self._connections:
            connection.end()

    async def _end_swallowed(self) -> None:
        for connection in self._connections:
            if connection.is_in_black_hole:
                connection.end()

    async def _swallow_present(self) -> None:
        for connection in self._connections:
            connection.is_in_black_hole = True

    async def _end_all(self) -> None:
        # Again and again, because a connection may be on its way to the upstream.
        while tasks := asyncio.all_tasks() - {asyncio.current_task()}:
            await self._end()
            await asyncio.wait(tasks, timeout=0.05)

    async def _serve(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        try:
            upstream_reader, upstream = await asyncio.open_connection(*self._upstream)
        except OSError:
            client.transport.abort()
            return
        connection = _Connection(client, upstream)
        connection.is_in_black_hole = self._swallow_new
        self._connections.add(connection)
        await asyncio.gather(
            self._pump(connection, reader, upstream, from_server=False),
            self._pump(connection, upstream_reader, client, from_server=True),
        )
        self._connections.remove(connection)

    async def _pump(
        self,
        connection: _Connection,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        from_server: bool,
    ) -> None:
        with suppress(OSError):
            while chunk := await reader.read(CHUNK_BYTES):
                if self._latency_seconds:
                    await asyncio.sleep(self._latency_seconds)
                if from_server and self._is_doomed(chunk):
                    break
                if not connection.is_in_black_hole:
                    writer.write(chunk)
                    await writer.drain()
        # The end of a swallowed connection is swallowed too.
        if connection.is_in_black_hole:
            await connection.ended.wait()
        connection.end()

    def _is_doomed(self, chunk: bytes) -> bool:
        doomed = self._doomed_reply
        if doomed is None or doomed[0] not in chunk:
            return False
        self._doomed_reply = None
        doomed[1].set()
        return True
