"""Finding sessions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    bindparam,
    select,
)

from models import AppSession, EndCause, IdpSession
from session_client.contract import Reason
from worker.sessions.caps import effective_expiry, has_caps, reaches_within_caps
from worker.settings.model import Settings
from worker.wiring import Services

COLUMNS: Final = (
    IdpSession.id,
    IdpSession.user_id,
    IdpSession.session_hash,
    IdpSession.sealed_session_id,
    IdpSession.device_id,
    IdpSession.registered_by,
    IdpSession.amr,
    IdpSession.amr_as_of,
    IdpSession.authenticated_at,
    IdpSession.factor_added_at,
    IdpSession.created_at,
    IdpSession.last_used_at,
    IdpSession.expires_at,
    IdpSession.ended_at,
    IdpSession.end_cause,
    IdpSession.version,
)


@dataclass(frozen=True, slots=True)
class Session:
    """One session as the store knows it."""

    id: UUID
    user_id: str
    session_hash: bytes = field(repr=False)
    sealed_session_id: bytes | None = field(repr=False)
    device_id: str | None
    registered_by: str
    amr: list[str]
    amr_as_of: datetime
    authenticated_at: datetime
    factor_added_at: datetime | None
    created_at: datetime
    last_used_at: datetime
    expires_at: datetime
    ended_at: datetime | None
    end_cause: str | None
    version: int

    @property
    def is_proven(self) -> bool:
        """Whether a token has told of it; else an app has logged it out before any registration.

        Such a row has no time but that of its logout (`logout.unknown_sessions`).
        """
        return self.amr_as_of != self.ended_at


def is_proven() -> ColumnElement[bool]:
    """Return what selects the ended sessions that a token has told of: `Session.is_proven`."""
    return IdpSession.amr_as_of != IdpSession.ended_at


def _usable_from(device_id: Any) -> ColumnElement[bool]:
    # Strictly: were a session without a device to serve one that is named, the user who logged
    # that device out would be signed in on it again by a login elsewhere.
    device = IdpSession.device_id
    return device.is_(None) if device_id is None else device == device_id


def _candidates(device_id: Any) -> Select[*tuple[Any, ...]]:
    return (
        select(*COLUMNS)
        .where(
            IdpSession.user_id == bindparam("user_id"),
            IdpSession.ended_at.is_(None),
            IdpSession.expires_at > bindparam("now"),
            _usable_from(device_id),
        )
        .order_by(IdpSession.authenticated_at.desc(), IdpSession.id.desc())
        .limit(bindparam("most"))
    )


def _within_caps(query: Select[*tuple[Any, ...]]) -> Select[*tuple[Any, ...]]:
    # Said to the database: what maintenance has yet to end must take no usable session's place.
    return query.where(
        IdpSession.created_at > bindparam("opened_after"),
        IdpSession.last_used_at > bindparam("used_after"),
    )


# Built once: putting a statement together costs more than running it.
_CANDIDATES: Final = {False: _candidates(None), True: _candidates(bindparam("device_id"))}
_WITHIN_CAPS: Final = {named: _within_caps(query) for named, query in _CANDIDATES.items()}


def candidates(
    services: Services, user_id: str, device_id: str | None, now: datetime
) -> list[Session]:
    """Return the user's live sessions that a request from *device_id* may use, newest first.

    With a device its sessions alone, without one those alone that have none. One past a cap is
    offered to no request.
    """
    settings = services.settings
    parameters = {"user_id": user_id, "now": now, "most": settings.max_candidates}
    if device_id is not None:
        parameters["device_id"] = device_id
    query = _CANDIDATES[device_id is not None]
    if has_caps(settings):
        opened_after, used_after = reaches_within_caps(settings, now)
        parameters |= {"opened_after": opened_after, "used_after": used_after}
        query = _WITHIN_CAPS[device_id is not None]
    return [from_columns(row) for row in services.store.run(query, parameters)]


def why_none(services: Services, user_id: str, device_id: str | None, now: datetime) -> Reason:
    """Return why a user has no usable session: how their newest one ended, or is about to."""
    query = (
        select(*COLUMNS)
        .where(IdpSession.user_id == user_id, _usable_from(device_id))
        .order_by(IdpSession.created_at.desc(), IdpSession.id.desc())
        .limit(1)
    )
    with services.store.read() as connection:
        newest = one(connection, query)
    if newest is None:
        return Reason.NO_SESSION
    return why_unusable(services.settings, newest, now) or Reason.EXPIRED


def why_unusable(settings: Settings, session: Session, now: datetime) -> Reason | None:
    """Return how a session ended, or is about to be ended; None for one that lives."""
    if session.ended_at is not None or session.expires_at <= now:
        return reason_for(session.end_cause)
    return Reason.CAP_REACHED if ends_at(settings, session) <= now else None


_SHARED: Final[Select[*tuple[Any, ...]]] = (
    select(*COLUMNS)
    .join(AppSession, AppSession.idp_session_id == IdpSession.id)
    .where(
        IdpSession.id == bindparam("session", type_=IdpSession.id.type),
        IdpSession.user_id == bindparam("user_id"),
        AppSession.app_id == bindparam("app_id"),
    )
)


def shared_by(services: Services, app_id: str, session: UUID, user_id: str) -> Session | None:
    """Return the session, live or ended, if the app shares it and it is this user's."""
    parameters = {"session": session, "user_id": user_id, "app_id": app_id}
    rows = services.store.run(_SHARED, parameters)
    return from_columns(rows[0]) if rows else None


def ends_at(settings: Settings, session: Session) -> datetime:
    """Return when the session ends here: at Mosaic's expiry, or at a cap before it."""
    return effective_expiry(
        settings,
        expires_at=session.expires_at,
        last_used_at=session.last_used_at,
        created_at=session.created_at,
    )


def reason_for(end_cause: str | None) -> Reason:
    """Return the contract's word for how a session ended.

    One that is past its time but not yet pruned has no cause: that is expired as well.
    """
    return {
        EndCause.LOGOUT.value: Reason.LOGGED_OUT,
        EndCause.GONE_AT_IDP.value: Reason.GONE_AT_IDP,
        EndCause.QUARANTINED.value: Reason.QUARANTINED,
        EndCause.REVOKED.value: Reason.REVOKED,
        EndCause.CAP_REACHED.value: Reason.CAP_REACHED,
        EndCause.REPLACED.value: Reason.REPLACED,
    }.get(end_cause or "", Reason.EXPIRED)


def by_for_update(query: Select[*tuple[Any, ...]]) -> dict[bool, Select[*tuple[Any, ...]]]:
    """Return *query* without and with locks; other writers of its rows wait for our commit.

    Not writers of rows that refer to them (FOR NO KEY UPDATE), as of `lock_in_order`. SQLite
    knows no FOR UPDATE and needs none: it has one writer at a time.
    """
    return {False: query, True: query.with_for_update(key_share=True)}


_BY_ID: Final = by_for_update(
    select(*COLUMNS).where(IdpSession.id == bindparam("session", type_=IdpSession.id.type))
)


def by_id(connection: Connection, session: UUID, *, for_update: bool = False) -> Session | None:
    """Return one session, live or ended.

    With *for_update* other writers of the row wait for our commit: what is decided from the row
    still holds when it is written.
    """
    return one(connection, _BY_ID[for_update], {"session": session})


_LIVE: Final = select(IdpSession.id).where(
    IdpSession.id == bindparam("session", type_=IdpSession.id.type), IdpSession.ended_at.is_(None)
)


def is_live(services: Services, session: UUID) -> bool:
    """Whether a session has not ended, as the store says this very moment."""
    return bool(services.store.run(_LIVE, {"session": session}))


def one(
    connection: Connection,
    query: Select[*tuple[Any, ...]],
    parameters: Mapping[str, Any] | None = None,
) -> Session | None:
    """Return the session that *query* for `COLUMNS` finds, if it finds one."""
    row = connection.execute(query, parameters).one_or_none()
    return None if row is None else from_columns(row)


def locked_in_order(which: ColumnElement[bool]) -> ColumnElement[bool]:
    """Return the condition that a session is live and among *which*, for a statement that ends it.

    It locks them by their ids first, as `lock_in_order` does. A statement by itself locks rows as
    it comes upon them: two that end several of the same sessions would wait for each other.
    """
    among = select(IdpSession.id).where(IdpSession.ended_at.is_(None), which)
    in_order = among.order_by(IdpSession.id).with_for_update(key_share=True).cte("in_order")
    return IdpSession.id.in_(select(in_order.c.id))


def lock_in_order(connection: Connection, *sessions: UUID) -> None:
    """Lock the rows of sessions, all callers in the same order: none waits for another in a ring.

    That is for a caller that writes to several in one transaction. Rows that refer to them may
    still be written meanwhile (FOR NO KEY UPDATE): a notice or a delivery of one session would
    else wait for us while its writer holds another.
    """
    rows = select(IdpSession.id).where(IdpSession.id.in_(sessions)).order_by(IdpSession.id)
    connection.execute(rows.with_for_update(key_share=True))


def from_columns(row: Iterable[Any]) -> Session:
    """Return a session from a row of `COLUMNS`."""
    return Session(*row)
