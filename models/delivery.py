"""What a delivery has, to Mosaic or to an app: the outbox."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Mapped, mapped_column

from models.base import new_id

# What partial indexes of deliveries are of: those that are due some time, and those of which the
# receiver was never told, which are counted every few seconds.
OPEN = text("closed_at IS NULL")
LOST = text("outcome IN ('dead', 'failed', 'expired_unconfirmed')")


class Delivery:
    """One thing that one receiver must be told. Open until it is confirmed or given up.

    Written in the transaction that makes it due. The row is the truth; the Celery message is only
    a wake-up, and a sweep finds what no message woke.
    """

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    created_at: Mapped[datetime]
    # After this the receiver need not, or cannot usefully, be told any more.
    give_up_at: Mapped[datetime]

    attempts: Mapped[int] = mapped_column(default=0, server_default="0")
    # How often a lease ended without a word: its worker was killed, perhaps by this very row.
    crashes: Mapped[int] = mapped_column(default=0, server_default="0")
    next_attempt_at: Mapped[datetime]
    # When a message for it was last put on the broker: the sweep sends another only after a while.
    woken_at: Mapped[datetime]
    # The attempt that is under way, and until when: without a live lease no worker may make a call
    # for it.
    lease_token: Mapped[UUID | None]
    leased_until: Mapped[datetime | None]
    last_error: Mapped[str | None]

    closed_at: Mapped[datetime | None]
    outcome: Mapped[str | None]
