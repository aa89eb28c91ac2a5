"""What the worker answers about people, typed. What is wrong with machines is an exception.

A case that is left out of a ``match`` over one of these unions is an error in mypy and pyright.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, TypeAlias

from session_client.contract import LogoutWait


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """Tokens of one user for this app's client. ``expires_in`` counts seconds from the answer."""

    access_token: str = field(repr=False)
    token_type: str
    expires_in: int
    id_token: str | None = field(default=None, repr=False)
    refresh_token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Authenticated:
    """The user is signed in, and strong enough for what was asked.

    ``claims`` are those of the ID token, which the worker has verified; empty where Mosaic sent
    none. ``auth_age`` counts the seconds since the last active login, and ``expires_in`` those
    until the session ends unless it is used; None where the worker does not say.
    ``browser_token`` comes where the browser gets a new one: after an active login, an added
    factor, a ticket. ``known_browser`` marks the browser as one in which this user has signed in;
    keep it in a cookie of its own, for `authenticate`. ``approval_data`` is what the user has
    approved, word by word as the app asked at `start`, and Mosaic's ID token says so; None where
    they were not asked to approve anything. A form that comes twice has the same answer twice: do
    once what is approved, by a number of its own in it.
    """

    user_id: str
    session_ref: str
    tokens: Tokens
    claims: Mapping[str, Any] = field(default_factory=dict, repr=False)
    amr: tuple[str, ...] = ()
    auth_age: float | None = None
    expires_in: float | None = None
    browser_token: str | None = field(default=None, repr=False)
    known_browser: str | None = field(default=None, repr=False)
    approval_data: Mapping[str, str] | None = field(default=None, repr=False)


class _No:
    """An answer that lets nobody in."""

    __slots__ = ()

    def __bool__(self) -> Literal[False]:
        """Count as false: ``if client.authenticate(…):`` would let everybody in."""
        return False


@dataclass(frozen=True, slots=True)
class LoginRequired(_No):
    """Nobody is signed in here. ``reason`` is one of `Reason`, or a newer worker's."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StepUpRequired(_No):
    """Somebody is signed in, too weakly for what was asked: let them add a factor.

    After a login there is a ``browser_token``, with which the user steps up; write it as well.
    """

    reason: str
    user_id: str
    session_ref: str
    missing_amr: tuple[str, ...] = ()
    max_age_exceeded: bool = False
    browser_token: str | None = field(default=None, repr=False)
    known_browser: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Denied(_No):
    """The login, or a step of it, is not accepted. ``retry_after`` is in seconds, if there is one.

    ``reason`` says what may be shown: see `Reason`.
    """

    reason: str
    retry_after: float | None = None


SilentAnswer: TypeAlias = Authenticated | LoginRequired | StepUpRequired
LoginAnswer: TypeAlias = Authenticated | LoginRequired | StepUpRequired | Denied


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """The session is remembered. ``session_ref`` names it from now on, and is no secret.

    ``browser_token`` names it in the browser that has just signed in, and is one; None when a
    newer proof of the session was registered before. ``expires_in`` is in seconds.
    """

    session_ref: str
    expires_in: float
    browser_token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """Send the browser with ``ticket`` and its challenge to ``transfer_url``.

    It serves for ``expires_in`` seconds.
    """

    ticket: str = field(repr=False)
    transfer_url: str
    expires_in: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionInfo:
    """One live session as the store knows it."""

    session_ref: str
    apps: tuple[str, ...]
    amr: tuple[str, ...]
    device_id: str | None
    authenticated_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class LogoutReceipt:
    """The logout is committed: no session in its scope gives tokens any more.

    ``sessions_ended`` counts what it found live. ``idp_confirmed`` and ``idp_pending`` count the
    sessions that Mosaic has ended and those it must still be told about; ``idp_unconfirmed``
    those that expired there before it could be told, and ``idp_failed`` those it could not be
    told about until an operator acts. ``apps_…`` name the other apps that have confirmed that
    they were told, that are still to be told, and that could not be told. ``idp_user`` says, after
    `revoke_user`, what became of the user's sessions at Mosaic that nobody registered: ``pending``,
    ``confirmed`` or ``failed``. ``session_refs`` name those of the sessions that this app shares.
    ``receipt_id`` is None only of ``browser_token=None``: nothing ends, and no worker is asked.
    """

    receipt_id: str | None = None
    sessions_ended: int = 0
    idp_confirmed: int = 0
    idp_pending: int = 0
    idp_unconfirmed: int = 0
    idp_failed: int = 0
    idp_user: str | None = None
    apps_confirmed: tuple[str, ...] = ()
    apps_pending: tuple[str, ...] = ()
    apps_failed: tuple[str, ...] = ()
    session_refs: tuple[str, ...] = ()

    def has_reached(self, wanted: LogoutWait) -> bool:
        """Whether nothing is pending any more of what *wanted* waits for."""
        idp = self.idp_pending == 0 and self.idp_user != "pending"
        return {
            LogoutWait.LOCAL: True,
            LogoutWait.IDP: idp,
            LogoutWait.ALL: idp and not self.apps_pending,
        }[wanted]


@dataclass(frozen=True, slots=True, kw_only=True)
class LogoutNotice:
    """End the app's own sessions of this user: those of ``session_ref``, or all when it is None.

    It comes at least once, always with the same ``notice_id`` for the same ending. To act on it
    twice is harmless, and a repeat does not prove that the first one was acted on.
    """

    notice_id: str
    user_id: str | None
    session_ref: str | None
    cause: str | None = None
    ended_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What the worker says of this app, and of itself.

    ``clock_offset`` is how many seconds this machine's clock is ahead of the worker's.
    ``capabilities`` and ``methods`` are what the operator has granted. ``notice_issuer``,
    ``notice_audience`` and ``notice_keys`` (a JWK set) are what logout tokens are verified with;
    the issuer is None where the worker signs none.
    """

    app_id: str
    capabilities: frozenset[str]
    methods: frozenset[str]
    clock_offset: float
    notice_issuer: str | None = None
    notice_audience: str | None = None
    notice_keys: tuple[Mapping[str, str], ...] = ()
