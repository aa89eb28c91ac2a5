"""Calls to Mosaic with an app's client token, and what an answer says of that token."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from worker.errors import (
    MosaicContractBroken,
    MosaicUnavailable,
    OutcomeUnknown,
    PageInstead,
    SessionWorkerError,
)
from worker.http_client import HttpAnswer
from worker.mosaic.asked import Asked, Endpoint
from worker.mosaic.client_tokens import ClientTokens
from worker.mosaic.deadline import Deadline
from worker.mosaic.faults import Faults
from worker.mosaic.http_calls import MosaicHttp
from worker.mosaic.reading import Reading
from worker.mosaic.responses import REPEATED_WITH_FRESH_TOKEN
from worker.mosaic.types import CallObserver, MosaicApp, Permit


@dataclass(frozen=True, slots=True)
class RepeatableCall:
    """A call that may be made a second time, with another client token."""

    endpoint: Endpoint
    url: str  # as operators are shown it
    send: Callable[[str], HttpAnswer]  # with a client token
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SingleCall:
    """A call that is not repeated: it uses something up, or sends something to a user."""

    endpoint: Endpoint
    url: str
    payload: Mapping[str, Any] = field(repr=False)
    options: tuple[str, ...] = ()  # the app's own wishes that are in it
    needs_client_token: bool = True
    may_be_repeated: bool = False


class AuthorisedCalls:
    """Sends calls; safe for all threads."""

    def __init__(self, http: MosaicHttp, client_tokens: ClientTokens, faults: Faults) -> None:
        self._http = http
        self._client_tokens = client_tokens
        self._faults = faults

    def ask(self, permit: Permit, app: MosaicApp, call: RepeatableCall, deadline: Deadline) -> Any:
        """Return the body of Mosaic's answer; if it did not like our client token, of another.

        A role an operator has just granted is in new tokens only (protocol sheet, "Client access
        token"). Only once.
        """
        with permit.observe() as observer:
            return self._ask(observer, app, call, deadline)

    def _ask(
        self, observer: CallObserver, app: MosaicApp, call: RepeatableCall, deadline: Deadline
    ) -> Any:
        is_second = False
        while True:
            token = self._client_token(observer, app, deadline)
            with observer.asking(deadline.remaining()):
                answer = call.send(token)
                reading = Reading(Asked(call.endpoint, call.url, answer, call.options))
                if self._may_fresh_help(app, reading, token, is_second=is_second):
                    is_second = True
                    continue
                with self._faults.watch(call.endpoint, app.app_id):
                    return reading.value()

    def _may_fresh_help(
        self, app: MosaicApp, reading: Reading, token: str, *, is_second: bool = False
    ) -> bool:
        """Note what an answer says of *token*, and return whether another one may help."""
        if reading.proves_client_token:
            self._client_tokens.accepted(app, token)
        elif reading.blames_client_token and not is_second:
            return self._client_tokens.rejected(app, token, reading.status)
        return False

    def send_once(
        self, permit: Permit, app: MosaicApp, once: SingleCall, deadline: Deadline
    ) -> Mapping[str, Any]:
        """Return the body of the answer to a call that is not repeated once a byte was sent.

        But for a first step that Mosaic refuses for our client token: nothing has come of it, so it
        is taken once more with a fresh one. Raises `OutcomeUnknown` when no answer says what became
        of it, and what the table says.
        """
        with permit.observe() as observer:
            return self._send(observer, app, once, deadline)

    def _send(
        self, observer: CallObserver, app: MosaicApp, once: SingleCall, deadline: Deadline
    ) -> dict[str, Any]:
        endpoint, is_second = once.endpoint, False
        while True:
            token = self._unused_client_token(observer, app, deadline, once)
            try:
                with observer.asking(deadline.remaining()):
                    answer = self._http.post_json(endpoint, once.url, once.payload, token, deadline)
                    reading = Reading(self._asked(app, once, answer, token))
                    may_help = token is not None and self._may_fresh_help(
                        app, reading, token, is_second=is_second
                    )
                    if may_help and endpoint in REPEATED_WITH_FRESH_TOKEN:
                        is_second = True
                        continue
                    with self._faults.watch(endpoint, app.app_id):
                        return _object(endpoint, reading.value())
            except MosaicUnavailable as error:
                if once.may_be_repeated or not error.was_sent:
                    raise
                raise OutcomeUnknown(str(error)) from None

    def _asked(
        self, app: MosaicApp, once: SingleCall, answer: HttpAnswer, token: str | None
    ) -> Asked:
        is_proven = token is not None and self._client_tokens.is_proven(app, token)
        return Asked(once.endpoint, once.url, answer, once.options, is_proven, once.payload)

    def _unused_client_token(
        self, observer: CallObserver, app: MosaicApp, deadline: Deadline, once: SingleCall
    ) -> str | None:
        if not once.needs_client_token:
            return None
        try:
            return self._client_token(observer, app, deadline)
        except SessionWorkerError as error:
            error.was_sent = False  # of the call itself, nothing
            raise

    def _client_token(self, observer: CallObserver, app: MosaicApp, deadline: Deadline) -> str:
        """Return the app's client token. A page in its place counts as a failure of Mosaic.

        No other failure does: it may be about this client alone. Nor does an endpoint elsewhere,
        which is the app's own and must not speak for the one that all apps share.
        """
        try:
            return self._client_tokens.get(app, deadline)
        except PageInstead:
            if urlsplit(app.token_url).netloc != urlsplit(app.base_url).netloc:
                raise
            with observer.asking(deadline.remaining()):
                raise


def _object(endpoint: Endpoint, body: Any) -> dict[str, Any]:
    if not isinstance(body, dict):
        raise MosaicContractBroken(f"{endpoint}: body is of the wrong type")
    return body
