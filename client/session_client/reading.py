"""An opened answer, as the values that a call returns.

Each function raises ValueError, KeyError, TypeError or AttributeError for an answer of another
shape; fields of a newer worker are left out.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, cast

from session_client import times
from session_client.contract import Reason, Verdict
from session_client.errors import (
    InvalidRequest,
    OutcomeUnknown,
    Unauthorized,
    Unavailable,
    WorkerUnavailable,
)
from session_client.values import (
    Authenticated,
    Denied,
    LoginRequired,
    LogoutReceipt,
    Registered,
    SessionInfo,
    StepUpRequired,
    Ticket,
    Tokens,
)

if TYPE_CHECKING:
    from session_client.login_steps import FirstStep, S

_GOOD_NEWS = frozenset({Verdict.OK, Verdict.AUTHENTICATED, Verdict.INTERACTION_REQUIRED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What the worker answered, proven to be from it, but for a refusal in clear."""

    verdict: Verdict
    request_id: str
    reason: str | None = None
    retry_after: float | None = None
    detail: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict, repr=False)
    # By the worker's clock, as are the moments in the data; None in clear.
    answered_at: datetime | None = None

    @classmethod
    def from_wire(cls, content: Mapping[str, Any]) -> Answered:
        """Read an opened answer."""
        answered_at = content.get("answered_at")
        return cls(
            verdict=Verdict(content["verdict"]),
            request_id=content["request_id"],
            reason=content.get("reason"),
            retry_after=content.get("retry_after"),
            detail=content.get("detail"),
            data=dict(content.get("data") or {}),
            answered_at=None if answered_at is None else times.from_wire(answered_at),
        )

    @property
    def session_ref(self) -> str | None:
        """The session that it is about, if it is about one."""
        return self.data.get("session_ref")

    @property
    def is_good_news(self) -> bool:
        """Whether it says of its session that it lives."""
        return self.verdict in _GOOD_NEWS

    def in_words(self) -> str:
        """Return verdict, reason and detail as one line for a log; it holds no secret."""
        line = f"{self.verdict}: {self.reason}" if self.reason else str(self.verdict)
        return f"{line} ({self.detail})" if self.detail else line


def raise_unless_about_people(answer: Answered) -> None:
    """Raise what *answer* says of machines and settings."""
    verdict, request_id = answer.verdict, answer.request_id
    if verdict is Verdict.INVALID_REQUEST:
        raise InvalidRequest(answer.reason, request_id, answer.detail)
    if verdict is Verdict.UNAUTHORIZED:
        raise Unauthorized(answer.reason, request_id, answer.detail)
    if verdict is Verdict.TEMPORARILY_UNAVAILABLE:
        raise unavailable(answer)


def unavailable(answer: Answered) -> Unavailable:
    """Return what ``temporarily_unavailable`` is raised as."""
    if answer.reason == Reason.OUTCOME_UNKNOWN:
        return OutcomeUnknown("nobody heard what became of it", request_id=answer.request_id)
    return WorkerUnavailable(
        answer.reason, retry_after=answer.retry_after, request_id=answer.request_id
    )


def signed_in(answer: Answered) -> Authenticated | LoginRequired | StepUpRequired:
    """Read the answer to a silent authentication."""
    value = logged_in(answer)
    if isinstance(value, Denied):
        raise ValueError("only an active login is denied")  # noqa: TRY004 - of what is read
    return value


def logged_in(answer: Answered) -> Authenticated | LoginRequired | StepUpRequired | Denied:
    """Read the answer to a login."""
    if answer.verdict is Verdict.AUTHENTICATED:
        return _authenticated(answer)
    if answer.verdict is Verdict.INTERACTION_REQUIRED:
        return _step_up(answer)
    if answer.verdict is Verdict.ACCESS_DENIED:
        return Denied(_reason(answer), answer.retry_after)
    return _login_required(answer)


def _authenticated(answer: Answered) -> Authenticated:
    data = answer.data
    tokens = _tokens(data["tokens"])
    return Authenticated(
        user_id=data["user_id"],
        session_ref=data["session_ref"],
        tokens=tokens,
        claims=_claims(tokens.id_token),
        amr=tuple(data.get("amr", ())),
        auth_age=_age(answer, data.get("authenticated_at")),
        expires_in=_left(answer, data.get("expires_at")),
        browser_token=data.get("browser_token"),
        known_browser=data.get("known_browser"),
        approval_data=data.get("approval_data"),
    )


def _step_up(answer: Answered) -> StepUpRequired:
    data = answer.data
    return StepUpRequired(
        reason=_reason(answer),
        user_id=data["user_id"],
        session_ref=data["session_ref"],
        missing_amr=tuple(data.get("missing_amr", ())),
        max_age_exceeded=bool(data.get("max_age_exceeded", False)),
        browser_token=data.get("browser_token"),
        known_browser=data.get("known_browser"),
    )


def registered(answer: Answered) -> Registered | LoginRequired:
    """Read the answer to a registration."""
    if answer.verdict is not Verdict.OK:
        return _login_required(answer)
    left = _left(answer, answer.data["expires_at"])
    return Registered(
        session_ref=answer.data["session_ref"],
        expires_in=cast("float", left),
        browser_token=answer.data.get("browser_token"),
    )


def ticket(answer: Answered) -> Ticket | LoginRequired:
    """Read the answer to a question for a ticket."""
    if answer.verdict is not Verdict.OK:
        return _login_required(answer)
    data = answer.data
    return Ticket(
        ticket=data["ticket"],
        transfer_url=data["transfer_url"],
        expires_in=int(data["expires_in"]),
    )


def started(answer: Answered, step: FirstStep[S]) -> S | Denied | LoginRequired:
    """Read the answer to a first step, as that step gives it."""
    if answer.verdict is Verdict.OK:
        return cast("S", step.gives.from_wire(dict(answer.data)))
    if answer.verdict is Verdict.ACCESS_DENIED:
        return Denied(_reason(answer), answer.retry_after)
    return _login_required(answer)


def sessions(answer: Answered) -> tuple[SessionInfo, ...]:
    """Read a list of sessions."""
    require_ok(answer)
    return tuple(
        SessionInfo(
            session_ref=known["session_ref"],
            apps=tuple(known["apps"]),
            amr=tuple(known["amr"]),
            device_id=known.get("device_id"),
            authenticated_at=times.from_wire(known["authenticated_at"]),
            expires_at=times.from_wire(known["expires_at"]),
        )
        for known in answer.data.get("sessions", ())
    )


def receipt(answer: Answered) -> LogoutReceipt:
    """Read the receipt of a logout."""
    require_ok(answer)
    data = answer.data
    counts = ("sessions_ended", "idp_confirmed", "idp_pending", "idp_unconfirmed", "idp_failed")
    names = ("apps_confirmed", "apps_pending", "apps_failed", "session_refs")
    fields: dict[str, Any] = {name: int(data.get(name, 0)) for name in counts}
    fields |= {name: tuple(data.get(name, ())) for name in names}
    return LogoutReceipt(receipt_id=data.get("receipt_id"), idp_user=data.get("idp_user"), **fields)


def require_ok(answer: Answered) -> None:
    """Raise ValueError unless it says ``ok``."""
    if answer.verdict is not Verdict.OK:
        raise ValueError("another verdict than this task has")


def _login_required(answer: Answered) -> LoginRequired:
    if answer.verdict is not Verdict.LOGIN_REQUIRED:
        raise ValueError("another verdict than this task has")
    return LoginRequired(_reason(answer))


def _reason(answer: Answered) -> str:
    return answer.reason or str(answer.verdict)


def _tokens(data: Mapping[str, Any]) -> Tokens:
    return Tokens(
        access_token=data["access_token"],
        token_type=data["token_type"],
        expires_in=int(data["expires_in"]),
        id_token=data.get("id_token"),
        refresh_token=data.get("refresh_token"),
    )


def _claims(id_token: str | None) -> dict[str, Any]:
    """Return what the ID token says: the worker has verified it, and the seal proves that."""
    if id_token is None:
        return {}
    payload = id_token.split(".")[1]
    return dict(json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))))


def _age(answer: Answered, moment: str | None) -> float | None:
    left = _left(answer, moment)
    return None if left is None else max(-left, 0.0)


def _left(answer: Answered, moment: str | None) -> float | None:
    """Return the seconds from the answer to *moment*, by the worker's clock on both sides."""
    if moment is None or answer.answered_at is None:
        return None
    return (times.from_wire(moment) - answer.answered_at).total_seconds()
