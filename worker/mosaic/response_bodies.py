"""Reads the bodies of successful answers. Raises `MosaicContractBroken` for any other shape."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from worker.errors import MosaicContractBroken
from worker.mosaic.asked import Endpoint
from worker.mosaic.types import ListedSession, Tokens

MAX_SECONDS: Final = 10 * 366 * 24 * 3600  # ten years: more is not a lifetime but an error


# Of a client token that does not say how long it lives (RFC 6749 section 5.1 lets it).
_UNTOLD_SECONDS: Final = 300


def read_tokens(body: Any, asked_session_id: str, now: datetime) -> Tokens:
    """Return the tokens of a silent authentication. Nothing in them is verified yet."""
    fields = _Fields(Endpoint.AUTHENTICATE, body)
    access_token, id_token = fields.text("access_token"), fields.optional_text("id_token")
    lives = fields.seconds("expires_in")
    if lives is None:
        lives = _seconds_left(access_token, now) or _seconds_left(id_token or "", now)
    if lives is None:
        raise fields.broken("expires_in")
    return Tokens(
        access_token=access_token,
        token_type=fields.optional_text("token_type") or "Bearer",
        expires_in=lives,
        session_id=fields.optional_text("session_id") or asked_session_id,
        id_token=id_token or None,
        refresh_token=fields.optional_text("refresh_token"),
    )


def read_client_token(body: Any, now: datetime) -> tuple[str, int]:
    """Return a client access token and how many seconds it lives."""
    fields = _Fields(Endpoint.TOKEN, body)
    token = fields.text("access_token")
    lives = fields.seconds("expires_in") or _seconds_left(token, now)
    return token, lives or _UNTOLD_SECONDS


def read_sessions(body: list[Any]) -> list[ListedSession]:
    """Return the live sessions of a user. One that cannot be read spoils the list.

    Not one whose end alone cannot be read: no session is ended for that.
    """
    return [_read_session(_Fields(Endpoint.LIST_SESSIONS, listed)) for listed in body]


def _read_session(fields: _Fields) -> ListedSession:
    return ListedSession(
        session_id=fields.text("session_id"),
        started_at=fields.moment("start_time"),
        expires_at=fields.moment_if_readable("expiration_time"),
    )


def _seconds_left(token: str, now: datetime) -> int | None:
    """Return how long a JWT goes on, by its own unproven word; None of anything else.

    That is enough for how long to keep it: the API that takes it proves it.
    """
    try:
        payload = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        left = float(claims["exp"]) - now.timestamp()
    except (LookupError, ValueError, TypeError, OverflowError, RecursionError):
        return None
    return int(left) if 0 < left <= MAX_SECONDS else None


class _Fields:
    def __init__(self, endpoint: Endpoint, body: Any) -> None:
        self._endpoint = endpoint
        if not isinstance(body, dict):
            raise self.broken("body")
        self._body: Mapping[str, Any] = body

    def broken(self, name: str) -> MosaicContractBroken:
        return MosaicContractBroken(f"{self._endpoint}: {name} is missing or of the wrong type")

    def text(self, name: str) -> str:
        value = self.optional_text(name)
        if not value:
            raise self.broken(name)
        return value

    def optional_text(self, name: str) -> str | None:
        value = self._body.get(name)
        if value is None:
            return None
        # What else there is could travel in no header and in no answer of ours.
        if not isinstance(value, str) or not (value.isascii() and value.isprintable()):
            raise self.broken(name)
        return value

    def moment(self, name: str) -> datetime:
        """Return an ISO time with its zone: without one, the worker cannot compare it."""
        try:
            moment = datetime.fromisoformat(self.text(name))
        except ValueError:
            raise self.broken(name) from None
        if moment.tzinfo is None:
            raise self.broken(name)
        return moment

    def moment_if_readable(self, name: str) -> datetime | None:
        """Return such a time; None where it is missing, or anything else."""
        try:
            return self.moment(name)
        except MosaicContractBroken:
            return None

    def seconds(self, name: str) -> int | None:
        value = self._body.get(name)
        if value is None:
            return None
        if isinstance(value, str) and value.isascii() and value.isdigit():
            value = float(value)  # seen in the wild, though RFC 6749 wants a number
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.broken(name)
        if not 0 < value <= MAX_SECONDS:  # also refuses NaN
            raise self.broken(name)
        return int(value)
