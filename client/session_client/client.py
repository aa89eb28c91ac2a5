"""`SessionClient`: what a backend app holds to sign its users in and out."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Generic, Self, TypeVar

from session_client import answers, contract, requests, sealing, times
from session_client.contract import LogoutScope, Verdict
from session_client.errors import (
    BrokerUnavailable,
    InvalidArgumentError,
    NotAcknowledged,
    NotAnswered,
    SealBroken,
)
from session_client.inbox import Inbox
from session_client.keys import AppKey
from session_client.publisher import Publisher

AnswerT = TypeVar("AnswerT", bound=answers.Answer)

DEFAULT_TIMEOUT_SECONDS = 5.0
# A message may vanish inside the broker without an error, so one that must arrive is sent again.
REPUBLISH_AFTER_SECONDS = 1.0
REPUBLISH_AT_MOST_EVERY_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class _Message:
    """One request, sealed once: sent again it is the same to the bit."""

    task: contract.Task
    request_id: str
    kwargs: dict[str, Any]


class SessionClient:
    """Asks the session worker on behalf of one app. Thread-safe; make one per process.

    Args:
        broker_url: where the worker's Celery broker is, e.g. ``rediss://user:password@host/0``.
        app_id: this app's name at the worker, as given to ``mosaic-sessions apps add``.
        app_key: the key that command printed. Keep it like a password.
        reply_url: the Redis that carries answers; the broker's unless the broker is no Redis.

    Every call takes ``timeout`` in seconds (fractions count) and returns an answer with a verdict
    or raises one of `session_client.errors` within about that time, also when the broker is dead
    or accepts connections and never answers.
    """

    def __init__(
        self, *, broker_url: str, app_id: str, app_key: str | AppKey, reply_url: str | None = None
    ) -> None:
        if not contract.is_app_id(app_id):
            raise InvalidArgumentError("app_id: lower-case letters, digits, - and _ (64 at most)")
        self._reply_url = reply_url or broker_url
        if not self._reply_url.startswith(("redis://", "rediss://", "unix://")):
            raise InvalidArgumentError("reply_url must name a Redis when the broker is none")
        self._broker_url = broker_url
        self._app_id = app_id
        self._key = app_key if isinstance(app_key, AppKey) else AppKey.parse(app_key)
        self._lock = threading.Lock()
        self._pid = -1
        self._publisher: Publisher
        self._inbox: Inbox

    def __repr__(self) -> str:
        return f"<SessionClient app_id={self._app_id!r}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def register(  # noqa: PLR0913 - each argument is a field of the contract
        self,
        *,
        user_id: str,
        session_id: str,
        id_token: str,
        device_id: str | None = None,
        until_acknowledged: bool = False,
        timeout: float = DEFAULT_TIMEOUT_SECONDS,
    ) -> answers.Registration:
        """Tell the worker of a session after an active login, or again after an added factor.

        With *until_acknowledged* the request is repeated under one request id until the worker
        answers, and `NotAcknowledged` is raised when it does not.
        """
        request = requests.Register(
            user_id=user_id, session_id=session_id, id_token=id_token, device_id=device_id
        )
        if until_acknowledged:
            message = self._message(request, None, _lifetime(request))
            return self._persist(message, answers.Registration, timeout)
        return self.send(request, answers.Registration, timeout=timeout).wait(timeout)

    def silent_auth(  # noqa: PLR0913
        self,
        *,
        user_id: str,
        device_id: str | None = None,
        amr_all_of: tuple[str, ...] = (),
        amr_any_of: tuple[str, ...] = (),
        max_age: int | None = None,
        resource: str | None = None,
        claims: dict[str, Any] | None = None,
        org_id: str | None = None,
        user_agent: str | None = None,
        ip_address: str | None = None,
        timeout: float = DEFAULT_TIMEOUT_SECONDS,
    ) -> answers.Authentication:
        """Sign *user_id* in to this app without asking them, if a live session allows it."""
        request = requests.SilentAuth(
            user_id=user_id,
            device_id=device_id,
            amr_all_of=amr_all_of,
            amr_any_of=amr_any_of,
            max_age=max_age,
            resource=resource,
            claims=claims,
            org_id=org_id,
            user_agent=user_agent,
            ip_address=ip_address,
        )
        return self.send(request, answers.Authentication, timeout=timeout).wait(timeout)

    def status(
        self, *, user_id: str, timeout: float = DEFAULT_TIMEOUT_SECONDS
    ) -> answers.SessionList:
        """List *user_id*'s live sessions that this app shares. Costs no call to Mosaic."""
        request = requests.Status(user_id=user_id)
        return self.send(request, answers.SessionList, timeout=timeout).wait(timeout)

    def logout(  # noqa: PLR0913
        self,
        *,
        user_id: str,
        scope: LogoutScope | str = LogoutScope.SESSION,
        session_ref: str | None = None,
        session_id: str | None = None,
        device_id: str | None = None,
        request_id: str | None = None,
        timeout: float = 10.0,
    ) -> answers.LogoutReceipt:
        """End sessions everywhere. Returning means: committed, it cannot be lost any more.

        The request is repeated under one request id until the worker has acknowledged it.
        Raises `NotAcknowledged` otherwise, also when the worker refuses: then treat the user as
        *not yet* logged out elsewhere, and call again with the ``request_id`` of the error.
        """
        try:
            scope = LogoutScope(scope)
        except ValueError:
            raise InvalidArgumentError("scope: session, device or user") from None
        request = requests.Logout(
            user_id=user_id,
            scope=scope,
            session_ref=session_ref,
            session_id=session_id,
            device_id=device_id,
        )
        message = self._message(request, request_id, _lifetime(request))
        receipt = self._persist(message, answers.LogoutReceipt, timeout)
        if receipt.verdict is not Verdict.OK:
            raise NotAcknowledged(message.request_id, f"{receipt.verdict}: {receipt.reason}")
        return receipt

    def send(
        self,
        request: requests.Request,
        answer_type: type[AnswerT],
        *,
        request_id: str | None = None,
        timeout: float = DEFAULT_TIMEOUT_SECONDS,
    ) -> PendingAnswer[AnswerT]:
        """Enqueue *request* and return at once; the worker drops it after *timeout* seconds.

        Forget the result, or `PendingAnswer.wait` for it, from any thread.
        """
        if not timeout > 0:
            raise InvalidArgumentError("timeout: a positive number of seconds")
        lifetime = min(timedelta(seconds=timeout), contract.MAX_LIFETIME[request.task])
        message = self._message(request, request_id, lifetime)
        publisher, inbox = self._connections()
        started = time.monotonic()
        publisher.publish(message.task, message.request_id, message.kwargs, timeout)
        return PendingAnswer(self, inbox, message, answer_type, until=started + timeout)

    def close(self) -> None:
        """Close all connections. The client opens new ones when it is used again."""
        with self._lock:
            if self._pid == os.getpid():
                self._publisher.close()
                self._inbox.close()
            self._pid = -1

    def _connections(self) -> tuple[Publisher, Inbox]:
        # Sockets and threads do not survive a fork: a client made before gunicorn forks would
        # read its siblings' answers.
        if self._pid != os.getpid():
            with self._lock:
                if self._pid != os.getpid():
                    self._publisher = Publisher(self._broker_url, f"app-{self._app_id}")
                    self._inbox = Inbox(self._reply_url)
                    self._pid = os.getpid()
        return self._publisher, self._inbox

    def _message(
        self, request: requests.Request, request_id: str | None, lifetime: timedelta
    ) -> _Message:
        request_id = request_id or requests.new_request_id()
        if not contract.is_request_id(request_id):
            raise InvalidArgumentError("request_id: 16 to 64 letters, digits, - and _")
        try:
            content = requests.content_of(
                request,
                app_id=self._app_id,
                request_id=request_id,
                issued_at=times.now(),
                lifetime=lifetime,
            )
            envelope = sealing.seal(self._key, sealing.Kind.REQUEST, content)
        except TypeError:
            raise InvalidArgumentError("the request holds something JSON cannot carry") from None
        if len(envelope) > contract.MAX_ENVELOPE_BYTES:
            raise InvalidArgumentError("the request is larger than 64 KiB")
        return _Message(request.task, request_id, {"app_id": self._app_id, "envelope": envelope})

    def _persist(self, message: _Message, answer_type: type[AnswerT], timeout: float) -> AnswerT:
        """Send the same message until it is answered for good, or raise `NotAcknowledged`."""
        publisher, inbox = self._connections()
        until = time.monotonic() + timeout
        pause = REPUBLISH_AFTER_SECONDS
        why = "no answer in time"
        while (now := time.monotonic()) < until:
            pending = PendingAnswer(self, inbox, message, answer_type, until=until)
            try:
                publisher.publish(message.task, message.request_id, message.kwargs, until - now)
                answer = pending.wait(min(pause, until - time.monotonic()))
            except (BrokerUnavailable, NotAnswered) as error:
                why = str(error)
                if isinstance(error, BrokerUnavailable):
                    _sleep(pause / 4, until)
            else:
                if answer.verdict is not Verdict.TEMPORARILY_UNAVAILABLE:
                    return answer
                why = f"{answer.verdict}: {answer.reason}"
                _sleep(answer.retry_after or pause, until)
            pause = min(pause * 2, REPUBLISH_AT_MOST_EVERY_SECONDS)
        raise NotAcknowledged(message.request_id, why)

    def _open(self, message: _Message, raw: bytes, answer_type: type[AnswerT]) -> AnswerT:
        text = raw.decode("ascii", errors="replace")
        if text.startswith("{"):
            return answer_type.from_wire(_refusal_in_clear(text, message.request_id))
        content = sealing.unseal(text, sealing.Kind.ANSWER, self._find_key)
        outside = (message.task.value, self._app_id, message.request_id)
        if (content.get("task"), content.get("app_id"), content.get("request_id")) != outside:
            raise SealBroken("an answer to another request")
        try:
            return answer_type.from_wire(content)
        except (KeyError, TypeError, ValueError):
            raise SealBroken("an answer of a shape this client does not know") from None

    def _find_key(self, kid: str) -> AppKey | None:
        return self._key if kid == self._key.kid else None


class PendingAnswer(Generic[AnswerT]):
    """An answer that may still come."""

    def __init__(
        self,
        client: SessionClient,
        inbox: Inbox,
        message: _Message,
        answer_type: type[AnswerT],
        *,
        until: float,
    ) -> None:
        self._client = client
        self._inbox = inbox
        self._message = message
        self._answer_type = answer_type
        self._until = until

    @property
    def request_id(self) -> str:
        """The idempotency key of the request."""
        return self._message.request_id

    def wait(self, timeout: float | None = None) -> AnswerT:
        """Return the answer. Raises `NotAnswered`, `BrokerUnavailable` or `SealBroken` in time.

        *timeout* in seconds; None waits for as long as the request itself may take.
        """
        until = self._until if timeout is None else time.monotonic() + timeout
        key = contract.reply_key(self._message.kwargs["app_id"], self.request_id)
        raw = self._inbox.wait(key, min(until, self._until))
        if raw is None:
            raise NotAnswered(f"request {self.request_id}: no answer in time")
        return self._client._open(self._message, raw, self._answer_type)  # noqa: SLF001


def _refusal_in_clear(text: str, request_id: str) -> dict[str, Any]:
    """Read an answer that could not be sealed because the worker did not know who was asking.

    It can only ever say no: anybody on the broker could have written it.
    """
    try:
        content = sealing.json_object(text)
    except ValueError:
        raise SealBroken("not an answer") from None
    if content.get("verdict") != Verdict.UNAUTHORIZED or content.get("request_id") != request_id:
        raise SealBroken("an unsealed answer may only refuse")
    return {key: content.get(key) for key in ("verdict", "request_id", "reason")}


def _lifetime(request: requests.Request) -> timedelta:
    return contract.MAX_LIFETIME[request.task]


def _sleep(seconds: float, until: float) -> None:
    time.sleep(max(0.0, min(seconds, until - time.monotonic())))
