"""One connection of the driver for asyncio."""

from __future__ import annotations

from typing import Any, Final

from session_client._redis import causes
from session_client._redis.settings import Place

# How long Redis itself waits in one BLPOP, and how much longer it may be silent before the
# connection is given up: a firewall forgets one without a word.
ON_SERVER_SECONDS: Final = 1.0
SILENCE_SECONDS: Final = 2.0
_LAST_LOOK_SECONDS: Final = 0.25


class Line:
    """One connection, made when it is used."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._connection: Any = None
        self.is_proven = False  # it has answered once

    def another(self) -> Line:
        """Return one more to the same Redis."""
        return Line(self._place)

    async def exchange(self, commands: list[tuple[Any, ...]]) -> list[Any]:
        """Send *commands* in one write, and read the reply to each."""
        await self.send(commands, ON_SERVER_SECONDS + SILENCE_SECONDS)
        return [await self.read() for _ in commands]

    async def connect(self) -> None:
        """Connect it, if it is not yet."""
        if self._connection is None:
            connection = self._connection = self._place.for_asyncio()
            connection.socket_connect_timeout = connection.socket_timeout = SILENCE_SECONDS
            await connection.connect()

    async def send(
        self, commands: list[tuple[Any, ...]], silence: float, *, is_long: bool = False
    ) -> None:
        """Send *commands*; each of their replies may take *silence* seconds."""
        await self.connect()
        connection = self._connection
        # Without a limit redis-py does not go through `asyncio.wait_for`, which before Python 3.12
        # may swallow a cancellation. To ask for an answer is too short to fill a buffer.
        connection.socket_timeout = silence if is_long else None
        await connection.send_packed_command(connection.pack_commands(commands), check_health=False)
        connection.socket_timeout = silence

    async def read(self) -> Any:
        """Read one reply."""
        connection = self._connection
        try:
            reply = await _next_reply(connection)
        except Exception as error:
            if not causes.is_timeout(error):
                raise
            # An event loop that stood still is told that the time is over, and may have read what
            # came meanwhile all the same. That would be lost, and with it what a login came to.
            silence, connection.socket_timeout = connection.socket_timeout, _LAST_LOOK_SECONDS
            reply = await _next_reply(connection)
            connection.socket_timeout = silence
        self.is_proven = True
        return reply

    async def close(self) -> None:
        """Close it at once."""
        connection, self._connection, self.is_proven = self._connection, None, False
        if connection is None:
            return
        # TLS says good-bye in a later turn of the event loop, which may have ended by then.
        writer = connection._writer  # noqa: SLF001 - the same in all versions
        if writer is not None:
            writer.transport.abort()
        await connection.disconnect(nowait=True)


async def _next_reply(connection: Any) -> Any:
    # Closed by the line alone, and at once: redis-py would close it in its own time.
    return await connection.read_response(disconnect_on_error=False)
