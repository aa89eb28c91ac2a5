"""Logouts: who asked, and what Mosaic must still be told."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, new_id

_OPEN = text("closed_at IS NULL")


class LogoutRequest(Base):
    """One logout an app asked for; its id is the receipt. Written with what it ended."""

    __tablename__ = "logout_requests"
    __table_args__ = (UniqueConstraint("app_id", "request_id"),)  # asking twice is one logout

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    app_id: Mapped[str] = mapped_column(ForeignKey("apps.app_id"))
    request_id: Mapped[str]
    # SHA-256 of the sealed content: the same request id with other content is refused.
    digest: Mapped[bytes]
    scope: Mapped[str]
    user_id: Mapped[str]
    sessions_ended: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(index=True)


class LogoutRequestSession(Base):
    """A session in the scope of a logout request, also when somebody else ended it before."""

    __tablename__ = "logout_request_sessions"

    logout_request_id: Mapped[UUID] = mapped_column(
        ForeignKey("logout_requests.id", ondelete="CASCADE"), primary_key=True
    )
    idp_session_id: Mapped[UUID] = mapped_column(
        ForeignKey("idp_sessions.id", ondelete="CASCADE"), primary_key=True, index=True
    )


class Logout(Base):
    """The duty to end one session at Mosaic. Open until it is confirmed or given up.

    Written in the transaction that ends the session here. The row is the truth; the Celery
    message is only a wake-up, and a sweep finds what no message woke.
    """

    __tablename__ = "logouts"
    __table_args__ = (
        Index("ix_logouts_due", "next_attempt_at", postgresql_where=_OPEN, sqlite_where=_OPEN),
        CheckConstraint("(closed_at IS NULL) = (outcome IS NULL)", name="closed_with_outcome"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    idp_session_id: Mapped[UUID] = mapped_column(
        ForeignKey("idp_sessions.id", ondelete="CASCADE"), unique=True
    )
    # The app whose client is tried first; the session's registrant comes next.
    requested_by: Mapped[str]
    created_at: Mapped[datetime]
    # Mosaic need not be told any more once the session would have expired there anyway.
    give_up_at: Mapped[datetime]

    attempts: Mapped[int] = mapped_column(default=0, server_default="0")
    next_attempt_at: Mapped[datetime]
    # When a message for it was last put on the broker: the sweep sends another only after a while.
    woken_at: Mapped[datetime]
    # Who works on it, and until when: without a live lease nobody may call Mosaic for it.
    lease_token: Mapped[UUID | None]
    leased_until: Mapped[datetime | None]
    last_error: Mapped[str | None]

    closed_at: Mapped[datetime | None]
    outcome: Mapped[str | None]
