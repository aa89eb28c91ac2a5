"""Logging a user out everywhere, and the logins that are still on their way to be registered."""

from __future__ import annotations

import hashlib
from datetime import datetime

from sqlalchemy import Connection, func, select

from models import UserWatermark
from worker.lifecycle import sessions


def take_turns(connection: Connection, user_id: str) -> None:
    """Let a registration and a logout everywhere of one user run one after the other.

    Each would miss the other's rows otherwise: the logout ends the sessions it sees, and the
    registration looks for a watermark that is not there yet. SQLite has one writer anyway.
    """
    if connection.dialect.name != "sqlite":
        digest = hashlib.sha256(b"watermark:" + user_id.encode()).digest()
        key = int.from_bytes(digest[:8], "big", signed=True)
        connection.execute(select(func.pg_advisory_xact_lock(key)))


def raise_watermark(connection: Connection, user_id: str, now: datetime) -> None:
    """Note that *user_id* is logged out everywhere as of *now*."""
    statement = sessions.upsert(connection, UserWatermark).values(
        user_id=user_id, logged_out_at=now
    )
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=[UserWatermark.user_id],
            set_={"logged_out_at": sessions.not_before(UserWatermark.logged_out_at, now)},
        )
    )


def is_before_watermark(connection: Connection, user_id: str, authenticated_at: datetime) -> bool:
    """Whether a login at *authenticated_at* came before the user was logged out everywhere."""
    logged_out_at = connection.execute(
        select(UserWatermark.logged_out_at).where(UserWatermark.user_id == user_id)
    ).scalar_one_or_none()
    # Compared as it is: 12:00:00 in a token may be 12:00:00.9, and so from after a logout at
    # 12:00:00.5. It is treated as from before; the user logs in once more.
    return logged_out_at is not None and authenticated_at < logged_out_at
