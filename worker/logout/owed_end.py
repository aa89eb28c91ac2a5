"""Owing Mosaic the end of a session that it has used since the session was ended here."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import Connection, select, update

from models import IdpSession, Logout
from worker.app_registry import KnownApp
from worker.logout.end_sessions import add_deliveries, delivery
from worker.sessions import mosaic_ids, queries
from worker.wiring import Services


def owe_end(
    connection: Connection,
    services: Services,
    app: KnownApp,
    session_id: str,
    *,
    asked_about: UUID | None = None,
) -> tuple[UUID, ...]:
    """Owe Mosaic the end of the session that it has answered about as *session_id*.

    Also where it has confirmed that end before. *asked_about* is the session that Mosaic was asked
    about, if it was one: it may have another id since. What Mosaic was told of the end, or is being
    told right now, is then about an id that it knows no more, and its "not found" would be taken
    for a confirmation. Returns the deliveries to wake: none for a session that lives, or whose end
    Mosaic is about to be told of.
    """
    keyring, now = services.keyring, services.now()
    session = mosaic_ids.find(connection, keyring.lookup_hash(session_id), for_update=True)
    has_new_id = False
    if session is None and asked_about is not None:
        session, has_new_id = queries.by_id(connection, asked_about, for_update=True), True
    if session is None or session.ended_at is None:
        return ()
    of_session = Logout.idp_session_id == session.id
    known = connection.execute(select(Logout.closed_at).where(of_session)).one_or_none()
    if known is not None and known.closed_at is None and not has_new_id:
        return ()
    if has_new_id:
        mosaic_ids.give_new(connection, keyring, session, session_id, now)
    else:
        sealed = keyring.seal(session_id, mosaic_ids.place_of(session.id))
        connection.execute(
            update(IdpSession).where(IdpSession.id == session.id).values(sealed_session_id=sealed)
        )
    owed = delivery(session.id, app.app_id, now, now + app.mosaic.session_lifetime)
    if known is None:
        add_deliveries(connection, [owed])
    else:
        # A session has one delivery, which begins anew, under another id: a worker that tells
        # Mosaic of the old session id right now closes nothing.
        anew = {"closed_at": None, "outcome": None, "attempts": 0, "crashes": 0}
        unleased = {"lease_token": None, "leased_until": None}
        connection.execute(update(Logout).where(of_session).values(**owed, **anew, **unleased))
    return (owed["id"],)
