"""What can go wrong in the worker, grouped by who must act.

::

    SessionWorkerError
    ├── RequestRefused          the app must act
    │   ├── InvalidRequest        the request can never be served as it is
    │   └── Unauthorized          it is not proven who asks, or they may not
    ├── TryLater                no actor must act: it passes
    │   ├── MosaicUnavailable     no usable answer: reset, 5xx
    │   │   ├── OutcomeUnknown      likewise, and it was about a proof, which is used up perhaps
    │   │   ├── MosaicTimedOut      no answer within the time it was given
    │   │   └── PageInstead         something on the way to Mosaic answered in its place
    │   ├── MosaicRateLimited     429
    │   ├── HeldBack              a budget or a pause keeps us from calling Mosaic
    │   │   └── BreakerOpen         or that it fails, for this client or for all
    │   ├── StoreUnavailable      the database does not answer, or takes no writes
    │   │   ├── StoreDiskFails      its disk is full, or broken
    │   │   ├── StoreForbids        it answers: our user lacks a right
    │   │   └── StoreTooSlow        it answers: a statement took, or waited for, too long
    │   ├── BrokerUnavailable     a broker that is no Redis does not answer, or refuses us
    │   ├── NoticeUndelivered     an app did not take a notice this time
    │   ├── NotReady              what a worker stands on: it does not start yet
    │   └── SessionChanged        other writers kept winning
    ├── SessionGone             the session does not exist at Mosaic (any more)
    ├── LogoutRefused           Mosaic does not log a session out, nor say that it is over
    ├── UserRefused             Mosaic says that this user may not: a verdict, and no fault
    ├── ProofRefused            Mosaic does not accept a password, a code, or another proof
    ├── LoginRefused            an active login is not accepted: a verdict, as far as it may be told
    ├── OperatorMustAct
    │   ├── ConfigurationError    settings, keys, schema: the worker does not start
    │   ├── ClientRefused         Mosaic refuses this app's client id, secret, key or rights
    │   ├── MosaicContractBroken  Mosaic answers something the protocol sheet does not know
    │   ├── NoticeRefused         an app's notice address will never take this notice
    │   ├── NoticeUnsigned        we have no name or no key to sign a notice with
    │   └── SafetyLimitExceeded   far too many sessions would end at once, or a clock has jumped
    └── TokenRejected           a token that is not what it claims to be
        └── WrongSubject          a valid token about another user

Messages name no secret: they end in logs.
"""

from __future__ import annotations

from session_client.contract import Reason


class SessionWorkerError(Exception):
    """Root of all errors this project raises on purpose."""

    # Of one that a call to Mosaic ends with: whether Mosaic may have got the request.
    was_sent = True


class RequestRefused(SessionWorkerError):  # noqa: N818 - names say what happened
    """The app gets a typed refusal; nothing was changed."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else str(reason))
        self.reason = reason
        self.detail = detail


class InvalidRequest(RequestRefused):
    """Asking again unchanged cannot help."""


class Unauthorized(RequestRefused):
    """The asking app did not prove who it is, or has no right to ask this."""


class TryLater(SessionWorkerError):  # noqa: N818
    """The same request may succeed after *retry_after* seconds."""

    reason = Reason.INTERNAL_ERROR

    def __init__(self, message: str = "", *, retry_after: float = 1.0) -> None:
        super().__init__(message or (self.__doc__ or ""))
        self.retry_after = retry_after


class MosaicUnavailable(TryLater):
    """Mosaic gave no usable answer. A call that changes something may have worked."""

    reason = Reason.IDP_UNAVAILABLE


class OutcomeUnknown(MosaicUnavailable):
    """A proof was sent, and the worker got no answer. It must not be sent again."""

    reason = Reason.OUTCOME_UNKNOWN


class MosaicTimedOut(MosaicUnavailable):
    """Mosaic did not answer within the time it was given, which may have been too short."""


class PageInstead(MosaicUnavailable):
    """A page came, and no answer of Mosaic: something on the way there is down, or keeps us out."""


class MosaicRateLimited(TryLater):
    """Mosaic asks us to slow down, for *retry_after* seconds if it says so."""

    reason = Reason.RATE_LIMITED

    def __init__(self, message: str = "", *, retry_after: float | None = None) -> None:
        super().__init__(message, retry_after=1.0 if retry_after is None else retry_after)
        self.asked_seconds = retry_after


class HeldBack(TryLater):
    """We kept from calling Mosaic: a budget, a pause or a breaker forbids it for now."""

    def __init__(self, message: str, reason: Reason, retry_after: float) -> None:
        super().__init__(message, retry_after=retry_after)
        self.reason = reason


class BreakerOpen(HeldBack):
    """Calls like this one have failed again and again, and few find out when they work again."""


class StoreUnavailable(TryLater):
    """The database does not answer, is locked for too long, or is read-only."""

    reason = Reason.STORE_UNAVAILABLE


class StoreDiskFails(StoreUnavailable):
    """The database is up, and its disk is full or broken. The message says what to do."""


class StoreForbids(StoreUnavailable):
    """PostgreSQL does not let our user do it: a right was taken away. The message says so."""


class StoreTooSlow(StoreUnavailable):
    """PostgreSQL ended a statement of ours by one of its time-outs: it is up, and reached."""


class BrokerUnavailable(TryLater):
    """A broker that is no Redis does not answer, or refuses us. The message says what to do."""

    reason = Reason.INTERNAL_ERROR


class NoticeUndelivered(TryLater):
    """The app did not take the notice: unreachable, too slow, or a server error."""

    reason = Reason.INTERNAL_ERROR


class NotReady(TryLater):
    """The worker must not start yet, but nothing need be changed. The message says why."""


class SessionChanged(TryLater):
    """The session was changed by others each time we came back from Mosaic."""

    reason = Reason.SESSION_CHANGED


class SessionGone(SessionWorkerError):  # noqa: N818
    """Mosaic does not know the session: it was ended elsewhere, or it expired."""


class LogoutRefused(SessionWorkerError):  # noqa: N818
    """Mosaic refuses to log a session out, and does not say that it is over.

    Of a session that a token has proved, an operator must see why. An id that only an app has named
    may be made up.
    """


class UserRefused(SessionWorkerError):  # noqa: N818
    """Mosaic will not serve this user: locked, not active, unknown. *reason* tells the app."""

    def __init__(self, message: str, reason: Reason) -> None:
        super().__init__(message)
        self.reason = reason


class ProofRefused(SessionWorkerError):  # noqa: N818
    """Mosaic does not accept what should prove the user. *reason* is what an app may be told."""

    def __init__(self, message: str, reason: Reason) -> None:
        super().__init__(message)
        self.reason = reason


class LoginRefused(SessionWorkerError):  # noqa: N818
    """A step of an active login is not accepted. *reason* tells the app no more than it may know.

    *retry_after* is in seconds, where trying again later can help.
    """

    def __init__(self, reason: Reason, *, retry_after: float | None = None) -> None:
        super().__init__(str(reason))
        self.reason = reason
        self.retry_after = retry_after


class OperatorMustAct(SessionWorkerError):  # noqa: N818
    """Waiting does not help, and the app cannot help either."""


class ConfigurationError(OperatorMustAct):
    """The worker must not start like this. The message says what to do."""


class ClientRefused(OperatorMustAct):
    """Mosaic refuses the app's client: wrong secret or key, missing role, or not this session."""


class MosaicContractBroken(OperatorMustAct):
    """Mosaic refused our request as malformed, or answered what we cannot read."""


class NoticeRefused(OperatorMustAct):
    """The app refuses the notice for good, or its address must not be called."""


class NoticeUnsigned(OperatorMustAct):
    """Nothing can be signed here. The app is not to blame, so its notices wait for the settings."""


class SafetyLimitExceeded(OperatorMustAct):
    """Something is asked for that no sane state of the world would ask for. Nothing was done."""


class TokenRejected(SessionWorkerError):  # noqa: N818
    """A token failed verification. *check* names the check, e.g. ``signature`` or ``exp``."""

    def __init__(self, check: str) -> None:
        super().__init__(f"token rejected: {check}")
        self.check = check


class WrongSubject(TokenRejected):
    """A valid token about another user. Its session must not be used again."""

    def __init__(self) -> None:
        super().__init__("sub")
