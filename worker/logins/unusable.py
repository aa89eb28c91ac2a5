"""What becomes of an answer to a login that cannot be used.

The session that it opened at Mosaic is ended there. That of a step-up goes on, and keeps the id
that Mosaic gave it.
"""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import structlog

from models import CallOutcome, EndCause, IdpSession
from session_client.contract import Reason, Verdict
from worker.errors import LoginRefused
from worker.logins import journal, orphans
from worker.logins.attempt import Attempt
from worker.logout.end_sessions import end_sessions
from worker.mosaic import Identity, Tokens
from worker.requests.outcomes import Outcome, failure_of
from worker.sessions import mosaic_ids, queries
from worker.sign_in.active_login import open_session
from worker.sign_in.late_id import keep_late_id

log = structlog.get_logger()


def thrown_away(login: Attempt, call: UUID, session_id: str | None, detail: str) -> Outcome:
    """Say that it is not known what came of a call whose answer is of no use."""
    owed = _throw_away(login, session_id)
    return replace(unknown(login, call, detail), logouts=owed)


def _throw_away(login: Attempt, session_id: str | None) -> tuple[UUID, ...]:
    """End the session that a login has opened at Mosaic; that of a step-up goes on.

    Returns the deliveries to wake, see `keep_late_id`.
    """
    if login.raised is None:
        orphans.end(login.services, login.request, {"session_id": session_id}, keeps=None)
        return ()
    if session_id in {None, "", login.session_id}:
        return ()
    app, session = login.request.app, login.raised.session
    _, owed = keep_late_id(login.services, app, session, str(session_id))
    return owed


def approved_otherwise(login: Attempt, call: UUID, tokens: Tokens) -> Outcome:
    """Refuse a proof that approves something else: a code of another message to the same user."""
    log.warning("approved_otherwise", method=login.method, user=login.facts.identifier)
    owed = _throw_away(login, tokens.session_id)
    outcome = failure_of(LoginRefused(Reason.INVALID_CREDENTIALS))
    journal.close_alone(login.services, call, CallOutcome.REFUSED, outcome)
    return replace(outcome, logouts=owed)


def quarantine(login: Attempt, call: UUID, tokens: Tokens, identity: Identity) -> Outcome:
    """Quarantine what Mosaic answered about another user than the one who is to sign in."""
    services, request, raised = login.services, login.request, login.raised
    log.error("session_quarantined", method=login.method, user=identity.user_id)
    verdict = Verdict.ACCESS_DENIED if raised is None else Verdict.LOGIN_REQUIRED
    reason = Reason.NOT_ALLOWED if raised is None else Reason.QUARANTINED
    outcome = Outcome(verdict, reason)
    active = login.active(tokens, identity)
    with services.store.write() as connection:
        session_hash = services.keyring.lookup_hash(tokens.session_id)
        known = mosaic_ids.find(connection, session_hash)
        there = [known, None if raised is None else raised.session]
        queries.lock_in_order(connection, *(session.id for session in there if session))
        found = open_session(
            connection, services, request, active, services.now()
        ) or mosaic_ids.find(connection, session_hash)
        assert found is not None, "just inserted, or there before"  # noqa: S101
        both = {found.id} if raised is None else {found.id, raised.session.id}
        ended = end_sessions(
            connection,
            services,
            IdpSession.id.in_(both),
            EndCause.QUARANTINED,
            by=request.by,
            lifetime=request.app.mosaic.session_lifetime,
        )
        journal.close(connection, services, call, CallOutcome.REFUSED, answer=outcome)
    return Outcome(verdict, reason, logouts=ended.logouts, notices=ended.notices)


def unknown(login: Attempt, call: UUID, detail: str) -> Outcome:
    """Say that it is not known what came of the call."""
    log.warning("login_outcome_unknown", method=login.method, detail=detail)
    known = None if login.raised is None else login.raised.session
    return journal.close_unheard(login.services, login.request, call, login.method, known)
