"""`LogoutSpool`: write down, deliver, tell."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NoReturn

from session_client._core import message
from session_client._core.app import App
from session_client.errors import ConfigurationError
from session_client.keys import AppKey
from session_client.requests import Logout, new_request_id
from session_client.requests.base import NOT_GIVEN, NotGiven
from session_client.spool import drain
from session_client.spool.drain import Drain, Round
from session_client.spool.pace import Pace
from session_client.spool.store import SpoolCounts, SpooledLogout, SpoolStore

if TYPE_CHECKING:
    from session_client.client import SessionClient

log = logging.getLogger("session_client.spool")

# How long the thread rests where nothing is due, or no worker answers.
PAUSE_SECONDS: Final = 1.0
WARN_EVERY_SECONDS: Final = 60.0
STOP_SECONDS: Final = 10.0
# Threads that wait for the store in place of who does not. A table in PostgreSQL that stays locked
# holds each of them, with its connection: without a limit the app's database would have none left.
MOST_WRITERS: Final = 8
_WRITER: Final = "logout-spool-writer"
_OF_WHO_WAITS: Final = frozenset({"timeout", "wait"})


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
        thread: deliver in a thread that starts by itself in each process at its first `logout`.
            Without it, ``python -m session_client.spool`` delivers, or a job of the app's own that
            calls `deliver`: under uWSGI without threads, or gevent.

    Refused for good means that repeating cannot help until the app or an operator mends the cause:
    a wrong ``app_key`` or ``app_id``, a ``session_ref`` that the worker does not know, a capability
    that the app lacks. Such a logout stays in the store, out of the way of other logouts, and
    `retry_refused` sends it again; one that was sealed with a wrong key, if that key is then among
    *earlier_keys*.
    """

    def __init__(
        self,
        client: SessionClient,
        store: SpoolStore,
        *,
        earlier_keys: Sequence[AppKey | str] = (),
        on_refused: Callable[[SpooledLogout], object] | None = None,
        thread: bool = True,
    ) -> None:
        known = client._app  # noqa: SLF001 - of the same package
        self._app = App.of(known.app_id, known.key, (*known.keys.values(), *earlier_keys))
        # Asked for anew by each round: an app's tests put another one behind its client meanwhile.
        self._drain = Drain(self._app, lambda: client._driver, store)  # noqa: SLF001
        self._store = store
        self._on_refused = on_refused
        self._has_thread = thread
        self._warned_at: float | None = None
        # By process: a forked child has none of its parent's threads. To put one in is one step.
        self._threads: dict[int, _Thread] = {}

    def logout(  # noqa: PLR0913 - what a logout takes
        self,
        *,
        browser_token: str | NotGiven | None = NOT_GIVEN,
        session_ref: str | None = None,
        session_id: str | None = None,
        user_id: str | None = None,
        device_id: str | None = None,
        everywhere: bool = False,
        request_id: str | None = None,
        connection: Any = None,
        within: float | None = None,
        **other: NoReturn,
    ) -> str:
        """Write a logout down and return its request id; it will be delivered.

        Takes what `SessionClient.logout` takes, but for ``timeout`` and ``wait``. Once this has
        returned the logout survives a crash of the app. The user is not yet logged out elsewhere.
        With a *browser_token* of None nothing ends, so nothing is written down.

        With *connection*, the app's own open one to the database of the store, it is written in the
        app's transaction: it is delivered if that is committed, and never was if it is not.

        With *within*, `TimeoutError` is raised where it is not written down after so many seconds,
        such as in a file that another process has locked: for a browser's request, which shall not
        wait longer. A thread goes on trying, for as long as the store does, and logs what the store
        raises in the end. Without a thread, and where eight are at it, it is the store that raises,
        and nothing is tried again. With *connection* it waits as that does.

        Raises `ConfigurationError` for what cannot be a logout, and for ``timeout`` and ``wait``.
        """
        for name in other.keys() & _OF_WHO_WAITS:
            raise ConfigurationError(
                f"{name}: not for a spooled logout, which is delivered later, however long that "
                "takes; client.logout(…) waits"
            )
        request = Logout(
            browser_token=browser_token,
            session_ref=session_ref,
            session_id=session_id,
            user_id=user_id,
            device_id=device_id,
            everywhere=everywhere,
            request_id=request_id,
            **other,
        )
        if request.known_already() is not None:
            return request.request_id or new_request_id()
        sealed = message.seal(request, app_id=self._app.app_id, key=self._app.key)
        spooled = SpooledLogout(sealed.request_id, sealed.envelope)
        if within is None or connection is not None:
            self._store.add(spooled, connection)
        elif self._has_thread and _writers() < MOST_WRITERS:
            self._add(spooled, within)
        else:
            self._store.add(spooled, within=within)
        if self._has_thread:
            self._start_if_possible()
        return sealed.request_id

    def _add(self, spooled: SpooledLogout, within: float) -> None:
        # One of its own: a file that is locked holds up no other logout. It is waited for where the
        # process ends meanwhile.
        writer = ThreadPoolExecutor(1, _WRITER)
        try:
            writing = writer.submit(self._store.add, spooled)
        except RuntimeError:  # no thread begins any more, such as while the process ends
            return self._store.add(spooled, within=within)
        writer.shutdown(wait=False)
        wait([writing], within)
        if writing.done():
            return writing.result()
        self._start_if_possible()  # it finds what is written by then, and sends it
        writing.add_done_callback(partial(_tell_a_loss, spooled.request_id))
        raise TimeoutError(
            f"logout {spooled.request_id} is not written down after {within:g} s; it is still tried"
        )

    def deliver(self, *, timeout: float = drain.LISTEN_SECONDS) -> int:
        """Deliver what is due; return how many are acknowledged.

        A batch is waited for until no worker answers for *timeout* seconds, half a minute at most.
        Stops at the first batch of which no worker acknowledges any: the next would wait in vain.
        """
        delivered = 0
        pace = Pace()
        while True:
            done = self._round(pace.limit, timeout, lambda: False)
            pace.learn(done)
            delivered += len(done.settlement.acknowledged)
            if not done.settlement.acknowledged:
                return delivered

    def counts(self) -> SpoolCounts:
        """Return how many logouts wait, and how many were refused for good."""
        return self._store.counts()

    def refused(self) -> list[SpooledLogout]:
        """Return what the worker refused for good; the ``refused`` of each says why."""
        return self._store.refused()

    def retry_refused(self) -> int:
        """Try what the worker refused again, after an operator mended the cause; return how many.

        A refusal may also be forged, by an attacker who can write to the broker.
        """
        refused = self._store.refused()
        for spooled in refused:
            self._store.add(replace(spooled, refused=None))
        if self._has_thread:
            self._start_if_possible()
        return len(refused)

    def start(self) -> None:
        """Deliver in a thread of this process from now on, also what an earlier process left.

        `logout` does so by itself; this is for a process that may never log a user out. Raises
        RuntimeError where the system gives no thread.
        """
        process = os.getpid()
        mine = self._threads.get(process)
        if mine is None or mine.has_ended:
            # Of two at once both may begin one; what one has claimed the other does not get.
            mine = _Thread(self._round)
            mine.start()
            self._threads[process] = mine
        mine.wake()

    def _start_if_possible(self) -> None:
        """Start it for a logout that is kept: that one is not lost where no thread begins."""
        try:
            self.start()
        except RuntimeError as error:
            log.warning("no thread delivers logouts yet, the next logout starts one: %s", error)

    def stop(self, *, timeout: float = STOP_SECONDS) -> None:
        """Stop this process's thread within *timeout* seconds; what waits stays in the store."""
        mine = self._threads.pop(os.getpid(), None)
        if mine is not None:
            mine.stop(timeout)

    def _round(self, limit: int, seconds: float, is_over: Callable[[], bool]) -> Round:
        done = self._drain.round(limit, seconds, is_over)
        self._tell_refusals(done.settlement.refused)
        if done.settlement.released or done.settlement.replaced:
            self._warn(done)
        return done

    def _tell_refusals(self, refused: Mapping[str, str]) -> None:
        for request_id, why in refused.items():
            log.error(
                "logout %s is refused and kept; look at it, then retry_refused(): %s",
                request_id,
                why,
            )
        if not refused or self._on_refused is None:
            return
        for kept in self._store.refused():
            if kept.request_id not in refused:
                continue
            try:
                self._on_refused(kept)
            except Exception:
                # Other logouts must not wait for an app's own fault.
                log.exception("on_refused failed for logout %s", kept.request_id)

    def _warn(self, done: Round) -> None:
        now = time.monotonic()
        if self._warned_at is None or now - self._warned_at >= WARN_EVERY_SECONDS:
            self._warned_at = now
            waiting = self._store.counts().waiting
            log.warning(
                "logouts are not acknowledged (%s) and will be sent again; %s wait",
                done.why_not,
                waiting,
            )


def _writers() -> int:
    return sum(one.name.startswith(_WRITER) for one in threading.enumerate())


def _tell_a_loss(request_id: str, writing: Future[None]) -> None:
    if (error := writing.exception()) is not None:
        log.error("logout %s could not be kept", request_id, exc_info=error)


class _Thread:
    """Does one round after the other, and rests where there is nothing to do."""

    def __init__(self, do_round: Callable[[int, float, Callable[[], bool]], Round]) -> None:
        self._round = do_round
        self._is_due = threading.Event()
        self._is_over = False
        self._thread = threading.Thread(target=self._run, name="logout-spool", daemon=True)

    @property
    def has_ended(self) -> bool:
        """Whether it was started and runs no more."""
        return self._thread.ident is not None and not self._thread.is_alive()

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        self._is_due.set()

    def stop(self, timeout: float) -> None:
        self._is_over = True
        self._is_due.set()
        self._thread.join(timeout)

    def _run(self) -> None:
        pace = Pace()
        while not self._is_over:
            self._is_due.clear()
            is_idle = True
            try:
                done = self._round(pace.limit, drain.LISTEN_SECONDS, lambda: self._is_over)
                pace.learn(done)
                is_idle = done.is_idle
            except Exception:
                # A store that is locked or full for a while must not end the delivery for good.
                log.exception("spooled logouts are not delivered; trying again")
            if is_idle and not self._is_over:
                self._is_due.wait(PAUSE_SECONDS)
