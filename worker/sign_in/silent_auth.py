"""Tokens for a user without asking them, from a session another app may have opened.

Each round reads the store first and decides from what it says; whatever was learnt or changed
meanwhile is the next round's business.
"""

from __future__ import annotations

from typing import Final

from session_client.contract import Reason, Verdict
from worker import metrics
from worker.app_registry import SILENT_BY_USER
from worker.errors import SessionChanged, Unauthorized
from worker.metrics import Saving
from worker.requests.outcomes import Outcome
from worker.sessions import queries
from worker.sign_in.ask_mosaic import Again, ask
from worker.sign_in.commit import SilentAuthRequest, step_up
from worker.traffic import Flying
from worker.wiring import Services

# How often we start over because the session changed while Mosaic was asked.
_ROUNDS: Final = 3
_ENDED: Final = {Again.GONE: Reason.GONE_AT_IDP, Again.QUARANTINED: Reason.QUARANTINED}


def silent_auth(services: Services, request: SilentAuthRequest) -> Outcome:
    """Return tokens for the app's own client, or what stands in the way.

    Safe to repeat: it may ask Mosaic again and extend the session again. Raises `TryLater`,
    `OperatorMustAct` and `TokenRejected` as the door to Mosaic does, and `Unauthorized` when the
    app may not name a user.
    """
    command = request.command
    if command.ticket is not None:
        return Outcome(Verdict.LOGIN_REQUIRED, Reason.TICKET_REFUSED)
    if command.user_id is None or command.session_ref is not None:
        # Nobody's: no browser token was given out yet.
        return Outcome(Verdict.LOGIN_REQUIRED, Reason.NO_SESSION)
    if not request.app.may(SILENT_BY_USER):
        # A user id is nobody's browser: with it the app acts for people who may be far away.
        raise Unauthorized(Reason.NOT_PERMITTED, f"needs the capability {SILENT_BY_USER}")
    changes = 0
    ended: list[Reason] = []
    while changes < _ROUNDS and len(ended) < services.settings.max_candidates:
        found = _one_round(services, request)
        if isinstance(found, Outcome):
            return found
        if isinstance(found, Flying):
            services.traffic.flights.wait(found, request.seconds_left(services.now()))
        elif found is Again.CHANGED:
            changes += 1
        else:
            ended.append(_ENDED[found])
    if changes == _ROUNDS:
        raise SessionChanged
    # There may be more. Each costs a call, and any app that has a token of the user can have
    # registered as many as it likes.
    return Outcome(Verdict.LOGIN_REQUIRED, ended[-1])


def _one_round(services: Services, request: SilentAuthRequest) -> Outcome | Flying | Again:
    """Try the newest of the user's sessions that is strong enough."""
    user_id, device_id = request.command.user, request.command.device_id
    policy = request.command.strengthen(request.app.policy)
    now = services.now()
    # What is past a cap is passed by and not ended: should this machine's clock have jumped, it
    # would be lost for good, at Mosaic too. Maintenance ends it, which looks at the clocks first.
    live = queries.candidates(services, user_id, device_id, now)
    found = [s for s in live if services.apps.is_of_same_mosaic(request.app, s.registered_by)]
    if not found:
        metrics.call_saved(Saving.PREFLIGHT)
        reason = Reason.NO_SESSION
        if not live:
            reason = queries.why_none(services, user_id, device_id, now)
        return Outcome(Verdict.LOGIN_REQUIRED, reason)
    strong = [s for s in found if not policy.shortfall(s.amr, s.authenticated_at, now)]
    if not strong:
        # Certain without Mosaic: a factor the session lacks cannot come from asking silently.
        metrics.call_saved(Saving.PREFLIGHT)
        newest = found[0]
        return step_up(newest, policy.shortfall(newest.amr, newest.authenticated_at, now))
    return ask(services, request, strong[0])
