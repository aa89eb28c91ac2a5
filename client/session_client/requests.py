"""What an app may ask, typed. Each class knows its task and its payload on the wire."""

from __future__ import annotations

import secrets
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, ClassVar, Final

from session_client import contract, naming, times
from session_client.contract import LogoutScope, Task
from session_client.errors import InvalidArgumentError

_REQUEST_ID_BYTES: Final = 16
_VERIFIER_BYTES: Final = 32


def new_request_id() -> str:
    """Return a random request id: the idempotency key of one request."""
    return secrets.token_urlsafe(_REQUEST_ID_BYTES)


def new_verifier() -> str:
    """Return a random verifier of a ticket: keep it for one browser, and for ten minutes."""
    return secrets.token_urlsafe(_VERIFIER_BYTES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request(ABC):
    """What all requests have in common."""

    task: ClassVar[Task]

    @abstractmethod
    def payload(self) -> dict[str, Any]:
        """Return the payload on the wire, without what was not given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Register(Request):
    """Remember a session after an active login, or again after an added factor."""

    task: ClassVar[Task] = Task.REGISTER
    session_id: str = field(repr=False)
    user_id: str
    id_token: str = field(repr=False)
    device_id: str | None = None
    replaces: str | None = field(default=None, repr=False)

    def payload(self) -> dict[str, Any]:
        """Return the payload on the wire."""
        return given(
            session_id=self.session_id,
            user_id=self.user_id,
            id_token=self.id_token,
            device_id=self.device_id,
            replaces=self.replaces,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SilentAuth(Request):
    """Tokens for a user of this app from a session that another app may have opened.

    It names the session in one way: ``browser_token``, ``ticket`` (with its ``verifier``),
    ``session_ref`` (with its ``user_id``), or ``user_id`` alone. ``amr_all_of``, ``amr_any_of`` and
    ``max_age`` (seconds since the last active login) can only ask for more than the app's policy
    does.
    """

    task: ClassVar[Task] = Task.SILENT_AUTH
    browser_token: str | None = field(default=None, repr=False)
    session_ref: str | None = None
    user_id: str | None = None
    ticket: str | None = field(default=None, repr=False)
    verifier: str | None = field(default=None, repr=False)
    replaces: str | None = field(default=None, repr=False)
    device_id: str | None = None
    amr_all_of: Sequence[str] = ()
    amr_any_of: Sequence[str] = ()
    max_age: int | None = None
    resource: str | None = None
    claims: dict[str, Any] | None = None
    org_id: str | None = None
    user_agent: str | None = None
    ip_address: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.amr_all_of, str) or isinstance(self.amr_any_of, str):
            # A string is a sequence too: "mfa" would ask for the methods m, f and a.
            raise InvalidArgumentError("amr_all_of, amr_any_of: a sequence of methods")
        self._check_name()

    def _check_name(self) -> None:
        if not naming.names_one_session(
            browser_token=self.browser_token,
            ticket=self.ticket,
            session_ref=self.session_ref,
            user_id=self.user_id,
        ):
            raise InvalidArgumentError(
                "name the session in one way: browser_token, ticket with verifier, session_ref "
                "with user_id, or user_id"
            )
        if (self.ticket is None) != (self.verifier is None):
            raise InvalidArgumentError("verifier: with a ticket, and only with one")
        if self.ticket is None and self.replaces is not None:
            raise InvalidArgumentError("replaces: only with a ticket")

    def payload(self) -> dict[str, Any]:
        """Return the payload on the wire."""
        client_attributes = given(user_agent=self.user_agent, ip_address=self.ip_address)
        return given(
            browser_token=self.browser_token,
            session_ref=self.session_ref,
            user_id=self.user_id,
            ticket=self.ticket,
            verifier=self.verifier,
            replaces=self.replaces,
            device_id=self.device_id,
            amr_all_of=list(self.amr_all_of) or None,
            amr_any_of=list(self.amr_any_of) or None,
            max_age=self.max_age,
            resource=self.resource,
            claims=self.claims,
            org_id=self.org_id,
            client_attributes=client_attributes or None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Refresh(Request):
    """Fresh tokens for a refresh token that this app was given, whoever is at the browser."""

    task: ClassVar[Task] = Task.REFRESH
    refresh_token: str = field(repr=False)

    def payload(self) -> dict[str, Any]:
        """Return the payload on the wire."""
        return {"refresh_token": self.refresh_token}


@dataclass(frozen=True, slots=True, kw_only=True)
class IssueTicket(Request):
    """Carry this browser's session to an app on another domain."""

    task: ClassVar[Task] = Task.TICKET
    browser_token: str = field(repr=False)
    for_app: str
    challenge: str

    def __post_init__(self) -> None:
        if not contract.is_app_id(self.for_app):
            raise InvalidArgumentError("for_app: an app's name at the worker")
        if not contract.is_challenge(self.challenge):
            raise InvalidArgumentError("challenge: as challenge_of(verifier) returns it")

    def payload(self) -> dict[str, Any]:
        """Return the payload on the wire."""
        return given(
            browser_token=self.browser_token, for_app=self.for_app, challenge=self.challenge
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Status(Request):
    """What the store knows of a user's sessions that this app shares. Never asks Mosaic."""

    task: ClassVar[Task] = Task.STATUS
    user_id: str

    def payload(self) -> dict[str, Any]:
        """Return the payload on the wire."""
        return {"user_id": self.user_id}


@dataclass(frozen=True, slots=True, kw_only=True)
class Logout(Request):
    """End one session, a device's sessions, or all of a user's.

    The session is named by ``session_ref`` or ``session_id``, each with its ``user_id``, or by
    ``browser_token`` alone.
    """

    task: ClassVar[Task] = Task.LOGOUT
    user_id: str | None = None
    scope: LogoutScope | str = LogoutScope.SESSION
    browser_token: str | None = field(default=None, repr=False)
    session_ref: str | None = None
    session_id: str | None = field(default=None, repr=False)
    device_id: str | None = None

    def __post_init__(self) -> None:
        if self.scope not in set(LogoutScope):
            raise InvalidArgumentError("scope: session, device or user")
        if not naming.names_what_to_end(
            LogoutScope(self.scope),
            user_id=self.user_id,
            browser_token=self.browser_token,
            session_ref=self.session_ref,
            session_id=self.session_id,
            device_id=self.device_id,
        ):
            raise InvalidArgumentError(
                "scope session takes browser_token, or user_id with session_ref or session_id; "
                "scope device takes user_id and device_id, scope user takes user_id"
            )

    def payload(self) -> dict[str, Any]:
        """Return the payload on the wire."""
        return given(
            user_id=self.user_id,
            scope=LogoutScope(self.scope).value,
            browser_token=self.browser_token,
            session_ref=self.session_ref,
            session_id=self.session_id,
            device_id=self.device_id,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RevokeUser(Request):
    """End everything of a user, at Mosaic too, also what was never registered."""

    task: ClassVar[Task] = Task.REVOKE_USER
    user_id: str
    frontend: bool = False

    def payload(self) -> dict[str, Any]:
        """Return the payload on the wire."""
        return given(user_id=self.user_id, frontend=self.frontend or None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt(Request):
    """What became of a logout of this app."""

    task: ClassVar[Task] = Task.RECEIPT
    receipt_id: str

    def payload(self) -> dict[str, Any]:
        """Return the payload on the wire."""
        return {"receipt_id": self.receipt_id}


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfirmNotice(Request):
    """This app has acted on a notice."""

    task: ClassVar[Task] = Task.CONFIRM_NOTICE
    notice_id: str

    def payload(self) -> dict[str, Any]:
        """Return the payload on the wire."""
        return {"notice_id": self.notice_id}


def content_of(
    request: Request, *, app_id: str, request_id: str, issued_at: datetime, lifetime: timedelta
) -> dict[str, Any]:
    """Return what is sealed: the request with everything the worker checks before it acts."""
    return {
        "v": contract.VERSION,
        "task": request.task.value,
        "app_id": app_id,
        "request_id": request_id,
        "issued_at": times.to_wire(issued_at),
        "deadline": times.to_wire(issued_at + lifetime),
        "payload": request.payload(),
    }


def given(**values: Any) -> dict[str, Any]:
    """Return *values* without those that were not given."""
    return {name: value for name, value in values.items() if value is not None}
