"""Who logged out everywhere or from a device, and when."""

from __future__ import annotations

from datetime import datetime
from typing import Final
from uuid import UUID

from sqlalchemy import UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, new_id

ALL_APPS: Final = "*"  # no app is called so


class UserWatermark(Base):
    """The last time a user was logged out everywhere.

    A login from before may still be on its way to be registered: it is recorded as ended.
    """

    __tablename__ = "user_watermarks"

    user_id: Mapped[str] = mapped_column(primary_key=True)
    logged_out_at: Mapped[datetime] = mapped_column(index=True)


class DeviceWatermark(Base):
    """The last time a user's device was logged out, by one app or for all of them.

    A login on that device from before may still be on its way to be registered: it is recorded as
    ended.
    """

    __tablename__ = "device_watermarks"
    __table_args__ = (UniqueConstraint("user_id", "device_id", "app_id"),)  # the last time only

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    user_id: Mapped[str]
    device_id: Mapped[str]
    # Whose logins it is about. An app ends only what it shares, so its mark must not end what
    # another app registers late. `ALL_APPS` and not NULL: NULLs are never equal, and each logout
    # would add a row.
    app_id: Mapped[str]
    logged_out_at: Mapped[datetime] = mapped_column(index=True)
