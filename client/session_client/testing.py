"""The testing kit: a pretend worker behind every client of the process. For pytest.

In the app's ``conftest.py``::

    pytest_plugins = ["session_client.testing"]

and in a test::

    def test_a_stronger_page_asks_for_a_code(session_worker, client):
        ada = session_worker.sign_in("ada", amr=["pwd"])  # as if at another app
        client.set_cookie(*ada.cookie)
        assert client.get("/account", headers=session_worker.page).status_code == 303

Requests are really sealed, answers really opened, notices really verified. Without the fixture
`session_worker` no client of a test reaches a worker: each call fails, and names the fixture.
"""

from __future__ import annotations

import base64
import json
import secrets
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256

from session_client import contract, sealing, times
from session_client._core.app import App
from session_client._core.message import Message
from session_client._pretend import model
from session_client._pretend.driver import AsyncDriver, Driver
from session_client._pretend.model import Pretend
from session_client._pretend.planned import NotPretended, Planned, Reply, reply_for
from session_client._pretend.store import Call, PretendPasskey, PretendSession, end
from session_client.browser_cookie import BrowserCookie
from session_client.client import AsyncSessionClient, SessionClient
from session_client.contract import Task
from session_client.errors import Unavailable
from session_client.notices import BACKCHANNEL_EVENT
from session_client.requests import Request

__all__ = [
    "ISSUER",
    "Called",
    "NotPretended",
    "PretendLogin",
    "PretendPasskey",
    "SessionWorker",
    "no_session_worker",
    "session_worker",
]

ISSUER: Final = "https://sessions.test"


@dataclass(frozen=True)
class PretendLogin:
    """Somebody who has signed in at another app, in a browser that is still to be given its cookie.

    ``cookie`` is the cookie's name and value.
    """

    session: PretendSession
    cookie: tuple[str, str]

    @property
    def user_id(self) -> str:
        """Who it is."""
        return self.session.user_id

    @property
    def session_ref(self) -> str:
        """The reference of the session, as apps that share it keep it."""
        return self.session.session_ref


@dataclass(frozen=True)
class Called:
    """One call that reached the worker: its task, its app, and the payload on the wire."""

    task: Task
    app_id: str
    payload: Mapping[str, Any]


class SessionWorker:
    """The fixture `session_worker`.

    ``browser`` is the cookie class of the app under test, if it is none of one host alone.
    ``policy`` are factors without which no session gives tokens. ``calls`` is what was asked.
    """

    # How a browser loads a page, and how it sends a form or a page's own script calls its app.
    page: Final = {"Sec-Fetch-Dest": "document", "Sec-Fetch-Site": "none"}
    form: Final = {"Sec-Fetch-Dest": "document", "Sec-Fetch-Site": "same-origin"}
    script: Final = {"Sec-Fetch-Dest": "empty", "Sec-Fetch-Site": "same-origin"}

    def __init__(self) -> None:
        self.browser = BrowserCookie()
        self.calls: list[Called] = []
        self._pretend = Pretend()
        self._store = self._pretend.store
        self._planned: dict[Task, list[Unavailable | Reply]] = defaultdict(list)
        self._given: dict[str, Reply] = {}  # by request id, what was planned

    @property
    def policy(self) -> list[str]:
        """The factors that every session needs here."""
        return self._store.policy

    @policy.setter
    def policy(self, factors: Sequence[str]) -> None:
        self._store.policy = list(factors)

    def allow(self, capability: str) -> None:
        """Give the apps a capability, such as ``silent_by_user``, or ``offline`` for refreshing."""
        self._store.capabilities.add(capability)

    def allow_tickets(self, from_app: str, for_app: str, transfer_url: str) -> None:
        """Let *for_app* take tickets from *from_app*, at its *transfer_url*."""
        self._store.ways[from_app, for_app] = transfer_url

    def add_user(
        self,
        user_id: str,
        password: str = "password",  # noqa: S107
        *,
        email: str | None = None,
        phone: str | None = None,
    ) -> None:
        """Let somebody exist, who may sign in by this password, or by what is sent to them.

        They are named by *user_id*, by *email* as `email`, or by *phone* as `phone_number`.
        """
        self._store.users[user_id] = password
        given = {"email": email, "phone_number": phone}
        for kind, address in given.items():
            if address is not None:
                self._store.addresses[kind, address] = user_id

    def add_passkey(self, user_id: str) -> PretendPasskey:
        """Give somebody a passkey, which answers what `BeginWebauthn` gives."""
        self._store.users.setdefault(user_id, "password")
        passkey = PretendPasskey()
        self._store.passkeys[passkey.credential_id] = user_id
        return passkey

    def sign_in(
        self, user_id: str, *, amr: Sequence[str] = ("pwd",), age: float = 0.0
    ) -> PretendLogin:
        """Sign somebody in, as if at another app, *age* seconds ago."""
        self._store.users.setdefault(user_id, "password")
        session = self._store.sign_in(user_id, tuple(amr), age)
        return PretendLogin(session, (self.browser.name, session.token))

    def code_for(self, user_id: str) -> str:
        """Return the code that was last sent to somebody.

        Raises `LookupError` where none was.
        """
        codes = self._store.codes
        if user_id not in codes:
            raise LookupError(
                f"no code was sent to {user_id!r}, but to {sorted(codes)}: begin a login or a "
                "step-up first, and name addresses by add_user(…, email=…, phone=…)"
            )
        return codes[user_id]

    def totp_for(self, user_id: str, challenge: str = "") -> str:
        """Return what somebody's authenticator app shows; they have one from the first call on.

        Once *challenge* is typed into it, which `BeginTotpTransaction` gives, the code approves by
        that alone. Each call returns a new code, which serves once, in place of the one before.
        """
        self._store.users.setdefault(user_id, "password")
        code = f"{secrets.randbelow(10**6):06}"
        self._store.authenticators[user_id] = code, challenge
        return code

    def end(self, login: PretendLogin) -> None:
        """End a session, as another app does that signs the user out. This sends no notice."""
        end(login.session)

    def is_live(self, login: PretendLogin) -> bool:
        """Whether a session lives."""
        return login.session.ended is None

    def notice(self, login: PretendLogin, app_id: str | None = None) -> dict[str, str]:
        """Return the form that tells an app of the end of a session.

        *app_id* is needed where nothing was asked by the app yet.
        """
        app_id = app_id or self.calls[-1].app_id
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "aud": f"client-{app_id}",
            "iat": now,
            "exp": now + 120,
            "jti": secrets.token_hex(8),
            "events": {BACKCHANNEL_EVENT: {}},
            "sub": login.user_id,
            "sid": login.session.session_ref,
        }
        header = {"alg": "RS256", "typ": "logout+jwt", "kid": "test"}
        signed = b".".join(_encoded(json.dumps(part).encode()) for part in (header, claims))
        signature = self._key.sign(signed, PKCS1v15(), SHA256())
        return {"logout_token": (signed + b"." + _encoded(signature)).decode()}

    def next(
        self,
        call: type[Request[Any]],
        outcome: Unavailable | Planned,
    ) -> None:
        """Let the next call of this kind come to *outcome*.

        *call* is such as `SilentAuth`, *outcome* an outage such as ``NotAnswered()``, or an answer
        such as ``Ticket(…)``. The claims of an `Authenticated` are read from its ID token.

        An outage lasts until the call's time is up, which comes at once: a logout, which is
        repeated until it is acknowledged, raises `NotAcknowledged`. Asked once more, it is served.

        A logout that waits for a receipt asks for each `Receipt` that is planned, and its time is
        up where none is: it returns the last one, pending as it is.
        """
        planned = outcome if isinstance(outcome, Unavailable) else reply_for(outcome)
        self._planned[call.task].append(planned)

    @cached_property
    def _key(self) -> rsa.RSAPrivateKey:
        return rsa.generate_private_key(65537, 2048)

    def _answer(self, app: App, message: Message) -> bytes:
        """Serve one request as the worker does: opened, answered, sealed."""
        content = sealing.unseal(message.envelope, sealing.Kind.REQUEST, app.keys.get)
        call = Call(Task(content["task"]), app.app_id, content["request_id"], content["payload"])
        self.calls.append(Called(call.task, call.app_id, call.payload))
        answered = self._outcome(call)
        answer = {
            "v": contract.VERSION,
            "task": call.task.value,
            "app_id": call.app_id,
            "request_id": call.request_id,
            "answered_at": times.to_wire(times.now()),
            "verdict": answered.verdict.value,
            "reason": answered.reason,
            "retry_after": answered.retry_after,
            "data": dict(answered.data),
        }
        return sealing.seal(app.key, sealing.Kind.ANSWER, answer).encode()

    def _outcome(self, call: Call) -> Reply:
        if call.request_id in self._given:
            return self._given[call.request_id]  # as at the worker: one request, one answer
        if self._planned[call.task]:
            outcome = self._planned[call.task].pop(0)
            if isinstance(outcome, Unavailable):
                outage = copy(outcome)
                outage.request_id = call.request_id
                raise outage
            self._given[call.request_id] = outcome
            return outcome
        if call.task is Task.ABOUT:
            granted = self._store.capabilities
            return model.about(call.app_id, granted, ISSUER, [self._public_key])
        return self._pretend.answer(call)

    @property
    def _public_key(self) -> dict[str, str]:
        numbers = self._key.public_key().public_numbers()
        e, n = (_encoded(_bytes(number)).decode() for number in (numbers.e, numbers.n))
        return {"kty": "RSA", "kid": "test", "alg": "RS256", "use": "sig", "e": e, "n": n}


@pytest.fixture(autouse=True)
def no_session_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """See to it that no test reaches a real worker by mistake."""
    _put_behind_all_clients(None, monkeypatch)


@pytest.fixture
def session_worker(monkeypatch: pytest.MonkeyPatch) -> SessionWorker:
    """A pretend worker, behind every client of the process, made before or after."""
    worker = SessionWorker()
    _put_behind_all_clients(worker, monkeypatch)

    return worker


def _put_behind_all_clients(worker: SessionWorker | None, patch: pytest.MonkeyPatch) -> None:
    answer = None if worker is None else worker._answer  # noqa: SLF001 - of this file

    def is_planned(task: Task) -> bool:
        return worker is not None and bool(worker._planned[task])  # noqa: SLF001

    def blocking(client: Any) -> Driver:
        return Driver(answer, client._app, is_planned=is_planned)  # noqa: SLF001 - of this package

    def awaiting(client: Any) -> AsyncDriver:
        return AsyncDriver(answer, client._app, is_planned=is_planned)  # noqa: SLF001

    patch.setattr(SessionClient, "_driver", property(blocking))
    patch.setattr(AsyncSessionClient, "_driver", property(awaiting))


def _encoded(raw: bytes) -> bytes:
    return base64.urlsafe_b64encode(raw).rstrip(b"=")


def _bytes(number: int) -> bytes:
    return number.to_bytes((number.bit_length() + 7) // 8, "big")
