"""Completing an active login, or adding a factor to this browser's session.

Whatever can be refused is refused before the call: a proof that was sent is used up. What Mosaic
answers is verified, and stored in the transaction that closes the call's row.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy.exc import IntegrityError

from models import CallKind, CallOutcome, EndCause, IdpSession, TokenOrigin
from session_client import times
from session_client.contract import Reason, Verdict
from session_client.login_steps import Proof
from worker.errors import (
    LoginRefused,
    MosaicContractBroken,
    MosaicUnavailable,
    OutcomeUnknown,
    ProofRefused,
    SessionChanged,
    SessionGone,
    SessionWorkerError,
    TokenRejected,
    UserRefused,
    WrongSubject,
)
from worker.logout.end_sessions import end_sessions
from worker.mosaic import Identity, LoginFacts, Tokens
from worker.requests.login_commands import AuthenticateCommand
from worker.requests.outcomes import Outcome, failure_of
from worker.requests.request import OpenedRequest
from worker.sessions import audit, queries
from worker.sign_in import journal, known_browser, limits, orphans, store_session
from worker.sign_in.commit import shown_tokens, step_up, unchanged
from worker.sign_in.journal import PlannedCall
from worker.sign_in.limits import Bucket, Guesser
from worker.sign_in.login_handle import LoginHandle
from worker.sign_in.login_steps import (
    call_mosaic,
    guesser_of,
    open_handle,
    require_granted,
    seconds_for_call,
    who,
)
from worker.sign_in.step_up_session import Raised, find_raised, require_same
from worker.sign_in.store_session import ActiveLogin, Stored
from worker.wiring import Services

log = structlog.get_logger()

AuthenticateRequest = OpenedRequest[AuthenticateCommand]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Login:
    """One proof on its way."""

    services: Services
    request: AuthenticateRequest
    proof: Proof
    handle: LoginHandle | None
    raised: Raised | None
    facts: LoginFacts
    guesser: Guesser
    buckets: tuple[Bucket, ...]
    begun_at: datetime
    seconds: float

    @property
    def method(self) -> str:
        return self.proof.method.value if self.handle is None else self.handle.method

    @property
    def session_id(self) -> str | None:
        """Mosaic's id of the session to add a factor to."""
        if self.raised is None:
            return None
        session = self.raised.session
        assert session.sealed_session_id is not None, "a live session has its id"  # noqa: S101
        place = queries.session_id_place(session.id)
        return self.services.keyring.open(session.sealed_session_id, place)

    @property
    def expected_user(self) -> str | None:
        """Whose tokens it must bring, where that is known before."""
        is_known = self.facts.identifier_type == "user_id"
        return self.facts.identifier if is_known else None


def authenticate(services: Services, request: AuthenticateRequest) -> Outcome:
    """Send the proof to Mosaic, once, and return what comes of it.

    Raises `LoginRefused` before any call for a handle that is not this browser's and at a limit,
    `Unauthorized` without the grant, and what the door to Mosaic raises where nothing was sent.
    """
    known = journal.earlier(services, request)
    if known is not None:
        return known
    proof = request.command.proof
    require_granted(request, proof)
    handle = open_handle(services, request, proof)
    raised = find_raised(services, request, request.command.step_up)
    if isinstance(raised, Outcome):
        return raised
    if handle is not None:
        require_same(handle, raised)
    login = _planned(services, request, proof, handle, raised)
    limits.count(services, login.buckets)
    return _prove(login)


def _planned(
    services: Services,
    request: AuthenticateRequest,
    proof: Proof,
    handle: LoginHandle | None,
    raised: Raised | None,
) -> _Login:
    facts = _facts(proof, handle, raised)
    guesser = guesser_of(services, request, facts, handle, raised)
    return _Login(
        services=services,
        request=request,
        proof=proof,
        handle=handle,
        raised=raised,
        facts=facts,
        guesser=guesser,
        buckets=limits.guesses(guesser),
        begun_at=services.now(),
        seconds=seconds_for_call(services, request),
    )


def _facts(proof: Proof, handle: LoginHandle | None, raised: Raised | None) -> LoginFacts:
    if handle is None:
        return who(proof, raised)
    if handle.facts.identifier is not None:
        return handle.facts
    named = who(proof, raised)  # after a social provider it is now that the app says who it is
    return LoginFacts(
        identifier=named.identifier,
        identifier_type=named.identifier_type,
        provider=handle.facts.provider,
        transaction=handle.facts.transaction,
    )


def _prove(login: _Login) -> Outcome:
    services, request = login.services, login.request
    planned = PlannedCall(
        kind=CallKind.LOGIN if login.raised is None else CallKind.FACTOR,
        method=login.method,
        subject=login.guesser.subject,
        handle=None if login.handle is None else login.handle.uuid,
        seconds=login.seconds,
    )
    call = journal.begin(services, request, planned)
    if isinstance(call, Outcome):
        limits.give_back(services, login.buckets)
        return call
    try:
        body = call_mosaic(
            services,
            request,
            login.proof,
            login.facts,
            login.session_id,
            login.guesser,
            login.seconds,
        )
    except (UserRefused, ProofRefused) as refusal:
        return _refused(login, call, refusal)
    except SessionGone:
        return _gone(login, call)
    except OutcomeUnknown as unknown:
        return _unknown(login, call, str(unknown))
    except SessionWorkerError as error:
        limits.give_back(services, login.buckets)  # nobody has said that it was wrong
        journal.give_up(services, call, error)
        raise
    limits.give_back(services, login.buckets)
    return _settle(login, call, body)


# --- what Mosaic did not accept


def _refused(login: _Login, call: UUID, refusal: UserRefused | ProofRefused) -> Outcome:
    log.info("login_refused", method=login.method, why=refusal.reason, detail=str(refusal))
    reason = refusal.reason
    if isinstance(refusal, UserRefused):
        # Of a user who has not proved anything, nothing is told.
        is_known = login.raised is not None
        reason = Reason.NOT_ALLOWED if is_known else Reason.INVALID_CREDENTIALS
    outcome = failure_of(LoginRefused(reason))
    journal.close_alone(login.services, call, CallOutcome.REFUSED, outcome)
    return outcome


def _gone(login: _Login, call: UUID) -> Outcome:
    """End the session that Mosaic has lost; nothing is opened in its place."""
    services, request = login.services, login.request
    assert login.raised is not None, "only a step-up names a session"  # noqa: S101
    outcome = Outcome(Verdict.LOGIN_REQUIRED, Reason.GONE_AT_IDP)
    limits.give_back(services, login.buckets)
    with services.store.write() as connection:
        ended = end_sessions(
            connection,
            services,
            unchanged(login.raised.session),
            EndCause.GONE_AT_IDP,
            by=request.by,
            lifetime=request.app.mosaic.session_lifetime,
        )
        journal.close(connection, services, call, CallOutcome.REFUSED, answer=outcome)
    return Outcome(outcome.verdict, outcome.reason, notices=ended.notices)


def _unknown(login: _Login, call: UUID, detail: str) -> Outcome:
    log.warning("login_outcome_unknown", method=login.method, detail=detail)
    row = audit.event(
        audit.OUTCOME_UNKNOWN,
        at=login.services.now(),
        session=None if login.raised is None else login.raised.session.id,
        user_id=None if login.raised is None else login.raised.session.user_id,
        by=login.request.by,
        detail=login.method,
    )
    with login.services.store.write() as connection:
        journal.close(connection, login.services, call, CallOutcome.UNKNOWN)
        audit.record(connection, [row])
    return journal.UNKNOWN


# --- what Mosaic accepted


def _settle(login: _Login, call: UUID, body: Any) -> Outcome:
    services, app = login.services, login.request.app.mosaic
    try:
        tokens, identity = services.mosaic.read_login(app, body, login.session_id)
        _require_fresh(login, identity)
    except (TokenRejected, MosaicContractBroken) as error:
        log.error("operator_must_act", error=type(error).__name__, detail=str(error))  # noqa: TRY400
        orphans.end(services, login.request, body, keeps=login.session_id)
        return _unknown(login, call, str(error))
    except MosaicUnavailable as error:  # no keys to verify them with
        orphans.end(services, login.request, body, keeps=login.session_id)
        return _unknown(login, call, str(error))
    if login.expected_user not in {None, identity.user_id}:
        return _somebody_else(login, call, tokens, identity)
    try:
        return _store(login, call, tokens, identity)
    except WrongSubject:
        return _somebody_else(login, call, tokens, identity)
    except (IntegrityError, SessionChanged, _Overtaken):
        # Another request has used the handle up, or said that nobody heard of this one.
        orphans.end(services, login.request, body, keeps=login.session_id)
        return _unknown(login, call, "overtaken")


class _Overtaken(Exception):  # noqa: N818
    """The call's row was closed by somebody else: what it brought must be thrown away."""


def _require_fresh(login: _Login, identity: Identity) -> None:
    """Raise `TokenRejected` for tokens from before the call: they are no answer to it."""
    skew = timedelta(seconds=login.services.settings.clock_skew_seconds)
    if identity.issued_at < login.begun_at - skew:
        raise TokenRejected("iat")


def _store(login: _Login, call: UUID, tokens: Tokens, identity: Identity) -> Outcome:
    services, request = login.services, login.request
    active = _active(login, tokens, identity)
    live_at = time.monotonic()
    with services.store.write() as connection:
        stored = store_session.store(connection, services, request, active)
        if isinstance(stored, Outcome):
            owed = orphans.owe_end(connection, services, request, tokens.session_id)
            outcome, session, has_orphans = stored, None, False
        else:
            owed = ()
            has_orphans = login.raised is None and orphans.may_have_left(
                connection, request.app.app_id, login.guesser.subject
            )
            outcome, session = _answer(login, tokens, identity, stored), stored.session
        is_open = journal.close(
            connection, services, call, CallOutcome.ANSWERED, answer=outcome, session=session
        )
        if not is_open:
            raise _Overtaken
    return Outcome(
        outcome.verdict,
        outcome.reason,
        data=outcome.data,
        logouts=(*outcome.logouts, *owed),
        notices=outcome.notices,
        orphans=(call,) if has_orphans else (),
        # So that a logout that is committed before they are pushed keeps the tokens back.
        live_at=live_at if "tokens" in outcome.data else None,
    )


def _active(login: _Login, tokens: Tokens, identity: Identity) -> ActiveLogin:
    raised, command = login.raised, login.request.command
    return ActiveLogin(
        session_id=tokens.session_id,
        identity=identity,
        device_id=command.device_id,
        origin=TokenOrigin.LOGIN if raised is None else TokenOrigin.FACTOR,
        name=audit.SIGNED_IN,
        detail=login.method,
        replaces=command.replaces,
        into=None if raised is None else raised.session.id,
        gives_browser_token=raised is None or raised.is_newest,
        token_expires_at=login.services.now() + timedelta(seconds=tokens.expires_in),
    )


def _answer(login: _Login, tokens: Tokens, identity: Identity, stored: Stored) -> Outcome:
    """Return tokens, or what the login lacks for this app: then its browser may still step up."""
    services, app = login.services, login.request.app
    subjects = [limits.subject_of(services, "user_id", stored.user_id)]
    if login.guesser.subject is not None:
        subjects.append(login.guesser.subject)
    known = {
        "amr": stored.amr,
        "browser_token": stored.browser_token,
        "known_browser": known_browser.make(services, app.app_id, *subjects),
    }
    given = {name: value for name, value in known.items() if value is not None}
    logouts, notices = stored.replaced.logouts, stored.replaced.notices
    is_unproven = identity.amr is None and not stored.amr
    shortfall = app.policy.shortfall(
        None if is_unproven else stored.amr, stored.authenticated_at, services.now()
    )
    if shortfall:
        lacking = step_up(stored.session, stored.user_id, shortfall)
        data = {**lacking.data, **given}
        return Outcome(lacking.verdict, lacking.reason, data, logouts=logouts, notices=notices)
    data = {
        "tokens": shown_tokens(services.keyring, app, stored.session, tokens),
        "user_id": stored.user_id,
        "session_ref": str(stored.session),
        "expires_at": times.to_wire(stored.expires_at),
        **given,
    }
    return Outcome(Verdict.AUTHENTICATED, data=data, logouts=logouts, notices=notices)


def _somebody_else(login: _Login, call: UUID, tokens: Tokens, identity: Identity) -> Outcome:
    """Quarantine what Mosaic answered about another user than the one who is to sign in."""
    services, request, raised = login.services, login.request, login.raised
    log.error("session_quarantined", method=login.method, user=identity.user_id)
    verdict = Verdict.ACCESS_DENIED if raised is None else Verdict.LOGIN_REQUIRED
    reason = Reason.NOT_ALLOWED if raised is None else Reason.QUARANTINED
    outcome = Outcome(verdict, reason)
    active = _active(login, tokens, identity)
    with services.store.write() as connection:
        store_session.insert_unknown(connection, services, request, active, services.now())
        session_hash = services.keyring.lookup_hash(tokens.session_id)
        found = queries.by_hash(connection, session_hash, for_update=True)
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
