"""Logging out a user or a device, and the logins that are still on their way to be registered."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Any, Final

from sqlalchemy import BigInteger, ColumnElement, Connection, bindparam, func, literal, or_, select

from models import ALL_APPS, DeviceWatermark, UserWatermark, UtcDateTime
from worker.storage.sql import not_before, upsert

# Built once: every login runs them.
_LOCK: Final = select(func.pg_advisory_xact_lock(bindparam("key", type_=BigInteger())))


def lock_user(connection: Connection, user_id: str) -> None:
    """Let a registration run before or after what else changes of a user, before any row is locked.

    That is a logout of the user or their device: each would miss the other's rows otherwise, since
    the logout ends the sessions it sees, and the registration looks for a watermark that is not
    there yet. And a new id of a session: a registration that still names the old one would find it
    no more, nor its alias yet, and open the session once more. SQLite has one writer anyway.
    """
    if connection.dialect.name != "sqlite":
        connection.execute(_LOCK, {"key": lock_of(user_id)})


def lock_of(user_id: str) -> int:
    """Return the key of a user's advisory lock."""
    digest = hashlib.sha256(b"watermark:" + user_id.encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


def raise_watermark(connection: Connection, user_id: str, now: datetime) -> datetime:
    """Note that *user_id* is logged out everywhere as of *now*, and return the watermark.

    That may be later: by the database's clock, or by a logout that came first.
    """
    return _raise(connection, UserWatermark, {"user_id": user_id}, now)


def raise_device_watermark(
    connection: Connection, user_id: str, device_id: str, app_id: str, now: datetime
) -> None:
    """Note that *user_id* is logged out from a device as of *now*, in one app or in `ALL_APPS`."""
    key = {"user_id": user_id, "device_id": device_id, "app_id": app_id}
    _raise(connection, DeviceWatermark, key, now)


def is_before_watermark(connection: Connection, user_id: str, authenticated_at: datetime) -> bool:
    """Whether a login at *authenticated_at* came before the user was logged out everywhere."""
    parameters = {"user_id": user_id, "logged_in_at": authenticated_at}
    return bool(connection.execute(_USER_LOGGED_OUT_SINCE, parameters).scalar_one())


def is_before_device_watermark(
    connection: Connection, user_id: str, device_id: str, app_id: str, authenticated_at: datetime
) -> bool:
    """Whether a login of the app came before the user was logged out from its device."""
    parameters = {
        "user_id": user_id,
        "device_id": device_id,
        "app_id": app_id,
        "logged_in_at": authenticated_at,
    }
    return bool(connection.execute(_DEVICE_LOGGED_OUT_SINCE, parameters).scalar_one())


def user_logged_out_since(user_id: Any, logged_in_at: Any) -> ColumnElement[bool]:
    """Return the condition that the user was logged out everywhere after a login.

    Compared as it is: 12:00:00 in a token may be 12:00:00.9, and so from after a logout at
    12:00:00.5. It is treated as from before; the user logs in once more.
    """
    later = select(UserWatermark.user_id).where(
        UserWatermark.user_id == user_id, UserWatermark.logged_out_at > logged_in_at
    )
    return later.exists()


def device_logged_out_since(
    user_id: Any, device_id: Any, app_id: Any, logged_in_at: Any
) -> ColumnElement[bool]:
    """Return the condition that the device was, in the app or in all; compared likewise."""
    later = select(DeviceWatermark.user_id).where(
        DeviceWatermark.user_id == user_id,
        DeviceWatermark.device_id == device_id,
        or_(DeviceWatermark.app_id == app_id, DeviceWatermark.app_id == ALL_APPS),
        DeviceWatermark.logged_out_at > logged_in_at,
    )
    return later.exists()


_LOGGED_IN_AT: Final = bindparam("logged_in_at", type_=UtcDateTime())
_USER_LOGGED_OUT_SINCE: Final = select(user_logged_out_since(bindparam("user_id"), _LOGGED_IN_AT))
_DEVICE_LOGGED_OUT_SINCE: Final = select(
    device_logged_out_since(
        bindparam("user_id"), bindparam("device_id"), bindparam("app_id"), _LOGGED_IN_AT
    )
)


def _raise(connection: Connection, table: Any, key: dict[str, str], now: datetime) -> datetime:
    statement = upsert(connection, table).values(**key, logged_out_at=_as_of(connection, now))
    latest = not_before(table.logged_out_at, statement.excluded.logged_out_at)
    raised = statement.on_conflict_do_update(
        index_elements=list(key), set_={"logged_out_at": latest}
    )
    watermark: datetime = connection.execute(raised.returning(table.logged_out_at)).scalar_one()
    return watermark


def _as_of(connection: Connection, now: datetime) -> ColumnElement[datetime]:
    """Return the later of our clock and the database's, which is the same for all workers.

    By a clock that is behind Mosaic's, a login from just before the logout looks like a later one.
    """
    ours = literal(now, UtcDateTime())
    if connection.dialect.name == "sqlite":
        return ours  # the same machine's
    return func.greatest(ours, func.statement_timestamp())
