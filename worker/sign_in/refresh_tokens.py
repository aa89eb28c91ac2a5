"""Refresh tokens as apps have them: Mosaic's, sealed for one app with the session it belongs to.

It is stored only in the sealed answer that hands it out, until that is scrubbed. Mosaic's own
reaches no app: an app that had it could go on after a logout that Mosaic has not heard of, and two
apps that use it at once may end it for both.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

import structlog

from worker.app_registry import OFFLINE, KnownApp
from worker.requests.command_fields import MAX_SEALED_CHARACTERS
from worker.storage.encryption import KeyRing, SealedValueUnreadable

log = structlog.get_logger()

_PREFIX: Final = "msr1_"  # by which secret scanners tell it


@dataclass(frozen=True, slots=True)
class Grant:
    """What a refresh token of ours holds."""

    session: UUID
    token: str = field(repr=False)  # Mosaic's


def seal(keyring: KeyRing, app: KnownApp, session: UUID, token: str | None) -> str | None:
    """Return Mosaic's *token* as *app* may have it; None if there is none, or it may not."""
    if token is None or not app.may(OFFLINE):
        return None
    content = json.dumps({"session": str(session), "token": token}, separators=(",", ":"))
    raw = keyring.seal(content, _place(app.app_id))
    sealed = _PREFIX + base64.urlsafe_b64encode(raw).decode()
    if len(sealed) > MAX_SEALED_CHARACTERS:
        # The app could not bring it back.
        log.warning("refresh_token_too_large", app=app.app_id, characters=len(sealed))
        return None
    return sealed


def find(keyring: KeyRing, app_id: str, sealed: str) -> Grant | None:
    """Return what was sealed for *app_id*; None for anything else, also under a former key."""
    if not sealed.startswith(_PREFIX):
        return None
    try:
        raw = base64.urlsafe_b64decode(sealed.removeprefix(_PREFIX).encode("ascii"))
        content = json.loads(keyring.open_bytes(raw, _place(app_id)))
    except (SealedValueUnreadable, binascii.Error, ValueError):
        return None
    return Grant(UUID(content["session"]), content["token"])


def _place(app_id: str) -> str:
    return f"refresh_token:{app_id}"
