"""What an app asks to sign its users out, and what it says and asks about logouts afterwards."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from session_client import naming, reading
from session_client.contract import LogoutScope, LogoutWait, Task
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
from session_client.values import LogoutNotice, LogoutReceipt


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
        _check_wait(self.wait)
        if self.browser_token is None:
            check_alone(
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
        _check_wait(self.wait)

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


def _check_wait(wanted: object) -> None:
    """Raise `ConfigurationError` unless a logout can wait for that."""
    if wanted not in set(LogoutWait):
        raise ConfigurationError("wait: local, idp or all")
