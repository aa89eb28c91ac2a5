"""Answers as they come over the wire, verdict and all, for tests of the worker.

What an app sees are the values and exceptions of `session_client`; those have tests of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from session_client import (
    Authenticated,
    Denied,
    InvalidRequest,
    LoginRequired,
    LogoutReceipt,
    LogoutWait,
    OutcomeUnknown,
    Reason,
    Registered,
    SessionInfo,
    StepUpRequired,
    Tokens,
    Unauthorized,
    Verdict,
    WorkerUnavailable,
    times,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard(LogoutReceipt):
    """Everything that an answer of the worker may hold, a receipt among it."""

    verdict: Verdict
    request_id: str
    reason: str | None = None
    retry_after: float | None = None
    detail: str | None = None
    tokens: Tokens | None = None
    user_id: str | None = None
    session_ref: str | None = None
    expires_at: datetime | None = None
    authenticated_at: datetime | None = None
    amr: tuple[str, ...] = ()
    missing_amr: tuple[str, ...] = ()
    max_age_exceeded: bool = False
    browser_token: str | None = field(default=None, repr=False)
    known_browser: str | None = field(default=None, repr=False)
    ticket: str | None = field(default=None, repr=False)
    transfer_url: str | None = None
    expires_in: int | None = None
    sessions: tuple[SessionInfo, ...] = ()
    approval_data: dict[str, str] | None = None

    @classmethod
    def from_wire(cls, content: Mapping[str, Any]) -> Heard:
        """Read an opened answer; what this does not know is left out."""
        told = {**(content.get("data") or {}), **content}
        given = {name: told[name] for name in cls.__dataclass_fields__ if name in told}
        given["verdict"] = Verdict(told["verdict"])
        for name in ("expires_at", "authenticated_at"):
            if name in given:
                given[name] = times.from_wire(given[name])
        for name, value in given.items():
            if isinstance(value, list):
                given[name] = tuple(value)
        if "tokens" in given:
            given["tokens"] = Tokens(**given["tokens"])
        if "sessions" in given:
            given["sessions"] = tuple(map(_session, given["sessions"]))
        return cls(**given)

    @property
    def is_yes(self) -> bool:
        """Whether what was asked for happened."""
        return self.verdict in {Verdict.OK, Verdict.AUTHENTICATED}

    def has_reached(self, wanted: LogoutWait) -> bool:
        """Whether a receipt has nothing pending of what *wanted* waits for."""
        return self.is_yes and LogoutReceipt.has_reached(self, wanted)


def _session(data: dict[str, Any]) -> SessionInfo:
    moments = {name: times.from_wire(data[name]) for name in ("authenticated_at", "expires_at")}
    texts = {name: tuple(data[name]) for name in ("apps", "amr")}
    return SessionInfo(**{**data, **moments, **texts})


def authenticated(value: object) -> Authenticated:
    """Return what a client's call came to, if the user is signed in."""
    assert isinstance(value, Authenticated), value
    return value


def registered(value: object) -> Registered:
    """Return what a registration came to, if it is one."""
    assert isinstance(value, Registered), value
    return value


def told(ask: Callable[[], object]) -> tuple[Verdict, str | None]:
    """Return verdict and reason behind what a client's call comes to, be it an exception."""
    try:
        value = ask()
    except (WorkerUnavailable, OutcomeUnknown) as error:
        return Verdict.TEMPORARILY_UNAVAILABLE, getattr(error, "reason", Reason.OUTCOME_UNKNOWN)
    except InvalidRequest as error:
        return Verdict.INVALID_REQUEST, error.reason
    except Unauthorized as error:
        return Verdict.UNAUTHORIZED, error.reason
    return _VERDICTS.get(type(value), Verdict.OK), getattr(value, "reason", None)


_VERDICTS: dict[type, Verdict] = {
    Authenticated: Verdict.AUTHENTICATED,
    LoginRequired: Verdict.LOGIN_REQUIRED,
    StepUpRequired: Verdict.INTERACTION_REQUIRED,
    Denied: Verdict.ACCESS_DENIED,
}
