"""A model of the worker for tests of apps: people, their sessions, and what it answers.

It is held to the real worker by one set of stories that runs against both.
"""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from session_client import contract, times
from session_client._planned import NotPretended, Told
from session_client.contract import Reason, Task, Verdict

_LASTS: Final = timedelta(days=14)
# The methods that send a code, and the factor that it proves; by text message it is another.
_CODES: Final = {"otp": "eotp", "otp_direct": "otp", "link": "eml", "link_direct": "eml"}
_BY_TEXT_MESSAGE: Final = "sms"
# What a test has to plan, by the classes of requests that are planned with.
_UNKNOWN: Final = {
    Task.REGISTER: "Register",
    Task.REFRESH: "Refresh",
    Task.TICKET: "IssueTicket",
    Task.RECEIPT: "Receipt",
    Task.CONFIRM_NOTICE: "ConfirmNotice",
}


@dataclass
class PretendSession:
    """One session of a user, with the browser token that names it now."""

    user_id: str
    amr: tuple[str, ...]
    authenticated_at: datetime
    session_ref: str = field(default_factory=lambda: secrets.token_hex(16))
    token: str = field(default_factory=lambda: f"msb1_{secrets.token_urlsafe(32)}")
    replaced: list[str] = field(default_factory=list)
    ended: str | None = None
    device_id: str | None = None


@dataclass(frozen=True)
class _Begun:
    """A login whose code is on its way, or a step-up of *session*."""

    user_id: str
    code: str = field(repr=False)
    factor: str
    session: PretendSession | None


class Pretend:
    """All that the model knows. ``policy`` are factors that every answer with tokens needs."""

    def __init__(self) -> None:
        self.users: dict[str, str] = {}
        self.codes: dict[str, str] = {}
        self.sessions: list[PretendSession] = []
        self.policy: list[str] = []
        self.capabilities: set[str] = set()
        self._logins: dict[str, _Begun] = {}

    def sign_in(self, user_id: str, amr: tuple[str, ...], age: float = 0.0) -> PretendSession:
        """Open a session, as if at another app, *age* seconds ago."""
        session = PretendSession(user_id, amr, times.now() - timedelta(seconds=age))
        self.sessions.append(session)
        return session

    def end(self, session: PretendSession, reason: str = Reason.LOGGED_OUT.value) -> int:
        """End *session*; return how many that were."""
        if session.ended is not None:
            return 0
        session.ended = reason
        return 1

    def answer(self, task: Task, payload: Mapping[str, Any]) -> Told:
        """Return what the worker would answer."""
        handlers: Mapping[Task, Callable[[Mapping[str, Any]], Told]] = {
            Task.SILENT_AUTH: self._silent_auth,
            Task.START: self._start,
            Task.AUTHENTICATE: self._authenticate,
            Task.STATUS: self._status,
            Task.LOGOUT: self._logout,
            Task.REVOKE_USER: self._logout,
        }
        if task in _UNKNOWN:
            raise NotPretended(task.value, _UNKNOWN[task])
        return handlers[task](payload)

    def _silent_auth(self, payload: Mapping[str, Any]) -> Told:
        if payload.get("ticket") is not None:
            raise NotPretended("a silent sign-in by ticket", "SilentAuth")
        token, device = payload.get("browser_token"), payload.get("device_id")
        if token is not None:
            session, reason = self._by_token(token)
            if session is not None and device not in {None, session.device_id}:
                reason = Reason.NO_SESSION.value
        elif payload.get("session_ref") is not None:
            session = self._by_ref(payload)
            reason = Reason.NO_SESSION if session is None else session.ended
        else:
            if "silent_by_user" not in self.capabilities:
                return Told(Verdict.UNAUTHORIZED, Reason.NOT_PERMITTED.value)
            mine = [s for s in self._of(payload["user_id"]) if s.device_id == device]
            live = [s for s in mine if s.ended is None]
            found = live or mine
            session = found[-1] if found else None
            reason = Reason.NO_SESSION.value if session is None else session.ended
        if session is None or reason is not None:
            return Told(Verdict.LOGIN_REQUIRED, str(reason))
        return self._judged(session, payload)

    def _judged(
        self, session: PretendSession, payload: Mapping[str, Any], **more: str | None
    ) -> Told:
        """Hold *session* to the policy, and to what *payload* asks for besides."""
        wanted = {*self.policy, *payload.get("amr_all_of", ())}
        any_of = set(payload.get("amr_any_of", ()))
        missing = sorted(wanted - set(session.amr))
        if any_of and any_of.isdisjoint(session.amr):
            missing += sorted(any_of)
        data: dict[str, Any] = {
            "user_id": session.user_id,
            "session_ref": session.session_ref,
            "amr": list(session.amr),
            **{name: value for name, value in more.items() if value is not None},
        }
        max_age = payload.get("max_age")
        age = (times.now() - session.authenticated_at).total_seconds()
        if missing:
            data["missing_amr"] = missing
            return Told(Verdict.INTERACTION_REQUIRED, Reason.AMR_MISSING.value, data)
        if max_age is not None and age > max_age:
            data["max_age_exceeded"] = True
            return Told(Verdict.INTERACTION_REQUIRED, Reason.MAX_AGE_EXCEEDED.value, data)
        data |= {
            "tokens": _tokens(session),
            "authenticated_at": times.to_wire(session.authenticated_at),
            "expires_at": times.to_wire(times.now() + _LASTS),
        }
        return Told(Verdict.AUTHENTICATED, None, data)

    def _start(self, payload: Mapping[str, Any]) -> Told:
        method = payload["method"]
        if method not in _CODES:
            raise NotPretended(f"the first step of {method}", "Start")
        is_text = payload["fields"].get("channel") == _BY_TEXT_MESSAGE
        factor = _BY_TEXT_MESSAGE if is_text else _CODES[method]
        session = None
        user_id = str(payload["fields"].get("identifier", ""))
        if payload.get("step_up") is not None:
            session, reason = self._by_token(payload["step_up"])
            if session is None or reason is not None:
                return Told(Verdict.LOGIN_REQUIRED, str(reason))
            user_id = session.user_id
        handle, code = secrets.token_urlsafe(32), f"{secrets.randbelow(10**6):06}"
        self._logins[handle] = _Begun(user_id, code, factor, session)
        self.codes[user_id] = code  # it says so of users who do not exist as well
        shown = {"login": handle, "expires_in": 600}
        if method.endswith("_direct"):
            shown["code"] = code
        if method.startswith("link"):
            shown["state"] = secrets.token_urlsafe(32)
        return Told(Verdict.OK, None, shown)

    def _authenticate(self, payload: Mapping[str, Any]) -> Told:
        fields, method = payload["fields"], payload["method"]
        raised, reason = (
            (None, None) if payload.get("step_up") is None else self._by_token(payload["step_up"])
        )
        if reason is not None:
            return Told(Verdict.LOGIN_REQUIRED, str(reason))
        if method == "password":
            user_id, factor = str(fields["username"]), "pwd"
            is_right = self.users.get(user_id) == fields["password"]
        elif method in _CODES:
            begun = self._logins.get(str(payload.get("login")))
            if begun is None or begun.session is not raised:
                return Told(Verdict.ACCESS_DENIED, Reason.WRONG_BROWSER.value)
            user_id, factor = begun.user_id, begun.factor
            is_right = fields["code"] == begun.code and user_id in self.users
        else:
            raise NotPretended(f"a login by {method}", "Authenticate")
        if raised is not None and raised.user_id != user_id:
            return Told(Verdict.ACCESS_DENIED, Reason.NOT_ALLOWED.value)
        if not is_right:
            return Told(Verdict.ACCESS_DENIED, Reason.INVALID_CREDENTIALS.value)
        self._logins.pop(str(payload.get("login")), None)
        session = self._proven(raised, user_id, factor, payload)
        return self._judged(session, {}, browser_token=session.token, known_browser="pretend-mark")

    def _proven(
        self,
        raised: PretendSession | None,
        user_id: str,
        factor: str,
        payload: Mapping[str, Any],
    ) -> PretendSession:
        """Add *factor* to the session of this browser, or open one in place of it."""
        if raised is None:
            replaced, _ = self._by_token(payload.get("replaces"))
            if replaced is not None:
                self.end(replaced, Reason.REPLACED.value)
            session = self.sign_in(user_id, (factor,))
            session.device_id = payload.get("device_id")
            return session
        raised.replaced.append(raised.token)
        raised.token = f"msb1_{secrets.token_urlsafe(32)}"
        raised.authenticated_at = times.now()
        # Mosaic calls it several factors once a password is joined by anything else.
        several = {"mfa"} if "pwd" in raised.amr and factor != "pwd" else set()
        raised.amr = tuple(sorted({*raised.amr, factor, *several}))
        return raised

    def _status(self, payload: Mapping[str, Any]) -> Told:
        wanted = payload.get("session_ref")
        live = [
            {
                "session_ref": session.session_ref,
                "apps": ["pretend"],
                "amr": list(session.amr),
                "device_id": session.device_id,
                "authenticated_at": times.to_wire(session.authenticated_at),
                "expires_at": times.to_wire(times.now() + _LASTS),
            }
            for session in self._of(payload["user_id"])
            if session.ended is None and wanted in {None, session.session_ref}
        ]
        return Told(Verdict.OK, None, {"sessions": live[::-1]})

    def _logout(self, payload: Mapping[str, Any]) -> Told:
        if payload.get("browser_token") is not None:
            session, _ = self._by_token(payload["browser_token"])
            ended = [session] if session is not None else []
        elif payload.get("session_ref") is not None:
            session = self._by_ref(payload)
            ended = [session] if session is not None else []
        else:
            device = payload.get("device_id")
            ended = [s for s in self._of(payload["user_id"]) if device in {None, s.device_id}]
        count = sum(self.end(session) for session in ended)
        refs = [session.session_ref for session in ended]
        receipt = {
            "receipt_id": secrets.token_hex(16),
            "sessions_ended": count,
            "idp_confirmed": count,
            "session_refs": refs,
        }
        return Told(Verdict.OK, None, receipt)

    def _of(self, user_id: str) -> list[PretendSession]:
        return [session for session in self.sessions if session.user_id == user_id]

    def _by_ref(self, payload: Mapping[str, Any]) -> PretendSession | None:
        mine = (s for s in self._of(payload["user_id"]) if s.session_ref == payload["session_ref"])
        return next(mine, None)

    def _by_token(self, token: str | None) -> tuple[PretendSession | None, str | None]:
        """Return whose *token* is, and why it gives nothing, if so."""
        for session in self.sessions:
            if token == session.token or token in session.replaced:
                replaced = None if token == session.token else Reason.TOKEN_REPLACED.value
                return session, session.ended or replaced
        return None, Reason.NO_SESSION.value


def about(app_id: str, issuer: str, keys: list[dict[str, str]]) -> Told:
    """Return what the worker says of an app."""
    data = {
        "app_id": app_id,
        "capabilities": [],
        "methods": [method.value for method in contract.Method],
        "notice_issuer": issuer,
        "notice_audience": f"client-{app_id}",
        "notice_keys": keys,
    }
    return Told(Verdict.OK, None, data)


def _tokens(session: PretendSession) -> dict[str, Any]:
    claims = {"sub": session.user_id, "amr": list(session.amr)}
    id_token = ".".join(_encoded(json.dumps(part)) for part in ({"alg": "none"}, claims))
    return {
        "access_token": secrets.token_urlsafe(16),
        "token_type": "bearer",
        "expires_in": 3600,
        "id_token": f"{id_token}.",
    }


def _encoded(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()
