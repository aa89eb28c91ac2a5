"""What `MosaicGateway` is told and tells, in our words."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol

from worker.mosaic.client_authentication import ClientCredential


@dataclass(frozen=True, slots=True, kw_only=True)
class MosaicApp:
    """What `MosaicGateway` needs to know of the asking app."""

    app_id: str
    client_id: str
    credential: ClientCredential
    base_url: str  # the API host; identity calls live under its /cis
    token_url: str
    jwks_url: str
    issuer: str
    session_lifetime: timedelta


class CallObserver(Protocol):
    """Looks on while the endpoint is asked that the permit is for, and at nothing else."""

    def asking(self, allowed_seconds: float) -> AbstractContextManager[None]:
        """Learn from how it takes what is asked within; it has *allowed_seconds* to answer."""
        ...


class Permit(Protocol):
    """Without one nothing is asked of Mosaic: the gate that gives it keeps budgets and breaker."""

    def observe(self) -> AbstractContextManager[CallObserver]:
        """Tell the gate that gave it what the call within has taught."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SilentAuthOptions:
    """The optional fields of a silent authentication; what is None is not sent."""

    resource: str | None = None
    claims: Mapping[str, Any] | None = None  # {"id_token": {…}, "access_token": {…}}
    org_id: str | None = None
    user_agent: str | None = None
    ip_address: str | None = None
    device_id: str | None = None  # at most 80 characters


@dataclass(frozen=True, slots=True, kw_only=True)
class SilentAuthCall:
    """A silent authentication: with which session, and whose it must turn out to be."""

    session_id: str = field(repr=False)
    user_id: str
    options: SilentAuthOptions = SilentAuthOptions()


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """What Mosaic returned for one app. ``session_id`` may differ from the one asked with."""

    access_token: str = field(repr=False)
    token_type: str
    expires_in: int  # seconds, of the access token
    session_id: str = field(repr=False)
    id_token: str | None = field(default=None, repr=False)  # optional in Mosaic's contract
    refresh_token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedSession:
    """A live session of a user, as Mosaic lists it."""

    session_id: str = field(repr=False)
    started_at: datetime
    expires_at: datetime | None  # None: it does not say


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What a verified token says. Times are aware UTC."""

    user_id: str
    amr: tuple[str, ...] | None  # None: it proves no factor, since it is no ID token
    auth_time: datetime | None
    issued_at: datetime
    expires_at: datetime
    # What the user has approved by the login that it comes from, if they were asked to.
    approval_data: Mapping[str, Any] | None = field(default=None, repr=False)
