"""What an app asks to sign its users in: with a session, into another app, while they are away."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

from session_client import contract, naming, reading
from session_client.contract import Reason, Task
from session_client.errors import ConfigurationError
from session_client.reading import Answered
from session_client.requests.base import (
    LONG_TIMEOUT_SECONDS,
    NOT_GIVEN,
    NotGiven,
    Request,
    check_alone,
    given,
    value_of,
)
from session_client.values import (
    Authenticated,
    LoginRequired,
    Registered,
    SessionInfo,
    StepUpRequired,
    Ticket,
)

_VERIFIER_BYTES: Final = 32
_NOBODY: Final = LoginRequired(Reason.NO_SESSION.value)


def new_verifier() -> str:
    """Return a random verifier of a ticket: keep it for one browser, and for ten minutes."""
    return secrets.token_urlsafe(_VERIFIER_BYTES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What tokens are to be for, and what the app knows of the browser.

    Args:
        resource: the API the access token is for.
        claims: the OIDC ``claims`` parameter.
        org_id: the organization to sign in to.
        user_agent: the browser's, for Mosaic's risk assessment and audit.
        ip_address: the browser's, likewise; from the app's own proxy alone.
    """

    resource: str | None = None
    claims: Mapping[str, Any] | None = None
    org_id: str | None = None
    user_agent: str | None = None
    ip_address: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Register(Request["Registered | LoginRequired"]):
    """Tell the worker of a session after an active login, or again after an added factor.

    Args:
        user_id: whose session it is.
        session_id: Mosaic's session id. Keep no copy: `silent_auth` does not need it.
        id_token: from that login, for this app's client; it proves user and factors.
        device_id: the app's name for the device, if it logs devices out.
        replaces: the browser token that the browser came with, if it did. Another session that
            it names is ended, or no logout from there could end it any more.
        timeout: in seconds; the request is repeated until it is answered.
        request_id: the idempotency key; a new one unless given.

    `LoginRequired` when the session was logged out before. Raises `InvalidRequest` for a token
    that proves nothing: sign nobody in on anything but a `Registered`.
    """

    task: ClassVar[Task] = Task.REGISTER
    is_repeated: ClassVar[bool] = True
    user_id: str
    session_id: str = field(repr=False)
    id_token: str = field(repr=False)
    device_id: str | None = None
    replaces: str | None = field(default=None, repr=False)

    def payload(self) -> dict[str, Any]:
        """Return the payload on the wire."""
        return given(
            session_id=self.session_id,
            user_id=self.user_id,
            id_token=self.id_token,
            device_id=self.device_id,
            replaces=self.replaces,
        )

    def read(self, answer: Answered) -> Registered | LoginRequired:
        """Return what the worker answered."""
        return reading.registered(answer)


@dataclass(frozen=True, slots=True, kw_only=True)
class SilentAuth(Request["Authenticated | LoginRequired | StepUpRequired"]):
    """Sign in whoever is at the browser without asking them, if a live session allows it.

    Args:
        browser_token: of this browser, as `BrowserCookie.read` returned it. None, if given, says
            that it has none: `LoginRequired`, and the worker is not asked.
        session_ref: of this user's session, both as this app's own session remembers them.
        user_id: with *session_ref*; or alone, for a user whom the app names, whoever is at the
            browser. That needs a capability from the operator.
        ticket: that brought this browser here from an app on another domain.
        verifier: of that ticket, as this app keeps it for this browser.
        replaces: with *ticket*, the browser token that the browser came with, if it did.
        device_id: use only sessions registered with this device. By *user_id* alone and without
            it, only sessions registered without any; named in another way, a session of any device.
        amr_all_of: methods (``amr`` values) the session must all have; they add to the app's
            policy and cannot weaken it.
        amr_any_of: methods of which it must have one.
        max_age: seconds since the last active login, at most.
        wishes: what the tokens are to be for.
        timeout: in seconds; the worker drops the request after it.
        request_id: the idempotency key; a new one unless given.

    The session is named in exactly one of these ways: *browser_token*, *session_ref*, *ticket*,
    *user_id*; else `ConfigurationError`. What it names is tried, and nothing else.
    """

    task: ClassVar[Task] = Task.SILENT_AUTH
    browser_token: str | NotGiven | None = field(default=NOT_GIVEN, repr=False)
    session_ref: str | None = None
    user_id: str | None = None
    ticket: str | None = field(default=None, repr=False)
    verifier: str | None = field(default=None, repr=False)
    replaces: str | None = field(default=None, repr=False)
    device_id: str | None = None
    amr_all_of: Sequence[str] = ()
    amr_any_of: Sequence[str] = ()
    max_age: int | None = None
    wishes: Wishes | None = None

    def _check(self) -> None:
        if isinstance(self.amr_all_of, str) or isinstance(self.amr_any_of, str):
            # A string is a sequence too: "mfa" would ask for the methods m, f and a.
            raise ConfigurationError("amr_all_of, amr_any_of: a sequence of methods")
        if self.browser_token is None:
            # Were the other name taken instead, a signed-out browser would get another user's.
            check_alone(self.session_ref, self.user_id, self.ticket, self.verifier, self.replaces)
        elif not naming.names_one_session(
            browser_token=value_of(self.browser_token),
            ticket=self.ticket,
            session_ref=self.session_ref,
            user_id=self.user_id,
        ):
            raise ConfigurationError(
                "name the session in one way: browser_token, ticket with verifier, session_ref "
                "with user_id, or user_id"
            )
        if (self.ticket is None) != (self.verifier is None):
            raise ConfigurationError("verifier: with a ticket, and only with one")
        if self.ticket is None and self.replaces is not None:
            raise ConfigurationError("replaces: only with a ticket")

    def known_already(self) -> LoginRequired | None:
        """Return what a browser without a token comes to, as the worker would say it."""
        return _NOBODY if self.browser_token is None else None

    def payload(self) -> dict[str, Any]:
        """Return the payload on the wire."""
        return given(
            browser_token=value_of(self.browser_token),
            session_ref=self.session_ref,
            user_id=self.user_id,
            ticket=self.ticket,
            verifier=self.verifier,
            replaces=self.replaces,
            device_id=self.device_id,
            amr_all_of=list(self.amr_all_of) or None,
            amr_any_of=list(self.amr_any_of) or None,
            max_age=self.max_age,
            **wished(self.wishes),
        )

    def read(self, answer: Answered) -> Authenticated | LoginRequired | StepUpRequired:
        """Return what the worker answered."""
        return reading.signed_in(answer)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refresh(Request["Authenticated | LoginRequired | StepUpRequired"]):
    """Exchange a refresh token for fresh tokens while the user is away.

    Args:
        refresh_token: of `Tokens`, as this app was given it. The app needs a capability from the
            operator, or it is given none.
        timeout: in seconds.
        request_id: the idempotency key; a new one unless given.

    The tokens hold the next refresh token: store it in place of the old one, which serves no second
    time. A call with the old one within a minute gets the same answer. It extends no session,
    and gives nothing once the session has ended: `LoginRequired`. After `OutcomeUnknown` the old
    one is lost perhaps: ask with `silent_auth`, or let the user sign in.
    """

    task: ClassVar[Task] = Task.REFRESH
    refresh_token: str = field(repr=False, kw_only=False)
    timeout: float = field(default=LONG_TIMEOUT_SECONDS, repr=False)

    def payload(self) -> dict[str, Any]:
        """Return the payload on the wire."""
        return {"refresh_token": self.refresh_token}

    def read(self, answer: Answered) -> Authenticated | LoginRequired | StepUpRequired:
        """Return what the worker answered."""
        return reading.signed_in(answer)


@dataclass(frozen=True, slots=True, kw_only=True)
class IssueTicket(Request["Ticket | LoginRequired"]):
    """Carry this browser's session to an app on another domain.

    Args:
        browser_token: of this browser, as `BrowserCookie.read` returned it.
        for_app: the other app's name at the worker.
        challenge: that the other app sent the browser here with.
        timeout: in seconds.
        request_id: the idempotency key; a new one unless given.

    Send the browser to its ``transfer_url``, which is the other app's own, with ``ticket`` and
    ``challenge`` in the query. With `LoginRequired` no user is signed in here.
    """

    task: ClassVar[Task] = Task.TICKET
    browser_token: str | None = field(repr=False)
    for_app: str
    challenge: str

    def _check(self) -> None:
        if not contract.is_app_id(self.for_app):
            raise ConfigurationError("for_app: an app's name at the worker")
        if not contract.is_challenge(self.challenge):
            raise ConfigurationError("challenge: as challenge_of(verifier) returns it")

    def known_already(self) -> LoginRequired | None:
        """Return what a browser without a token comes to."""
        return _NOBODY if self.browser_token is None else None

    def payload(self) -> dict[str, Any]:
        """Return the payload on the wire."""
        return given(
            browser_token=self.browser_token, for_app=self.for_app, challenge=self.challenge
        )

    def read(self, answer: Answered) -> Ticket | LoginRequired:
        """Return what the worker answered."""
        return reading.ticket(answer)


@dataclass(frozen=True, slots=True, kw_only=True)
class Status(Request["tuple[SessionInfo, ...]"]):
    """List the user's live sessions that this app shares, newest first, 100 at most.

    Args:
        user_id: whose.
        session_ref: this one alone, if it is among them.
        timeout: in seconds.
        request_id: the idempotency key; a new one unless given.

    Costs no call to Mosaic and extends nothing.
    """

    task: ClassVar[Task] = Task.STATUS
    user_id: str
    session_ref: str | None = None

    def payload(self) -> dict[str, Any]:
        """Return the payload on the wire."""
        return given(user_id=self.user_id, session_ref=self.session_ref)

    def read(self, answer: Answered) -> tuple[SessionInfo, ...]:
        """Return what the worker answered."""
        return reading.sessions(answer)


def wished(wishes: Wishes | None) -> dict[str, Any]:
    """Return what *wishes* say, under the contract's names."""
    if wishes is None:
        return {}
    client_attributes = given(user_agent=wishes.user_agent, ip_address=wishes.ip_address)
    return given(
        resource=wishes.resource,
        claims=wishes.claims,
        org_id=wishes.org_id,
        client_attributes=client_attributes or None,
    )
