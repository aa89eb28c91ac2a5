"""What both steps of an active login share: grants, handles, who is counted, the call itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final
from uuid import UUID

from session_client.contract import Method, Reason
from session_client.login_steps import LoginStep
from worker.errors import InvalidRequest, LoginRefused, StoreUnavailable, Unauthorized
from worker.logins import call_once, known_browser, limits, other_calls
from worker.logins.journal import PlannedCall
from worker.logins.limits import Bucket, Guesser
from worker.logins.login_handle import LoginHandle, way_of
from worker.logins.step_up_session import Raised
from worker.mosaic import LoginFacts, SilentAuthOptions
from worker.requests.command_fields import Command
from worker.requests.login_commands import AuthenticateCommand, StartCommand
from worker.requests.outcomes import Outcome
from worker.requests.request import OpenedRequest
from worker.wiring import Services

LoginRequest = OpenedRequest[StartCommand] | OpenedRequest[AuthenticateCommand]

# A login whose answer the worker does not hear leaves a session behind, and a refresh token is used
# up: neither is begun with less time than this.
LEAST_SECONDS: Final = 3.0

# The code of a passcode is the same step, whether Mosaic or the app sends it; so is a link's.
_ALSO: Final = {Method.OTP: Method.OTP_DIRECT, Method.LINK: Method.LINK_DIRECT}


def require_granted(request: LoginRequest, step: LoginStep) -> None:
    """Raise `Unauthorized` unless the operator granted the app the step's method."""
    wanted = {step.method, _ALSO.get(step.method, step.method) if step.needs_login else step.method}
    if wanted.isdisjoint(request.app.methods):
        raise Unauthorized(Reason.NOT_PERMITTED, f"needs the login method {step.method}")


def open_handle(services: Services, request: LoginRequest, step: LoginStep) -> LoginHandle | None:
    """Return the handle that *step* goes on with; None where it needs none.

    Raises `LoginRefused` for one of another app, of another login or too old, or with another
    state than its own; `Unauthorized` when its method is not the app's any more.
    """
    sealed = request.command.login
    if sealed is None:
        return None
    handle = LoginHandle.open(services.keyring, request.app.app_id, sealed)
    state = getattr(step, "state", None)
    if handle is None or not handle.leads_to(step) or state not in {None, handle.facts.state}:
        raise LoginRefused(Reason.WRONG_BROWSER)
    if handle.method not in request.app.methods:
        raise Unauthorized(Reason.NOT_PERMITTED, f"needs the login method {handle.method}")
    if services.now() >= handle.expires_at or other_calls.is_used_up(
        services, request, handle.uuid
    ):
        raise LoginRefused(Reason.CODE_EXPIRED)
    return handle


def user_facts(step: LoginStep, raised: Raised | None) -> LoginFacts:
    """Return who signs in: the session's own user in a step-up, else the user the step names."""
    if raised is not None:
        return LoginFacts(identifier=raised.session.user_id, identifier_type="user_id")
    fields = step.fields()
    if "username" in fields:
        return LoginFacts(
            identifier=fields["username"], identifier_type=fields.get("username_type", "username")
        )
    if "user_id" in fields:
        return LoginFacts(identifier=fields["user_id"], identifier_type="user_id")
    return LoginFacts(
        identifier=fields.get("identifier"), identifier_type=fields.get("identifier_type")
    )


def guesser_of(  # noqa: PLR0913, PLR0917 - all that tells who it is
    services: Services,
    request: LoginRequest,
    step: LoginStep,
    facts: LoginFacts,
    handle: LoginHandle | None,
    raised: Raised | None,
) -> Guesser:
    """Return the guesser that this step is counted for."""
    subject = None
    if facts.identifier is not None:
        subject = limits.subject_of(services, facts.identifier_type or "", facts.identifier)
    mark, address = request.command.known_browser, request.command.client_attributes.ip_address
    way = way_of(step) if handle is None else handle.way
    return Guesser(
        by=request.by,
        user_id=None if raised is None else raised.session.user_id,
        subject=subject,
        is_second_factor=raised is not None,
        known_browser=None
        if subject is None
        else known_browser.find(services, request, mark, subject, way),
        origin=None if address is None else limits.origin_of(services, address),
        handle=None if handle is None else handle.id,
    )


def seconds_for_call(services: Services, request: OpenedRequest[Command]) -> float:
    """Return how long the call may take. Raises `InvalidRequest` when too little is left."""
    left = request.seconds_left(services.now())
    if left < LEAST_SECONDS:
        raise InvalidRequest(Reason.DEADLINE_PASSED, "too little time is left for the call")
    return min(services.settings.mosaic_timeout_seconds, left)


def require_keys(services: Services, request: OpenedRequest[Command]) -> None:
    """Raise what keeps the worker from verifying Mosaic's tokens. Costs no call once it has keys.

    Before what serves only once is sent: it would be used up, and a session opened at Mosaic, for
    tokens that no app can be given. Raises as `seconds_for_call` does.
    """
    seconds = seconds_for_call(services, request)
    # The rest is for the call itself.
    services.mosaic.require_keys(request.app.mosaic, timeout_seconds=seconds / 2)


def begin_counted(
    services: Services,
    request: LoginRequest,
    guesser: Guesser,
    buckets: Sequence[Bucket],
    planned: PlannedCall,
) -> UUID | Outcome:
    """Count the call in *buckets*, then do what `call_once.begin` does.

    Counted first: a flood of guesses must not fill the journal. Raises `LoginRefused` at a limit.
    """
    limits.count(services, guesser, buckets)
    try:
        return call_once.begin(services, request, planned)
    except StoreUnavailable:
        limits.give_back(services, guesser, buckets)  # nothing was sent
        raise


def call_mosaic(  # noqa: PLR0913, PLR0917 - what the call carries
    services: Services,
    request: LoginRequest,
    step: LoginStep,
    facts: LoginFacts,
    session_id: str | None,
    whom: Guesser,
    seconds: float,
) -> Mapping[str, Any]:
    """Return Mosaic's answer to *step*. Raises as `MosaicGateway` does, and `HeldBack`."""
    app = request.app.mosaic
    name = request.request_id if whom.subject is None else whom.subject.hex()
    permit = services.traffic.admit_login(app, name, seconds)
    return services.mosaic.take_login_step(
        permit,
        app,
        step,
        facts,
        _options(request),
        session_id=session_id,
        timeout_seconds=seconds,
    )


def _options(request: LoginRequest) -> SilentAuthOptions:
    command = request.command
    attributes = command.client_attributes
    browser = SilentAuthOptions(
        user_agent=attributes.user_agent,
        ip_address=attributes.ip_address,
        device_id=command.device_id,
    )
    if isinstance(command, StartCommand):
        return browser
    return replace(browser, resource=command.resource, claims=command.claims, org_id=command.org_id)
