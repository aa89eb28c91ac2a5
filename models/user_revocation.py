"""Users who were revoked, and what Mosaic must still end of them."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base
from models.delivery import LOST, OPEN, Delivery


class UserRevocation(Delivery, Base):
    """The delivery that ends at Mosaic whatever it knows of a user, also what was never registered.

    Sessions that were registered have their own `Logout`, too.
    """

    __tablename__ = "user_revocations"
    __table_args__ = (
        Index(
            "ix_user_revocations_due",
            "next_attempt_at",
            postgresql_where=OPEN,
            sqlite_where=OPEN,
        ),
        Index(
            "ix_user_revocations_lost",  # counted every few seconds, by each worker
            "outcome",
            "created_at",
            postgresql_where=LOST,
            sqlite_where=LOST,
        ),
        Index(None, "user_id", "created_at"),  # whether a user was revoked once more
        CheckConstraint("(closed_at IS NULL) = (outcome IS NULL)", name="closed_with_outcome"),
    )

    logout_request_id: Mapped[UUID] = mapped_column(
        ForeignKey("logout_requests.id", ondelete="CASCADE"), unique=True
    )
    user_id: Mapped[str]
    # The app whose client asks Mosaic.
    requested_by: Mapped[str]
    # The user's watermark: what began at Mosaic later is a newer login, and lives on.
    began_before: Mapped[datetime]
    # Whether the sessions that front ends hold are to be ended as well.
    frontend: Mapped[bool]
    # A later attempt has only the front ends' sessions left to end.
    backend_ended_at: Mapped[datetime | None]
