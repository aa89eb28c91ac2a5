"""What becomes of Mosaic's answer to a silent authentication.

What Mosaic returned is handed out only after one statement has found the session still live. A
logout that commits in between makes that statement match no row, and the tokens are thrown away.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import structlog
from sqlalchemy import ColumnElement, Connection
from sqlalchemy.exc import IntegrityError

from models import EndCause, IdpSession
from session_client import times
from session_client.contract import Reason, Verdict
from worker.app_registry import KnownApp
from worker.logout.end_sessions import end_sessions
from worker.mosaic import Identity, Tokens
from worker.policy import Shortfall
from worker.requests.command_fields import Command
from worker.requests.commands import SilentAuthCommand
from worker.requests.outcomes import Outcome
from worker.requests.request import OpenedRequest
from worker.sessions import app_links, audit, mosaic_ids, queries
from worker.sessions.caps import effective_expiry
from worker.sessions.queries import Session
from worker.sessions.watermarks import lock_user
from worker.sign_in import refresh_tokens, slide
from worker.sign_in.late_id import keep_late_id
from worker.storage.encryption import KeyRing
from worker.wiring import Services

SilentAuthRequest = OpenedRequest[SilentAuthCommand]

log = structlog.get_logger()

# How a session ends by a decision taken here: no answer of Mosaic may be used for it after that.
_FINAL: Final = frozenset(
    cause.value for cause in EndCause if cause not in {EndCause.GONE_AT_IDP, EndCause.EXPIRED}
)


@dataclass(frozen=True, slots=True)
class Settled:
    """An outcome, and the session's version with which it is true."""

    outcome: Outcome
    version: int


@dataclass(frozen=True, slots=True)
class Again:
    """The store must be read anew."""

    # Says how the session ended, where it did: there is one less each time. None where another
    # transaction has changed it meanwhile.
    ended: Outcome | None = None


def settle(
    services: Services,
    request: SilentAuthRequest,
    session: Session,
    tokens: Tokens,
    identity: Identity,
) -> Settled | Again:
    """Hand out what Mosaic returned, if the session is still live and as it was read."""
    now = services.now()
    shortfall = request.command.strengthen(request.app.policy).shortfall(
        identity.amr, proved_at(session, identity.auth_time), now
    )
    # Mosaic may have given the session another id, by which it is to be found then.
    new_hash = services.keyring.lookup_hash(tokens.session_id)
    use = _Use(services, request, session, tokens, shortfall, now, identity, new_hash)
    is_plain = shortfall is None and new_hash == session.session_hash
    try:
        if is_plain and not services.store.is_sqlite:
            settled = _settle_at_once(use)
        else:
            with services.store.write() as connection:
                settled = _settle_in(connection, use)
        if (
            isinstance(settled, Again)
            and settled.ended is None
            and new_hash != session.session_hash
        ):
            settled = _keep_late_id(use)
    except IntegrityError:
        settled = Again()  # the new id was registered this very moment: the next round sees it
    if isinstance(settled, Again):
        log.info("tokens_discarded", session=str(session.id), app=request.app.app_id)
    return settled


def _keep_late_id(use: _Use) -> Again:
    """Keep the new id of a session that has changed meanwhile, or ended."""
    found, owed = keep_late_id(use.services, use.request.app, use.session, use.tokens.session_id)
    if found is None or found.ended_at is None:
        return Again()
    reason = queries.reason_for(found.end_cause)
    return Again(Outcome(Verdict.LOGIN_REQUIRED, reason, logouts=owed))


@dataclass(frozen=True)
class _Use:
    """One use of a session at Mosaic, with what must be written because of it."""

    services: Services
    request: SilentAuthRequest
    session: Session
    tokens: Tokens
    shortfall: Shortfall | None
    at: datetime
    identity: Identity
    new_hash: bytes

    @property
    def slid_to(self) -> datetime:
        """When Mosaic would end the session if it is not used again."""
        return self.at + self.request.app.mosaic.session_lifetime

    @property
    def token_expires_at(self) -> datetime:
        """Until when the app may use what it got."""
        return self.at + timedelta(seconds=self.tokens.expires_in)

    def event(self) -> dict[str, Any]:
        """Return the row of the audit trail."""
        return audit.event(
            audit.AUTHENTICATED,
            at=self.at,
            session=self.session.id,
            user_id=self.session.user_id,
            by=self.request.by,
            detail=audit.BY_USER if self.request.command.is_by_user else None,
        )

    def settled(self, expires_at: datetime, version: int) -> Settled:
        """Return what the app gets."""
        ends = effective_expiry(
            self.services.settings,
            expires_at=expires_at,
            last_used_at=self.at,
            created_at=self.session.created_at,
        )
        keyring, app = self.services.keyring, self.request.app
        data = {
            "tokens": shown_tokens(keyring, app, self.session.id, self.tokens),
            "user_id": self.session.user_id,
            "session_ref": str(self.session.id),
            "expires_at": times.to_wire(ends),
            **strength_of(self.session, self.identity),
        }
        return Settled(Outcome(Verdict.AUTHENTICATED, data=data), version)


def _settle_at_once(use: _Use) -> Settled | Again:
    expires_at = slide.slide_link_and_note(
        use.services.store,
        use.session,
        use.at,
        use.slid_to,
        token_issued_at=use.identity.issued_at,
        token_expires_at=use.token_expires_at,
        event=use.event(),
    )
    return Again() if expires_at is None else use.settled(expires_at, use.session.version)


def _settle_in(connection: Connection, use: _Use) -> Settled | Again:
    request, session = use.request, use.session
    if use.new_hash != session.session_hash:
        lock_user(connection, session.user_id)
    other = _of_new_id(connection, use)
    expires_at = slide.slide(connection, session, use.at, use.slid_to)
    if expires_at is None:
        return Again()
    version = _keep_new_id(connection, use, other)
    if isinstance(version, Again):
        return version
    if use.shortfall is not None:
        return Settled(step_up(session.id, session.user_id, use.shortfall), version)
    app_links.link_app(
        connection, session.id, request.app.app_id, use.identity.issued_at, use.token_expires_at
    )
    audit.record(connection, [use.event()])
    return use.settled(expires_at, version)


def _unchanged(session: Session) -> ColumnElement[bool]:
    """Return the condition that a row is still as it was read."""
    return (
        (IdpSession.id == session.id)
        & IdpSession.ended_at.is_(None)
        & (IdpSession.version == session.version)
    )


def _of_new_id(connection: Connection, use: _Use) -> Session | None:
    """Return the other session here that has the id Mosaic answered with, locked with ours.

    So that its logout comes before our lock or after our commit, and never in between.
    """
    if use.new_hash == use.session.session_hash:
        return None
    other = mosaic_ids.find(connection, use.new_hash)
    if other is None or other.id == use.session.id:
        return None
    queries.lock_in_order(connection, use.session.id, other.id)
    return queries.by_id(connection, other.id)


def _keep_new_id(connection: Connection, use: _Use, other: Session | None) -> int | Again:
    """Store the id Mosaic returned; when it is a new one, the old one stays as an alias.

    Logouts by apps that know only the old id must still find the session. Returns the row's
    version. Where the new id is that of a session that was ended here for good, this one ends as
    well, whatever Mosaic knows yet.
    """
    session = use.session
    if use.new_hash == session.session_hash:
        return session.version
    if other is None:
        mosaic_ids.give_new(
            connection, use.services.keyring, session, use.tokens.session_id, use.at
        )
        return session.version + 1
    # Two rows for one session at Mosaic, each found by its own id: an app registered the new id
    # before we met it. Both stay what they are, unless the other one must never be used again.
    if other.end_cause not in _FINAL:
        return session.version
    cause = EndCause(other.end_cause)
    return Again(end_session(connection, use.services, use.request, session, cause))


def end_session(
    connection: Connection,
    services: Services,
    request: OpenedRequest[Command],
    session: Session,
    cause: EndCause,
) -> Outcome | None:
    """End *session* for what Mosaic answered, and return the answer that says how it has ended.

    That may be otherwise: by a logout that came first. None where it lives on: what Mosaic does not
    know any more is what it was asked about, and the session has another id by now, or a new
    factor.
    """
    which = _unchanged(session) if cause is EndCause.GONE_AT_IDP else IdpSession.id == session.id
    lifetime = request.app.mosaic.session_lifetime
    ended = end_sessions(connection, services, which, cause, by=request.by, lifetime=lifetime)
    found = queries.by_id(connection, session.id)
    if found is not None and found.ended_at is None:
        return None
    reason = queries.reason_for(None if found is None else found.end_cause)
    return Outcome(Verdict.LOGIN_REQUIRED, reason, logouts=ended.logouts, notices=ended.notices)


def step_up(session: UUID, user_id: str, shortfall: Shortfall) -> Outcome:
    """Return the answer that says what the session lacks."""
    reason = Reason.AMR_MISSING if shortfall.missing_amr else Reason.MAX_AGE_EXCEEDED
    if shortfall.is_amr_unproven:
        reason = Reason.AMR_UNPROVEN
    return Outcome(
        Verdict.INTERACTION_REQUIRED,
        reason,
        data={
            "user_id": user_id,
            "session_ref": str(session),
            "missing_amr": list(shortfall.missing_amr),
            "max_age_exceeded": shortfall.max_age_exceeded,
        },
    )


def proved_at(session: Session, auth_time: datetime | None) -> datetime:
    """Return when the user last proved themselves, where Mosaic's token says *auth_time*.

    Mosaic may be behind the store, where a factor leaves its time as it was. What it is ahead of
    the store does not count: each silent authentication may set its time anew, and the app would
    take a login of long ago for one of now.
    """
    told = session.authenticated_at if auth_time is None else auth_time
    if session.factor_added_at is not None:
        told = max(told, session.factor_added_at)
    return min(told, session.authenticated_at)


def strength_of(session: Session, identity: Identity) -> dict[str, Any]:
    """Return what the user has proved, and when, as Mosaic says or else as the store knows."""
    return {
        "amr": session.amr if identity.amr is None else sorted(identity.amr),
        "authenticated_at": times.to_wire(proved_at(session, identity.auth_time)),
    }


def shown_tokens(keyring: KeyRing, app: KnownApp, session: UUID, tokens: Tokens) -> dict[str, Any]:
    """Return tokens under the contract's names, Mosaic's refresh token as *app* may have it."""
    fields = {
        "access_token": tokens.access_token,
        "token_type": tokens.token_type,
        "expires_in": tokens.expires_in,
        "id_token": tokens.id_token,
        "refresh_token": refresh_tokens.seal(keyring, app, session, tokens.refresh_token),
    }
    return {name: value for name, value in fields.items() if value is not None}


def aged(data: dict[str, Any], age: timedelta) -> dict[str, Any]:
    """Return an answer's data as they are *age* later: its tokens live for that much less."""
    tokens = data["tokens"]
    left = max(0, tokens["expires_in"] - round(age.total_seconds()))
    return {**data, "tokens": {**tokens, "expires_in": left}}
