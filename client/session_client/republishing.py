"""Sending one message until it is acknowledged.

A message may vanish inside the broker without an error, so one that must arrive is sent again,
the same to the bit: its request id tells the worker that it is a repetition.
"""

from __future__ import annotations

import time
from typing import Final, Generic

from session_client import ended, timeouts
from session_client.answers import Answer
from session_client.contract import Verdict
from session_client.errors import BrokerUnavailable, NotAcknowledged, NotAnswered, SealBroken
from session_client.keys import AppKey
from session_client.links import Links
from session_client.messages import AnswerT, Message
from session_client.pending import PendingAnswer

REPUBLISH_AFTER_SECONDS: Final = 1.0
REPUBLISH_AT_MOST_EVERY_SECONDS: Final = 10.0
_BROKER_PAUSE_SECONDS: Final = 0.25


class Republisher:
    """Sends messages of one app. Safe to share among threads and to carry across a fork."""

    def __init__(self, links: Links, key: AppKey) -> None:
        self._links = links
        self._key = key

    def until_answered(
        self, message: Message, answer_type: type[AnswerT], timeout: float
    ) -> AnswerT:
        """Send *message* until it is answered for good, be it by a refusal.

        *timeout* is in seconds. Raises `NotAcknowledged` when that does not happen in time.
        """
        timeouts.lifetime(timeout)
        ended.SEEN.outlast(timeout)
        until = time.monotonic() + timeout
        pending = PendingAnswer(self._links, self._key, message, answer_type, until=until)
        delivery = _Delivery(self._links, message, pending, until)
        while time.monotonic() < until:
            answer = delivery.attempt()
            if answer is not None:
                return answer
        raise NotAcknowledged(message.request_id, delivery.why, delivery.last)

    def until_acknowledged(
        self, message: Message, answer_type: type[AnswerT], timeout: float
    ) -> AnswerT:
        """Send *message* likewise. A refusal raises `NotAcknowledged` too."""
        answer = self.until_answered(message, answer_type, timeout)
        if answer.verdict is not Verdict.OK:
            raise NotAcknowledged(message.request_id, answer.in_words(), answer)
        return answer


class _Delivery(Generic[AnswerT]):
    """One message on its way, and why it is not acknowledged yet."""

    def __init__(
        self, links: Links, message: Message, pending: PendingAnswer[AnswerT], until: float
    ) -> None:
        self._links = links
        self._message = message
        self._pending = pending
        self._until = until
        self._pause = REPUBLISH_AFTER_SECONDS
        self._publish_at = 0.0
        self.why = "no answer in time"
        self.last: Answer | None = None

    def attempt(self) -> AnswerT | None:
        """Send the message if it is time to, and wait for the answer until it is time again."""
        try:
            self._publish_if_due()
            return self._final(self._pending.wait(self._seconds_to_wait()))
        except NotAnswered:
            pass
        except SealBroken as error:
            # Not from the worker, as far as we can tell: it must not end the wait for the true
            # answer, which may lie right behind it.
            self.why = str(error)
        except BrokerUnavailable as error:
            self.why = str(error)
            timeouts.sleep(_BROKER_PAUSE_SECONDS, self._until)
            self._publish_at = 0.0
        return None

    def _publish_if_due(self) -> None:
        if time.monotonic() < self._publish_at:
            return
        self._links.current().publisher.publish(self._message, self._until)
        self._publish_at = time.monotonic() + self._pause
        self._pause = min(self._pause * 2, REPUBLISH_AT_MOST_EVERY_SECONDS)

    def _seconds_to_wait(self) -> float:
        return max(0.0, min(self._publish_at, self._until) - time.monotonic())

    def _final(self, answer: AnswerT) -> AnswerT | None:
        """Return *answer*, unless it only says to try later: then note when."""
        if answer.verdict is not Verdict.TEMPORARILY_UNAVAILABLE:
            return answer
        self.why, self.last = answer.in_words(), answer
        # The worker may try again by itself, so wait for that rather than sleep.
        self._publish_at = time.monotonic() + (answer.retry_after or self._pause)
        return None
