"""The handle of a login that has begun: what the first step knows, sealed, in the app's keeping.

Its second step takes who signs in, and the state, from here and not from a form, so that a login
ends in the browser where it began. Nothing of it is stored by us.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Final, Self
from uuid import UUID

from models import new_id
from session_client import contract, times
from session_client.login_steps import LoginStep
from worker.mosaic import LoginFacts
from worker.storage.encryption import KeyRing, SealedValueUnreadable

# Handles of this many bytes, or a multiple: their length tells nothing of who signs in.
_BLOCK: Final = 768


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginHandle:
    """A login, or a step-up of *session*, whose next step is *next_step*."""

    method: str
    way: str  # by which its browser is known once the login is over
    next_step: str  # the name of the step that goes on with it
    facts: LoginFacts = field(repr=False)
    expires_at: datetime
    session: str | None = None  # the one to add a factor to
    id: str = field(default_factory=lambda: str(new_id()))

    @property
    def uuid(self) -> UUID:
        """Its id, by which its success is known."""
        return UUID(self.id)

    def leads_to(self, step: LoginStep) -> bool:
        """Whether *step* goes on with it."""
        return self.next_step == type(step).__name__

    def seal(self, keyring: KeyRing, app_id: str) -> str:
        """Return it for *app_id* alone."""
        content = {**asdict(self), "expires_at": times.to_wire(self.expires_at)}
        text = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
        padded = text + b" " * (-len(text) % _BLOCK)
        return base64.urlsafe_b64encode(keyring.seal(padded, _place(app_id))).decode()

    @classmethod
    def open(cls, keyring: KeyRing, app_id: str, sealed: str) -> Self | None:
        """Return what was sealed for *app_id*; None for anything else, also under a former key."""
        try:
            raw = base64.urlsafe_b64decode(sealed.encode("ascii"))
            content: dict[str, Any] = json.loads(keyring.open_bytes(raw, _place(app_id)))
        except (SealedValueUnreadable, binascii.Error, ValueError):
            return None
        expires_at = times.from_wire(content["expires_at"])
        facts = LoginFacts(**content["facts"])
        return cls(**{**content, "expires_at": expires_at, "facts": facts})


def way_of(step: LoginStep) -> str:
    """Return what a browser that completes what *step* begins, or is, is known by.

    That is the method. Codes by text message and by mail are two: who reads the one need not have
    the other.
    """
    channel = step.fields().get("channel")
    return step.method.value if channel is None else f"{step.method.value}:{channel}"


def expiry(now: datetime) -> datetime:
    """Return until when a handle made now is good."""
    return now + contract.LOGIN_LIFETIME


def _place(app_id: str) -> str:
    return f"login_handle:{app_id}"
