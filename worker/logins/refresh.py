"""Fresh tokens for a refresh token, while the user is away.

Mosaic takes each refresh token once, so the journal's row is committed before the call, and its
unique proof makes one call of however many requests bring the token. The other requests get the
answer of that call. What Mosaic returned is given out only if the session is still live at the
commit.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

import structlog
from sqlalchemy import Connection

from models import CallKind, CallOutcome, EndCause
from session_client import times
from session_client.contract import Reason, Verdict
from worker.app_registry import OFFLINE
from worker.errors import (
    MosaicContractBroken,
    MosaicUnavailable,
    OutcomeUnknown,
    ProofRefused,
    SessionGone,
    SessionWorkerError,
    TokenRejected,
    Unauthorized,
    WrongSubject,
)
from worker.logins import call_once, journal
from worker.logins.journal import PlannedCall
from worker.logins.login_steps import require_keys, seconds_for_call
from worker.logs import call_operator
from worker.mosaic import Identity, Tokens
from worker.requests.commands import RefreshCommand
from worker.requests.outcomes import Outcome
from worker.requests.request import OpenedRequest
from worker.sessions import app_links, audit, queries
from worker.sessions.queries import Session
from worker.sign_in import refresh_tokens
from worker.sign_in.commit import proved_at, shown_tokens, step_up, strength_of
from worker.sign_in.named_session import is_of_our_mosaic, live_or_why
from worker.sign_in.refresh_tokens import Grant
from worker.storage.encryption import Hashed
from worker.traffic import name_of_user
from worker.wiring import Services

log = structlog.get_logger()

RefreshRequest = OpenedRequest[RefreshCommand]

_METHOD: Final = "refresh"


@dataclass(frozen=True, slots=True)
class _Exchange:
    """One refresh token on its way to Mosaic, and the row of its call."""

    services: Services
    request: RefreshRequest
    grant: Grant
    session: Session
    call: UUID


def refresh(services: Services, request: RefreshRequest) -> Outcome:
    """Return fresh tokens and the next refresh token, or what stands in the way.

    Raises `Unauthorized` without the capability, and what `MosaicGateway` raises where the token
    is as good as before.
    """
    if not request.app.may(OFFLINE):
        raise Unauthorized(Reason.NOT_PERMITTED, f"needs the capability {OFFLINE}")
    known = call_once.earlier(services, request)
    if known is not None:
        return known
    token = request.command.refresh_token
    grant = refresh_tokens.find(services.keyring, request.app.app_id, token)
    if grant is None:
        return call_once.PROOF_USED  # another app's, or none: as one that is used up
    session = _find_session(services, request, grant)
    if isinstance(session, Outcome):
        return session
    return _exchange(services, request, grant, session)


def _find_session(services: Services, request: RefreshRequest, grant: Grant) -> Session | Outcome:
    """Return the token's session if it may be used.

    Ended is ended, also where Mosaic has not been told yet and would still take the token.
    """
    with services.store.read() as connection:
        session = queries.by_id(connection, grant.session)
    if session is None or not is_of_our_mosaic(services, request, session):
        return Outcome(Verdict.LOGIN_REQUIRED, Reason.NO_SESSION)
    found = live_or_why(services, session)
    if isinstance(found, Outcome):
        return found
    now = services.now()
    shortfall = request.app.policy.shortfall(session.amr, session.authenticated_at, now)
    return session if shortfall is None else step_up(session.id, session.user_id, shortfall)


def _exchange(
    services: Services, request: RefreshRequest, grant: Grant, session: Session
) -> Outcome:
    require_keys(services, request)
    seconds = seconds_for_call(services, request)
    planned = PlannedCall(
        kind=CallKind.REFRESH,
        method=_METHOD,
        proof=services.keyring.keyed_hash(Hashed.REFRESH_TOKEN, grant.token),
        seconds=seconds,
    )
    call = call_once.begin(services, request, planned)
    if isinstance(call, Outcome):
        return call
    exchange = _Exchange(services, request, grant, session, call)
    try:
        body = _ask_mosaic(exchange, seconds)
    except ProofRefused as refusal:
        log.info("refresh_refused", session=str(session.id), detail=str(refusal))
        journal.close_alone(services, call, CallOutcome.REFUSED, call_once.PROOF_USED)
        return call_once.PROOF_USED
    except SessionGone:
        return journal.close_with_session(services, request, call, session, EndCause.GONE_AT_IDP)
    except OutcomeUnknown as unknown:
        return _unknown(exchange, unknown)
    except SessionWorkerError as error:
        if error.was_sent and isinstance(error, MosaicContractBroken):
            return _unreadable(exchange, error)
        # It never reached Mosaic, or was refused for another's sake: the token is good as before.
        journal.forget(services, call)
        raise
    return _settle(exchange, body)


def _ask_mosaic(exchange: _Exchange, seconds: float) -> Mapping[str, Any]:
    services, app = exchange.services, exchange.request.app.mosaic
    user = name_of_user(services.keyring, exchange.session.user_id)
    permit = services.traffic.admit_for_user(app, user, seconds)
    return services.mosaic.refresh_tokens(
        permit, app, exchange.grant.token, timeout_seconds=seconds
    )


# --- what Mosaic answered


def _settle(exchange: _Exchange, body: Mapping[str, Any]) -> Outcome:
    services, request, session = exchange.services, exchange.request, exchange.session
    try:
        tokens, identity = services.mosaic.read_refreshed(request.app.mosaic, body, session.user_id)
    except WrongSubject:
        log.warning("session_quarantined", session=str(session.id), user=session.user_id)
        return journal.close_with_session(
            services, request, exchange.call, session, EndCause.QUARANTINED
        )
    except (TokenRejected, MosaicContractBroken) as error:
        return _unreadable(exchange, error)
    except MosaicUnavailable as error:  # no keys to verify them with
        return _unknown(exchange, error)
    try:
        return _store(exchange, tokens, identity)
    except _Overtaken:
        return journal.UNKNOWN


class _Overtaken(Exception):  # noqa: N818
    """Another request was answered "unknown" for the call: what it brought must be thrown away."""


def _store(exchange: _Exchange, tokens: Tokens, identity: Identity) -> Outcome:
    """Close the call with the tokens, if the session is live at this commit; else without."""
    services, session = exchange.services, exchange.session
    live_at = time.monotonic()
    with services.store.write() as connection:
        # Locked: an ending has committed before this, and is seen, or comes after.
        found = queries.by_id(connection, session.id, for_update=True)
        if found is None or found.ended_at is not None:
            log.info("tokens_discarded", session=str(session.id), app=exchange.request.app.app_id)
            cause = None if found is None else found.end_cause
            outcome = Outcome(Verdict.LOGIN_REQUIRED, queries.reason_for(cause))
        else:
            outcome = _answer(connection, exchange, found, tokens, identity)
        is_open = journal.close(
            connection,
            services,
            exchange.call,
            CallOutcome.ANSWERED,
            answer=outcome,
            session=session.id,
            # Without a new one the token serves again.
            keeps_proof=tokens.refresh_token is not None,
        )
        if not is_open:
            raise _Overtaken
    return replace(outcome, live_at=live_at) if "session_ref" in outcome.data else outcome


def _answer(
    connection: Connection,
    exchange: _Exchange,
    session: Session,
    tokens: Tokens,
    identity: Identity,
) -> Outcome:
    services, app, now = exchange.services, exchange.request.app, exchange.services.now()
    # An ID token is optional here; the session's own proof is what the token was given for.
    amr = session.amr if identity.amr is None else identity.amr
    shortfall = app.policy.shortfall(amr, proved_at(session, identity.auth_time), now)
    if shortfall is not None:
        return step_up(session.id, session.user_id, shortfall)
    until = now + timedelta(seconds=tokens.expires_in)
    app_links.link_app(connection, session.id, app.app_id, identity.issued_at, until)
    row = audit.event(
        audit.REFRESHED,
        at=now,
        session=session.id,
        user_id=session.user_id,
        by=exchange.request.by,
    )
    audit.record(connection, [row])
    kept = replace(tokens, refresh_token=tokens.refresh_token or exchange.grant.token)
    data = {
        "tokens": shown_tokens(services.keyring, app, session.id, kept),
        "user_id": session.user_id,
        "session_ref": str(session.id),
        "expires_at": times.to_wire(queries.ends_at(services.settings, session)),
        **strength_of(session, identity),
    }
    return Outcome(Verdict.AUTHENTICATED, data=data)


def _unreadable(exchange: _Exchange, error: SessionWorkerError) -> Outcome:
    call_operator(error, exchange.request.app.app_id)
    return _unknown(exchange, error)


def _unknown(exchange: _Exchange, error: SessionWorkerError) -> Outcome:
    """Say that the token is used up, perhaps; it is not sent again."""
    log.warning("refresh_outcome_unknown", session=str(exchange.session.id), detail=str(error))
    services, request, session = exchange.services, exchange.request, exchange.session
    return journal.close_unheard(services, request, exchange.call, _METHOD, session)
