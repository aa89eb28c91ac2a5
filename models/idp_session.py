"""Sessions at the IDP, and the apps that share them."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, cast
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, new_id


class EndCause(StrEnum):
    """Why a session ended."""

    LOGOUT = "logout"
    GONE_AT_IDP = "gone_at_idp"
    EXPIRED = "expired"
    QUARANTINED = "quarantined"
    REVOKED = "revoked"
    CAP_REACHED = "cap_reached"
    REPLACED = "replaced"  # the same browser signed in anew


def _expires_at(context: Any) -> datetime:
    return cast("datetime", context.get_current_parameters()["expires_at"])


_LIVE = text("ended_at IS NULL")
_ENDED = text("ended_at IS NOT NULL")


class IdpSession(Base):
    """One user's session at Mosaic, from login until it is purged.

    A session that has ended stays ended: nothing sets ``ended_at`` back. A new login is a new
    session id and so a new row; a late logout can never hit the session that came after.
    """

    __tablename__ = "idp_sessions"
    __table_args__ = (
        # Silent authentication looks for a user's live sessions, expiry for those whose turn it
        # is, purging for the oldest ended ones. Partial, so that history does not slow the living.
        # No index has what each use of a session moves: PostgreSQL would write to all of them.
        Index(
            "ix_idp_sessions_live_by_user",
            "user_id",
            postgresql_where=_LIVE,
            sqlite_where=_LIVE,
        ),
        Index(
            "ix_idp_sessions_live_by_check",
            "check_expiry_at",
            "id",
            postgresql_where=_LIVE,
            sqlite_where=_LIVE,
        ),
        Index(
            "ix_idp_sessions_live_by_age",  # for the absolute cap
            "created_at",
            postgresql_where=_LIVE,
            sqlite_where=_LIVE,
        ),
        Index(
            "ix_idp_sessions_ended",
            "ended_at",
            "id",
            postgresql_where=_ENDED,
            sqlite_where=_ENDED,
        ),
        Index("ix_idp_sessions_user_id_created_at", "user_id", "created_at"),
        CheckConstraint("(ended_at IS NULL) = (end_cause IS NULL)", name="ended_with_cause"),
        # A live session without its id could neither be used nor logged out.
        CheckConstraint(
            "ended_at IS NOT NULL OR sealed_session_id IS NOT NULL", name="live_is_usable"
        ),
        # Room on each page for the next version of a row that is there.
        {"postgresql_with": {"fillfactor": 90}},
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    user_id: Mapped[str]
    # HMAC of the session id: finds the row without telling the id.
    session_hash: Mapped[bytes] = mapped_column(unique=True)
    # The bearer of the id is the user. Sealed for this row ("idp_sessions:<id>:session_id"), and
    # scrubbed once the session has ended and Mosaic need not be told any more.
    sealed_session_id: Mapped[bytes | None]
    device_id: Mapped[str | None]
    # The app that told the worker of it: its client may end the session where the asking app's may
    # not.
    registered_by: Mapped[str]

    amr: Mapped[list[str]]
    # When the user last proved themselves. Silent authentication does not move it.
    authenticated_at: Mapped[datetime]
    # When the worker last saw a factor added, if it did: Mosaic's tokens may say the login's time
    # for ever. What an app registers proves no such thing, since no token names its session.
    factor_added_at: Mapped[datetime | None]
    # When the token was issued that amr comes from: an older token arriving late changes nothing.
    amr_as_of: Mapped[datetime]

    created_at: Mapped[datetime]
    # When it was last authenticated, silently or not: Mosaic's expiry slides with it.
    last_used_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    # When expiry looks at it next: never after `expires_at`, which each use puts off. Expiry then
    # puts this off as far, once in a session's lifetime. From an INSERT that does not name it, a
    # session is looked at by the next run.
    check_expiry_at: Mapped[datetime] = mapped_column(
        default=_expires_at, server_default=text("'1970-01-01 00:00:00'")
    )
    ended_at: Mapped[datetime | None]
    end_cause: Mapped[str | None]
    # Raised when what the session proves changes, or its id, or when it ends; sliding its expiry
    # does not.
    version: Mapped[int] = mapped_column(default=1, server_default="1")


class SessionAlias(Base):
    """An earlier id of a session whose id Mosaic has changed; it keeps finding the session."""

    __tablename__ = "session_aliases"

    session_hash: Mapped[bytes] = mapped_column(primary_key=True)
    # No foreign key: see `Retention.PURGED_ALONG`.
    idp_session_id: Mapped[UUID] = mapped_column(index=True)
    created_at: Mapped[datetime]


class AppSession(Base):
    """One app's share in a session: it registered it, or was given tokens from it."""

    __tablename__ = "app_sessions"

    # No foreign key: see `Retention.PURGED_ALONG`.
    idp_session_id: Mapped[UUID] = mapped_column(primary_key=True)
    app_id: Mapped[str] = mapped_column(ForeignKey("apps.app_id"), primary_key=True, index=True)
    # When its first and its latest token were issued, by Mosaic's clock.
    first_authenticated_at: Mapped[datetime]
    last_authenticated_at: Mapped[datetime]
    # Until then a token may still be accepted somewhere, although the session has ended.
    access_token_expires_at: Mapped[datetime | None]
