"""Browser tokens: each names one session in one browser, until a newer one takes its place.

A user id names no browser, and a session's reference is no secret. The token is one: 256
random bits, of which only a keyed hash is stored.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, Select, bindparam, delete, insert, select, update

from models import BrowserToken, IdpSession, Ticket, TokenOrigin
from session_client import contract
from worker.sessions import queries
from worker.sessions.queries import Session
from worker.storage.encryption import Hashed, KeyRing
from worker.wiring import Services

# As many as one session may be carried by at a time: apps on eight domains.
MAX_LIVE: Final = 8
# A page that was loading while its browser got a newer token is told to load once more.
JUST_REPLACED: Final = timedelta(seconds=30)
_PREFIX: Final = "msb1_"
_RANDOM_BYTES: Final = 32

_BY_HASH: Final[Select[*tuple[Any, ...]]] = (
    select(*queries.COLUMNS, BrowserToken.replaced_at)
    .join(IdpSession, IdpSession.id == BrowserToken.idp_session_id)
    .where(BrowserToken.token_hash == bindparam("token_hash", type_=BrowserToken.token_hash.type))
)
_ISSUE: Final = insert(BrowserToken)  # built once: every login runs it


@dataclass(frozen=True, slots=True)
class Presented:
    """A token that was given out here: the session it names, and since when it gives nothing."""

    session: Session
    replaced_at: datetime | None


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token that the browser is to get, and what is stored of it."""

    value: str = field(repr=False)
    token_hash: bytes


def find(services: Services, token: str) -> Presented | None:
    """Return what a token names; None for one that was never given out here.

    One statement, by one unique index: token and session as they were at the same moment.
    """
    token_hash = _hash_of(services.keyring, token)
    if token_hash is None:
        return None
    rows = services.store.run(_BY_HASH, {"token_hash": token_hash})
    if not rows:
        return None
    *session, replaced_at = rows[0]
    return Presented(queries.from_columns(session), replaced_at)


def find_session(connection: Connection, services: Services, token: str) -> Session | None:
    """Return the session a token names or once named, live or ended: its bearer may end it."""
    token_hash = _hash_of(services.keyring, token)
    if token_hash is None:
        return None
    row = connection.execute(_BY_HASH, {"token_hash": token_hash}).one_or_none()
    return None if row is None else queries.from_columns(row[:-1])


def is_good(connection: Connection, services: Services, token: str) -> bool:
    """Whether a token is not replaced and its session has not ended, seen by this transaction."""
    row = connection.execute(_BY_HASH, {"token_hash": _hash_of(services.keyring, token)}).first()
    return row is not None and row.replaced_at is None and row.ended_at is None


def issue(  # noqa: PLR0913 - the columns of a row
    connection: Connection,
    services: Services,
    session: UUID,
    *,
    issued_to: str,
    origin: TokenOrigin,
    replaces_all: bool,
    is_first: bool = False,
) -> str:
    """Make a new token of a live session, in the caller's transaction, and return it.

    With *replaces_all* those from before give nothing from the commit on, and the tickets they were
    exchanged for are gone: with a new proof the session is stronger, and an attacker with an old
    token or such a ticket would hold the stronger one. Without it the oldest gives way once there
    are `MAX_LIVE`. The caller has locked the session's row: two at once would miss each other's
    token. It is the *is_first* of a session that the caller's transaction has inserted: nothing
    else of it can be there.
    """
    now = services.now()
    if not is_first:
        keeps = 0 if replaces_all else MAX_LIVE - 1
        _replace_all_but_newest(connection, session, keeps, now)
    if replaces_all and not is_first:
        connection.execute(delete(Ticket).where(Ticket.idp_session_id == session))
    token = make(services.keyring)
    row = {
        "token_hash": token.token_hash,
        "idp_session_id": session,
        "issued_to": issued_to,
        "origin": origin.value,
        "issued_at": now,
    }
    connection.execute(_ISSUE, row)
    return token.value


def make(keyring: KeyRing) -> NewToken:
    """Return a new token."""
    value = _PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)
    return NewToken(value, keyring.keyed_hash(Hashed.BROWSER_TOKEN, value))


def replace(connection: Connection, services: Services, token: str) -> None:
    """Have a token give nothing any more. Safe to repeat: it keeps its first time."""
    connection.execute(
        update(BrowserToken)
        .where(
            BrowserToken.token_hash == _hash_of(services.keyring, token),
            BrowserToken.replaced_at.is_(None),
        )
        .values(replaced_at=services.now())
    )


def _replace_all_but_newest(
    connection: Connection, session: UUID, keeps: int, now: datetime
) -> None:
    live = (BrowserToken.idp_session_id == session) & BrowserToken.replaced_at.is_(None)
    newest = (
        select(BrowserToken.token_hash)
        .where(live)
        .order_by(BrowserToken.issued_at.desc(), BrowserToken.token_hash)
        .limit(keeps)
    )
    connection.execute(
        update(BrowserToken)
        .where(live, BrowserToken.token_hash.not_in(newest))
        .values(replaced_at=now)
    )


def _hash_of(keyring: KeyRing, token: str) -> bytes | None:
    # What has not the form of one needs no look-up: a garbled cookie is none.
    if not contract.is_browser_token(token):
        return None
    return keyring.keyed_hash(Hashed.BROWSER_TOKEN, token)
