"""Notices: what the other apps must be told when a session ends."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base
from models.delivery import OPEN, Delivery

_FAILED = text("outcome IN ('failed', 'dead')")


class NoticeMethod(StrEnum):
    """How an app wants to be told."""

    BACKCHANNEL = "backchannel"  # OpenID Connect Back-Channel Logout 1.0, to its URL
    QUEUE = "queue"  # a sealed Celery message, to its own queue


class Notice(Delivery, Base):
    """The delivery that tells one app that a session it shares has ended.

    Its id is the notice's ``jti``, the same at every attempt: receivers deduplicate by it.
    """

    __tablename__ = "notices"
    __table_args__ = (
        UniqueConstraint("idp_session_id", "app_id"),  # a session ends once
        Index("ix_notices_due", "next_attempt_at", postgresql_where=OPEN, sqlite_where=OPEN),
        Index("ix_notices_failed", "closed_at", postgresql_where=_FAILED, sqlite_where=_FAILED),
        CheckConstraint("(closed_at IS NULL) = (outcome IS NULL)", name="closed_with_outcome"),
    )

    idp_session_id: Mapped[UUID] = mapped_column(ForeignKey("idp_sessions.id", ondelete="CASCADE"))
    app_id: Mapped[str] = mapped_column(ForeignKey("apps.app_id"), index=True)
    cause: Mapped[str]
    # When it was last put on the app's own queue: while what lies there is older, it was not taken.
    published_at: Mapped[datetime | None]
