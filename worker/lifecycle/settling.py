"""What becomes of Mosaic's answer to a silent authentication.

What Mosaic returned is handed out only after one statement has found the session still live. A
logout that commits in between makes that statement match no row, and the tokens are thrown away.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

import structlog
from sqlalchemy import ColumnElement, Connection, update
from sqlalchemy.exc import IntegrityError

from models import EndCause, IdpSession, SessionAlias
from session_client import times
from session_client.contract import Reason, Verdict
from worker.lifecycle import events, sessions
from worker.lifecycle.commands import SilentAuthCommand
from worker.lifecycle.ending import end_sessions
from worker.lifecycle.events import Cause
from worker.lifecycle.lifetimes import effective_expiry
from worker.lifecycle.outcomes import Outcome
from worker.lifecycle.sessions import Session
from worker.mosaic import Identity, Tokens
from worker.policy import Policy, Shortfall
from worker.registry import KnownApp
from worker.wiring import Services

log = structlog.get_logger()

# How a session ends that no answer of Mosaic may bring back: by somebody's decision here.
_FINAL: Final = frozenset(
    cause.value
    for cause in (EndCause.LOGOUT, EndCause.QUARANTINED, EndCause.REVOKED, EndCause.CAP_REACHED)
)


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: who asks, what for, how strong it must be, and until when."""

    services: Services
    app: KnownApp
    command: SilentAuthCommand
    policy: Policy
    by: Cause
    deadline: datetime


def settle(asked: Asked, session: Session, tokens: Tokens, identity: Identity) -> Outcome | None:
    """Hand out what Mosaic returned, if the session is still live; None when it changed."""
    try:
        with asked.services.store.write() as connection:
            outcome = _settle_in(connection, asked, session, tokens, identity)
    except IntegrityError:
        outcome = None  # the new id was registered this very moment: the next round sees it
    if outcome is None:
        log.info("tokens_discarded", session=str(session.id), app=asked.app.app_id)
    return outcome


def _settle_in(
    connection: Connection,
    asked: Asked,
    session: Session,
    tokens: Tokens,
    identity: Identity,
) -> Outcome | None:
    now = asked.services.now()
    renewed = _renew(connection, session, now, asked.app.mosaic.session_lifetime)
    if renewed is None:
        return None
    slid_to, old_hash = renewed
    if not _keep_new_id(connection, asked, session, old_hash, tokens.session_id):
        return None
    since = identity.auth_time or session.authenticated_at
    shortfall = asked.policy.shortfall(identity.amr, since, now)
    if shortfall:
        return step_up(session, shortfall)
    usable_until = now + timedelta(seconds=tokens.expires_in)
    sessions.link_app(connection, session.id, asked.app.app_id, now, usable_until)
    row = events.event(
        events.AUTHENTICATED, at=now, session=session.id, user_id=session.user_id, by=asked.by
    )
    events.record(connection, [row])
    slid = replace(session, expires_at=slid_to, last_used_at=now)
    return _authenticated(session, tokens, ends_at(asked.services, slid))


def unchanged(session: Session) -> ColumnElement[bool]:
    """Return the condition that a row is still as it was read."""
    return (
        (IdpSession.id == session.id)
        & IdpSession.ended_at.is_(None)
        & (IdpSession.version == session.version)
    )


def _renew(
    connection: Connection, session: Session, now: datetime, lifetime: timedelta
) -> tuple[datetime, bytes] | None:
    """Extend the session if it is live and unchanged; return its expiry and its id's hash.

    This one statement is promise P1: without its conditions a logout that was committed while
    Mosaic answered would be followed by tokens.
    """
    row = connection.execute(
        update(IdpSession)
        .where(unchanged(session))
        .values(
            expires_at=sessions.not_before(IdpSession.expires_at, now + lifetime),
            last_used_at=sessions.not_before(IdpSession.last_used_at, now),
        )
        .returning(IdpSession.expires_at, IdpSession.session_hash)
    ).one_or_none()
    return None if row is None else (row.expires_at, row.session_hash)


def _keep_new_id(
    connection: Connection,
    asked: Asked,
    session: Session,
    old_hash: bytes,
    session_id: str,
) -> bool:
    """Store the id Mosaic returned; when it is a new one, the old one stays as an alias.

    Logouts by apps that know only the old id must still find the session. Returns False when the
    new id is that of a session logged out here: then this one is, whatever Mosaic knows yet.
    """
    new_hash = asked.services.keyring.lookup_hash(session_id)
    if new_hash == old_hash:
        return True
    # Locked, so that its logout comes before our commit or after it, and never in between.
    other = sessions.by_hash(connection, new_hash, for_update=True)
    if other is None or other.id == session.id:
        _rename(connection, asked, session, old_hash, session_id)
        return True
    # Two rows for one session at Mosaic, each found by its own id: an app registered the new id
    # before we met it. Both stay what they are, unless the other one must never be used again.
    if other.end_cause not in _FINAL:
        return True
    cause = EndCause(other.end_cause)
    _end_in(connection, asked, IdpSession.id == session.id, cause)
    return False


def _rename(
    connection: Connection, asked: Asked, session: Session, old_hash: bytes, session_id: str
) -> None:
    alias = {
        "session_hash": old_hash,
        "idp_session_id": session.id,
        "created_at": asked.services.now(),
    }
    known = sessions.upsert(connection, SessionAlias).values(alias)
    connection.execute(known.on_conflict_do_nothing())  # it may have had this id twice
    connection.execute(
        update(IdpSession)
        .where(IdpSession.id == session.id)
        .values(
            session_hash=asked.services.keyring.lookup_hash(session_id),
            sealed_session_id=asked.services.keyring.seal(
                session_id, sessions.session_id_place(session.id)
            ),
            version=IdpSession.version + 1,
        )
    )


def end(asked: Asked, which: ColumnElement[bool], cause: EndCause) -> None:
    """End sessions because of what Mosaic answered."""
    with asked.services.store.write() as connection:
        _end_in(connection, asked, which, cause)


def _end_in(
    connection: Connection,
    asked: Asked,
    which: ColumnElement[bool],
    cause: EndCause,
) -> None:
    end_sessions(
        connection,
        asked.services,
        which,
        cause,
        by=asked.by,
        lifetime=asked.app.mosaic.session_lifetime,
    )


def ends_at(services: Services, session: Session) -> datetime:
    """Return when the session ends here: at Mosaic's expiry, or at a cap before it."""
    return effective_expiry(
        services.settings,
        expires_at=session.expires_at,
        last_used_at=session.last_used_at,
        created_at=session.created_at,
    )


def step_up(session: Session, shortfall: Shortfall) -> Outcome:
    """Return the answer that says what the session lacks."""
    amr_missing = bool(shortfall.missing_amr)
    return Outcome(
        Verdict.INTERACTION_REQUIRED,
        Reason.AMR_MISSING if amr_missing else Reason.MAX_AGE_EXCEEDED,
        data={
            "session_ref": str(session.id),
            "missing_amr": list(shortfall.missing_amr),
            "max_age_exceeded": shortfall.max_age_exceeded,
        },
    )


def _authenticated(session: Session, tokens: Tokens, expires_at: datetime) -> Outcome:
    given = {
        "access_token": tokens.access_token,
        "token_type": tokens.token_type,
        "expires_in": tokens.expires_in,
        "id_token": tokens.id_token,
        "refresh_token": tokens.refresh_token,
    }
    return Outcome(
        Verdict.AUTHENTICATED,
        data={
            "tokens": {name: value for name, value in given.items() if value is not None},
            "session_ref": str(session.id),
            "expires_at": times.to_wire(expires_at),
        },
    )
