"""A durable spool for logouts of apps that cannot wait.

`LogoutSpool.logout` writes the request down and returns; a background thread (or a job of the
app's own that calls `LogoutSpool.deliver`) keeps sending it until the worker has acknowledged it,
across restarts of the app. What is written is sealed: the spool holds no secret in clear.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from session_client.contract import Reason, Verdict
from session_client.errors import SEND_ANEW, NotAcknowledged, SealBroken
from session_client.keys import AppKey

if TYPE_CHECKING:
    from session_client.client import SessionClient

log = logging.getLogger(__name__)

PAUSE_SECONDS: Final = 2.0
DELIVERY_TIMEOUT_SECONDS: Final = 10.0
_BATCH: Final = 100
_BUSY_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class SpooledLogout:
    """One logout that is not acknowledged yet, sealed. ``refused`` says why it never will be."""

    request_id: str
    envelope: str = field(repr=False)
    refused: str | None = None


class SpoolStore(Protocol):
    """Where spooled logouts are kept: a file, or a table in the app's own database.

    Each method takes effect durably before it returns. Several processes may share one store: a
    logout that two of them deliver is one logout.
    """

    def add(self, logout: SpooledLogout) -> None:
        """Keep *logout*; one with the same request id is replaced."""
        ...

    def waiting(self, limit: int) -> list[SpooledLogout]:
        """Return the oldest ones that are neither acknowledged nor refused."""
        ...

    def acknowledged(self, request_id: str) -> None:
        """Forget one."""
        ...

    def refuse(self, request_id: str, why: str) -> None:
        """Keep one as refused: somebody must look at it."""
        ...

    def refused(self) -> list[SpooledLogout]:
        """Return those that the worker refused."""
        ...


class SqliteSpool:
    """The default store: one SQLite file."""

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._path.touch(mode=0o600)  # SQLite would make it readable for all, if only for a moment
        self._path.chmod(0o600)
        with self._connect() as connection:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute(
                "CREATE TABLE IF NOT EXISTS spooled_logouts ("
                " request_id TEXT PRIMARY KEY, envelope TEXT NOT NULL, refused TEXT)"
            )

    def add(self, logout: SpooledLogout) -> None:
        """Keep *logout*; one with the same request id is replaced."""
        with self._connect() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO spooled_logouts VALUES (?, ?, ?)",
                (logout.request_id, logout.envelope, logout.refused),
            )

    def waiting(self, limit: int) -> list[SpooledLogout]:
        """Return the oldest ones that are neither acknowledged nor refused."""
        return self._read("WHERE refused IS NULL ORDER BY rowid LIMIT ?", limit)

    def acknowledged(self, request_id: str) -> None:
        """Forget one."""
        with self._connect() as connection:
            connection.execute("DELETE FROM spooled_logouts WHERE request_id = ?", (request_id,))

    def refuse(self, request_id: str, why: str) -> None:
        """Keep one as refused."""
        with self._connect() as connection:
            connection.execute(
                "UPDATE spooled_logouts SET refused = ? WHERE request_id = ?", (why, request_id)
            )

    def refused(self) -> list[SpooledLogout]:
        """Return those that the worker refused."""
        return self._read("WHERE refused IS NOT NULL ORDER BY rowid")

    def _read(self, clause: str, *values: object) -> list[SpooledLogout]:
        with self._connect() as connection:
            query = f"SELECT request_id, envelope, refused FROM spooled_logouts {clause}"  # noqa: S608
            return [SpooledLogout(*row) for row in connection.execute(query, values)]

    @contextmanager
    def _connect(self) -> Iterator[sqlite3.Connection]:
        # A connection each time: the spool is used rarely, and from any thread and process.
        with closing(sqlite3.connect(self._path, timeout=_BUSY_SECONDS)) as connection:
            connection.execute("PRAGMA synchronous=FULL")
            with connection:
                yield connection


class LogoutSpool:
    """Logouts that are written down first and delivered until they are acknowledged.

    Args:
        client: who asks.
        store: where they are kept, e.g. ``SqliteSpool("logouts.db")``.
        earlier_keys: app keys from before a rotation, as long as logouts may lie in the store
            that were sealed with them.
    """

    def __init__(
        self,
        client: SessionClient,
        store: SpoolStore,
        *,
        earlier_keys: Iterable[AppKey | str] = (),
    ) -> None:
        self._client = client
        self._store = store
        self._earlier_keys = [
            key if isinstance(key, AppKey) else AppKey.parse(key) for key in earlier_keys
        ]
        self._wake = threading.Event()
        # Each thread has its own: one that outlived `stop` must not run on after a `start`.
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def logout(self, **request: Any) -> str:
        """Write a logout down and return its request id; it will be delivered.

        Takes what `SessionClient.logout` takes, but for ``timeout`` and ``wait``. Once this has
        returned the logout survives a crash of the app. The user is not yet logged out elsewhere.
        """
        message = self._client.seal_logout(**request)
        self._store.add(SpooledLogout(message.request_id, message.envelope))
        self._wake.set()
        return message.request_id

    def deliver(self, *, timeout: float = DELIVERY_TIMEOUT_SECONDS) -> int:
        """Try all waiting logouts once, *timeout* seconds each; return how many are acknowledged.

        Stops at the first one that nobody acknowledges: the others would wait in vain as well.
        """
        return self._deliver(timeout, threading.Event())

    def retry_refused(self) -> int:
        """Try what the worker refused again, after somebody put the cause right; return how many.

        A refusal may also be forged, by whoever can write to the broker.
        """
        refused = self._store.refused()
        for spooled in refused:
            self._store.add(replace(spooled, refused=None))
        self._wake.set()
        return len(refused)

    def start(self) -> None:
        """Deliver in a background thread from now on, also what an earlier process left.

        Call it in each process that should, after the fork.
        """
        if self._thread is None or not self._thread.is_alive():
            self._stop = threading.Event()
            self._thread = threading.Thread(
                target=self._run, args=(self._stop,), name="logout-spool", daemon=True
            )
            self._thread.start()

    def stop(self, *, timeout: float = DELIVERY_TIMEOUT_SECONDS) -> None:
        """Stop the thread within *timeout* seconds; what waits stays in the store."""
        self._stop.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout)
            self._thread = None

    def _run(self, stop: threading.Event) -> None:
        while not stop.is_set():
            self._wake.clear()
            try:
                self._deliver(PAUSE_SECONDS, stop)
            except Exception:
                # A store that is locked or full for a while must not end the delivery for good.
                log.exception("spooled logouts are not delivered; trying again")
            if not stop.is_set():
                self._wake.wait(PAUSE_SECONDS)

    def _deliver(self, timeout: float, stop: threading.Event) -> int:
        delivered = 0
        for spooled in self._store.waiting(_BATCH):
            if stop.is_set():
                break
            current = self._under_todays_key(spooled)
            if current is None:
                continue
            try:
                self._client.send_logout(current.request_id, current.envelope, timeout=timeout)
            except NotAcknowledged as error:
                if not self._is_settled(current, error):
                    break
            else:
                self._store.acknowledged(current.request_id)
                delivered += 1
        return delivered

    def _under_todays_key(self, spooled: SpooledLogout) -> SpooledLogout | None:
        """Return it under today's key. None when it has none of ours, and must not block others."""
        try:
            if self._client.can_open_answer_to(spooled.envelope):
                return spooled
            return self._send_anew(spooled)
        except SealBroken:
            self._store.refuse(spooled.request_id, "sealed with a key that is not among ours")
            return None

    def _is_settled(self, spooled: SpooledLogout, error: NotAcknowledged) -> bool:
        """Deal with a refusal. Returns False when nobody answered for now."""
        answer = error.answer
        if answer is None:
            return False
        if answer.verdict is Verdict.TEMPORARILY_UNAVAILABLE:
            # A defect that one request meets must not keep back the others.
            return answer.reason == Reason.INTERNAL_ERROR
        if answer.reason in SEND_ANEW:
            self._send_anew(spooled)
        else:
            self._store.refuse(spooled.request_id, error.why)
        return True

    def _send_anew(self, spooled: SpooledLogout) -> SpooledLogout:
        """Replace it by the same logout as a request of now. Raises `SealBroken`."""
        message = self._client.reseal_logout(spooled.envelope, earlier_keys=self._earlier_keys)
        anew = SpooledLogout(message.request_id, message.envelope)
        # In this order: a crash in between leaves one logout too many, never one too few.
        self._store.add(anew)
        self._store.acknowledged(spooled.request_id)
        return anew
