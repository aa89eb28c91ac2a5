"""What the simulator remembers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self, TypedDict

from joserfc.jwk import Key

MFA = "mfa"


@dataclass(frozen=True)
class Client:
    """An app registered at the tenant; it proves itself with a secret or a key."""

    client_id: str
    secret: str | None = None
    public_key: Key | None = None
    redirect_uris: frozenset[str] | None = None  # None: any
    resources: frozenset[str] | None = None  # None: any


class UserFacts(TypedDict, total=False):
    """What may be said of a person besides their id."""

    password: str | None
    email: str | None
    phone: str | None
    username: str | None
    is_active: bool
    custom_data: Mapping[str, Any]


@dataclass(frozen=True)
class User:
    """A person who can sign in."""

    user_id: str
    password: str | None = None
    email: str | None = None
    phone: str | None = None
    username: str | None = None
    is_active: bool = True
    custom_data: Mapping[str, Any] = field(default_factory=dict)
    created_at: float = 0.0

    def facts(self) -> dict[str, Any]:
        """The claims an app may ask for by name."""
        return {
            "email": self.email,
            "phone_number": self.phone,
            "username": self.username,
            "custom_data": dict(self.custom_data),
        }


@dataclass
class Session:
    """One user's login, shared by every app of the tenant. Times are Unix seconds."""

    session_id: str
    user_id: str
    client_id: str  # the app that opened it
    started_at: float
    auth_time: float
    expires_at: float
    methods: list[str] = field(default_factory=list)
    ended_at: float | None = None

    def is_live(self, now: float) -> bool:
        """Whether Mosaic still answers for this session."""
        return self.ended_at is None and now < self.expires_at

    @property
    def amr(self) -> list[str]:
        """The factors used, and `mfa` once two of them differ."""
        factors = [method for method in dict.fromkeys(self.methods) if method != MFA]
        several = len(factors) > 1 or MFA in self.methods
        return [*factors, MFA] if several else factors


@dataclass(frozen=True)
class Wishes:
    """What a request asks its tokens to be like."""

    resource: str | None = None
    org_id: str | None = None
    claims: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    approved: Mapping[str, str] | None = None  # what the user approved with this proof

    @classmethod
    def of(cls, fields: Mapping[str, Any], approved: Mapping[str, str] | None = None) -> Self:
        """The wishes among a request's checked *fields*."""
        wished = (fields.get("resource"), fields.get("org_id"), fields.get("claims", {}))
        return cls(*wished, approved=approved)


@dataclass(frozen=True)
class Login:
    """What an app's front end holds after a login."""

    session_id: str
    id_token: str
    access_token: str
    refresh_token: str | None = None
