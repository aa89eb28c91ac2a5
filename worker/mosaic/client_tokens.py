"""The access token that authorises an app's calls: fetched seldom, shared by all processes.

Three floors: this process's memory (no trip at all), Redis (shared by all processes), Mosaic.
One thread of one process climbs at a time; while a token works the other threads use it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import datetime
from typing import Final

import structlog

from worker.errors import ClientRefused, MosaicUnavailable, OperatorMustAct, TryLater
from worker.mosaic import reading
from worker.mosaic.asked import Endpoint
from worker.mosaic.client_token_cache import ClientToken, ClientTokenCache
from worker.mosaic.deadline import Deadline
from worker.mosaic.failed_fetch import FAILURE_SECONDS, HANGS_SECONDS, FailedFetch, counts
from worker.mosaic.faults import Faults
from worker.mosaic.http_calls import MosaicHttp
from worker.mosaic.response_bodies import read_client_token
from worker.mosaic.types import MosaicApp
from worker.storage.encryption import KeyRing

RENEW_AT_SHARE: Final = 0.8  # of its life
SPARE_SECONDS: Final = 30.0  # a token this close to its end may end on the way to Mosaic
FETCH_SECONDS: Final = 5.0  # less than a call may take: its waiters outlive a fetcher that died
LEASE_SECONDS: Final = FETCH_SECONDS + 2.0  # a fetch is over before its lock is
POLL_SECONDS: Final = 0.05
LOOK_AGAIN_SECONDS: Final = 5.0  # after an early renewal that brought nothing
REFUSAL_SECONDS: Final = 5.0  # how long a refusal is believed without asking again
# A fetch that takes so long to fail hangs: it is not repeated, and nobody waits for the next one.
# One that fails sooner may be repeated at once.
SLOW_SECONDS: Final = 1.0

_RIGHTS_MISSING: Final = 403
_ELSEWHERE: Final = f"{Endpoint.TOKEN}: another process got no usable answer a moment ago"

log = structlog.get_logger()


class ClientTokens:
    """Gives each app its client access token. Safe for all threads."""

    def __init__(
        self,
        http: MosaicHttp,
        store: ClientTokenCache,
        keyring: KeyRing,
        faults: Faults,
        now: Callable[[], datetime],
    ) -> None:
        self._http = http
        self._faults = faults
        self._store = store
        self._keyring = keyring
        self._now = now
        self._slots: dict[tuple[str, str, str], _Slot] = {}
        self._slots_lock = threading.Lock()

    def get(self, app: MosaicApp, deadline: Deadline) -> str:
        """Return a token that lives a while longer. Raises as `answers.accept` does."""
        slot, now = self._slot(app), self._timestamp()
        token = slot.token
        if token is None or not is_usable(token, now):
            return self._obtain(app, slot, deadline).value
        if is_due(token, now) and not 0 <= now - slot.looked_at < LOOK_AGAIN_SECONDS:
            self._renew_early(app, slot, deadline)
        return (slot.token or token).value

    def fetch(self, app: MosaicApp, deadline: Deadline) -> None:
        """Fetch a token anew, whatever is known: to see whether the credentials work."""
        slot = self._slot(app)
        with deadline.hold(slot.renewing):
            slot.adopt(self._fetch(app, slot, deadline))
            slot.refused_at = float("-inf")

    def accepted(self, app: MosaicApp, token: str) -> None:
        """Note that *token* works, so that a later refusal of it is news."""
        slot = self._slot(app)
        if slot.token is not None and slot.token.value == token:
            slot.is_proven = True

    def is_proven(self, app: MosaicApp, token: str) -> bool:
        """Whether *token* has worked in this process."""
        slot = self._slot(app)
        return slot.is_proven and slot.token is not None and slot.token.value == token

    def rejected(self, app: MosaicApp, token: str, status: int) -> bool:
        """Forget *token*, unless it is forgotten already; whether a fresh one may help.

        Not if it was fetched a moment ago for the same reason: an app without a right would
        otherwise cost one fetch for each of its calls.
        """
        slot = self._slot(app)
        with slot.lock:
            if slot.token is None or slot.token.value != token:
                return True  # another thread was quicker
            is_known = not slot.is_proven or status == _RIGHTS_MISSING
            if is_known and 0 <= self._timestamp() - slot.rejected_at < REFUSAL_SECONDS:
                return False
            slot.token, slot.rejected, slot.rejected_at = None, token, self._timestamp()
        self._store.forget(app.client_id, token)
        return True

    def _obtain(self, app: MosaicApp, slot: _Slot, deadline: Deadline) -> ClientToken:
        """Return a usable token, waiting for the thread or process that fetches one.

        No thread waits where the latest fetch has just hung: the next may hang as well. And who has
        waited for one that failed does not fetch too: each would hold its slot for longer.
        """
        before = slot.failure
        with deadline.hold(slot.renewing, self._hang(slot)):
            token, failure = slot.token, slot.failure
            if failure is not None and failure is not before:
                raise failure.again(self._timestamp())
            while token is None or not is_usable(token, self._timestamp()):
                token = self._renew(app, slot, is_usable, deadline)
                if token is None:
                    deadline.sleep(POLL_SECONDS)  # another process is fetching
            return token

    def _renew_early(self, app: MosaicApp, slot: _Slot, deadline: Deadline) -> None:
        """Replace a token that still works, if no other thread does; a failure costs nothing."""
        if not slot.renewing.acquire(blocking=False):
            return
        try:
            slot.looked_at = self._timestamp()
            # The current token works: keep half of the caller's time for the call itself.
            self._renew(app, slot, _is_fresh, deadline.at_most(deadline.remaining() / 2))
        except (TryLater, OperatorMustAct) as error:
            log.warning("client_token_not_renewed", app=app.app_id, error=type(error).__name__)
        finally:
            slot.renewing.release()

    def _renew(
        self, app: MosaicApp, slot: _Slot, suits: Callable[[ClientToken, float], bool], by: Deadline
    ) -> ClientToken | None:
        """Take the shared token if it *suits*, else fetch one; None while another process does."""
        if 0 <= self._timestamp() - slot.refused_at < REFUSAL_SECONDS:
            raise ClientRefused(f"{Endpoint.TOKEN}: refused a moment ago")
        token = self._shared(app, slot, suits)
        if token is None:
            self._refuse_while_it_hangs(app, slot)
            with self._store.lock(app.client_id, LEASE_SECONDS) as is_ours:
                if is_ours:
                    token = self._shared(app, slot, suits) or self._fetch_watched(app, slot, by)
                elif hang := self._hang(slot):
                    raise hang
        if token is not None:
            slot.adopt(token)
        return token

    def _shared(
        self, app: MosaicApp, slot: _Slot, suits: Callable[[ClientToken, float], bool]
    ) -> ClientToken | None:
        token = self._store.read(app.client_id)
        if token is None or token.value == slot.rejected:
            return None
        is_for_us = token.obtained_with == self._credentials(app)
        return token if is_for_us and suits(token, self._timestamp()) else None

    def _refuse_while_it_hangs(self, app: MosaicApp, slot: _Slot) -> None:
        """Raise the failure of a fetch that has hung a moment ago, here or in another process."""
        now, failure = self._timestamp(), slot.failure
        if failure is None or not failure.is_recent(now):
            hung_at = self._store.hung_at(app.client_id)
            failure = FailedFetch(MosaicUnavailable, _ELSEWHERE, hung_at, FAILURE_SECONDS)
            if not failure.is_recent(now):
                return
            slot.failure = failure
        raise failure.again(now)

    def _hang(self, slot: _Slot) -> TryLater | OperatorMustAct | None:
        """Return what to raise instead of waiting for a fetch that may hang as the latest did."""
        failure, now = slot.failure, self._timestamp()
        if failure is None or not failure.is_within(HANGS_SECONDS, now):
            return None
        return failure.again(now) if failure.seconds else None  # one that failed at once is no hang

    def _fetch_watched(self, app: MosaicApp, slot: _Slot, deadline: Deadline) -> ClientToken:
        """Fetch, and tell all threads if it fails, all processes if it hangs."""
        had_seconds, began = deadline.remaining(), time.monotonic()
        try:
            return self._fetch(app, slot, deadline)
        except (TryLater, OperatorMustAct) as error:
            if counts(error, had_seconds):
                self._remember(app, slot, error, is_hang=time.monotonic() - began >= SLOW_SECONDS)
            raise

    def _remember(
        self, app: MosaicApp, slot: _Slot, error: TryLater | OperatorMustAct, *, is_hang: bool
    ) -> None:
        seconds = FAILURE_SECONDS if is_hang else 0.0
        slot.failure = FailedFetch(type(error), str(error), self._timestamp(), seconds)
        if not is_hang or isinstance(error, ClientRefused):
            return  # of other credentials a refusal says nothing: they may be right
        self._store.note_hang(app.client_id, slot.failure.at, seconds)
        if isinstance(error, TryLater):
            error.retry_after = max(seconds, error.retry_after)

    def _fetch(self, app: MosaicApp, slot: _Slot, deadline: Deadline) -> ClientToken:
        started_at = self._timestamp()
        form = {
            "grant_type": "client_credentials",
            "client_id": app.client_id,
            **app.credential.proof(app.client_id, app.token_url, self._now()),
        }
        with self._faults.watch(Endpoint.TOKEN, app.app_id):
            answer = self._http.post_form(
                Endpoint.TOKEN, app.token_url, form, deadline.at_most(FETCH_SECONDS)
            )
            try:
                body = reading.accept(Endpoint.TOKEN, app.token_url, answer)
            except ClientRefused:
                slot.refused_at = self._timestamp()
                raise
            value, seconds = read_client_token(body, self._now())
        token = ClientToken(value, started_at, started_at + seconds, self._credentials(app))
        self._store.write(app.client_id, token, seconds - _spare(token))
        return token

    def _credentials(self, app: MosaicApp) -> str:
        """Return a keyed hash of what a token is asked with; another's token is not ours."""
        asked_with = f"{app.token_url}\n{app.client_id}\n{app.credential.value}"
        return self._keyring.lookup_hash(asked_with).hex()

    def _slot(self, app: MosaicApp) -> _Slot:
        key = (app.token_url, app.client_id, app.credential.value)
        slot = self._slots.get(key)
        if slot is None:
            with self._slots_lock:
                slot = self._slots.setdefault(key, _Slot())
        return slot

    def _timestamp(self) -> float:
        return self._now().timestamp()


class _Slot:
    """What one process knows of one app's token. Times are Unix seconds; long ago means never."""

    def __init__(self) -> None:
        self.renewing = threading.Lock()  # held by the one thread that looks for a token
        self.lock = threading.Lock()  # guards the lines below, never held during a call
        self.token: ClientToken | None = None
        self.is_proven = False
        self.rejected: str | None = None  # the last token Mosaic did not accept
        self.rejected_at = float("-inf")
        self.refused_at = float("-inf")  # when Mosaic refused the credentials
        self.looked_at = float("-inf")
        self.failure: FailedFetch | None = None  # of the latest fetch

    def adopt(self, token: ClientToken) -> None:
        with self.lock:
            self.token, self.is_proven, self.failure = token, False, None


def is_usable(token: ClientToken, now: float) -> bool:
    """Whether *token* lives long enough for one more call."""
    return now < token.expires_at - _spare(token)


def is_due(token: ClientToken, now: float) -> bool:
    """Whether it is time to look for the next token."""
    return now >= token.issued_at + RENEW_AT_SHARE * (token.expires_at - token.issued_at)


def _is_fresh(token: ClientToken, now: float) -> bool:
    return is_usable(token, now) and not is_due(token, now)


def _spare(token: ClientToken) -> float:
    # A token that lives for less than a minute would otherwise never be usable.
    return min(SPARE_SECONDS, (token.expires_at - token.issued_at) / 2)
