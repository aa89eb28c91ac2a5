"""A durable spool for logouts of apps that cannot wait.

`LogoutSpool.logout` writes the request down and returns; a background thread (or a job of the
app's own that calls `LogoutSpool.deliver`) keeps sending it until the worker has acknowledged it,
across restarts of the app. What is written is sealed: the spool holds no secret in clear.

Nobody waits for the outcome, so it is told in other ways. The logger ``session_client.spool`` gets
an error for each logout that the worker refuses for good, and a warning, once a minute at most,
while a logout is not acknowledged. `LogoutSpool.counts` is for a health check, ``on_refused`` for
whatever else the app wants to do.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from session_client import sealing
from session_client._core import call, message
from session_client._core.message import Message
from session_client.contract import Reason, Task
from session_client.errors import (
    InvalidRequest,
    NotAcknowledged,
    SealBroken,
    Unauthorized,
)
from session_client.keys import AppKey
from session_client.requests import Logout
from session_client.spool_store import SpooledLogout, SpoolStore, SqliteSpool

if TYPE_CHECKING:
    from session_client.client import SessionClient

__all__ = ["LogoutSpool", "SpoolCounts", "SpoolStore", "SpooledLogout", "SqliteSpool"]

log = logging.getLogger(__name__)

PAUSE_SECONDS: Final = 2.0
DELIVERY_TIMEOUT_SECONDS: Final = 10.0
WARN_EVERY_SECONDS: Final = 60.0
_BATCH: Final = 100
_MAX_COUNTED: Final = 10_000
# Refusals that only say that the request is too old, or that a clock was wrong.
_SEND_ANEW: Final = frozenset({Reason.DEADLINE_PASSED.value, Reason.CLOCK_SKEW.value})
_VERDICTS: Final = {InvalidRequest: "invalid_request", Unauthorized: "unauthorized"}


@dataclass(frozen=True, slots=True)
class SpoolCounts:
    """How much lies in a spool.

    ``waiting`` counts what the worker has not acknowledged yet, to ten thousand at most; when it
    grows, worker or broker is down. ``refused`` counts what the worker refused for good; when it is
    not 0, somebody must look.
    """

    waiting: int
    refused: int


class LogoutSpool:
    """Logouts that are written down first and delivered until they are acknowledged.

    Args:
        client: who asks.
        store: where they are kept, e.g. ``SqliteSpool("logouts.db")``.
        earlier_keys: app keys from before a rotation, as long as logouts may lie in the store
            that were sealed with them.
        on_refused: called with each `SpooledLogout` that is refused for good, once it is kept as
            such; its ``refused`` says why. The user may still be signed in elsewhere. It is called
            in the thread that delivers; what it raises is logged and changes nothing. A crash may
            leave the call out: `refused` knows all of them.

    Refused for good means that repeating cannot help until somebody puts the cause right: a wrong
    ``app_key`` or ``app_id``, a ``session_ref`` that the worker does not know, a capability that
    the app lacks. Such a logout stays in the store, out of the way of the others, and
    `retry_refused` sends it again; one that was sealed with a wrong key, if that key is then among
    *earlier_keys*.
    """

    def __init__(
        self,
        client: SessionClient,
        store: SpoolStore,
        *,
        earlier_keys: Iterable[AppKey | str] = (),
        on_refused: Callable[[SpooledLogout], object] | None = None,
    ) -> None:
        self._client = client
        self._store = store
        self._on_refused = on_refused
        self._warned_at: float | None = None
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
        app = self._client._app  # noqa: SLF001 - of the same package
        sealed = message.seal(Logout(**request), app_id=app.app_id, key=app.key)
        self._store.add(SpooledLogout(sealed.request_id, sealed.envelope))
        self._wake.set()
        return sealed.request_id

    def deliver(self, *, timeout: float = DELIVERY_TIMEOUT_SECONDS) -> int:
        """Try all waiting logouts once, *timeout* seconds each; return how many are acknowledged.

        Stops at the first one that nobody acknowledges: the others would wait in vain as well.
        """
        return self._deliver(timeout, threading.Event())

    def counts(self) -> SpoolCounts:
        """Return how many logouts wait, and how many were refused for good."""
        waiting = self._store.waiting(_MAX_COUNTED)
        return SpoolCounts(waiting=len(waiting), refused=len(self._store.refused()))

    def refused(self) -> list[SpooledLogout]:
        """Return what the worker refused for good; the ``refused`` of each says why."""
        return self._store.refused()

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
                self._send(current, timeout)
            except (InvalidRequest, Unauthorized) as refusal:
                self._settle(current, refusal)
            except NotAcknowledged as error:
                self._warn(current, error)
                # A defect that one request meets must not keep back the others.
                if getattr(error.__cause__, "reason", None) != Reason.INTERNAL_ERROR:
                    break
            else:
                self._store.acknowledged(current.request_id)
                delivered += 1
        return delivered

    def _under_todays_key(self, spooled: SpooledLogout) -> SpooledLogout | None:
        """Return it under today's key. None when it has none of ours, and must not block others."""
        try:
            today = self._client._app.key.kid  # noqa: SLF001
            if sealing.header_of(spooled.envelope).get("kid") == today:
                return spooled
            return self._send_anew(spooled)
        except SealBroken:
            self._refuse(spooled, "sealed with a key that is not among ours")
            return None

    def _send(self, spooled: SpooledLogout, timeout: float) -> None:
        """Send it until it is acknowledged. Raises `NotAcknowledged`, or what refuses it."""
        client = self._client
        app = client._app  # noqa: SLF001
        sealed = Message(Task.LOGOUT, app.app_id, spooled.request_id, spooled.envelope)
        until = time.monotonic() + timeout
        client._driver.run(call.answer_to(app, sealed, until, Logout))  # noqa: SLF001

    def _settle(self, spooled: SpooledLogout, refusal: InvalidRequest | Unauthorized) -> None:
        """Deal with a refusal."""
        if refusal.reason in _SEND_ANEW:
            self._send_anew(spooled)
        else:
            self._refuse(spooled, f"{_VERDICTS[type(refusal)]}: {refusal}")

    def _refuse(self, spooled: SpooledLogout, why: str) -> None:
        """Keep it out of the way of the others, and tell."""
        self._store.refuse(spooled.request_id, why)
        log.error(
            "logout %s is refused and kept; look at it, then retry_refused(): %s",
            spooled.request_id,
            why,
        )
        if self._on_refused is None:
            return
        try:
            self._on_refused(replace(spooled, refused=why))
        except Exception:
            # The others must not wait for an app's own fault.
            log.exception("on_refused failed for logout %s", spooled.request_id)

    def _warn(self, spooled: SpooledLogout, error: NotAcknowledged) -> None:
        now = time.monotonic()
        if self._warned_at is None or now - self._warned_at >= WARN_EVERY_SECONDS:
            self._warned_at = now
            log.warning(
                "logout %s is not acknowledged (%s) and will be sent again; %s wait",
                spooled.request_id,
                error.why,
                self.counts().waiting,
            )

    def _send_anew(self, spooled: SpooledLogout) -> SpooledLogout:
        """Replace it by the same logout as a request of now. Raises `SealBroken`."""
        app = self._client._app  # noqa: SLF001
        keys = (app.key, *self._earlier_keys, *app.keys.values())
        sealed = message.reseal(spooled.envelope, app_id=app.app_id, keys=keys)
        anew = SpooledLogout(sealed.request_id, sealed.envelope)
        # In this order: a crash in between leaves one logout too many, never one too few.
        self._store.add(anew)
        self._store.acknowledged(spooled.request_id)
        return anew
