"""One round: claim a batch, publish it in one write, read one inbox, settle in one transaction."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from session_client import ended, sealing
from session_client._core import message, opening
from session_client._core.app import App
from session_client._core.message import Message
from session_client.contract import Reason, Task, Verdict
from session_client.errors import SealBroken, Unavailable
from session_client.reading import Answered
from session_client.requests import new_request_id
from session_client.spool.store import Settlement, SpooledLogout, SpoolStore

LEASE_SECONDS: Final = 30.0
BATCH: Final = 200
# Without an answer: while answers come, a slow worker is waited for. A batch that is given up while
# the worker is at it is sent again behind itself, and its answers go to a list that no drain reads.
LISTEN_SECONDS: Final = 5.0
LONGEST_LISTEN_SECONDS: Final = 25.0  # what is claimed must be settled within the lease
MAX_PAUSE_SECONDS: Final = 10.0
# Refusals that only say that the request is too old, or that a clock was wrong.
_SEND_ANEW: Final = frozenset({Reason.DEADLINE_PASSED.value, Reason.CLOCK_SKEW.value})
NO_KEY: Final = "sealed with a key that is not among ours"


class Driver(Protocol):
    """What a round needs of the client's driver."""

    def ask_all(
        self, messages: Sequence[Message], answer_to: str, quiet: float, longest: float
    ) -> Iterator[bytes | None]:
        """Publish all at once, and yield what comes at *answer_to*; None now and then.

        Ends *quiet* seconds after the last that came, and *longest* seconds after the first word.
        """
        ...


@dataclass(slots=True)
class Round:
    """What one round came to."""

    asked: int = 0
    seconds: float = 0.0  # until all were answered, or the client waited no longer
    settlement: Settlement = field(default_factory=Settlement)
    is_answered: bool = False  # a worker is there
    why_not: str = "no answer in time"

    @property
    def is_silent(self) -> bool:
        """Whether there was something to ask, and no worker answered."""
        return self.asked > 0 and not self.is_answered

    @property
    def is_idle(self) -> bool:
        """Whether no logout is done with, so that the next round need not begin at once.

        One that is sent anew is due again at once: with a clock that is wrong it would be refused
        and sent anew every few milliseconds.
        """
        return self.is_silent or not (self.settlement.acknowledged or self.settlement.refused)


class Drain:
    """Does rounds for one app. It keeps nothing between two of them, nor the client's driver."""

    def __init__(self, app: App, driver: Callable[[], Driver], store: SpoolStore) -> None:
        self._app = app
        self._driver = driver
        self._store = store

    def round(self, limit: int, seconds: float, is_over: Callable[[], bool]) -> Round:
        """Claim *limit* logouts at most and deliver them, until no answer comes for *seconds*.

        Ends early once *is_over*. Raises what the store raises.
        """
        done = Round()
        # Of this round alone: two drainers that shared an inbox would take each other's answers.
        name = new_request_id()
        claimed = self._store.claim(name, limit, LEASE_SECONDS)
        on_way: dict[str, tuple[SpooledLogout, Message]] = {}
        for spooled in claimed:
            sealed = self._under_todays_key(spooled, done.settlement)
            if sealed is not None:
                on_way[sealed.request_id] = spooled, sealed
        done.asked = len(on_way)
        if on_way:
            began = time.monotonic()
            self._deliver(on_way, name, seconds, is_over, done)
            done.seconds = time.monotonic() - began
        for spooled, sealed in on_way.values():
            self._put_back(spooled, sealed, done.settlement)
        if claimed:
            self._store.settle(name, done.settlement)
        return done

    def _under_todays_key(self, spooled: SpooledLogout, settlement: Settlement) -> Message | None:
        """Return it as a message under today's key; None when it has none of ours."""
        app = self._app
        try:
            if sealing.header_of(spooled.envelope).get("kid") == app.key.kid:
                return Message(Task.LOGOUT, app.app_id, spooled.request_id, spooled.envelope)
            return self._anew(spooled)
        except SealBroken:
            settlement.refused[spooled.request_id] = NO_KEY
            return None

    def _anew(self, spooled: SpooledLogout) -> Message:
        """Return the same logout as a request of now. Raises `SealBroken`."""
        app = self._app
        keys = (app.key, *app.keys.values())
        return message.reseal(spooled.envelope, app_id=app.app_id, keys=keys)

    def _deliver(
        self,
        on_way: dict[str, tuple[SpooledLogout, Message]],
        name: str,
        seconds: float,
        is_over: Callable[[], bool],
        done: Round,
    ) -> None:
        """Send them, and take out of *on_way* what was answered for good."""
        sent = [sealed for _, sealed in on_way.values()]
        try:
            for raw in self._driver().ask_all(sent, name, seconds, LONGEST_LISTEN_SECONDS):
                answer = None if raw is None else self._opened(raw, on_way)
                if answer is not None:
                    done.is_answered = True
                    self._heed(answer, *on_way.pop(answer.request_id), done)
                if not on_way or is_over():
                    return
        except Unavailable as error:
            done.why_not = str(error)

    def _opened(
        self, raw: bytes, on_way: dict[str, tuple[SpooledLogout, Message]]
    ) -> Answered | None:
        try:
            opened = opening.unsealed(raw, self._app.key)
            _, sealed = on_way[str(opened.request_id)]
            return opening.answered(sealed, opened, self._app.key)
        except (SealBroken, KeyError):
            return None  # forged, or of an earlier round: the true one may still come

    def _heed(self, answer: Answered, spooled: SpooledLogout, sealed: Message, done: Round) -> None:
        settlement, request_id = done.settlement, spooled.request_id
        if answer.verdict is Verdict.OK:
            ended.SEEN.learn(answer)
            settlement.acknowledged.append(request_id)
        elif answer.verdict is Verdict.TEMPORARILY_UNAVAILABLE:
            done.why_not = answer.in_words()
            self._put_back(spooled, sealed, settlement, answer.retry_after)
        elif answer.reason in _SEND_ANEW:
            settlement.replaced[request_id] = _spooled(self._anew(spooled))
        else:
            settlement.refused[request_id] = answer.in_words()

    def _put_back(
        self,
        spooled: SpooledLogout,
        sealed: Message,
        settlement: Settlement,
        after: float | None = None,
    ) -> None:
        if sealed.request_id != spooled.request_id:  # under another key by now
            settlement.replaced[spooled.request_id] = _spooled(sealed)
            return
        pause = 2.0 ** min(spooled.attempts - 1, 4) if after is None else after
        settlement.released[spooled.request_id] = min(max(pause, 1.0), MAX_PAUSE_SECONDS)


def _spooled(sealed: Message) -> SpooledLogout:
    return SpooledLogout(sealed.request_id, sealed.envelope)
