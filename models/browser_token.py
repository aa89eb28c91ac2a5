"""Browser tokens: what one browser presents to name the one session it is signed in to."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base


class TokenOrigin(StrEnum):
    """What a browser token was given for."""

    REGISTER = "register"
    LOGIN = "login"
    FACTOR = "factor"
    TICKET = "ticket"


class BrowserToken(Base):
    """One browser's token of one session. Only its keyed hash is stored.

    It is good while it is not replaced and its session lives. The session's end is asked by a join,
    never written here: an ending that had a second table to write could miss it.
    """

    __tablename__ = "browser_tokens"

    token_hash: Mapped[bytes] = mapped_column(primary_key=True)
    # No foreign key: see `Retention.PURGED_ALONG`.
    idp_session_id: Mapped[UUID] = mapped_column(index=True)
    # The app whose answer carried it. Other apps of its cookie's domain present it too.
    issued_to: Mapped[str]
    origin: Mapped[str]
    issued_at: Mapped[datetime]
    # Since then it gives nothing: a newer one carries what has been proved. It may still end the
    # session, since a token that once named a session may.
    replaced_at: Mapped[datetime | None]
