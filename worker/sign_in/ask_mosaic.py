"""Asking Mosaic for tokens, once for all who ask the same.

Nothing is held open while Mosaic is asked; what becomes of its answer is said in `settling`.
"""

from __future__ import annotations

import json
from dataclasses import fields
from datetime import timedelta
from enum import Enum, auto
from typing import Any, Final

import structlog

from models import EndCause, IdpSession
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
from worker.sessions import queries
from worker.sessions.queries import Session
from worker.sign_in.commit import end, settle, step_up, unchanged
from worker.sign_in.request import Asked
from worker.traffic import Flight, FlightPlan, Flying, Landed, Superseded

log = structlog.get_logger()

# How long a request that has time waits for its turn in the budget.
_PATIENCE_SECONDS: Final = 1.0
_OPTION_NAMES: Final = tuple(option.name for option in fields(SilentAuthOptions))


class Again(Enum):
    """Why the store must be read anew."""

    GONE = auto()  # ended by us: there is one session less each time
    QUARANTINED = auto()  # likewise
    CHANGED = auto()  # by others, under our hands


def ask(asked: Asked, session: Session) -> Outcome | Flying | Again:
    """Return what comes of using *session*, which has just been read from the store.

    `Flying` when an identical request is asking already. Raises `HeldBack`, and what the door to
    Mosaic raises.
    """
    options = _options_of(asked)
    flight = _join(asked, session, options)
    if isinstance(flight, Flying):
        return flight
    if isinstance(flight, Superseded):
        return Again.CHANGED
    if isinstance(flight, Landed):
        return _reuse(asked, session, flight)
    try:
        found = _fly(asked, session, options, flight)
    except SessionWorkerError as error:
        _pass_on(flight, error)
        raise
    except BaseException:
        flight.abandon()
        raise
    if not isinstance(found, Outcome) or found.verdict is not Verdict.AUTHENTICATED:
        flight.abandon()  # others must look for themselves: it was about this request, or this row
    return found


def _pass_on(flight: Flight, error: SessionWorkerError) -> None:
    """Fail those who wait for us, unless they may have better luck than we."""
    is_too_slow = isinstance(error, MosaicTimedOut) and flight.is_hasty
    is_too_late = isinstance(error, RequestRefused) and error.reason is Reason.DEADLINE_PASSED
    if is_too_slow or is_too_late:
        flight.abandon()
    elif isinstance(error, TryLater):
        flight.fail(error)
    else:
        # One after the other they would get the same answer, each a call later.
        failure = failure_of(error)
        assert failure.reason is not None, "a failure has a reason"  # noqa: S101
        flight.fail(HeldBack(str(error), failure.reason, failure.retry_after or 0.0))


def _join(
    asked: Asked, session: Session, options: SilentAuthOptions
) -> Flight | Flying | Landed | Superseded:
    left = asked.seconds_left()
    app, keyring = asked.app.mosaic, asked.services.keyring
    asked_for = [getattr(options, name) for name in _OPTION_NAMES]
    told = [app.base_url, app.client_id, str(session.id), asked_for]
    plan = FlightPlan(
        name=keyring.lookup_hash(json.dumps(told, sort_keys=True)).hex(),
        app=app,
        user=keyring.lookup_hash(f"user:{session.user_id}").hex(),
        version=session.version,
        since=asked.since,
        call_seconds=min(asked.services.settings.mosaic_timeout_seconds, left),
        patience_seconds=min(_PATIENCE_SECONDS, left / 4),
    )
    return asked.services.traffic.flights.join(plan)


def _fly(
    asked: Asked, session: Session, options: SilentAuthOptions, flight: Flight
) -> Outcome | Again:
    session_id = _session_id_of(asked, session)
    call = SilentAuthCall(session_id=session_id, user_id=session.user_id, options=options)
    try:
        tokens, identity = _ask_mosaic(asked, call, flight)
    except SessionGone:
        # Only what Mosaic was asked about is gone: a row that has another id by now, or a new
        # factor, is somebody's live session.
        end(asked, unchanged(session), EndCause.GONE_AT_IDP)
        return Again.GONE
    except WrongSubject:
        log.warning("session_quarantined", session=str(session.id), user=session.user_id)
        end(asked, IdpSession.id == session.id, EndCause.QUARANTINED)
        return Again.QUARANTINED
    settled = settle(asked, session, tokens, identity)
    if settled is None:
        return Again.CHANGED
    outcome = settled.outcome
    if outcome.verdict is not Verdict.AUTHENTICATED:
        return outcome
    if tokens.session_id != session_id and settled.version == session.version:
        # The new id is another row's. A logout of that row must end this one as well, which only
        # asking Mosaic again can tell.
        flight.abandon()
        return outcome
    # Not before it is committed: the app is linked now, and will hear of a logout.
    content = _content(asked, outcome, identity)
    landing = flight.landing(content, version=settled.version, seconds=tokens.expires_in / 2)
    return Outcome(outcome.verdict, data=outcome.data, landing=landing)


def _session_id_of(asked: Asked, session: Session) -> str:
    assert session.sealed_session_id is not None, "a live session has its id"  # noqa: S101
    return asked.services.keyring.open(
        session.sealed_session_id, queries.session_id_place(session.id)
    )


def _ask_mosaic(asked: Asked, call: SilentAuthCall, flight: Flight) -> tuple[Tokens, Identity]:
    return asked.services.mosaic.authenticate_session(
        flight.permit,
        asked.app.mosaic,
        call,
        timeout_seconds=min(asked.services.settings.mosaic_timeout_seconds, asked.seconds_left()),
    )


def _options_of(asked: Asked) -> SilentAuthOptions:
    command = asked.command
    return SilentAuthOptions(
        resource=command.resource,
        claims=command.claims,
        org_id=command.org_id,
        user_agent=command.client_attributes.user_agent,
        ip_address=command.client_attributes.ip_address,
        device_id=command.device_id,
    )


def _content(asked: Asked, outcome: Outcome, identity: Identity) -> dict[str, Any]:
    """Return what others may have of an answer."""
    # Not the refresh token: it is for one, since using it once may end it for all who hold it.
    tokens = {n: v for n, v in outcome.data["tokens"].items() if n != "refresh_token"}
    return {
        "data": {**outcome.data, "tokens": tokens},
        "amr": identity.amr,
        "auth_time": None if identity.auth_time is None else times.to_wire(identity.auth_time),
        "at": times.to_wire(asked.services.now()),
    }


def _reuse(asked: Asked, session: Session, landed: Landed) -> Outcome:
    """Return the answer of an identical request, held to this request's own policy."""
    now, content = asked.services.now(), landed.content
    auth_time = content["auth_time"]
    since = session.authenticated_at if auth_time is None else times.from_wire(auth_time)
    shortfall = asked.policy.shortfall(content["amr"], since, now)
    if shortfall:
        return step_up(session, shortfall)
    landed_at = times.from_wire(content["at"])
    metrics.call_saved(Saving.COALESCED if landed_at >= asked.since else Saving.REUSE)
    return Outcome(Verdict.AUTHENTICATED, data=_aged(content["data"], now - landed_at))


def _aged(data: dict[str, Any], age: timedelta) -> dict[str, Any]:
    tokens = data["tokens"]
    left = max(0, tokens["expires_in"] - round(age.total_seconds()))
    return {**data, "tokens": {**tokens, "expires_in": left}}
