"""What becomes of Mosaic's answer to a login: verified, and stored as the call's row is closed.

What cannot be used is thrown away, and the session it opened at Mosaic is ended there.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy.exc import IntegrityError

from models import CallOutcome, EndCause, IdpSession, TokenOrigin
from session_client import times
from session_client.contract import Reason, Verdict
from session_client.login_steps import Proof
from worker.errors import (
    LoginRefused,
    MosaicContractBroken,
    MosaicUnavailable,
    SessionChanged,
    SessionWorkerError,
    TokenRejected,
    WrongSubject,
)
from worker.logins import journal, known_browser, limits, orphans
from worker.logins.known_browser import Proved
from worker.logins.limits import Bucket, Guesser
from worker.logins.login_handle import LoginHandle, way_of
from worker.logins.open_at_once import open_at_once
from worker.logins.step_up_session import Raised
from worker.logout.end_sessions import end_sessions
from worker.logout.owed_end import owe_end
from worker.logs import call_operator
from worker.mosaic import CALLS, Identity, LoginFacts, SilentAuthCall, Tokens
from worker.requests.login_commands import AuthenticateCommand
from worker.requests.outcomes import Outcome, failure_of
from worker.requests.request import OpenedRequest
from worker.sessions import audit, mosaic_ids, queries
from worker.sign_in import store_session
from worker.sign_in.active_login import ActiveLogin, open_session
from worker.sign_in.commit import shown_tokens, step_up
from worker.sign_in.late_id import keep_late_id
from worker.sign_in.store_session import Stored
from worker.wiring import Services

log = structlog.get_logger()

AuthenticateRequest = OpenedRequest[AuthenticateCommand]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
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
        """The method, as the operator grants it."""
        return self.proof.method.value if self.handle is None else self.handle.method

    @property
    def way(self) -> str:
        """What a browser is known by once the proof is accepted."""
        return way_of(self.proof) if self.handle is None else self.handle.way

    @property
    def is_named_by_mosaic(self) -> bool:
        """Whether an accepted proof is that of the user named, and not of any."""
        return self.expected_user is not None or CALLS[type(self.proof)].proves_name

    @property
    def session_id(self) -> str | None:
        """Mosaic's id of the session to add a factor to."""
        if self.raised is None:
            return None
        return mosaic_ids.open_id_of(self.services.keyring, self.raised.session)

    @property
    def expected_user(self) -> str | None:
        """Whose tokens it must bring, where that is known before."""
        is_known = self.facts.identifier_type == "user_id"
        return self.facts.identifier if is_known else None


def settle(login: Attempt, call: UUID, body: Any) -> Outcome:
    """Return what the app gets of Mosaic's answer *body*, once it is stored."""
    services, app = login.services, login.request.app.mosaic
    try:
        tokens, identity = services.mosaic.read_login(app, body, login.session_id)
        _require_fresh(login, identity)
    except (TokenRejected, MosaicContractBroken) as error:
        call_operator(error, login.request.app.app_id)
        orphans.end(services, login.request, body, keeps=login.session_id)
        return unknown(login, call, str(error))
    except MosaicUnavailable as error:  # no keys to verify them with
        return _thrown_away(login, call, body.get("session_id"), str(error))
    return _finish(login, call, tokens, identity)


def _finish(login: Attempt, call: UUID, tokens: Tokens, identity: Identity) -> Outcome:
    if login.expected_user not in {None, identity.user_id}:
        return _quarantine(login, call, tokens, identity)
    asked, approved = login.facts.approval_data, identity.approval_data
    if asked is not None and approved is None:
        error = TokenRejected("approval_data")
        call_operator(error, login.request.app.app_id)
        return _thrown_away(login, call, tokens.session_id, str(error))
    if asked is not None and approved != asked:
        return _approved_otherwise(login, call, tokens)
    try:
        return _store(login, call, tokens, identity)
    except WrongSubject:
        return _quarantine(login, call, tokens, identity)
    except (IntegrityError, SessionChanged, _Overtaken):
        # Another request has used the handle up, or said that the answer of this one was lost.
        return _thrown_away(login, call, tokens.session_id, "overtaken")


def _thrown_away(login: Attempt, call: UUID, session_id: str | None, detail: str) -> Outcome:
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


class _Overtaken(Exception):  # noqa: N818
    """The call's row was closed by another request: what it brought must be thrown away."""


def _require_fresh(login: Attempt, identity: Identity) -> None:
    """Raise `TokenRejected` for tokens from before the call: they are no answer to it."""
    skew = timedelta(seconds=login.services.settings.clock_skew_seconds)
    if identity.issued_at < login.begun_at - skew:
        raise TokenRejected("iat")


def _approved_otherwise(login: Attempt, call: UUID, tokens: Tokens) -> Outcome:
    """Refuse a proof that approves something else: a code of another message to the same user."""
    log.warning("approved_otherwise", method=login.method, user=login.facts.identifier)
    owed = _throw_away(login, tokens.session_id)
    outcome = failure_of(LoginRefused(Reason.INVALID_CREDENTIALS))
    journal.close_alone(login.services, call, CallOutcome.REFUSED, outcome)
    return replace(outcome, logouts=owed)


def _store(login: Attempt, call: UUID, tokens: Tokens, identity: Identity) -> Outcome:
    active = _active(login, tokens, identity)
    live_at = time.monotonic()
    opened = open_at_once(
        login.services,
        login.request,
        active,
        call,
        login.guesser.subject,
        lambda stored: _answer(login, tokens, identity, stored),
    )
    outcome, has_orphans = opened or _store_in_steps(login, call, active, tokens, identity)
    return replace(
        outcome,
        orphans=(call,) if has_orphans else (),
        # So that a logout that is committed before they are pushed keeps the tokens back.
        live_at=live_at if "tokens" in outcome.data else None,
    )


def _store_in_steps(
    login: Attempt, call: UUID, active: ActiveLogin, tokens: Tokens, identity: Identity
) -> tuple[Outcome, bool]:
    services, request = login.services, login.request
    has_orphans = False
    with services.store.write() as connection:
        stored = store_session.store(connection, services, request, active)
        if isinstance(stored, Outcome):
            owed = owe_end(
                connection, services, request.app, tokens.session_id, asked_about=active.into
            )
            outcome, session = replace(stored, logouts=(*stored.logouts, *owed)), None
        else:
            has_orphans = login.raised is None and orphans.may_have_left(
                connection, request.app.app_id, login.guesser.subject
            )
            outcome, session = _answer(login, tokens, identity, stored), stored.session
        is_open = journal.close(
            connection, services, call, CallOutcome.ANSWERED, answer=outcome, session=session
        )
        if not is_open:
            raise _Overtaken
    return outcome, has_orphans


def _active(login: Attempt, tokens: Tokens, identity: Identity) -> ActiveLogin:
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
        asked_about=None if raised is None else raised.session.session_hash,
        gives_browser_token=raised is None or raised.is_newest,
        token_expires_at=login.services.now() + timedelta(seconds=tokens.expires_in),
    )


def _answer(login: Attempt, tokens: Tokens, identity: Identity, stored: Stored) -> Outcome:
    """Return tokens, or what the login lacks for this app: then its browser may still step up."""
    services, app = login.services, login.request.app
    proved = Proved(
        user=limits.subject_of(services, "user_id", stored.user_id),
        name=login.guesser.subject,
        is_named_by_mosaic=login.is_named_by_mosaic,
        way=login.way,
    )
    known = {
        "amr": stored.amr,
        "browser_token": stored.browser_token,
        "known_browser": known_browser.make(services, login.request, proved),
    }
    fields = {name: value for name, value in known.items() if value is not None}
    logouts, notices = stored.replaced.logouts, stored.replaced.notices
    is_unproven = identity.amr is None and not stored.amr
    shortfall = app.policy.shortfall(
        None if is_unproven else stored.amr, stored.authenticated_at, services.now()
    )
    if shortfall is not None:
        lacking = step_up(stored.session, stored.user_id, shortfall)
        data = {**lacking.data, **fields}
        return Outcome(lacking.verdict, lacking.reason, data, logouts=logouts, notices=notices)
    data = {
        "tokens": shown_tokens(services.keyring, app, stored.session, tokens),
        "user_id": stored.user_id,
        "session_ref": str(stored.session),
        "expires_at": times.to_wire(stored.expires_at),
        "authenticated_at": times.to_wire(stored.authenticated_at),
        **fields,
    }
    if login.facts.approval_data is not None:
        data["approval_data"] = login.facts.approval_data
    return Outcome(Verdict.AUTHENTICATED, data=data, logouts=logouts, notices=notices)


def _quarantine(login: Attempt, call: UUID, tokens: Tokens, identity: Identity) -> Outcome:
    """Quarantine what Mosaic answered about another user than the one who is to sign in."""
    services, request, raised = login.services, login.request, login.raised
    log.error("session_quarantined", method=login.method, user=identity.user_id)
    verdict = Verdict.ACCESS_DENIED if raised is None else Verdict.LOGIN_REQUIRED
    reason = Reason.NOT_ALLOWED if raised is None else Reason.QUARANTINED
    outcome = Outcome(verdict, reason)
    active = _active(login, tokens, identity)
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


def unheard(login: Attempt, call: UUID, detail: str) -> Outcome:
    """Return what there is to say when the worker has not heard Mosaic's answer.

    The session of a step-up is known: one silent authentication tells whether the factor is there.
    What the user has approved it does not tell.
    """
    raised = login.raised
    if raised is None or login.facts.approval_data is not None:
        return unknown(login, call, detail)
    services, app = login.services, login.request.app.mosaic
    try:
        seconds = min(
            services.settings.mosaic_timeout_seconds, login.request.seconds_left(services.now())
        )
        user = services.keyring.lookup_hash(f"user:{raised.session.user_id}").hex()
        permit = services.traffic.admit_for_user(app, user, seconds / 4)
        silent_call = SilentAuthCall(
            session_id=str(login.session_id), user_id=raised.session.user_id
        )
        tokens, identity = services.mosaic.authenticate_session(
            permit, app, silent_call, timeout_seconds=seconds
        )
    except SessionWorkerError as error:
        log.info("factor_not_found_out", error=type(error).__name__)
        return unknown(login, call, detail)
    is_more = not set(identity.amr or ()) <= set(raised.session.amr)
    if not is_more or not _is_alone(login, call, raised):
        # Not added, or one the session had before, or perhaps another browser's: this one would be
        # given a token for what it has not proved.
        return _thrown_away(login, call, tokens.session_id, detail)
    limits.give_back(services, login.guesser, login.buckets)
    return _finish(login, call, tokens, identity)


def _is_alone(login: Attempt, call: UUID, raised: Raised) -> bool:
    """Whether no other factor can have come to the session since this one began."""
    with login.services.store.read() as connection:
        session = queries.by_id(connection, raised.session.id)
    is_unchanged = session is not None and session.version == raised.session.version
    subject = login.guesser.subject
    assert subject is not None, "a session's user is known"  # noqa: S101
    return is_unchanged and not journal.has_other_factor(
        login.services, call, subject, login.begun_at
    )


def unknown(login: Attempt, call: UUID, detail: str) -> Outcome:
    """Say that it is not known what came of the call."""
    log.warning("login_outcome_unknown", method=login.method, detail=detail)
    known = None if login.raised is None else login.raised.session
    return journal.close_unheard(login.services, login.request, call, login.method, known)
