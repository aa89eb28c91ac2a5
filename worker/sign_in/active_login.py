"""What an active login has proved, and the session it opens."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, bindparam, select

from models import IdpSession, TokenOrigin, new_id
from worker.mosaic import Identity
from worker.requests.command_fields import Command
from worker.requests.request import OpenedRequest
from worker.sessions import mosaic_ids, queries
from worker.sessions.queries import Session
from worker.storage.sql import in_each_dialect
from worker.wiring import Services


@dataclass(frozen=True, slots=True, kw_only=True)
class ActiveLogin:
    """A login, or an added factor, that Mosaic has proved."""

    session_id: str = field(repr=False)
    identity: Identity
    device_id: str | None
    origin: TokenOrigin
    name: str  # the trail's word for it, where it opens a session
    detail: str | None = None
    replaces: str | None = field(default=None, repr=False)
    into: UUID | None = None  # the session that the factor was added to
    gives_browser_token: bool = True
    token_expires_at: datetime | None = None


def open_session(
    connection: Connection,
    services: Services,
    request: OpenedRequest[Command],
    login: ActiveLogin,
    now: datetime,
) -> Session | None:
    """Insert the session of *login* and return it; None if it is known, also by an earlier id.

    It is as the token proves it. Nobody else sees it before our commit, and nothing refers to it:
    there is no row to lock, and no older one to replace.
    """
    identity, session = login.identity, new_id()
    place = mosaic_ids.place_of(session)
    values: dict[str, Any] = {
        "id": session,
        "user_id": identity.user_id,
        "session_hash": services.keyring.lookup_hash(login.session_id),
        "sealed_session_id": services.keyring.seal(login.session_id, place),
        "device_id": login.device_id,
        "registered_by": request.app.app_id,
        "amr": sorted(set(identity.amr or ())),
        "authenticated_at": identity.auth_time or identity.issued_at,
        "amr_as_of": identity.issued_at,
        "created_at": now,
        "last_used_at": identity.issued_at,
        "expires_at": identity.issued_at + request.app.mosaic.session_lifetime,
        "ended_at": None,
        "end_cause": None,
        "version": 1,
    }
    inserted = connection.execute(_INSERT[connection.dialect.name], values).one_or_none()
    return None if inserted is None else Session(**values)


def _unless_known(insert: Any) -> Any:
    # Two registrations of one session at once: the second finds the first one's row.
    values = [bindparam(column.key, type_=column.type) for column in queries.COLUMNS]
    row = select(*values).where(~mosaic_ids.ALIASED.exists())
    return (
        insert(IdpSession)
        .from_select(list(queries.COLUMNS), row, include_defaults=False)
        .on_conflict_do_nothing(index_elements=[IdpSession.session_hash])
        .returning(IdpSession.id)
    )


_INSERT: Final = in_each_dialect(_unless_known)
