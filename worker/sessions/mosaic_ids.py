"""The ids by which Mosaic knows sessions: sealed in the store, and found by a keyed hash.

Mosaic may give a session another id. The store keeps the hash of each it had, since a logout by an
app that knows only an old one must still find the session.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final
from uuid import UUID

from sqlalchemy import Connection, bindparam, select, update

from models import IdpSession, SessionAlias
from worker.sessions import queries
from worker.sessions.queries import COLUMNS, Session
from worker.storage.encryption import KeyRing
from worker.storage.sql import upsert

_SESSION_HASH: Final = bindparam("session_hash", type_=IdpSession.session_hash.type)
# A session id that the session had earlier; also for a statement that inserts one.
ALIASED: Final = select(SessionAlias.idp_session_id).where(
    SessionAlias.session_hash == _SESSION_HASH
)
_CURRENT: Final = queries.by_for_update(
    select(*COLUMNS).where(IdpSession.session_hash == _SESSION_HASH)
)
_EARLIER: Final = queries.by_for_update(select(*COLUMNS).where(IdpSession.id.in_(ALIASED)))


def place_of(session: UUID) -> str:
    """Return what a sealed session id is bound to."""
    return f"idp_sessions:{session}:session_id"


def open_id_of(keyring: KeyRing, session: Session) -> str:
    """Return Mosaic's id of a live session."""
    assert session.sealed_session_id is not None, "a live session has its id"  # noqa: S101
    return keyring.open(session.sealed_session_id, place_of(session.id))


def find(
    connection: Connection, session_hash: bytes, *, for_update: bool = False
) -> Session | None:
    """Return the session a session id belongs to, also by an id it had earlier.

    *for_update* as in `queries.by_id`.
    """
    parameters = {"session_hash": session_hash}
    # In this order: an id that is changed in between is an alias by the time we look there.
    return queries.one(connection, _CURRENT[for_update], parameters) or queries.one(
        connection, _EARLIER[for_update], parameters
    )


def give_new(
    connection: Connection, keyring: KeyRing, session: Session, session_id: str, now: datetime
) -> None:
    """Store the new id that Mosaic gave a session, the old one as an alias.

    The caller has locked first the user (`lock_user`), and then the session's row.
    """
    alias = {"session_hash": session.session_hash, "idp_session_id": session.id, "created_at": now}
    known = upsert(connection, SessionAlias).values(alias)
    connection.execute(known.on_conflict_do_nothing())  # it may have had this id twice
    connection.execute(
        update(IdpSession)
        .where(IdpSession.id == session.id)
        .values(
            session_hash=keyring.lookup_hash(session_id),
            sealed_session_id=keyring.seal(session_id, place_of(session.id)),
            version=IdpSession.version + 1,
        )
    )
