"""What the worker answers, typed. A refusal is an answer with a verdict, not an exception."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self

from session_client import times
from session_client.contract import LogoutWait, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """Tokens of one user for this app's client. ``expires_in`` counts seconds from the answer."""

    access_token: str = field(repr=False)
    token_type: str
    expires_in: int
    id_token: str | None = field(default=None, repr=False)
    refresh_token: str | None = field(default=None, repr=False)

    @classmethod
    def from_wire(cls, data: dict[str, Any]) -> Self:
        """Read the tokens of an answer. Fields of a newer worker are left out."""
        return cls(
            access_token=data["access_token"],
            token_type=data["token_type"],
            expires_in=int(data["expires_in"]),
            id_token=data.get("id_token"),
            refresh_token=data.get("refresh_token"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What all answers have in common.

    ``reason`` is one of `contract.Reason`, or a newer worker's that this client does not know:
    go by the verdict then. ``retry_after`` is in seconds. ``detail`` is for a developer's eyes.
    """

    verdict: Verdict
    request_id: str
    reason: str | None = None
    retry_after: float | None = None
    detail: str | None = None

    @property
    def is_yes(self) -> bool:
        """Whether what was asked for happened."""
        return self.verdict in {Verdict.OK, Verdict.AUTHENTICATED}

    def in_words(self) -> str:
        """Return verdict, reason and detail as one line for a log; it holds no secret."""
        told = f"{self.verdict}: {self.reason}" if self.reason else str(self.verdict)
        return f"{told} ({self.detail})" if self.detail else told

    @classmethod
    def from_wire(cls, content: dict[str, Any]) -> Self:
        """Read an opened answer; fields it does not know are left out.

        Raises ValueError, KeyError, TypeError or AttributeError when it has another shape.
        """
        return cls(
            verdict=Verdict(content["verdict"]),
            request_id=content["request_id"],
            reason=content.get("reason"),
            retry_after=content.get("retry_after"),
            detail=content.get("detail"),
            **cls._fields(content.get("data") or {}),
        )

    @classmethod
    def _fields(cls, data: dict[str, Any]) -> dict[str, Any]:
        del data
        return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration(Answer):
    """The session is remembered; ``session_ref`` names it from now on and is no secret.

    ``browser_token`` names it in the browser that has just signed in, and is one.
    """

    session_ref: str | None = None
    expires_at: datetime | None = None
    browser_token: str | None = field(default=None, repr=False)

    @classmethod
    def _fields(cls, data: dict[str, Any]) -> dict[str, Any]:
        return {
            "session_ref": data.get("session_ref"),
            "expires_at": _moment(data.get("expires_at")),
            "browser_token": data.get("browser_token"),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Authentication(Answer):
    """Tokens, or what is missing: on ``interaction_required`` step this browser's session up.

    ``user_id`` says who it is. ``browser_token`` comes where the browser gets a new one: after an
    active login, an added factor, a ticket. ``known_browser`` marks the browser as one in which
    this user has signed in; keep it in a cookie of its own, for `authenticate`.
    """

    tokens: Tokens | None = None
    user_id: str | None = None
    session_ref: str | None = None
    expires_at: datetime | None = None
    amr: tuple[str, ...] = ()
    missing_amr: tuple[str, ...] = ()
    max_age_exceeded: bool = False
    browser_token: str | None = field(default=None, repr=False)
    known_browser: str | None = field(default=None, repr=False)

    @classmethod
    def _fields(cls, data: dict[str, Any]) -> dict[str, Any]:
        tokens = data.get("tokens")
        return {
            "tokens": Tokens.from_wire(tokens) if tokens else None,
            "user_id": data.get("user_id"),
            "session_ref": data.get("session_ref"),
            "expires_at": _moment(data.get("expires_at")),
            "amr": tuple(data.get("amr", ())),
            "missing_amr": tuple(data.get("missing_amr", ())),
            "max_age_exceeded": bool(data.get("max_age_exceeded", False)),
            "browser_token": data.get("browser_token"),
            "known_browser": data.get("known_browser"),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket(Answer):
    """Send the browser with ``ticket`` to ``transfer_url`` of the other app, within a minute."""

    ticket: str | None = field(default=None, repr=False)
    transfer_url: str | None = None
    expires_in: int | None = None

    @classmethod
    def _fields(cls, data: dict[str, Any]) -> dict[str, Any]:
        return {name: data.get(name) for name in ("ticket", "transfer_url", "expires_in")}


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionInfo:
    """One live session as the store knows it."""

    session_ref: str
    apps: tuple[str, ...]
    amr: tuple[str, ...]
    device_id: str | None
    authenticated_at: datetime
    expires_at: datetime

    @classmethod
    def from_wire(cls, data: dict[str, Any]) -> Self:
        """Read one session of a status answer."""
        return cls(
            session_ref=data["session_ref"],
            apps=tuple(data["apps"]),
            amr=tuple(data["amr"]),
            device_id=data.get("device_id"),
            authenticated_at=times.from_wire(data["authenticated_at"]),
            expires_at=times.from_wire(data["expires_at"]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionList(Answer):
    """The user's live sessions that the asking app shares."""

    sessions: tuple[SessionInfo, ...] = ()

    @classmethod
    def _fields(cls, data: dict[str, Any]) -> dict[str, Any]:
        return {"sessions": tuple(SessionInfo.from_wire(s) for s in data.get("sessions", ()))}


@dataclass(frozen=True, slots=True, kw_only=True)
class LogoutReceipt(Answer):
    """The logout is committed: no session in its scope gives tokens any more.

    ``sessions_ended`` counts what it found live. ``idp_confirmed`` and ``idp_pending`` count the
    sessions that Mosaic has ended and those it must still be told about; ``idp_unconfirmed``
    those that expired there before it could be told, and ``idp_failed`` those it could not be
    told about until an operator acts. ``apps_…`` name the other apps that have confirmed that
    they were told, that are still to be told, and that could not be told. ``idp_user`` says, after
    `revoke_user`, what became of the user's sessions at Mosaic that nobody registered: ``pending``,
    ``confirmed`` or ``failed``. ``session_refs`` name those of the sessions that this app shares.
    """

    receipt_id: str | None = None
    sessions_ended: int = 0
    idp_confirmed: int = 0
    idp_pending: int = 0
    idp_unconfirmed: int = 0
    idp_failed: int = 0
    idp_user: str | None = None
    apps_confirmed: tuple[str, ...] = ()
    apps_pending: tuple[str, ...] = ()
    apps_failed: tuple[str, ...] = ()
    session_refs: tuple[str, ...] = ()

    def has_reached(self, wanted: LogoutWait) -> bool:
        """Whether nothing is pending any more of what *wanted* waits for.

        Never of a refusal: it says nothing about the logout.
        """
        idp = self.idp_pending == 0 and self.idp_user != "pending"
        return (
            self.is_yes
            and {
                LogoutWait.LOCAL: True,
                LogoutWait.IDP: idp,
                LogoutWait.ALL: idp and not self.apps_pending,
            }[wanted]
        )

    @classmethod
    def _fields(cls, data: dict[str, Any]) -> dict[str, Any]:
        counts = ("sessions_ended", "idp_confirmed", "idp_pending", "idp_unconfirmed", "idp_failed")
        names = ("apps_confirmed", "apps_pending", "apps_failed", "session_refs")
        return {
            "receipt_id": data.get("receipt_id"),
            **{name: int(data.get(name, 0)) for name in counts},
            "idp_user": data.get("idp_user"),
            **{name: tuple(data.get(name, ())) for name in names},
        }


def _moment(text: str | None) -> datetime | None:
    return None if text is None else times.from_wire(text)
