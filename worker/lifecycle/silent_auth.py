"""Tokens for a user without asking them, from a session another app may have opened.

Nothing is held open while Mosaic is asked; what becomes of its answer is said in `settling`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

import structlog

from models import EndCause, IdpSession
from session_client.contract import Reason, Verdict
from worker.errors import InvalidRequest, SessionChanged, SessionGone, WrongSubject
from worker.lifecycle import sessions
from worker.lifecycle.commands import SilentAuthCommand
from worker.lifecycle.events import Cause
from worker.lifecycle.lifetimes import past_a_cap
from worker.lifecycle.outcomes import Outcome
from worker.lifecycle.sessions import Session
from worker.lifecycle.settling import Asked, end, ends_at, settle, step_up, unchanged
from worker.mosaic import Identity, SilentAuthCall, Tokens
from worker.policy import policy_of
from worker.registry import KnownApp
from worker.wiring import Services

log = structlog.get_logger()

# How often we start over because the session changed while Mosaic was asked.
_ROUNDS: Final = 3


def silent_auth(
    services: Services, app: KnownApp, command: SilentAuthCommand, by: Cause, deadline: datetime
) -> Outcome:
    """Return tokens for the app's own client, or what stands in the way.

    Safe to repeat: it asks Mosaic again and extends the session again. Raises `TryLater`,
    `OperatorMustAct` and `TokenRejected` as the door to Mosaic does.
    """
    requested = policy_of(command.amr_all_of, command.amr_any_of, command.max_age)
    asked = Asked(services, app, command, app.policy.and_also(requested), by, deadline)
    for _ in range(_ROUNDS):
        outcome = _one_round(asked)
        if outcome is not None:
            return outcome
    raise SessionChanged


def _one_round(asked: Asked) -> Outcome | None:
    """Try the user's sessions, newest first; None when one changed under our hands."""
    services = asked.services
    user_id, device_id = asked.command.user_id, asked.command.device_id
    now = services.now()
    with services.store.read() as connection:
        found = sessions.candidates(
            connection, user_id, device_id, now, services.settings.max_candidates
        )
        capped = [session.id for session in found if ends_at(services, session) <= now]
        if not found:
            return Outcome(
                Verdict.LOGIN_REQUIRED, sessions.why_none(connection, user_id, device_id)
            )
    if capped:
        # Said again beside the ids: one of them may have been used since it was read.
        still = past_a_cap(services.settings, now)
        end(asked, IdpSession.id.in_(capped) & still, EndCause.CAP_REACHED)
        return _one_round(asked)  # what is left; there are fewer each time
    strong = [s for s in found if not asked.policy.shortfall(s.amr, s.authenticated_at, now)]
    if not strong:
        # Certain without Mosaic: a factor the session lacks cannot come from asking silently.
        newest = found[0]
        return step_up(newest, asked.policy.shortfall(newest.amr, newest.authenticated_at, now))
    return _try_each(asked, strong)


def _try_each(asked: Asked, strong: Sequence[Session]) -> Outcome | None:
    for session in strong:
        try:
            tokens, identity = _ask_mosaic(asked, session)
        except SessionGone:
            # Only what Mosaic was asked about is gone: a row that has another id by now, or a
            # new factor, is somebody's live session.
            end(asked, unchanged(session), EndCause.GONE_AT_IDP)
        except WrongSubject:
            log.warning("session_quarantined", session=str(session.id), user=session.user_id)
            end(asked, IdpSession.id == session.id, EndCause.QUARANTINED)
        else:
            return settle(asked, session, tokens, identity)
    return None  # all of them are gone: the next round says what is left


def _ask_mosaic(asked: Asked, session: Session) -> tuple[Tokens, Identity]:
    seconds_left = (asked.deadline - asked.services.now()).total_seconds()
    if seconds_left <= 0:
        raise InvalidRequest(Reason.DEADLINE_PASSED)
    assert session.sealed_session_id is not None, "a live session has its id"  # noqa: S101
    session_id = asked.services.keyring.open(
        session.sealed_session_id, sessions.session_id_place(session.id)
    )
    command = asked.command
    call = SilentAuthCall(
        resource=command.resource,
        claims=command.claims,
        org_id=command.org_id,
        user_agent=command.client_attributes.user_agent,
        ip_address=command.client_attributes.ip_address,
        device_id=command.device_id,
    )
    return asked.services.mosaic.authenticate_session(
        asked.app.mosaic,
        session_id,
        session.user_id,
        call,
        timeout_seconds=min(asked.services.settings.mosaic_timeout_seconds, seconds_left),
    )
