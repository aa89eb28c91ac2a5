"""Asking Mosaic for tokens, once for all identical requests.

Nothing is held open while Mosaic is asked; what becomes of its answer is said in `commit`.
"""

from __future__ import annotations

import json
import time
from dataclasses import fields, replace
from typing import Any, Final

import structlog

from models import EndCause
from session_client import times
from session_client.contract import Reason, Verdict
from worker import metrics
from worker.errors import (
    HeldBack,
    MosaicTimedOut,
    RequestRefused,
    SessionGone,
    SessionWorkerError,
    TryLater,
    WrongSubject,
)
from worker.metrics import Saving
from worker.mosaic import Identity, SilentAuthCall, SilentAuthOptions, Tokens
from worker.requests.outcomes import Outcome, failure_of
from worker.sessions import mosaic_ids, queries
from worker.sessions.queries import Session
from worker.sign_in.commit import (
    Again,
    SilentAuthRequest,
    aged,
    end_session,
    proved_at,
    settle,
    step_up,
)
from worker.traffic import (
    CallPlan,
    InProgress,
    Lead,
    SharedAnswer,
    Superseded,
    name_of_user,
    wait_for_turn,
)
from worker.wiring import Services

log = structlog.get_logger()

# Made once: json.dumps makes a new one for each call with such an option.
_CANONICAL: Final = json.JSONEncoder(sort_keys=True)
_OPTION_NAMES: Final = tuple(option.name for option in fields(SilentAuthOptions))


def ask(
    services: Services, request: SilentAuthRequest, session: Session
) -> Outcome | InProgress | Again:
    """Return what comes of using *session*, which has just been read from the store.

    `InProgress` when an identical request is asking already. Raises `HeldBack`, and what
    `MosaicGateway` raises.
    """
    options = _options_of(request)
    joined = _join(services, request, session, options)
    if isinstance(joined, InProgress):
        return joined
    if isinstance(joined, Superseded):
        return Again()
    if isinstance(joined, SharedAnswer):
        live_at = time.monotonic()
        # The session may have been logged out since we read it: look again, and then share.
        if not queries.is_live(services, session.id):
            return Again()
        return _reuse(services, request, session, joined, live_at)
    return _lead(services, request, session, options, joined)


def _lead(
    services: Services,
    request: SilentAuthRequest,
    session: Session,
    options: SilentAuthOptions,
    lead: Lead,
) -> Outcome | Again:
    """Ask Mosaic, and see to it that the requests that wait for it do not wait in vain."""
    single_flight = services.traffic.single_flight
    try:
        result = _ask(services, request, session, options, lead)
    except SessionWorkerError as error:
        _pass_on(services, lead, error)
        raise
    except BaseException:
        single_flight.abandon(lead)
        raise
    if not isinstance(result, Outcome) or result.goes_first is None:
        # The requests that wait must look for themselves: it was about this request, or this row.
        single_flight.abandon(lead)
    return result


def _pass_on(services: Services, lead: Lead, error: SessionWorkerError) -> None:
    """Fail the requests that wait for this one, unless they may have better luck."""
    single_flight = services.traffic.single_flight
    is_too_slow = isinstance(error, MosaicTimedOut) and lead.has_short_deadline
    is_too_late = isinstance(error, RequestRefused) and error.reason is Reason.DEADLINE_PASSED
    if is_too_slow or is_too_late:
        single_flight.abandon(lead)
    elif isinstance(error, TryLater):
        single_flight.fail(lead, error)
    else:
        # One after the other they would get the same answer, each a call later.
        failure = failure_of(error)
        assert failure.reason is not None, "a failure has a reason"  # noqa: S101
        held = HeldBack(str(error), failure.reason, failure.retry_after or 0.0)
        single_flight.fail(lead, held)


def _join(
    services: Services, request: SilentAuthRequest, session: Session, options: SilentAuthOptions
) -> Lead | InProgress | SharedAnswer | Superseded:
    left = request.seconds_left(services.now())
    app, keyring = request.app.mosaic, services.keyring
    option_values = [getattr(options, name) for name in _OPTION_NAMES]
    parameters = [app.base_url, app.client_id, str(session.id), option_values]
    plan = CallPlan(
        name=keyring.lookup_hash(_CANONICAL.encode(parameters)).hex(),
        app=app,
        user=name_of_user(keyring, session.user_id),
        version=session.version,
        since=request.opened_at,
        call_seconds=min(services.settings.mosaic_timeout_seconds, left),
        max_wait_seconds=wait_for_turn(left),
    )
    return services.traffic.single_flight.join(plan)


def _ask(
    services: Services,
    request: SilentAuthRequest,
    session: Session,
    options: SilentAuthOptions,
    lead: Lead,
) -> Outcome | Again:
    session_id = mosaic_ids.open_id_of(services.keyring, session)
    call = SilentAuthCall(session_id=session_id, user_id=session.user_id, options=options)
    try:
        tokens, identity = _ask_mosaic(services, request, call, lead)
    except SessionGone:
        return _end(services, request, session, EndCause.GONE_AT_IDP)
    except WrongSubject:
        log.warning("session_quarantined", session=str(session.id), user=session.user_id)
        return _end(services, request, session, EndCause.QUARANTINED)
    live_at = time.monotonic()
    settled = settle(services, request, session, tokens, identity)
    if isinstance(settled, Again):
        return settled
    outcome, publication = settled.outcome, None
    # The new id may be another row's. A logout of that row must end this one as well, which only
    # asking Mosaic again can tell: then no other request may have this answer.
    may_share = tokens.session_id == session_id or settled.version != session.version
    if outcome.verdict is Verdict.AUTHENTICATED and may_share:
        # Not before it is committed: the app is linked now, and will hear of a logout.
        publication = services.traffic.single_flight.publication(
            lead,
            _content(services, outcome, identity),
            version=settled.version,
            seconds=tokens.expires_in / 2,
        )
    return replace(outcome, live_at=live_at, goes_first=publication)


def _end(
    services: Services, request: SilentAuthRequest, session: Session, cause: EndCause
) -> Again:
    with services.store.write() as connection:
        return Again(end_session(connection, services, request, session, cause))


def _ask_mosaic(
    services: Services, request: SilentAuthRequest, call: SilentAuthCall, lead: Lead
) -> tuple[Tokens, Identity]:
    return services.mosaic.authenticate_session(
        lead.permit,
        request.app.mosaic,
        call,
        timeout_seconds=min(
            services.settings.mosaic_timeout_seconds, request.seconds_left(services.now())
        ),
    )


def _options_of(request: SilentAuthRequest) -> SilentAuthOptions:
    command = request.command
    return SilentAuthOptions(
        resource=command.resource,
        claims=command.claims,
        org_id=command.org_id,
        user_agent=command.client_attributes.user_agent,
        ip_address=command.client_attributes.ip_address,
        device_id=command.device_id,
    )


def _content(services: Services, outcome: Outcome, identity: Identity) -> dict[str, Any]:
    """Return what other requests may have of an answer."""
    # Not the refresh token: it is for one request, since one use may end it for all that hold it.
    tokens = {n: v for n, v in outcome.data["tokens"].items() if n != "refresh_token"}
    return {
        "data": {**outcome.data, "tokens": tokens},
        "amr": identity.amr,
        "auth_time": None if identity.auth_time is None else times.to_wire(identity.auth_time),
        "at": times.to_wire(services.now()),
    }


def _reuse(
    services: Services,
    request: SilentAuthRequest,
    session: Session,
    shared: SharedAnswer,
    live_at: float,
) -> Outcome:
    """Return the answer of an identical request, held to this request's own policy."""
    now, content = services.now(), shared.content
    auth_time = content["auth_time"]
    since = proved_at(session, None if auth_time is None else times.from_wire(auth_time))
    shortfall = request.command.strengthen(request.app.policy).shortfall(content["amr"], since, now)
    if shortfall is not None:
        return step_up(session.id, session.user_id, shortfall)
    answered_at = times.from_wire(content["at"])
    metrics.call_saved(Saving.COALESCED if answered_at >= request.opened_at else Saving.REUSE)
    data = aged(content["data"], now - answered_at)
    return Outcome(Verdict.AUTHENTICATED, data=data, live_at=live_at)
