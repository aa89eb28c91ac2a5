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
from worker.mosaic.client_tokens import ClientTokens
from worker.mosaic.deadline import Deadline
from worker.mosaic.faults import Faults
from worker.mosaic.http_calls import MosaicHttp
from worker.mosaic.reading import Reading
from worker.mosaic.responses import Asked, Endpoint
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
                if reading.proves_client_token:
                    self._client_tokens.accepted(app, token)
                elif reading.blames_client_token and not is_second:
                    is_second = self._client_tokens.rejected(app, token, answer.status)
                    if is_second:
                        continue
                with self._faults.watch(call.endpoint, app.app_id):
                    return reading.value()

    def send_once(
        self, permit: Permit, app: MosaicApp, once: SingleCall, deadline: Deadline
    ) -> Mapping[str, Any]:
        """Return the body of the answer to a call that is not repeated once a byte was sent.

        Raises `OutcomeUnknown` when no answer says what became of it, and what the table says.
        """
        endpoint, url = once.endpoint, once.url
        with permit.observe() as observer:
            token = self._unused_client_token(observer, app, deadline, once)
            try:
                with observer.asking(deadline.remaining()):
                    answer = self._http.post_json(endpoint, url, once.payload, token, deadline)
                    is_proven = token is not None and self._client_tokens.is_proven(app, token)
                    asked = Asked(endpoint, url, answer, once.options, is_proven)
                    return self._read_once(app, asked, token)
            except MosaicUnavailable as error:
                if once.may_be_repeated or not error.was_sent:
                    raise
                raise OutcomeUnknown(str(error)) from None

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

    def _read_once(self, app: MosaicApp, asked: Asked, token: str | None) -> dict[str, Any]:
        reading = Reading(asked)
        if token is not None and reading.proves_client_token:
            self._client_tokens.accepted(app, token)
        elif token is not None and reading.blames_client_token:
            # A fresh one for the next call: this one is not sent again.
            self._client_tokens.rejected(app, token, asked.answer.status)
        with self._faults.watch(asked.endpoint, app.app_id):
            body = reading.value()
            if not isinstance(body, dict):
                raise MosaicContractBroken(f"{asked.endpoint}: body is of the wrong type")
        return body

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
