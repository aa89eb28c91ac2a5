"""Tickets: they carry a session to an app on another domain, once."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base


class Ticket(Base):
    """One ticket, for one app and the one browser that asked for it. Only its hash is stored."""

    __tablename__ = "tickets"
    __table_args__ = (
        CheckConstraint("(used_at IS NULL) = (used_by IS NULL)", name="used_by_a_request"),
    )

    ticket_hash: Mapped[bytes] = mapped_column(primary_key=True)
    # No foreign key: it is gone long before its session is purged.
    idp_session_id: Mapped[UUID] = mapped_column(index=True)
    from_app: Mapped[str]
    for_app: Mapped[str]
    # SHA-256 of the verifier that the target app keeps in the browser. Without it an attacker who
    # sees the ticket on its way could use it.
    challenge: Mapped[bytes]
    expires_at: Mapped[datetime] = mapped_column(index=True)  # purging scans by it
    used_at: Mapped[datetime | None]
    # The request id: the same request may use it again, when its answer was "try later".
    used_by: Mapped[str | None]
