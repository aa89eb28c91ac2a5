"""What is said of a proof when the worker has not heard Mosaic's answer."""

from __future__ import annotations

from uuid import UUID

import structlog

from worker.errors import SessionWorkerError
from worker.logins import limits, other_calls, unusable
from worker.logins.attempt import Attempt
from worker.logins.settle_login import finish
from worker.logins.step_up_session import Raised
from worker.mosaic import SilentAuthCall
from worker.requests.outcomes import Outcome
from worker.sessions import queries
from worker.traffic import name_of_user

log = structlog.get_logger()


def unheard(login: Attempt, call: UUID, detail: str) -> Outcome:
    """Return what there is to say when the worker has not heard Mosaic's answer.

    The session of a step-up is known: one silent authentication tells whether the factor is there.
    What the user has approved it does not tell.
    """
    raised = login.raised
    if raised is None or login.facts.approval_data is not None:
        return unusable.unknown(login, call, detail)
    services, app = login.services, login.request.app.mosaic
    try:
        seconds = min(
            services.settings.mosaic_timeout_seconds, login.request.seconds_left(services.now())
        )
        user = name_of_user(services.keyring, raised.session.user_id)
        permit = services.traffic.admit_for_user(app, user, seconds)
        silent_call = SilentAuthCall(
            session_id=str(login.session_id), user_id=raised.session.user_id
        )
        tokens, identity = services.mosaic.authenticate_session(
            permit, app, silent_call, timeout_seconds=seconds
        )
    except SessionWorkerError as error:
        log.info("factor_not_found_out", error=type(error).__name__)
        return unusable.unknown(login, call, detail)
    is_more = not set(identity.amr or ()) <= set(raised.session.amr)
    if not is_more or not _is_alone(login, call, raised):
        # Not added, or one the session had before, or perhaps another browser's: this one would be
        # given a token for what it has not proved.
        return unusable.thrown_away(login, call, tokens.session_id, detail)
    limits.give_back(services, login.guesser, login.buckets)
    return finish(login, call, tokens, identity)


def _is_alone(login: Attempt, call: UUID, raised: Raised) -> bool:
    """Whether no other factor can have come to the session since this one began."""
    with login.services.store.read() as connection:
        session = queries.by_id(connection, raised.session.id)
    is_unchanged = session is not None and session.version == raised.session.version
    subject = login.guesser.subject
    assert subject is not None, "a session's user is known"  # noqa: S101
    return is_unchanged and not other_calls.has_other_factor(
        login.services, call, subject, login.begun_at
    )
