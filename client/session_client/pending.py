"""Answers that may still come."""

from __future__ import annotations

import threading
import time
from typing import Generic

from session_client import ended, messages
from session_client.contract import Verdict
from session_client.errors import NotAnswered
from session_client.keys import AppKey
from session_client.links import Links
from session_client.messages import AnswerT, Message


class PendingAnswer(Generic[AnswerT]):
    """An answer that may still come. Any thread may wait for it, and more than one."""

    def __init__(
        self,
        links: Links,
        key: AppKey,
        message: Message,
        answer_type: type[AnswerT],
        *,
        until: float,
    ) -> None:
        self._links = links
        self._key = key
        self._message = message
        self._answer_type = answer_type
        self._until = until
        self._reading = threading.Lock()
        self._answer: AnswerT | None = None

    def __repr__(self) -> str:
        return f"<PendingAnswer to {self._message.task} {self.request_id}>"

    @property
    def request_id(self) -> str:
        """The idempotency key of the request."""
        return self._message.request_id

    def wait(self, timeout: float | None = None) -> AnswerT:
        """Return the answer; once it has come, return it again at each call.

        *timeout* is in seconds; None waits for as long as the request itself may take, and no
        wait is longer than that. After the request's time is up, or with a *timeout* of 0, it
        takes an answer that lies ready: answers are kept for a minute.

        Raises `NotAnswered`, `BrokerUnavailable` or `SealBroken` in time.
        """
        until = self._until
        if timeout is not None:
            until = min(until, time.monotonic() + timeout)
        # One reader at a time: the answer comes once, and two readers would compete for it.
        if not self._reading.acquire(timeout=max(until - time.monotonic(), 0.0)):
            raise self._not_answered()
        try:
            if self._answer is None or self._answer.verdict is Verdict.TEMPORARILY_UNAVAILABLE:
                self._answer = self._read(until)
            # Each time: its session may have ended since it came.
            return ended.SEEN.hold(self._answer)
        finally:
            self._reading.release()

    def _read(self, until: float) -> AnswerT:
        raw = self._links.current().inbox.wait(self._message.reply_key, until)
        if raw is None:
            raise self._not_answered()
        answer = messages.open_answer(self._message, raw, self._key, self._answer_type)
        ended.SEEN.learn(answer)
        return answer

    def _not_answered(self) -> NotAnswered:
        return NotAnswered(f"request {self.request_id}: no answer in time")
