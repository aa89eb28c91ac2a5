"""`check`: what the worker says of this app; and logout tokens, verified with keys from there."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, ClassVar, Final

from session_client import contract, notices, reading, timeouts, times
from session_client._core import call, message
from session_client._core.app import App
from session_client._core.call import Steps
from session_client.contract import Task
from session_client.errors import ConfigurationError, NotAnswered
from session_client.reading import Answered
from session_client.requests.base import TIMEOUT_SECONDS, Request
from session_client.values import About, LogoutNotice

log = logging.getLogger("session_client")

WARN_ABOVE_SECONDS: Final = 10.0
# A key that is new to us may as well be a forger's: it must not cost a question each time.
ASK_AGAIN_SECONDS: Final = 30.0
# What is published at a wrong place is taken by no worker, and no broker objects.
_NOBODY_THERE: Final = (
    "no answer in time: does a worker run, at this broker, and at this database number of it?"
)
_MOST: Final = contract.MAX_CLOCK_SKEW.total_seconds()


@dataclass(frozen=True, slots=True, kw_only=True)
class Check(Request["About"]):
    """Ask what this app may do, how far the clocks are apart, and for the keys of notices.

    Args:
        timeout: in seconds.
        request_id: the idempotency key; a new one unless given.

    For start-up and readiness. Warns in the log of clocks that are more than 10 s apart, and raises
    `ConfigurationError` above 60 s: requests then come too late or too early, which looks like a
    worker that is away.
    """

    task: ClassVar[Task] = Task.ABOUT

    def payload(self) -> dict[str, Any]:
        """Return the payload on the wire."""
        return {}

    def read(self, answer: Answered) -> About:
        """Return what the worker answered."""
        reading.require_ok(answer)
        data = answer.data
        return About(
            app_id=data["app_id"],
            capabilities=frozenset(data["capabilities"]),
            methods=frozenset(data["methods"]),
            clock_offset=_offset(answer),
            notice_issuer=data.get("notice_issuer"),
            notice_audience=data.get("notice_audience"),
            notice_keys=tuple(data.get("notice_keys", ())),
        )

    @property
    def lifetime(self) -> timedelta:
        """For how long the worker may serve it: a clock that is late must still get an answer."""
        return contract.MAX_LIFETIME[self.task]

    def life(self, app: App, until: float) -> Steps[About]:
        """Ask, and look at the clock before anything else."""
        sealed = message.seal(self, app_id=app.app_id, key=app.key)
        try:
            answer = yield from call.heard(app, sealed, until, type(self))
        except NotAnswered:
            raise NotAnswered(_NOBODY_THERE, request_id=sealed.request_id) from None
        if answer.answered_at is not None:
            _check_clock(_offset(answer))
        about = call.value_of(self, call.about_people(sealed, answer))
        app.remember(about)
        return about


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyLogoutToken:
    """Verify the ``logout_token`` of an OpenID Connect back-channel logout request.

    Args:
        token: the form field ``logout_token``.
        timeout: in seconds.

    Answer the request with 200 once what it says is done, with 400 when this raises
    `InvalidNotice`, and with 503 when it raises `Unavailable`. The keys come from the worker,
    sealed, and are asked for again when the token names a new one, every 30 s at most.
    Source: OpenID Connect Back-Channel Logout 1.0, sections 2.4 to 2.8.
    """

    token: str = field(kw_only=False, repr=False)
    timeout: float = field(default=TIMEOUT_SECONDS, repr=False)

    def __post_init__(self) -> None:
        timeouts.lifetime(self.timeout)

    def life(self, app: App, until: float) -> Steps[LogoutNotice]:
        """Look at the token, and ask for keys if there is none for it."""
        signed = notices.read_token(self.token)
        about = app.about
        is_new = about is None or not notices.names_key_of(signed, about)
        if about is None or (is_new and app.seconds_since_answer > ASK_AGAIN_SECONDS):
            about = yield from Check(timeout=self.timeout).life(app, until)
        return notices.verified(signed, about)


def _offset(answer: Answered) -> float:
    assert answer.answered_at is not None, "a sealed answer says when"  # noqa: S101
    return (times.now() - answer.answered_at).total_seconds()


def _check_clock(offset: float) -> None:
    side = "ahead of" if offset > 0 else "behind"
    apart = f"clock: this machine's is {abs(offset):.0f} s {side} the worker's"
    if abs(offset) > _MOST:
        raise ConfigurationError(apart)
    if abs(offset) > WARN_ABOVE_SECONDS:
        log.warning(apart)
