"""What an app may ask, each declared once: its arguments, its payload, what it comes to.

`SessionClient` and `AsyncSessionClient` take their methods from here, texts included.
"""

from __future__ import annotations

import secrets
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, TypeVar

from session_client import contract, naming, reading, timeouts, times
from session_client.contract import LogoutScope, LogoutWait, Reason, Task
from session_client.errors import ConfigurationError
from session_client.reading import Answered
from session_client.values import (
    Authenticated,
    LoginRequired,
    LogoutNotice,
    LogoutReceipt,
    Registered,
    SessionInfo,
    StepUpRequired,
    Ticket,
)

if TYPE_CHECKING:
    from session_client._core.app import App
    from session_client._core.call import Steps

R_co = TypeVar("R_co", covariant=True)

# What most calls wait for an answer; a login goes through gateways that are not Mosaic's own, and
# a logout is sent until it counts.
TIMEOUT_SECONDS: Final = 5.0
LONG_TIMEOUT_SECONDS: Final = 10.0
_REQUEST_ID_BYTES: Final = 16
_VERIFIER_BYTES: Final = 32


def new_request_id() -> str:
    """Return a random request id: the idempotency key of one request."""
    return secrets.token_urlsafe(_REQUEST_ID_BYTES)


def new_verifier() -> str:
    """Return a random verifier of a ticket: keep it for one browser, and for ten minutes."""
    return secrets.token_urlsafe(_VERIFIER_BYTES)


class NotGiven:
    """Stands for an argument that was left out, where None says something else."""

    def __repr__(self) -> str:
        return "NOT_GIVEN"


NOT_GIVEN: Final = NotGiven()


@dataclass(frozen=True, slots=True, kw_only=True)
class Request(ABC, Generic[R_co]):
    """What all requests have in common.

    ``timeout`` is in seconds and counts from the call; ``request_id`` is the idempotency key, a
    new one unless given.
    """

    task: ClassVar[Task]
    # Sent again, the same to the bit, until it is answered for good or its time is up: a message
    # may vanish inside the broker without an error.
    is_repeated: ClassVar[bool] = False
    # The worker's word that it is done is what counts: without it, `NotAcknowledged`.
    is_acknowledged: ClassVar[bool] = False

    timeout: float = field(default=TIMEOUT_SECONDS, repr=False)
    request_id: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        timeouts.lifetime(self.timeout)
        if self.request_id is not None and not contract.is_request_id(self.request_id):
            raise ConfigurationError("request_id: 16 to 64 letters, digits, - and _")
        self._check()

    def _check(self) -> None:
        """Raise `ConfigurationError` for arguments that fit no request."""

    @property
    def lifetime(self) -> timedelta:
        """For how long the worker may serve it."""
        longest = contract.MAX_LIFETIME[self.task]
        return longest if self.is_acknowledged else min(timeouts.lifetime(self.timeout), longest)

    @abstractmethod
    def payload(self) -> dict[str, Any]:
        """Return the payload on the wire, without what was not given."""

    @abstractmethod
    def read(self, answer: Answered) -> R_co:
        """Return what *answer* says about people. Raises ValueError and the like for others."""

    def known_already(self) -> R_co | None:
        """Return what it comes to if nobody need be asked."""
        return None

    def life(self, app: App, until: float) -> Steps[R_co]:
        """Return how it goes, step by step."""
        from session_client._core import call  # noqa: PLC0415 - that knows these classes

        return call.life(app, self, until)


@dataclass(frozen=True, slots=True, kw_only=True)
class Register(Request["Registered | LoginRequired"]):
    """Tell the worker of a session after an active login, or again after an added factor.

    Args:
        user_id: whose session it is.
        session_id: Mosaic's session id. Keep no copy: `silent_auth` does not need it.
        id_token: from that login, for this app's client; it proves user and factors.
        device_id: the app's name for the device, if it logs devices out.
        replaces: the browser token that the browser came with, if it did. Another session that
            it names is ended, or nobody could log it out from there any more.
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
            that it has none: `LoginRequired`, and nobody is asked.
        session_ref: of this user's session, both as this app's own session remembers them.
        user_id: with *session_ref*; or alone, for a user whom the app names, whoever is at the
            browser. That needs a capability from the operator.
        ticket: that brought this browser here from an app on another domain.
        verifier: of that ticket, as this app keeps it for this browser.
        replaces: with *ticket*, the browser token that the browser came with, if it did.
        device_id: use only sessions registered with this device; without it, only sessions
            registered without any.
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
            # Were the other name taken instead, a signed-out browser would get what is somebody's.
            _check_alone(self.session_ref, self.user_id, self.ticket, self.verifier, self.replaces)
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
    time. Whoever brings the old one within a minute gets the same answer. It extends no session,
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
class IssueTicket(Request["Ticket | LoginRequired"]):
    """Carry this browser's session to an app on another domain.

    Args:
        browser_token: of this browser, as `BrowserCookie.read` returned it.
        for_app: the other app's name at the worker.
        challenge: that the other app sent the browser here with.
        timeout: in seconds.
        request_id: the idempotency key; a new one unless given.

    Send the browser with the ticket to its ``transfer_url``, which is the other app's own. With
    `LoginRequired` nobody is signed in here.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Logout(Request["LogoutReceipt"]):
    """End sessions everywhere. Returning means: committed, it cannot be lost any more.

    Args:
        browser_token: of this browser, as `BrowserCookie.read` returned it; alone, and whoever
            shares the session. None, if given, says that the browser has none: nothing ends.
        session_ref: from an earlier answer, with its *user_id*; this app must share the session.
        session_id: Mosaic's session id, with its *user_id*, for an app that never registered it,
            or whose registration may still be on its way. The id is proof enough.
        user_id: whose sessions, unless a browser token says so.
        device_id: all sessions of *user_id* that were registered with this device.
        everywhere: all sessions of *user_id*, which needs a capability from the operator.
        wait: for ``local``, the commit here; ``idp``, Mosaic as well; or ``all``, every app that
            shares the session as well. A receipt that is not there yet by *timeout* is returned as
            it stands: the logout is committed, ask again with `receipt`.
        timeout: in seconds.
        request_id: of an earlier `NotAcknowledged`, to repeat that very request.

    The request is repeated under one request id until the worker has acknowledged it. Raises
    `NotAcknowledged` otherwise: treat the user as *not yet* logged out elsewhere, and call again
    with the error's ``request_id``. `InvalidRequest` and `Unauthorized` say that the worker
    refuses, and that repeating cannot help.
    """

    task: ClassVar[Task] = Task.LOGOUT
    is_repeated: ClassVar[bool] = True
    is_acknowledged: ClassVar[bool] = True
    browser_token: str | NotGiven | None = field(default=NOT_GIVEN, repr=False)
    session_ref: str | None = None
    session_id: str | None = field(default=None, repr=False)
    user_id: str | None = None
    device_id: str | None = None
    everywhere: bool = False
    wait: LogoutWait | str = LogoutWait.LOCAL
    timeout: float = field(default=LONG_TIMEOUT_SECONDS, repr=False)

    @property
    def scope(self) -> LogoutScope:
        """How much it ends."""
        if self.everywhere:
            return LogoutScope.USER
        return LogoutScope.SESSION if self.device_id is None else LogoutScope.DEVICE

    def _check(self) -> None:
        check_wait(self.wait)
        if self.browser_token is None:
            _check_alone(
                self.session_ref, self.session_id, self.user_id, self.device_id,
                self.everywhere or None,
            )  # fmt: skip
        elif not naming.names_what_to_end(
            self.scope,
            user_id=self.user_id,
            browser_token=value_of(self.browser_token),
            session_ref=self.session_ref,
            session_id=self.session_id,
            device_id=self.device_id,
        ):
            raise ConfigurationError(
                "name what ends in one way: browser_token alone, or user_id with one of "
                "session_ref, session_id, device_id and everywhere"
            )

    def known_already(self) -> LogoutReceipt | None:
        """Return the receipt for a browser without a token: nothing ends."""
        return LogoutReceipt() if self.browser_token is None else None

    def payload(self) -> dict[str, Any]:
        """Return the payload on the wire."""
        return given(
            user_id=self.user_id,
            scope=self.scope.value,
            browser_token=value_of(self.browser_token),
            session_ref=self.session_ref,
            session_id=self.session_id,
            device_id=self.device_id,
        )

    def read(self, answer: Answered) -> LogoutReceipt:
        """Return what the worker answered."""
        return reading.receipt(answer)


@dataclass(frozen=True, slots=True, kw_only=True)
class RevokeUser(Request["LogoutReceipt"]):
    """End everything of a user, at Mosaic too, also what was never registered.

    Args:
        user_id: whose sessions. The app needs a capability from the operator.
        frontend: also the sessions that front ends hold by themselves.
        wait: as of `logout`; the receipt's ``idp_user`` says what Mosaic has confirmed.
        timeout: in seconds.
        request_id: of an earlier `NotAcknowledged`, to repeat that very request.

    Repeated, and raises, as `logout` does. The user may sign in again.
    """

    task: ClassVar[Task] = Task.REVOKE_USER
    is_repeated: ClassVar[bool] = True
    is_acknowledged: ClassVar[bool] = True
    user_id: str = field(kw_only=False)
    frontend: bool = False
    wait: LogoutWait | str = LogoutWait.LOCAL
    timeout: float = field(default=LONG_TIMEOUT_SECONDS, repr=False)

    def _check(self) -> None:
        check_wait(self.wait)

    def payload(self) -> dict[str, Any]:
        """Return the payload on the wire."""
        return given(user_id=self.user_id, frontend=self.frontend or None)

    def read(self, answer: Answered) -> LogoutReceipt:
        """Return what the worker answered."""
        return reading.receipt(answer)


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt(Request["LogoutReceipt"]):
    """Return what became of a logout of this app.

    Args:
        receipt_id: of the receipt that the logout returned.
        timeout: in seconds.
        request_id: the idempotency key; a new one unless given.
    """

    task: ClassVar[Task] = Task.RECEIPT
    receipt_id: str = field(kw_only=False)

    def payload(self) -> dict[str, Any]:
        """Return the payload on the wire."""
        return {"receipt_id": self.receipt_id}

    def read(self, answer: Answered) -> LogoutReceipt:
        """Return what the worker answered."""
        return reading.receipt(answer)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfirmNotice(Request[None]):
    """Tell the worker that a notice from this app's queue was acted on.

    Args:
        notice: as `session_client.open_notice` returned it.
        timeout: in seconds.
        request_id: of an earlier `NotAcknowledged`, to repeat that very request.

    Raises `NotAcknowledged`. Until the worker knows, the notice comes again by itself, so that an
    app may also let the error pass and confirm the next one.
    """

    task: ClassVar[Task] = Task.CONFIRM_NOTICE
    is_repeated: ClassVar[bool] = True
    is_acknowledged: ClassVar[bool] = True
    notice: LogoutNotice = field(kw_only=False)

    def payload(self) -> dict[str, Any]:
        """Return the payload on the wire."""
        return {"notice_id": self.notice.notice_id}

    def read(self, answer: Answered) -> None:
        """Accept what the worker answered."""
        reading.require_ok(answer)


def content_of(
    request: Request[Any], *, app_id: str, request_id: str, issued_at: datetime, lifetime: timedelta
) -> dict[str, Any]:
    """Return what is sealed: the request with everything the worker checks before it acts."""
    return {
        "v": contract.VERSION,
        "task": request.task.value,
        "app_id": app_id,
        "request_id": request_id,
        "issued_at": times.to_wire(issued_at),
        "deadline": times.to_wire(issued_at + lifetime),
        "payload": request.payload(),
    }


def given(**values: Any) -> dict[str, Any]:
    """Return *values* without those that were not given."""
    return {name: value for name, value in values.items() if value is not None}


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


def value_of(name: str | NotGiven | None) -> str | None:
    """Return *name*; None also when it was left out."""
    return None if isinstance(name, NotGiven) else name


def check_wait(wanted: object) -> None:
    """Raise `ConfigurationError` unless a logout can wait for that."""
    if wanted not in set(LogoutWait):
        raise ConfigurationError("wait: local, idp or all")


def _check_alone(*other_names: object) -> None:
    if any(name is not None for name in other_names):
        raise ConfigurationError("browser_token: alone, also where the browser has none")


_NOBODY: Final = LoginRequired(Reason.NO_SESSION.value)
