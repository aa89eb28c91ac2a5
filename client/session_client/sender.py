"""What all calls of a client share: one app's key, its connections, and how a request is sent."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Final, Self

from session_client import answers, contract, ended, messages, receipts, requests, timeouts, urls
from session_client.contract import LogoutWait
from session_client.errors import InvalidArgumentError
from session_client.keys import AppKey
from session_client.links import Links
from session_client.messages import AnswerT, Message
from session_client.pending import PendingAnswer
from session_client.republishing import Republisher

DEFAULT_TIMEOUT_SECONDS: Final = 5.0
# A login goes through gateways that are not Mosaic's own; a logout is sent until it counts.
DEFAULT_LOGIN_TIMEOUT_SECONDS: Final = 10.0
DEFAULT_LOGOUT_TIMEOUT_SECONDS: Final = 10.0


class Sender:
    """Sends requests of one app."""

    def __init__(
        self, *, broker_url: str, app_id: str, app_key: str | AppKey, reply_url: str | None = None
    ) -> None:
        if not contract.is_app_id(app_id):
            raise InvalidArgumentError("app_id: lower-case letters, digits, - and _ (64 at most)")
        urls.check(broker_url, reply_url)
        self._app_id = app_id
        self._key = app_key if isinstance(app_key, AppKey) else AppKey.parse(app_key)
        self._links = Links(broker_url, reply_url or broker_url, f"app-{app_id}")
        self._republisher = Republisher(self._links, self._key)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} app_id={self._app_id!r}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def receipt(
        self, receipt_id: str, *, timeout: float = DEFAULT_TIMEOUT_SECONDS
    ) -> answers.LogoutReceipt:
        """Return what became of a logout of this app. *timeout* is in seconds."""
        request = requests.Receipt(receipt_id=receipt_id)
        return self.send(request, answers.LogoutReceipt, timeout=timeout).wait(timeout)

    def send_logout(
        self, request_id: str, envelope: str, *, timeout: float
    ) -> answers.LogoutReceipt:
        """Send a sealed logout until it is acknowledged. Raises `NotAcknowledged`."""
        message = Message(contract.Task.LOGOUT, self._app_id, request_id, envelope)
        return self._until_committed(message, timeout)

    def send(
        self,
        request: requests.Request,
        answer_type: type[AnswerT],
        *,
        request_id: str | None = None,
        timeout: float = DEFAULT_TIMEOUT_SECONDS,
    ) -> PendingAnswer[AnswerT]:
        """Send *request* and return once the broker has it; the worker drops it after *timeout*.

        Args:
            request: one of `session_client.requests`.
            answer_type: what its answer is read as, e.g. `Authentication` for a `SilentAuth`.
            request_id: the idempotency key; a new one unless given.
            timeout: in seconds, for the request as a whole.

        Forget the result, or `PendingAnswer.wait` for it, from any thread. A `Logout` sent this
        way is *not* repeated until it is acknowledged: use `logout` for that.
        """
        lifetime = min(timeouts.lifetime(timeout), contract.MAX_LIFETIME[request.task])
        message = self._seal(request, request_id, lifetime)
        until = time.monotonic() + timeout
        ended.SEEN.outlast(timeout)
        self._links.current().publisher.publish(message, until)
        return PendingAnswer(self._links, self._key, message, answer_type, until=until)

    def close(self) -> None:
        """Close all connections. The client opens new ones when it is used again."""
        self._links.close()

    def _seal(
        self, request: requests.Request, request_id: str | None, lifetime: timedelta
    ) -> Message:
        return messages.seal(
            request, app_id=self._app_id, key=self._key, request_id=request_id, lifetime=lifetime
        )

    def _until_committed(self, message: Message, timeout: float) -> answers.LogoutReceipt:
        return self._republisher.until_acknowledged(message, answers.LogoutReceipt, timeout)

    def _wait_for(
        self, wanted: LogoutWait | str, receipt: answers.LogoutReceipt, until: float
    ) -> answers.LogoutReceipt:
        return receipts.wait_for(LogoutWait(wanted), receipt, until, self.receipt)


def check_wait(wanted: object) -> None:
    """Raise `InvalidArgumentError` unless a logout can wait for that."""
    if wanted not in set(LogoutWait):
        raise InvalidArgumentError("wait: local, idp or all")
