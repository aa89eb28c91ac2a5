"""Tokens for a user without asking them, from a session another app may have opened.

Each round reads the store first and decides from what it says; whatever was learnt or changed
meanwhile is the next round's business.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from session_client.contract import Verdict
from worker import metrics
from worker.errors import SessionChanged
from worker.metrics import Saving
from worker.requests.outcomes import Outcome
from worker.sign_in import redeem_ticket
from worker.sign_in.ask_mosaic import ask
from worker.sign_in.commit import Again, SilentAuthRequest, step_up
from worker.sign_in.named_session import find_session
from worker.traffic import InProgress
from worker.wiring import Services

# How often the session may have changed while Mosaic was asked; then the app is to ask again.
_MAX_CHANGES: Final = 3


def silent_auth(services: Services, request: SilentAuthRequest) -> Outcome:
    """Return tokens for the app's own client, or what stands in the way.

    Safe to repeat: it may ask Mosaic again and extend the session again. Raises `TryLater`,
    `OperatorMustAct` and `TokenRejected` as `MosaicGateway` does, and `Unauthorized` when the
    app may not name a user.
    """
    ended: list[Outcome] = []
    outcome = _ask_in_rounds(services, request, ended)
    if request.command.ticket is not None:
        outcome = _handed_over(services, request, outcome)
    for each in ended:
        outcome = replace(
            outcome,
            logouts=(*outcome.logouts, *each.logouts),
            notices=(*outcome.notices, *each.notices),
        )
    return outcome


def _handed_over(services: Services, request: SilentAuthRequest, outcome: Outcome) -> Outcome:
    """Return what `hand_over` does. Where it fails, who asked the same gets Mosaic's answer."""
    try:
        return redeem_ticket.hand_over(services, request, outcome)
    except BaseException:
        if outcome.goes_first is not None:
            services.traffic.single_flight.publish(outcome.goes_first)
        raise


def _ask_in_rounds(services: Services, request: SilentAuthRequest, ended: list[Outcome]) -> Outcome:
    """Return the answer of the first session that can be used; add to *ended* how others ended.

    Where it raises, the sweep wakes the deliveries of those.
    """
    changes = 0
    while changes < _MAX_CHANGES and len(ended) < services.settings.max_candidates:
        result = _one_round(services, request)
        if isinstance(result, Outcome):
            return result
        if isinstance(result, InProgress):
            services.traffic.single_flight.wait(result, request.seconds_left(services.now()))
        elif result.ended is None:
            changes += 1
        else:
            ended.append(result.ended)
    if changes == _MAX_CHANGES:
        raise SessionChanged
    # There may be more. Each costs a call, and any app that has a token of the user can have
    # registered as many as it likes.
    return Outcome(Verdict.LOGIN_REQUIRED, ended[-1].reason)


def _one_round(services: Services, request: SilentAuthRequest) -> Outcome | InProgress | Again:
    """Try the session that the request leads to, if it is strong enough."""
    by_ticket = request.command.ticket is not None
    found = (redeem_ticket.claim if by_ticket else find_session)(services, request)
    if isinstance(found, Outcome):
        return found
    policy = request.command.strengthen(request.app.policy)
    shortfall = policy.shortfall(found.amr, found.authenticated_at, services.now())
    if shortfall is not None:
        # Certain without Mosaic: a factor the session lacks cannot come from asking silently.
        metrics.call_saved(Saving.PREFLIGHT)
        return step_up(found.id, found.user_id, shortfall)
    return ask(services, request, found)
