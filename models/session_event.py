"""The audit trail."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import Index
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, new_id


class SessionEvent(Base):
    """Something that happened to a session, or to a user who wanted one. Only ever added.

    Holds no secret, and no foreign keys: the trail outlives what it is about.
    """

    __tablename__ = "session_events"
    __table_args__ = (Index(None, "idp_session_id", "at"),)

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    at: Mapped[datetime] = mapped_column(index=True)
    event: Mapped[str]
    idp_session_id: Mapped[UUID | None]
    # None where the user is unknown: a sign-in that was refused has no user.
    user_id: Mapped[str | None]
    app_id: Mapped[str | None]
    detail: Mapped[str | None]
    # The request id of the app's request, or what else caused it.
    correlation_id: Mapped[str | None]
