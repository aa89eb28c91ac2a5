"""What an app may ask, typed. Each class knows its task and its payload on the wire."""

from __future__ import annotations

import secrets
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, ClassVar, Final

from session_client import contract, times
from session_client.contract import LogoutScope, Task
from session_client.errors import InvalidArgumentError

_REQUEST_ID_BYTES: Final = 16


def new_request_id() -> str:
    """Return a random request id: the idempotency key of one request."""
    return secrets.token_urlsafe(_REQUEST_ID_BYTES)


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

    def payload(self) -> dict[str, Any]:
        """Return the payload on the wire."""
        return _given(
            session_id=self.session_id,
            user_id=self.user_id,
            id_token=self.id_token,
            device_id=self.device_id,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SilentAuth(Request):
    """Tokens for a user of this app from a session that another app may have opened.

    ``amr_all_of``, ``amr_any_of`` and ``max_age`` (seconds since the last active login) can only
    ask for more than the app's policy does.
    """

    task: ClassVar[Task] = Task.SILENT_AUTH
    user_id: str
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

    def payload(self) -> dict[str, Any]:
        """Return the payload on the wire."""
        client_attributes = _given(user_agent=self.user_agent, ip_address=self.ip_address)
        return _given(
            user_id=self.user_id,
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
class Status(Request):
    """What the store knows of a user's sessions that this app shares. Never asks Mosaic."""

    task: ClassVar[Task] = Task.STATUS
    user_id: str

    def payload(self) -> dict[str, Any]:
        """Return the payload on the wire."""
        return {"user_id": self.user_id}


@dataclass(frozen=True, slots=True, kw_only=True)
class Logout(Request):
    """End one session (by ``session_ref`` or ``session_id``), a device's, or all of a user's."""

    task: ClassVar[Task] = Task.LOGOUT
    user_id: str
    scope: LogoutScope | str = LogoutScope.SESSION
    session_ref: str | None = None
    session_id: str | None = field(default=None, repr=False)
    device_id: str | None = None

    def __post_init__(self) -> None:
        wanted = {
            LogoutScope.SESSION: (self.session_ref is None) != (self.session_id is None)
            and self.device_id is None,
            LogoutScope.DEVICE: self.device_id is not None and not self._names_a_session(),
            LogoutScope.USER: self.device_id is None and not self._names_a_session(),
        }
        if self.scope not in set(LogoutScope):
            raise InvalidArgumentError("scope: session, device or user")
        if not wanted[LogoutScope(self.scope)]:
            raise InvalidArgumentError(
                "scope session takes session_ref or session_id, scope device takes device_id, "
                "scope user takes neither"
            )

    def _names_a_session(self) -> bool:
        return self.session_ref is not None or self.session_id is not None

    def payload(self) -> dict[str, Any]:
        """Return the payload on the wire."""
        return _given(
            user_id=self.user_id,
            scope=LogoutScope(self.scope).value,
            session_ref=self.session_ref,
            session_id=self.session_id,
            device_id=self.device_id,
        )


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


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
