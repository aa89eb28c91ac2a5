"""The session a request names. What it names is tried, and nothing else.

A browser that was logged out would otherwise be signed in again by another session of its user. So
a browser token, and a reference, lead to their one session or to none; a user id, which names
no browser, needs a power that the operator gives.
"""

from __future__ import annotations

from session_client.contract import Reason, Verdict
from worker import metrics
from worker.app_registry import SILENT_BY_USER
from worker.errors import Unauthorized
from worker.metrics import Saving
from worker.requests.command_fields import Command
from worker.requests.outcomes import Outcome
from worker.requests.request import OpenedRequest
from worker.sessions import audit, browser_tokens, queries
from worker.sessions.queries import Session
from worker.sign_in.commit import SilentAuthRequest
from worker.wiring import Services

AnyRequest = OpenedRequest[Command]


def find_session(services: Services, request: SilentAuthRequest) -> Session | Outcome:
    """Return the live session the request names, or the answer that there is none for it.

    Raises `Unauthorized` when the app may not name a user.
    """
    found = _find(services, request)
    if isinstance(found, Outcome):
        metrics.call_saved(Saving.PREFLIGHT)
    return found


def _find(services: Services, request: SilentAuthRequest) -> Session | Outcome:
    command = request.command
    if command.browser_token is not None:
        found = of_browser(services, request, command.browser_token)
        return found if isinstance(found, Outcome) else _of_device(services, request, found)
    if command.session_ref is not None:
        return _of_reference(services, request)
    return _of_user(services, request)


def of_browser(services: Services, request: AnyRequest, token: str) -> Session | Outcome:
    """Return the live session that a browser's token names, or the answer that it names none."""
    presented = browser_tokens.find(services, token)
    if presented is None or not is_of_our_mosaic(services, request, presented.session):
        return _none()
    if presented.replaced_at is None:
        return live_or_why(services, presented.session)
    if services.now() - presented.replaced_at < browser_tokens.JUST_REPLACED:
        return Outcome(Verdict.LOGIN_REQUIRED, Reason.TOKEN_REPLACED)
    # Its session goes on: a browser that was restored from a backup brings old cookies too.
    _note(services, request, presented.session, audit.REPLACED_TOKEN_PRESENTED)
    return _none()


def _of_reference(services: Services, request: SilentAuthRequest) -> Session | Outcome:
    command = request.command
    session = queries.shared_by(services, request.app.app_id, command.ref, command.user)
    if session is None or not is_of_our_mosaic(services, request, session):
        return _none()
    found = live_or_why(services, session)
    return found if isinstance(found, Outcome) else _of_device(services, request, found)


def _of_user(services: Services, request: SilentAuthRequest) -> Session | Outcome:
    """Return the newest of the user's sessions that is strong enough, or else the newest."""
    if not request.app.may(SILENT_BY_USER):
        raise Unauthorized(Reason.NOT_PERMITTED, f"needs the capability {SILENT_BY_USER}")
    user_id, device_id = request.command.user, request.command.device_id
    policy = request.command.strengthen(request.app.policy)
    now = services.now()
    # What is past a cap is passed by and not ended: should this machine's clock have jumped, it
    # would be lost for good, at Mosaic too. Maintenance ends it, which looks at the clocks first.
    live = queries.candidates(services, user_id, device_id, now)
    found = [session for session in live if is_of_our_mosaic(services, request, session)]
    if not found:
        reason = Reason.NO_SESSION
        if not live:
            reason = queries.why_none(services, user_id, device_id, now)
        return Outcome(Verdict.LOGIN_REQUIRED, reason)
    strong = (s for s in found if policy.shortfall(s.amr, s.authenticated_at, now) is None)
    return next(strong, found[0])


def live_or_why(services: Services, session: Session) -> Session | Outcome:
    """Return *session* if it may be used, or the answer that says how it ended."""
    why_not = queries.why_unusable(services.settings, session, services.now())
    if why_not is None:
        return session
    # Named if it is over for good, so that tokens of it that are still on their way to the app
    # are not used there. One past its time may yet be renewed by an answer of Mosaic's.
    ended = {} if session.ended_at is None else {"session_ref": str(session.id)}
    return Outcome(Verdict.LOGIN_REQUIRED, why_not, data=ended)


def _of_device(
    services: Services, request: SilentAuthRequest, session: Session
) -> Session | Outcome:
    """Return the one session named, if it is of the device named with it."""
    if request.command.device_id in {None, session.device_id}:
        return session
    _note(services, request, session, audit.OTHER_DEVICE_NAMED)
    return _none()


def _none() -> Outcome:
    # The same for what never was, what is another's and what is kept at another Mosaic: an
    # attacker who tries names learns nothing from it.
    return Outcome(Verdict.LOGIN_REQUIRED, Reason.NO_SESSION)


def is_of_our_mosaic(services: Services, request: AnyRequest, session: Session) -> bool:
    """Whether the session is kept where the asking app asks."""
    return services.apps.is_of_same_mosaic(request.app, session.registered_by)


def _note(services: Services, request: AnyRequest, session: Session, name: str) -> None:
    row = audit.event(
        name,
        at=services.now(),
        session=session.id,
        user_id=session.user_id,
        by=request.by,
    )
    audit.record_once_an_hour(services.store, row)
