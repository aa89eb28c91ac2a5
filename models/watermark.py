"""Who logged out everywhere, and when."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base


class UserWatermark(Base):
    """The last time a user was logged out everywhere.

    A login from before may still be on its way to be registered: it is born ended.
    """

    __tablename__ = "user_watermarks"

    user_id: Mapped[str] = mapped_column(primary_key=True)
    logged_out_at: Mapped[datetime] = mapped_column(index=True)
