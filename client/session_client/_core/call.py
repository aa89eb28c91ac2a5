"""How one call goes: a generator that says what it needs of the broker, and ends with the value.

It yields an `Ask` or a `Rest`, is sent what an `Ask` brought (None: nothing in its time), and is
thrown `BrokerUnavailable` where the broker could not be asked, or `GivenUp`. The drivers do no
more than that.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias, TypeVar, cast

from session_client import ended, reading
from session_client._core import complaints, message, opening
from session_client._core.app import App
from session_client._core.message import Message
from session_client._core.opening import Opened
from session_client.contract import LogoutWait, Reason, Verdict
from session_client.errors import (
    NotAcknowledged,
    NotAnswered,
    SealBroken,
    SessionClientError,
    Unavailable,
)
from session_client.reading import Answered
from session_client.requests import Logout, Receipt, Request, RevokeUser
from session_client.values import LogoutReceipt

R = TypeVar("R")

REPEAT_AFTER_SECONDS: Final = 1.0
REPEAT_AT_MOST_EVERY_SECONDS: Final = 10.0
_BROKER_PAUSE_SECONDS: Final = 0.25
# A receipt is asked for again at growing intervals; one question whose message got lost must not
# use up the time of all that would follow it.
ASK_AGAIN_AFTER_SECONDS: Final = 0.1
ASK_AGAIN_AT_MOST_EVERY_SECONDS: Final = 1.0
QUESTION_TIMEOUT_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class Ask:
    """Publish *message* if *is_due*, then wait for an answer until *until* (`time.monotonic`)."""

    message: Message = field(repr=False)
    until: float
    is_due: bool = True


@dataclass(frozen=True, slots=True)
class Rest:
    """Do nothing until *until*."""

    until: float


class GivenUp(Exception):  # noqa: N818 - reads as the state it reports
    """Thrown in where nothing more will come: the call ends with *why*, however it is repeated."""

    def __init__(self, why: Unavailable) -> None:
        super().__init__(why)
        self.why = why


Steps: TypeAlias = Generator[Ask | Rest, bytes | Opened | None, R]


def life(app: App, request: Request[R], until: float) -> Steps[R]:
    """Ask *request* and return what it comes to by *until*, or raise a `SessionClientError`."""
    known = request.known_already()
    if known is not None:
        return known
    sealed = message.seal(request, app_id=app.app_id, key=app.key)
    answer = yield from answer_to(app, sealed, until, type(request))
    value = value_of(request, answer)
    if isinstance(request, Logout | RevokeUser):
        ended.SEEN.add(getattr(request, "session_ref", None))
        receipt: Any = value
        reached: Any = yield from _until_reached(app, LogoutWait(request.wait), receipt, until)
        return cast("R", reached)
    return value


def answer_to(app: App, sealed: Message, until: float, kind: type[Request[Any]]) -> Steps[Answered]:
    """Send *sealed* in the way of its *kind*, and return the answer about people."""
    answer = yield from heard(app, sealed, until, kind)
    return about_people(sealed, answer)


def heard(app: App, sealed: Message, until: float, kind: type[Request[Any]]) -> Steps[Answered]:
    """Send *sealed* likewise, and return whatever is answered."""
    ended.SEEN.outlast(until - time.monotonic())
    delivery = _Delivery(app, sealed, until)
    try:
        answer = yield from delivery.until_answered() if kind.is_repeated else delivery.once()
    except GivenUp as given_up:
        failed: SessionClientError = given_up.why
    except SessionClientError as error:
        failed = error
    else:
        ended.SEEN.learn(answer)
        return answer
    if kind.is_acknowledged:
        raise NotAcknowledged(sealed.request_id, str(failed)) from failed
    raise failed


def about_people(sealed: Message, answer: Answered) -> Answered:
    """Return *answer* to *sealed* if it is about people; raise what it says of machines."""
    complaints.tell(sealed.task, answer)
    reading.raise_unless_about_people(answer)
    return answer


def value_of(request: Request[R], answer: Answered) -> R:
    """Return what *answer* comes to, given what this process has seen end. Raises `SealBroken`."""
    try:
        return request.read(ended.SEEN.hold(answer))
    except (AttributeError, KeyError, TypeError, ValueError, IndexError):
        raise SealBroken("an answer of a shape this client does not know") from None


class _Delivery:
    """One message on its way, and why there is no answer yet."""

    def __init__(self, app: App, sealed: Message, until: float) -> None:
        self._app = app
        self._message = sealed
        self._until = until
        self._pause = REPEAT_AFTER_SECONDS
        self._publish_at = 0.0
        self._why: SessionClientError | None = None

    def once(self) -> Steps[Answered]:
        """Send it, and return the first answer that is one."""
        return (yield from self._listen(self._until, is_due=True))

    def until_answered(self) -> Steps[Answered]:
        """Send it again and again until it is answered for good, be it by a refusal."""
        while time.monotonic() < self._until:
            is_due = time.monotonic() >= self._publish_at
            if is_due:
                self._publish_at = time.monotonic() + self._pause
                self._pause = min(self._pause * 2, REPEAT_AT_MOST_EVERY_SECONDS)
            try:
                answer = yield from self._listen(min(self._publish_at, self._until), is_due=is_due)
            except NotAnswered:
                continue
            except SealBroken as error:
                self._why = error
                continue
            except Unavailable as error:
                self._why, self._publish_at = error, 0.0
                yield Rest(min(time.monotonic() + _BROKER_PAUSE_SECONDS, self._until))
                continue
            if answer.verdict is not Verdict.TEMPORARILY_UNAVAILABLE:
                return answer
            # The worker may try again by itself, so wait for that rather than rest.
            self._why = reading.unavailable(answer)
            self._publish_at = time.monotonic() + (answer.retry_after or self._pause)
        raise self._why or self._not_answered()

    def _listen(self, until: float, *, is_due: bool) -> Steps[Answered]:
        """Wait until *until* for an answer that is one: a forged one ends no wait for the true.

        Nor does "too late", which may be said to an earlier message under an id that the app gave.
        """
        forged: SealBroken | None = None
        too_late: Answered | None = None
        while True:
            raw = yield Ask(self._message, until, is_due)
            is_due = False
            if raw is None and too_late is not None:
                return too_late
            if raw is None:
                raise forged or self._not_answered()
            try:
                answer = opening.answered(self._message, raw, self._app.key)
            except SealBroken as error:
                forged = error
                continue
            if self._message.answer_to is None or answer.reason != Reason.DEADLINE_PASSED:
                return answer
            too_late = answer

    def _not_answered(self) -> NotAnswered:
        return NotAnswered("no answer in time", request_id=self._message.request_id)


def _until_reached(
    app: App, wanted: LogoutWait, receipt: LogoutReceipt, until: float
) -> Steps[LogoutReceipt]:
    """Ask again, at growing intervals, until *wanted* has come or *until*; return the latest.

    A question that fails raises nothing: the logout itself is committed, and this is only about
    news of it.
    """
    pause = ASK_AGAIN_AFTER_SECONDS
    while not receipt.has_reached(wanted):
        try:
            yield Rest(min(time.monotonic() + pause, until))
        except GivenUp:
            break
        left = until - time.monotonic()
        if left <= 0:
            break
        pause = min(pause * 2, ASK_AGAIN_AT_MOST_EVERY_SECONDS)
        timeout = min(left, QUESTION_TIMEOUT_SECONDS)
        question = Receipt(str(receipt.receipt_id), timeout=timeout)
        try:
            receipt = yield from life(app, question, time.monotonic() + timeout)
        except SessionClientError:
            continue
    return receipt
