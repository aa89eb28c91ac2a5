"""What an active login has proved, and the session it opens."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, Select, bindparam, select

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
    into: UUID | None = None  # the session that the factor was added to …
    asked_about: bytes | None = None  # … by the hash of the id that Mosaic was asked about
    gives_browser_token: bool = True
    token_expires_at: datetime | None = None

    @property
    def logged_in_at(self) -> datetime:
        """When the user proved themselves by it."""
        identity = self.identity
        told = identity.auth_time or identity.issued_at
        # Mosaic has just taken the factor; whether its token still says when the login was is on
        # no page of Mosaic's.
        return max(told, identity.issued_at) if self.origin is TokenOrigin.FACTOR else told


def open_session(
    connection: Connection,
    services: Services,
    request: OpenedRequest[Command],
    login: ActiveLogin,
    now: datetime,
) -> Session | None:
    """Insert the session of *login* and return it; None if it is known, also by an earlier id.

    It is as the token proves it. No other transaction sees it before our commit, and nothing refers
    to it: there is no row to lock, and no older one to replace.
    """
    values = row_of(services, request, login, now)
    inserted = connection.execute(_INSERT[connection.dialect.name], values).one_or_none()
    return None if inserted is None else Session(**values)


def row_of(
    services: Services, request: OpenedRequest[Command], login: ActiveLogin, now: datetime
) -> dict[str, Any]:
    """Return the row of a session that *login* opens now."""
    identity, session = login.identity, new_id()
    return {
        "id": session,
        "user_id": identity.user_id,
        "session_hash": services.keyring.lookup_hash(login.session_id),
        "sealed_session_id": services.keyring.seal(login.session_id, mosaic_ids.place_of(session)),
        "device_id": login.device_id,
        "registered_by": request.app.app_id,
        "amr": sorted(set(identity.amr or ())),
        "authenticated_at": login.logged_in_at,
        "factor_added_at": None,
        "amr_as_of": identity.issued_at,
        "created_at": now,
        "last_used_at": identity.issued_at,
        "expires_at": identity.issued_at + request.app.mosaic.session_lifetime,
        "ended_at": None,
        "end_cause": None,
        "version": 1,
    }


def unless_known(insert: Any, row: Select[*tuple[Any, ...]]) -> Any:
    """Return what inserts the session that *row* selects (`NEW_ROW`), and returns its id.

    Nothing where its id is known, also as one that a session had earlier. Of two registrations of
    one session at once the second finds the first one's row.
    """
    return (
        insert(IdpSession)
        .from_select(
            [*queries.COLUMNS, IdpSession.check_expiry_at],
            row.where(~mosaic_ids.ALIASED.exists()),
            include_defaults=False,
        )
        .on_conflict_do_nothing(index_elements=[IdpSession.session_hash])
        .returning(IdpSession.id)
    )


# What `unless_known` inserts, with what `row_of` returns. Expiry looks at it when it would expire
# unused.
NEW_ROW: Final = tuple(
    bindparam(column.key, type_=column.type) for column in (*queries.COLUMNS, IdpSession.expires_at)
)
_INSERT: Final = in_each_dialect(lambda insert: unless_known(insert, select(*NEW_ROW)))
