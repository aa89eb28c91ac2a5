"""Lua scripts in Redis, each run in one round trip, on connections of their own.

redis-py looks for unread data before each command, in three system calls, and at each of them
another thread may take the interpreter over: under load that costs more than the command. It also
leaves a connection whose answer it did not read in its pool (8.1), and the next command takes that
answer for its own. Here a connection is believed for a moment after a whole answer, and one whose
answer was not read is closed.

Without it a silent authentication takes 32 % more CPU. Before and after touching it:
`make bench ARGS="--only throughput"`.
"""

from __future__ import annotations

import hashlib
import socket
import struct
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from importlib.resources import files
from typing import Any, Final, cast

import redis
from redis.connection import AbstractConnection
from redis.exceptions import NoScriptError

from worker.storage.redis_client import is_from_a_replica

BELIEVED_SECONDS: Final = 1.0

Argument = str | bytes | int | float


class Script:
    """A script's text, and the name under which Redis keeps it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


@dataclass(frozen=True, slots=True)
class Call:
    """A script with its keys and arguments."""

    script: Script
    keys: Sequence[str] = field(repr=False)
    arguments: Sequence[Argument] = field(repr=False)


def read_script(package: str, *names: str) -> Script:
    """Return the script that the files *names*.lua in the folder ``lua`` of *package* make up."""
    folder = files(package) / "lua"
    return Script("\n".join((folder / f"{name}.lua").read_text("utf-8") for name in names))


class ScriptRunner:
    """Runs scripts, for all threads of a process. Make it after the fork."""

    def __init__(self, pool: redis.ConnectionPool) -> None:
        """Connect as *pool* would; it lends its settings only.

        It counts the connections it made and refuses the 101st, however many are closed by then.
        """
        kind = pool.connection_class
        if not issubclass(kind, redis.SSLConnection):
            kind = type("KernelTimed", (_KernelTimed, kind), {})
        make = partial(kind, **pool.connection_kwargs)
        self._make = cast("Callable[[], AbstractConnection]", make)
        self._idle: deque[tuple[AbstractConnection, float]] = deque()

    def run(self, script: Script, keys: Sequence[str], arguments: Sequence[Argument]) -> Any:
        """Return what *script* returns. Raises `redis.RedisError`; it may have run all the same."""
        return self.run_all(Call(script, keys, arguments))[0]

    def run_all(self, *calls: Call) -> list[Any]:
        """Return what each script returns, run in this order in one round trip.

        Raises `redis.RedisError`, the first of them; the other scripts may have run all the same.
        """
        connection = self._borrow()
        is_usable = False
        try:
            answers = _run_all(connection, calls)
            refusals = [answer for answer in answers if isinstance(answer, redis.RedisError)]
            is_usable = not any(map(is_from_a_replica, refusals))
        finally:
            if is_usable:
                self._idle.append((connection, time.monotonic()))
            else:
                connection.disconnect()
        if not is_usable:
            self.close()  # the other connections lead there, too
            raise redis.exceptions.ReadOnlyError("Redis is a replica")
        if refusals:
            raise refusals[0]
        return answers

    def close(self) -> None:
        """Close the connections that no thread uses."""
        with suppress(IndexError):
            while True:
                self._idle.pop()[0].disconnect()

    def _borrow(self) -> AbstractConnection:
        try:
            connection, answered_at = self._idle.pop()
        except IndexError:
            return self._make()
        if time.monotonic() - answered_at > BELIEVED_SECONDS and _is_stale(connection):
            connection.disconnect()  # it connects anew by itself
        return connection


class _KernelTimed:
    """Lets the kernel time reads and writes: Python does it by one more system call before each.

    Not for TLS, which must be told whether to wait for more.
    """

    socket_timeout: float | None
    _sock: socket.socket | None

    def _connect(self) -> socket.socket:
        connected: socket.socket = super()._connect()  # type: ignore[misc]
        seconds, rest = divmod(self.socket_timeout or 0, 1)  # 0 is for ever
        timeval = struct.pack("ll", int(seconds), int(rest * 1_000_000))
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeval)
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeval)
        connected.settimeout(None)
        return connected

    def can_read(self, timeout: float = 0) -> bool:
        try:
            return bool(super().can_read(timeout))  # type: ignore[misc]
        finally:
            if self._sock is not None:
                self._sock.settimeout(None)

    def read_response(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().read_response(*args, **kwargs)  # type: ignore[misc]
        except redis.ConnectionError as error:
            if isinstance(error.__context__, BlockingIOError):
                raise redis.TimeoutError("Timeout reading from socket") from None
            raise


def _run_all(connection: AbstractConnection, calls: Sequence[Call]) -> list[Any]:
    """Return each answer, or the error that Redis gave in its place."""
    commands = [_command("EVALSHA", call.script.sha, call) for call in calls]
    connection.send_packed_command([b"".join(commands)])
    answers = [_read(connection) for _ in calls]
    for place, call in enumerate(calls):
        # A Redis that was restarted, or never saw it. The other scripts have run by then.
        if isinstance(answers[place], NoScriptError):
            connection.send_packed_command([_command("EVAL", call.script.text, call)])
            answers[place] = _read(connection)
    return answers


def _command(name: str, script: str, call: Call) -> bytes:
    """Write *call* in Redis' protocol. redis-py copies all it has written for each word more."""
    parts = (name, script, len(call.keys), *call.keys, *call.arguments)
    words = [word if isinstance(word, bytes) else str(word).encode() for word in parts]
    return b"*%d\r\n" % len(words) + b"".join([b"$%d\r\n%b\r\n" % (len(w), w) for w in words])


def _read(connection: AbstractConnection) -> Any:
    try:
        return connection.read_response()
    except redis.ResponseError as error:
        return error


def _is_stale(connection: AbstractConnection) -> bool:
    """Whether there is something to read where nothing was asked, or the other side is gone."""
    try:
        return bool(connection.can_read())
    except (redis.RedisError, OSError):
        return True
