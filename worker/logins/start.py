"""The first step of an active login: a code is sent, a provider or a passkey asked.

It answers with a handle for any user named, known to Mosaic or not: what an app may show tells
nothing about accounts. The true answer goes to log and metrics.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import structlog

from models import CallKind, CallOutcome
from session_client import contract, methods
from session_client.contract import Reason, Verdict
from session_client.login_steps import FirstStep
from worker.app_registry import REVEALS_ACCOUNTS
from worker.errors import (
    LoginRefused,
    OutcomeUnknown,
    ProofRefused,
    SessionWorkerError,
    UserRefused,
)
from worker.logins import call_once, journal, limits
from worker.logins.journal import PlannedCall
from worker.logins.login_handle import LoginHandle, expiry, way_of
from worker.logins.login_steps import (
    begin_counted,
    call_mosaic,
    guesser_of,
    open_handle,
    require_granted,
    seconds_for_call,
    user_facts,
)
from worker.logins.step_up_session import Raised, find_raised, require_same
from worker.mosaic import CALLS, LoginFacts, Shown
from worker.requests.login_commands import StartCommand
from worker.requests.outcomes import Outcome, failure_of
from worker.requests.request import OpenedRequest
from worker.wiring import Services

log = structlog.get_logger()

StartRequest = OpenedRequest[StartCommand]

_STATE_BYTES: Final = 32  # 43 characters: social providers get 50 at most


def start(services: Services, request: StartRequest) -> Outcome:
    """Take the step at Mosaic, once, and return the handle to go on with.

    Raises `LoginRefused` before any call for a handle that is not this browser's and at a limit,
    `Unauthorized` without the grant, and what `MosaicGateway` raises where nothing was sent.
    """
    known = call_once.earlier(services, request)
    if known is not None:
        return known
    step = request.command.wanted
    require_granted(request, step)
    begun = open_handle(services, request, step)
    raised = find_raised(services, request, request.command.step_up)
    if isinstance(raised, Outcome):
        return raised
    if raised is not None and not raised.is_newest:
        return Outcome(Verdict.LOGIN_REQUIRED, Reason.TOKEN_REPLACED)
    if begun is not None:
        require_same(begun, raised)
    return _take(services, request, step, begun, raised)


def _take(
    services: Services,
    request: StartRequest,
    step: FirstStep[Any],
    begun: LoginHandle | None,
    raised: Raised | None,
) -> Outcome:
    seconds = seconds_for_call(services, request)
    facts = _facts(request.command, step, begun, raised)
    guesser = guesser_of(services, request, step, facts, begun, raised)
    limits.look(services, guesser, limits.guesses(guesser))
    buckets = limits.sends(guesser) if CALLS[type(step)].takes_browser else ()
    planned = PlannedCall(
        kind=CallKind.START,
        method=step.method.value,
        subject=guesser.subject,
        handle=None if begun is None else begun.uuid,
        seconds=seconds,
    )
    call = begin_counted(services, request, guesser, buckets, planned)
    if isinstance(call, Outcome):
        return call
    try:
        shown = _shown(step, call_mosaic(services, request, step, facts, None, guesser, seconds))
    except OutcomeUnknown as unknown:
        log.warning("login_outcome_unknown", step=step.method, detail=str(unknown))
        journal.close_alone(services, call, CallOutcome.UNKNOWN)
        return journal.UNKNOWN
    except (UserRefused, ProofRefused) as refusal:
        reveals = request.app.may(REVEALS_ACCOUNTS)
        made_up = None if reveals else _in_place_of(step, refusal)
        log.info("login_step_refused", step=step.method, why=refusal.reason, detail=str(refusal))
        if made_up is None:
            outcome = failure_of(LoginRefused(_reason(refusal, reveals=reveals)))
            journal.close_alone(services, call, CallOutcome.REFUSED, outcome)
            return outcome
        shown = made_up
    except SessionWorkerError as error:
        if not journal.has_left(error):
            limits.give_back(services, guesser, buckets)  # the user may ask for a code at once
        journal.give_up(services, call, error)
        raise
    outcome = _begun(services, request, step, facts, raised, shown)
    journal.close_alone(services, call, CallOutcome.ANSWERED, outcome)
    return outcome


def _facts(
    command: StartCommand, step: FirstStep[Any], begun: LoginHandle | None, raised: Raised | None
) -> LoginFacts:
    if begun is not None:
        return begun.facts
    facts = user_facts(step, raised)
    return replace(
        facts,
        state=secrets.token_urlsafe(_STATE_BYTES),
        provider=step.fields().get("provider"),
        approval_data=command.approval_data,
    )


def _shown(step: FirstStep[Any], body: Mapping[str, Any]) -> Shown:
    read = CALLS[type(step)].shown
    assert read is not None, "a first step gives something"  # noqa: S101
    return read(body)


def _in_place_of(step: FirstStep[Any], refusal: UserRefused | ProofRefused) -> Shown | None:
    """Return what is shown in place of the truth about an account; None if it is no such truth.

    A code or link that the app is to bring to the user itself is made up. Options for a named
    passkey cannot be: they tell by their nature whether there is one.
    """
    if isinstance(refusal, ProofRefused) or not CALLS[type(step)].takes_browser:
        return None
    if isinstance(step, methods.IssueOtp):
        return Shown({"code": f"{secrets.randbelow(10**6):06}"})
    if isinstance(step, methods.IssueLink):
        return Shown({"code": secrets.token_urlsafe(24)})
    return Shown()


def _reason(refusal: UserRefused | ProofRefused, *, reveals: bool) -> Reason:
    is_revealed = reveals or isinstance(refusal, ProofRefused)
    return refusal.reason if is_revealed else Reason.INVALID_CREDENTIALS


def _begun(  # noqa: PLR0913, PLR0917 - what a handle is made of
    services: Services,
    request: StartRequest,
    step: FirstStep[Any],
    facts: LoginFacts,
    raised: Raised | None,
    shown: Shown,
) -> Outcome:
    handle = LoginHandle(
        method=step.method.value,
        way=way_of(step),
        next_step=step.next_step.__name__,
        facts=replace(facts, transaction=shown.transaction),
        expires_at=expiry(services.now()),
        session=None if raised is None else str(raised.session.id),
    )
    data = {
        "login": handle.seal(services.keyring, request.app.app_id),
        "expires_in": int(contract.LOGIN_LIFETIME.total_seconds()),
        **shown.fields,
    }
    if "state" in step.gives.__dataclass_fields__:
        data["state"] = facts.state
    return Outcome(Verdict.OK, data=data)
