"""The audit trail: one row for each thing that happens to a session."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, insert

from models import SessionEvent, new_id

REGISTERED: Final = "registered"
FACTOR_ADDED: Final = "factor_added"
AUTHENTICATED: Final = "authenticated"
ENDED: Final = "ended"
IDP_CONFIRMED: Final = "idp_confirmed"
IDP_GIVEN_UP: Final = "idp_given_up"
APP_CONFIRMED: Final = "app_confirmed"
APP_GIVEN_UP: Final = "app_given_up"


@dataclass(frozen=True, slots=True)
class Cause:
    """Who or what made it happen."""

    app_id: str | None
    correlation_id: str | None


def event(  # noqa: PLR0913 - the columns of the trail
    name: str,
    *,
    at: datetime,
    session: UUID,
    user_id: str,
    by: Cause,
    detail: str | None = None,
) -> dict[str, Any]:
    """Return one row of the trail."""
    return {
        "id": new_id(),
        "at": at,
        "event": name,
        "idp_session_id": session,
        "user_id": user_id,
        "app_id": by.app_id,
        "detail": detail,
        "correlation_id": by.correlation_id,
    }


def record(connection: Connection, rows: Iterable[dict[str, Any]]) -> None:
    """Append *rows* in the caller's transaction."""
    values = list(rows)
    if values:
        connection.execute(insert(SessionEvent), values)
