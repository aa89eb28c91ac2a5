"""What the pretend worker does not know, and the answers that a test plans in its place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from typing import Any, TypeAlias

from session_client import times
from session_client.begun import Begun
from session_client.contract import Verdict
from session_client.values import (
    Authenticated,
    Denied,
    LoginRequired,
    LogoutReceipt,
    Registered,
    StepUpRequired,
    Ticket,
)

Planned: TypeAlias = (
    Authenticated
    | Begun
    | Denied
    | LoginRequired
    | LogoutReceipt
    | Registered
    | StepUpRequired
    | Ticket
    | None
)


class NotPretended(Exception):  # noqa: N818 - reads as the state it reports
    """The pretend worker does not know this call: plan its answer by `SessionWorker.next`.

    It knows all but registrations, social logins, signatures of phones, confirmed notices, and
    logouts by Mosaic's own id. ``request`` is the class that `SessionWorker.next` takes; None for
    notices from a queue, which no answer can be planned for.
    """

    def __init__(self, what: str, request: str | None = None) -> None:
        super().__init__(what, request)
        self.request = request

    def __str__(self) -> str:
        unknown = f"session_worker does not know {self.args[0]}"
        if self.request is None:
            return unknown
        return (
            f"{unknown}: plan the answer before the call, by session_worker.next({self.request}, …)"
        )


@dataclass(frozen=True)
class Reply:
    """What a pretend worker answers, before it is sealed."""

    verdict: Verdict
    reason: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    retry_after: float | None = None


def reply_for(value: Planned) -> Reply:
    """Return the answer that a client reads as *value*.

    The claims of an `Authenticated` are read from its ID token; None is a confirmed notice.
    """
    match value:
        case LoginRequired(reason=reason):
            return Reply(Verdict.LOGIN_REQUIRED, reason)
        case Denied(reason=reason, retry_after=seconds):
            return Reply(Verdict.ACCESS_DENIED, reason, retry_after=seconds)
        case StepUpRequired(reason=reason):
            return Reply(Verdict.INTERACTION_REQUIRED, reason, asdict(value))
        case Authenticated(auth_age=age, expires_in=left):
            moments = {"authenticated_at": _in(None if age is None else -age)}
            data = {**asdict(value), **moments, "expires_at": _in(left)}
            return Reply(Verdict.AUTHENTICATED, None, data)
        case None:
            return Reply(Verdict.OK)
    moments = {"expires_at": _in(value.expires_in)} if isinstance(value, Registered) else {}
    return Reply(Verdict.OK, None, {**asdict(value), **moments})


def _in(seconds: float | None) -> str | None:
    return None if seconds is None else times.to_wire(times.now() + timedelta(seconds=seconds))
