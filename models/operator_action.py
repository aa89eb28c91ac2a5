"""What operators did: who, what, when, and what changed by it."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import JSON
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, new_id


class OperatorAction(Base):
    """One thing an operator changed. Only ever added, in the transaction that changed it.

    Holds no secret, and no foreign keys: it outlives what it is about.
    """

    __tablename__ = "operator_actions"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    at: Mapped[datetime] = mapped_column(index=True)
    # The user of the operating system, and who they say they are (`--as`).
    operator: Mapped[str]
    action: Mapped[str]
    # What it is about, as far as it is about one.
    app_id: Mapped[str | None]
    user_id: Mapped[str | None]
    idp_session_id: Mapped[UUID | None]
    reason: Mapped[str | None]
    # What changed, and only that: by name, as it was and as it is. Secrets are named, never shown.
    before: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    after: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
