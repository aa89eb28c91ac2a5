"""Logouts: who asked, and what Mosaic must still be told."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, new_id
from models.delivery import LOST, OPEN, Delivery


class LogoutRequest(Base):
    """One logout an app asked for; its id is the receipt. Written with what it ended."""

    __tablename__ = "logout_requests"
    __table_args__ = (UniqueConstraint("app_id", "request_id"),)  # asking twice is one logout

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    app_id: Mapped[str] = mapped_column(ForeignKey("apps.app_id"))
    request_id: Mapped[str]
    # Keyed hash of the sealed content: the same request id with other content is refused.
    digest: Mapped[bytes]
    scope: Mapped[str]
    # None when it named a session by an unknown browser token.
    user_id: Mapped[str | None]
    sessions_ended: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(index=True)


class LogoutRequestSession(Base):
    """A session in the scope of a logout request, also one that had ended before."""

    __tablename__ = "logout_request_sessions"

    logout_request_id: Mapped[UUID] = mapped_column(
        ForeignKey("logout_requests.id", ondelete="CASCADE"), primary_key=True
    )
    # No foreign key: the session may be purged before the request.
    idp_session_id: Mapped[UUID] = mapped_column(primary_key=True)


class Logout(Delivery, Base):
    """The delivery that ends a session at Mosaic, written in the transaction that ends it here."""

    __tablename__ = "logouts"
    __table_args__ = (
        Index("ix_logouts_due", "next_attempt_at", postgresql_where=OPEN, sqlite_where=OPEN),
        Index(
            "ix_logouts_lost",  # counted every few seconds, by each worker
            "outcome",
            "created_at",
            postgresql_where=LOST,
            sqlite_where=LOST,
        ),
        CheckConstraint("(closed_at IS NULL) = (outcome IS NULL)", name="closed_with_outcome"),
    )

    idp_session_id: Mapped[UUID] = mapped_column(
        ForeignKey("idp_sessions.id", ondelete="CASCADE"), unique=True
    )
    # The app whose client is tried first; the session's registrant comes next.
    requested_by: Mapped[str]
