"""How people sign in at the pretend worker: passwords, codes, links, authenticator apps, passkeys.

What was begun goes on with its handle, in the browser where it was begun.
"""

from __future__ import annotations

import base64
import json
import secrets
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

from session_client import contract, times
from session_client._pretend.planned import NotPretended, Reply
from session_client._pretend.sign_in import judged
from session_client._pretend.store import Call, PretendSession, Store, end, no_session
from session_client.contract import Reason, Verdict

# The methods that send a code, and the factor that it proves; by text message it is another.
_CODES: Final = {"otp": "eotp", "otp_direct": "otp", "link": "eml", "link_direct": "eml"}
_BY_TEXT_MESSAGE: Final = "sms"
# What goes on with what was begun: a code is a code, whoever brings it to the user.
_GOES_ON: Final = {"otp_direct": "otp", "link_direct": "link"}
_PASSKEY: Final = "webauthn"
_TRANSACTION: Final = "totp_transaction"
# What proves the user without a first step.
_FACTORS: Final = {"password": "pwd", "totp": "totp"}


@dataclass(eq=False)
class Begun:
    """A login that goes on elsewhere, or a step-up of *session*: what its handle stands for."""

    method: str
    session: PretendSession | None
    user_id: str | None
    factor: str
    code: str = field(default="", repr=False)
    state: str | None = field(default=None, repr=False)
    asked: str | None = None  # a passkey
    challenge: str = field(default="", repr=False)
    approval_data: dict[str, str] | None = field(default=None, repr=False)
    expires_at: datetime = field(default_factory=lambda: times.now() + contract.LOGIN_LIFETIME)
    is_used: bool = False


@dataclass(frozen=True, slots=True)
class _Raised:
    """The session that a factor is added to, and whether its browser has the newest token."""

    session: PretendSession
    is_newest: bool


class Logins:
    """The logins that were begun."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._begun: dict[str, Begun] = {}

    def start(self, call: Call) -> Reply:
        """Answer a first step: alike for users who exist and for others."""
        method, fields = call.payload["method"], call.payload["fields"]
        if method not in {*_CODES, _PASSKEY, _TRANSACTION}:
            raise NotPretended(f"the first step of {method}", "Start")
        raised = self._raised(call)
        if isinstance(raised, Reply):
            return raised
        if raised is not None and not raised.is_newest:
            return Reply(Verdict.LOGIN_REQUIRED, Reason.TOKEN_REPLACED.value)
        session = None if raised is None else raised.session
        approval_data = call.payload.get("approval_data")
        if method == _PASSKEY:
            return self._begin_passkey(session, fields.get("username"), approval_data)
        if session is not None and method == _TRANSACTION:
            return self._begin_transaction(session, approval_data)
        is_text = fields.get("channel") == _BY_TEXT_MESSAGE
        factor = _BY_TEXT_MESSAGE if is_text else _CODES[method]
        user_id = self._named(fields) if session is None else session.user_id
        begun = Begun(method, session, user_id, factor, f"{secrets.randbelow(10**6):06}")
        begun.approval_data = approval_data
        self._store.codes[user_id] = begun.code  # also for users who do not exist
        shown: dict[str, Any] = {}
        if method.endswith("_direct"):
            shown["code"] = begun.code
        if method.startswith("link"):
            begun.state = shown["state"] = secrets.token_urlsafe(32)
        return self._handed_out(begun, shown)

    def _begin_transaction(self, session: PretendSession, approval_data: Any) -> Reply:
        begun = Begun(_TRANSACTION, session, session.user_id, _FACTORS["totp"])
        begun.approval_data, begun.challenge = approval_data, secrets.token_urlsafe(16)
        return self._handed_out(begun, {"challenge": begun.challenge})

    def _begin_passkey(
        self, session: PretendSession | None, user_id: str | None, approval_data: Any
    ) -> Reply:
        allowed = [key for key, owner in self._store.passkeys.items() if owner == user_id]
        if user_id is not None and not allowed:
            return _denied(Reason.INVALID_CREDENTIALS)
        asked = secrets.token_urlsafe(24)
        options = {
            "challenge": secrets.token_urlsafe(32),
            "rpId": "apps.example.com",
            "timeout": 300_000,
            "userVerification": "preferred",
            "allowCredentials": [{"type": "public-key", "id": key} for key in allowed],
        }
        begun = Begun(_PASSKEY, session, user_id, _PASSKEY, asked=asked)
        begun.approval_data = approval_data
        shown = {"webauthn_session_id": asked, "credential_request_options": options}
        return self._handed_out(begun, {"options": shown})

    def _handed_out(self, begun: Begun, shown: dict[str, Any]) -> Reply:
        handle = secrets.token_urlsafe(32)
        self._begun[handle] = begun
        seconds = int(contract.LOGIN_LIFETIME.total_seconds())
        return Reply(Verdict.OK, None, {"login": handle, "expires_in": seconds, **shown})

    def authenticate(self, call: Call) -> Reply:
        """Answer a proof: a login, or a factor more."""
        begun = self._found(call)
        if isinstance(begun, Reply):
            return begun
        raised = self._raised(call)
        if isinstance(raised, Reply):
            return raised
        session = None if raised is None else raised.session
        if begun is not None and begun.session is not session:
            return _denied(Reason.WRONG_BROWSER)
        user_id = self._proven_user(call, begun, session)
        if user_id is None or (session is not None and session.user_id != user_id):
            return _denied(Reason.INVALID_CREDENTIALS)
        if begun is None:
            factor = _FACTORS[call.payload["method"]]
        else:
            factor, begun.is_used = begun.factor, True
        if raised is None:
            return self._opened(call, user_id, factor)
        approved = None if begun is None else begun.approval_data
        return _with_approval(self._strengthened(call, raised, factor), approved)

    def _found(self, call: Call) -> Begun | Reply | None:
        """Return what the request's handle stands for; None without one."""
        if call.payload.get("login") is None:
            return None
        begun = self._begun.get(call.payload["login"])
        method, state = call.payload["method"], call.payload["fields"].get("state")
        if begun is None or _GOES_ON.get(begun.method, begun.method) != method:
            return _denied(Reason.WRONG_BROWSER)
        if state not in {None, begun.state}:
            return _denied(Reason.WRONG_BROWSER)
        is_over = begun.is_used or times.now() >= begun.expires_at
        return _denied(Reason.CODE_EXPIRED) if is_over else begun

    def _raised(self, call: Call) -> _Raised | Reply | None:
        """Return the session that this browser's token names, to add a factor to."""
        token = call.payload.get("step_up")
        if token is None:
            return None
        session = self._store.by_token(token)
        if session is None:
            return no_session()
        if session.ended is not None:
            return Reply(Verdict.LOGIN_REQUIRED, session.ended)
        replaced = session.replaced.get(token)
        # Two tabs at once may both add their factor.
        if replaced is None or (replaced.is_recent and replaced.by_factor):
            return _Raised(session, is_newest=replaced is None)
        reason = Reason.TOKEN_REPLACED if replaced.is_recent else Reason.NO_SESSION
        return Reply(Verdict.LOGIN_REQUIRED, reason.value)

    def _proven_user(
        self, call: Call, begun: Begun | None, session: PretendSession | None
    ) -> str | None:
        """Return the user whom the proof proves; None if it proves no user."""
        store, fields, method = self._store, call.payload["fields"], call.payload["method"]
        if method == "password":
            user_id = store.user_of(str(fields["username"]), str(fields["username_type"]))
            return user_id if store.users.get(user_id) == fields["password"] else None
        if method in {"totp", _TRANSACTION}:
            user_id = self._named(fields) if session is None else session.user_id
            shown = fields["code"], "" if begun is None else begun.challenge
            # A right code is used up.
            is_right = store.authenticators.get(user_id) == shown
            return user_id if is_right and store.authenticators.pop(user_id) else None
        if begun is None or method not in {"otp", "link", _PASSKEY}:
            raise NotPretended(f"a login by {method}", "Authenticate")
        if method == _PASSKEY:
            return self._signed(begun, fields["result"])
        is_right = fields["code"] == begun.code and begun.user_id in store.users
        return begun.user_id if is_right else None

    def _named(self, fields: dict[str, Any]) -> str:
        kind = str(fields.get("identifier_type"))
        return self._store.user_of(str(fields.get("identifier")), kind)

    def _signed(self, begun: Begun, result: str) -> str | None:
        """Return whose passkey has answered what was asked. One answer uses a question up."""
        try:
            result_fields = json.loads(base64.b64decode(result))
            asked, key = result_fields["webauthn_session_id"], result_fields["credential"]["id"]
        except (ValueError, KeyError, TypeError):
            return None
        is_asked, begun.asked = asked == begun.asked, None
        owner = self._store.passkeys.get(key) if is_asked else None
        return owner if begun.user_id in {None, owner} else None

    def _opened(self, call: Call, user_id: str, factor: str) -> Reply:
        """Open a session in place of the one that the browser came with."""
        replaced = self._store.by_token(call.payload.get("replaces"))
        if replaced is not None:
            end(replaced, Reason.REPLACED.value)
        session = self._store.sign_in(user_id, (factor,))
        session.device_id = call.payload.get("device_id")
        return self._answer(call, session, session.token)

    def _strengthened(self, call: Call, raised: _Raised, factor: str) -> Reply:
        """Add *factor* to the session, whose older tokens and tickets give nothing from now on."""
        store, session = self._store, raised.session
        session.authenticated_at = times.now()
        # Mosaic calls it several factors once there are two.
        factors = {*session.amr, factor} - {"mfa"}
        several = {"mfa"} if len(factors) > 1 or "mfa" in session.amr else set()
        session.amr = tuple(sorted(factors | several))
        if not raised.is_newest:
            return self._answer(call, session, None)
        for token in list(session.tokens):
            session.replace_token(token, by_factor=True)
        store.tickets = {
            ticket: carried
            for ticket, carried in store.tickets.items()
            if carried.session is not session
        }
        return self._answer(call, session, session.give_token())

    def _answer(self, call: Call, session: PretendSession, token: str | None) -> Reply:
        session.apps.add(call.app_id)
        return judged(
            self._store,
            call,
            session,
            asked=False,
            browser_token=token,
            known_browser="pretend-mark",
        )


def _with_approval(reply: Reply, approval_data: dict[str, str] | None) -> Reply:
    if approval_data is None or reply.verdict is not Verdict.AUTHENTICATED:
        return reply
    return replace(reply, data={**reply.data, "approval_data": approval_data})


def _denied(reason: Reason) -> Reply:
    return Reply(Verdict.ACCESS_DENIED, reason.value)
