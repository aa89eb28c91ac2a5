"""Completing an active login, or adding a factor to this browser's session.

Whatever can be refused is refused before the call: a proof that was sent is used up. What Mosaic
answers is verified, and stored in the transaction that closes the call's row.
"""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import structlog

from models import CallKind, CallOutcome, EndCause
from session_client.contract import Reason
from session_client.login_steps import Proof
from worker.app_registry import REVEALS_ACCOUNTS
from worker.errors import (
    LoginRefused,
    OutcomeUnknown,
    ProofRefused,
    SessionGone,
    SessionWorkerError,
    UserRefused,
)
from worker.logins import call_once, journal, limits
from worker.logins.attempt import Attempt, AuthenticateRequest
from worker.logins.journal import PlannedCall
from worker.logins.login_handle import LoginHandle
from worker.logins.login_steps import (
    begin_counted,
    call_mosaic,
    guesser_of,
    open_handle,
    require_granted,
    require_keys,
    seconds_for_call,
    user_facts,
)
from worker.logins.settle_login import settle
from worker.logins.step_up_session import Raised, find_raised, require_same
from worker.logins.unheard import unheard
from worker.mosaic import LoginFacts
from worker.requests.outcomes import Outcome, failure_of
from worker.wiring import Services

log = structlog.get_logger()


def authenticate(services: Services, request: AuthenticateRequest) -> Outcome:
    """Send the proof to Mosaic, once, and return what comes of it.

    Raises `LoginRefused` before any call for a handle that is not this browser's and at a limit,
    `Unauthorized` without the grant, and what `MosaicGateway` raises where nothing was sent.
    """
    known = call_once.earlier(services, request)
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
    _require_own(proof, raised)
    require_keys(services, request)
    return _prove(_planned(services, request, proof, handle, raised))


def _require_own(proof: Proof, raised: Raised | None) -> None:
    """Raise `LoginRefused` where the app says that it is another user than the session's.

    Mosaic would not: it takes a provider's account for the user that the request names.
    """
    named = proof.fields().get("user_id")
    if raised is not None and named not in {None, raised.session.user_id}:
        log.info("login_refused", method=proof.method, why=Reason.NOT_ALLOWED, detail="other user")
        raise LoginRefused(Reason.NOT_ALLOWED)


def _planned(
    services: Services,
    request: AuthenticateRequest,
    proof: Proof,
    handle: LoginHandle | None,
    raised: Raised | None,
) -> Attempt:
    facts = _facts(proof, handle, raised)
    guesser = guesser_of(services, request, proof, facts, handle, raised)
    return Attempt(
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
        return user_facts(proof, raised)
    if handle.facts.identifier is not None:
        return handle.facts
    # After a social provider it is now that the app names the user.
    named = user_facts(proof, raised)
    return replace(handle.facts, identifier=named.identifier, identifier_type=named.identifier_type)


def _prove(login: Attempt) -> Outcome:
    services, request = login.services, login.request
    planned = PlannedCall(
        kind=CallKind.LOGIN if login.raised is None else CallKind.FACTOR,
        method=login.method,
        subject=login.guesser.subject,
        handle=None if login.handle is None else login.handle.uuid,
        seconds=login.seconds,
    )
    call = begin_counted(services, request, login.guesser, login.buckets, planned)
    if isinstance(call, Outcome):
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
    except SessionGone as gone:
        if login.raised is None:  # it named no session: what Mosaic does not find is its login
            return _refused(login, call, ProofRefused(str(gone), Reason.REFUSED_BY_IDP))
        return _gone(login, call, login.raised)
    except OutcomeUnknown as unknown:
        return unheard(login, call, str(unknown))
    except SessionWorkerError as error:
        # Mosaic has not said that it was wrong.
        limits.give_back(services, login.guesser, login.buckets)
        journal.give_up(services, call, error)
        raise
    try:
        outcome = settle(login, call, body)
    except Exception:
        limits.give_back(services, login.guesser, login.buckets)
        raise
    # It was no failure; in one trip with the answer.
    return replace(outcome, goes_first=limits.giving_back(login.guesser, login.buckets))


# --- what Mosaic did not accept


def _refused(login: Attempt, call: UUID, refusal: UserRefused | ProofRefused) -> Outcome:
    log.info("login_refused", method=login.method, why=refusal.reason, detail=str(refusal))
    reason = refusal.reason
    if isinstance(refusal, UserRefused):
        reason = _reason_for_app(login, refusal)
    outcome = failure_of(LoginRefused(reason))
    journal.close_alone(login.services, call, CallOutcome.REFUSED, outcome)
    return outcome


def _reason_for_app(login: Attempt, refusal: UserRefused) -> Reason:
    """Return what an app may hear of a user: nothing, before anything is proved.

    Unless the operator lets it: a portal of an organisation's own people may say "locked".
    """
    if login.raised is not None:
        return Reason.NOT_ALLOWED
    reveals = login.request.app.may(REVEALS_ACCOUNTS)
    return refusal.reason if reveals else Reason.INVALID_CREDENTIALS


def _gone(login: Attempt, call: UUID, raised: Raised) -> Outcome:
    """End the session that Mosaic has lost; nothing is opened in its place.

    Raises `SessionChanged` where it lives on: Mosaic was asked about an id that it had before.
    """
    services, request = login.services, login.request
    limits.give_back(services, login.guesser, login.buckets)
    return journal.close_with_session(services, request, call, raised.session, EndCause.GONE_AT_IDP)
