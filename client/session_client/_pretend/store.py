"""What the pretend worker knows: people, what they hold, their sessions, and what may be done."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import uuid4

from session_client import contract, times
from session_client._pretend.planned import Reply
from session_client.contract import Reason, Task, Verdict

# As at the worker: a page that was loading while its browser got a newer token loads once more.
JUST_REPLACED: Final = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class Call:
    """One request, opened."""

    task: Task
    app_id: str
    request_id: str
    payload: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Replaced:
    """When a browser token came to give nothing, and whether a factor was added by that."""

    at: datetime
    by_factor: bool

    @property
    def is_recent(self) -> bool:
        """Whether it was a moment ago."""
        return times.now() - self.at < JUST_REPLACED


@dataclass(eq=False)
class PretendSession:
    """One session of a user, the apps that share it, and the browser tokens that name it."""

    user_id: str
    amr: tuple[str, ...]
    authenticated_at: datetime
    session_ref: str = field(default_factory=lambda: str(uuid4()))
    tokens: list[str] = field(default_factory=list, repr=False)
    replaced: dict[str, Replaced] = field(default_factory=dict, repr=False)
    apps: set[str] = field(default_factory=set)
    ended: str | None = None
    device_id: str | None = None

    @property
    def token(self) -> str:
        """The browser token that was given out last."""
        return self.tokens[-1]

    def give_token(self) -> str:
        """Make one more browser token."""
        self.tokens.append(f"msb1_{secrets.token_urlsafe(32)}")
        return self.token

    def replace_token(self, token: str, *, by_factor: bool = False) -> None:
        """Have *token* give nothing any more, if it does now."""
        if token in self.tokens:
            self.tokens.remove(token)
            self.replaced[token] = Replaced(times.now(), by_factor)


class PretendPasskey:
    """A passkey of a user, and the browser that answers with it."""

    def __init__(self) -> None:
        self.credential_id = secrets.token_urlsafe(16)

    def answer(self, options: Mapping[str, Any]) -> str:
        """Return the ``result`` of `Webauthn` for the ``options`` of a `WebauthnBegun`."""
        asked = options["webauthn_session_id"]
        result = {"webauthn_session_id": asked, "credential": {"id": self.credential_id}}
        return base64.b64encode(json.dumps(result).encode()).decode()


@dataclass(eq=False)
class Carried:
    """A ticket: the session it carries, from which app to which, and for whom."""

    session: PretendSession
    from_app: str
    for_app: str
    challenge: str
    expires_at: datetime = field(default_factory=lambda: times.now() + contract.TICKET_LIFETIME)
    used_by: str | None = None


@dataclass(eq=False)
class Grant:
    """A refresh token: whose it is, and what came of it once it was used."""

    session: PretendSession
    app_id: str
    answer: Reply | None = None
    used_at: datetime | None = None


@dataclass(eq=False)
class Store:
    """All that the model knows. ``policy`` are factors that every answer with tokens needs."""

    users: dict[str, str] = field(default_factory=dict, repr=False)
    # Whose an address is, by what it is: an e-mail address is no user's name.
    addresses: dict[tuple[str, str], str] = field(default_factory=dict, repr=False)
    codes: dict[str, str] = field(default_factory=dict, repr=False)
    # The code that a user's authenticator app shows, and the challenge that it was made of, if any.
    authenticators: dict[str, tuple[str, str]] = field(default_factory=dict, repr=False)
    passkeys: dict[str, str] = field(default_factory=dict, repr=False)  # credential to user
    sessions: list[PretendSession] = field(default_factory=list)
    tickets: dict[str, Carried] = field(default_factory=dict, repr=False)
    grants: dict[str, Grant] = field(default_factory=dict, repr=False)
    receipts: dict[str, dict[str, Any]] = field(default_factory=dict)
    policy: list[str] = field(default_factory=list)
    capabilities: set[str] = field(default_factory=set)
    # From which app to which tickets may be given, and the address that takes them.
    ways: dict[tuple[str, str], str] = field(default_factory=dict)

    def sign_in(self, user_id: str, amr: tuple[str, ...], age: float = 0.0) -> PretendSession:
        """Open a session, as if at another app, *age* seconds ago."""
        session = PretendSession(user_id, amr, times.now() - timedelta(seconds=age))
        session.give_token()
        self.sessions.append(session)
        return session

    def user_of(self, identifier: str, kind: str) -> str:
        """Return whose *identifier* it is: a user's address of this *kind*, else a user id."""
        return self.addresses.get((kind, identifier), identifier)

    def of(self, user_id: str) -> list[PretendSession]:
        """Return the sessions of a user, oldest first."""
        return [session for session in self.sessions if session.user_id == user_id]

    def by_ref(self, session_ref: str) -> PretendSession | None:
        """Return the session that a reference names."""
        return next((s for s in self.sessions if s.session_ref == session_ref), None)

    def by_token(self, token: str | None) -> PretendSession | None:
        """Return the session that a browser token names, or once named."""
        return next((s for s in self.sessions if token in {*s.tokens, *s.replaced}), None)

    def require(self, capability: str) -> Reply | None:
        """Return the refusal of an app that has not *capability*."""
        is_allowed = capability in self.capabilities
        return None if is_allowed else not_permitted()


def end(session: PretendSession, reason: str = Reason.LOGGED_OUT.value) -> int:
    """End *session*; return how many that were."""
    if session.ended is not None:
        return 0
    session.ended = reason
    return 1


def live_or_why(session: PretendSession) -> PretendSession | Reply:
    """Return *session* if it lives, or the answer that says how it ended."""
    if session.ended is None:
        return session
    return Reply(Verdict.LOGIN_REQUIRED, session.ended, {"session_ref": session.session_ref})


def no_session() -> Reply:
    """Return the answer to what names no session."""
    return Reply(Verdict.LOGIN_REQUIRED, Reason.NO_SESSION.value)


def not_permitted() -> Reply:
    """Return the refusal of what the operator has not given."""
    return Reply(Verdict.UNAUTHORIZED, Reason.NOT_PERMITTED.value)
