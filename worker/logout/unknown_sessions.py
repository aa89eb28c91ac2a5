"""What a logout that names a session by its id is owed, though nothing of it is live here."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import Connection, select, update

from models import EndCause, IdpSession, Logout, new_id
from worker.logout.end_sessions import add_deliveries, delivery
from worker.logout.receipts import LogoutCall
from worker.sessions import app_links, audit, mosaic_ids
from worker.sessions.queries import Session
from worker.storage.sql import upsert
from worker.wiring import Services


def record_unknown_as_ended(
    connection: Connection, services: Services, request: LogoutCall
) -> tuple[UUID, ...]:
    """Remember a session that is logged out before it was registered, as ended already.

    Its registration may still be in a queue; it then finds this row and stays logged out. Returns
    the deliveries to Mosaic, here and below.
    """
    session_id = request.command.session_id
    # Locked, so that no purge takes it before it is known what is owed.
    if session_id is None or _find(connection, services, session_id, for_update=True) is not None:
        return ()
    session = new_id()
    if not _insert(connection, services, request, session, session_id):
        return ()  # registered this very moment: it is ended like any other
    app_links.link_app(connection, session, request.app.app_id, request.opened_at, None)
    row = audit.event(
        audit.ENDED,
        at=request.opened_at,
        session=session,
        user_id=request.command.user,
        by=request.by,
        detail="logout before registration",
    )
    audit.record(connection, [row])
    return _owe(connection, request, session)


def tell_of_expired(
    connection: Connection, services: Services, request: LogoutCall
) -> tuple[UUID, ...]:
    """Owe Mosaic the end of a session that expired here, now that its id is at hand again.

    How long a session lives is Mosaic's affair: what has expired by our clock may live on there,
    and a receipt would promise an end that no call brought about. Call it when the session is known
    to be the user's.
    """
    session_id = request.command.session_id
    session = None if session_id is None else _find(connection, services, session_id)
    if session_id is None or session is None or session.end_cause != EndCause.EXPIRED.value:
        return ()
    known = select(Logout.id).where(Logout.idp_session_id == session.id)
    if connection.execute(known).first() is not None:
        return ()  # an earlier logout asked
    sealed = services.keyring.seal(session_id, mosaic_ids.place_of(session.id))
    connection.execute(
        update(IdpSession).where(IdpSession.id == session.id).values(sealed_session_id=sealed)
    )
    return _owe(connection, request, session.id)


def _find(
    connection: Connection, services: Services, session_id: str, *, for_update: bool = False
) -> Session | None:
    session_hash = services.keyring.lookup_hash(session_id)
    return mosaic_ids.find(connection, session_hash, for_update=for_update)


def _insert(
    connection: Connection, services: Services, request: LogoutCall, session: UUID, session_id: str
) -> bool:
    statement = upsert(connection, IdpSession).values(
        id=session,
        user_id=request.command.user_id,
        session_hash=services.keyring.lookup_hash(session_id),
        sealed_session_id=services.keyring.seal(session_id, mosaic_ids.place_of(session)),
        registered_by=request.app.app_id,
        amr=[],
        authenticated_at=request.opened_at,
        amr_as_of=request.opened_at,
        created_at=request.opened_at,
        last_used_at=request.opened_at,
        expires_at=request.opened_at + request.app.mosaic.session_lifetime,
        ended_at=request.opened_at,
        end_cause=EndCause.LOGOUT.value,
    )
    unless_known = statement.on_conflict_do_nothing(index_elements=[IdpSession.session_hash])
    return connection.execute(unless_known.returning(IdpSession.id)).one_or_none() is not None


def _owe(connection: Connection, request: LogoutCall, session: UUID) -> tuple[UUID, ...]:
    give_up_at = request.opened_at + request.app.mosaic.session_lifetime
    owed = delivery(session, request.app.app_id, request.opened_at, give_up_at)
    add_deliveries(connection, [owed])
    return (owed["id"],)
