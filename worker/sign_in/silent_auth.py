"""Tokens for a user without asking them, from a session another app may have opened.

Each round reads the store first and decides from what it says; whatever was learnt or changed
meanwhile is the next round's business.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from session_client.contract import Reason, Verdict
from worker import metrics
from worker.app_registry import SILENT_BY_USER, KnownApp
from worker.errors import SessionChanged, Unauthorized
from worker.metrics import Saving
from worker.policy import policy_of
from worker.requests.commands import SilentAuthCommand
from worker.requests.outcomes import Outcome
from worker.sessions import queries
from worker.sessions.audit import Cause
from worker.sign_in.ask_mosaic import Again, ask
from worker.sign_in.commit import step_up
from worker.sign_in.request import Asked
from worker.traffic import Flying
from worker.wiring import Services

# How often we start over because the session changed while Mosaic was asked.
_ROUNDS: Final = 3
_ENDED: Final = {Again.GONE: Reason.GONE_AT_IDP, Again.QUARANTINED: Reason.QUARANTINED}


def silent_auth(
    services: Services, app: KnownApp, command: SilentAuthCommand, by: Cause, deadline: datetime
) -> Outcome:
    """Return tokens for the app's own client, or what stands in the way.

    Safe to repeat: it may ask Mosaic again and extend the session again. Raises `TryLater`,
    `OperatorMustAct` and `TokenRejected` as the door to Mosaic does, and `Unauthorized` when the
    app may not name a user.
    """
    if command.ticket is not None:
        return Outcome(Verdict.LOGIN_REQUIRED, Reason.TICKET_REFUSED)
    if command.user_id is None or command.session_ref is not None:
        # Nobody's: no browser token was given out yet.
        return Outcome(Verdict.LOGIN_REQUIRED, Reason.NO_SESSION)
    if not app.may(SILENT_BY_USER):
        # A user id is nobody's browser: with it the app acts for people who may be far away.
        raise Unauthorized(Reason.NOT_PERMITTED, f"needs the capability {SILENT_BY_USER}")
    requested = policy_of(command.amr_all_of, command.amr_any_of, command.max_age)
    policy = app.policy.and_also(requested)
    asked = Asked(services, app, command, policy, by, services.now(), deadline)
    changes = 0
    ended: list[Reason] = []
    while changes < _ROUNDS and len(ended) < services.settings.max_candidates:
        found = _one_round(asked)
        if isinstance(found, Outcome):
            return found
        if isinstance(found, Flying):
            services.traffic.flights.wait(found, asked.seconds_left())
        elif found is Again.CHANGED:
            changes += 1
        else:
            ended.append(_ENDED[found])
    if changes == _ROUNDS:
        raise SessionChanged
    # There may be more. Each costs a call, and any app that has a token of the user can have
    # registered as many as it likes.
    return Outcome(Verdict.LOGIN_REQUIRED, ended[-1])


def _one_round(asked: Asked) -> Outcome | Flying | Again:
    """Try the newest of the user's sessions that is strong enough."""
    services = asked.services
    user_id, device_id = asked.command.user, asked.command.device_id
    now = services.now()
    # What is past a cap is passed by and not ended: should this machine's clock have jumped, it
    # would be lost for good, at Mosaic too. Maintenance ends it, which looks at the clocks first.
    live = queries.candidates(services, user_id, device_id, now)
    found = [s for s in live if services.apps.is_of_same_mosaic(asked.app, s.registered_by)]
    if not found:
        metrics.call_saved(Saving.PREFLIGHT)
        reason = Reason.NO_SESSION
        if not live:
            reason = queries.why_none(services, user_id, device_id, now)
        return Outcome(Verdict.LOGIN_REQUIRED, reason)
    strong = [s for s in found if not asked.policy.shortfall(s.amr, s.authenticated_at, now)]
    if not strong:
        # Certain without Mosaic: a factor the session lacks cannot come from asking silently.
        metrics.call_saved(Saving.PREFLIGHT)
        newest = found[0]
        return step_up(newest, asked.policy.shortfall(newest.amr, newest.authenticated_at, now))
    return ask(asked, strong[0])
