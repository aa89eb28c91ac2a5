"""Everything the simulator knows, and the verbs that move it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from threading import RLock
from typing import Any, Unpack

from joserfc.jwk import import_key

from simulator.controls.calls import Calls
from simulator.controls.clock import Clock
from simulator.controls.faults import FaultKind, Faults, Plan
from simulator.controls.gates import Gates
from simulator.idp.errors import refused
from simulator.idp.keys import KeyRing
from simulator.idp.policy import Policy
from simulator.idp.records import Client, Login, Session, User, UserFacts, Wishes
from simulator.idp.store.attempts import Attempts
from simulator.idp.store.biometrics import Biometrics
from simulator.idp.store.clients import Clients
from simulator.idp.store.cross_device import CrossDeviceTickets
from simulator.idp.store.outbox import Outbox
from simulator.idp.store.passkeys import Passkeys
from simulator.idp.store.sessions import RefreshTokens, Sessions
from simulator.idp.store.social import SocialAccounts
from simulator.idp.store.totp import AuthenticatorApps
from simulator.idp.store.users import Users
from simulator.idp.tokens import TokenMaker

UNSPOILT = Plan()
NO_WISHES = Wishes()


class MosaicState:
    """One tenant. Tests call its verbs from any thread while it answers over HTTP.

    The lock is held for one verb, or for the work of one call; never while a
    call waits at a gate or for its latency.
    """

    def __init__(self, policy: Policy | None = None) -> None:
        self.lock = RLock()
        self.policy = policy or Policy()
        self.clock = Clock()
        self.faults = Faults()
        self.gates = Gates()
        self.calls = Calls()
        self.keys = KeyRing()
        self.clients = Clients(self.clock, self.policy)
        self.sessions = Sessions(self.clock, self.policy)
        self.refresh_tokens = RefreshTokens()
        self.tokens = TokenMaker(self.clock, self.policy, self.keys)
        self.users = Users()
        self.attempts = Attempts(self.clock, self.policy)
        self.outbox = Outbox()
        self.authenticator_apps = AuthenticatorApps()
        self.passkeys = Passkeys(self.policy)
        self.cross_device = CrossDeviceTickets()
        self.biometrics = Biometrics()
        self.social = SocialAccounts()
        self._frontend_sessions: dict[str, int] = {}

    # The tenant's people and apps.

    def add_client(
        self,
        client_id: str,
        secret: str | None = None,
        *,
        public_jwk: Mapping[str, Any] | None = None,
        redirect_uris: Collection[str] | None = None,
        resources: Collection[str] | None = None,
    ) -> None:
        """Register an app with a secret, or with the public key of its client assertions.

        *redirect_uris* and *resources* are what it may ask for; None lets it ask for any.
        """
        key = import_key(dict(public_jwk)) if public_jwk else None
        client = Client(client_id, secret, key, _set(redirect_uris), _set(resources))
        with self.lock:
            self.clients.add(client)

    def add_user(self, user_id: str, **facts: Unpack[UserFacts]) -> None:
        """Register a person, who may sign in by whichever of these *facts* are given.

        Their username is their id unless another is given. RefusedError if a name is taken.
        """
        blank = User(user_id, username=user_id, created_at=self.clock.now())
        with self.lock:
            self.users.add(replace(blank, **facts))

    def change_user(self, user_id: str, **facts: Unpack[UserFacts]) -> None:
        """Change what is known of a person; with `is_active` False they are suspended."""
        with self.lock:
            self.users.change(user_id, **facts)

    def revoke_client_tokens(self, client_id: str | None = None) -> None:
        """Let Mosaic forget the access tokens of one client, or of all."""
        with self.lock:
            self.clients.revoke_tokens(client_id)

    # Sessions, as an app's front end moves them.

    def login(self, user_id: str, client_id: str, amr: Iterable[str] = ("pwd",)) -> Login:
        """Sign a user in through an app's front end; an unknown user is made up."""
        with self.lock:
            self._require_client(client_id)
            self.users.ensure(user_id)
            session = self.sessions.open(user_id, client_id, amr)
            return self._login(session, client_id)

    def add_factor(self, session_id: str, client_id: str, method: str) -> Login:
        """Let the session's user prove themselves once more; RefusedError if it is not live."""
        with self.lock:
            self._require_client(client_id)
            session = self.sessions.find(session_id)
            self.sessions.add_method(session, method)
            return self._login(session, client_id)

    def end_session(self, session_id: str) -> None:
        """End a session from elsewhere, telling no app; RefusedError if it is not live."""
        with self.lock:
            self.sessions.end(self.sessions.find(session_id))

    def live_sessions(self, user_id: str | None = None) -> list[Session]:
        """Copies of the live sessions of one user, or of all."""
        with self.lock:
            live = self.sessions.live(user_id)
            return [replace(session, methods=[*session.methods]) for session in live]

    def is_live(self, session_id: str) -> bool:
        """Whether Mosaic still answers for *session_id*, be it current or an alias."""
        with self.lock:
            return self.sessions.is_live(session_id)

    def open_frontend_session(self, user_id: str) -> None:
        """Start a session of the other family, which only the browser holds."""
        with self.lock:
            self.users.ensure(user_id)
            self._frontend_sessions[user_id] = self.count_frontend_sessions(user_id) + 1

    def count_frontend_sessions(self, user_id: str) -> int:
        """How many frontend sessions the user has."""
        return self._frontend_sessions.get(user_id, 0)

    def end_frontend_sessions(self, user_id: str) -> int:
        """End the user's frontend sessions and return how many there were."""
        with self.lock:
            return self._frontend_sessions.pop(user_id, 0)

    # Keys and tokens.

    def rotate_keys(self, *, keep_old: bool = True) -> str:
        """Sign with a new key and return its `kid`; the JWKS may forget the old keys."""
        with self.lock:
            return self.keys.rotate(keep_old=keep_old)

    def mint_id_token(self, *, forgery: str | None = None, **claims: Any) -> str:
        """An id token for `ada` in `shop`, with *claims* changed; a claim set to None is left out.

        *forgery* names a token fault, such as `alg_none`.
        """
        with self.lock:
            user = User(str(claims.get("sub", "ada")))
            now = self.clock.now()
            session = Session("", user.user_id, "shop", now, now, now, ["pwd"])
            honest = self.tokens.id_claims(session, "shop", user, NO_WISHES)
            payload = {name: fact for name, fact in (honest | claims).items() if fact is not None}
            return self.tokens.sign(payload, FaultKind(forgery) if forgery else None)

    def token_body(
        self,
        session: Session,
        client_id: str,
        wishes: Wishes = NO_WISHES,
        plan: Plan = UNSPOILT,
    ) -> dict[str, Any]:
        """The answer to every successful authentication, spoilt as *plan* says."""
        user = self.users.ensure(session.user_id)
        access = self.tokens.access_claims(session, client_id, user, wishes)
        body = {
            "access_token": self.tokens.sign(access),
            "token_type": "Bearer",
            "expires_in": self.policy.user_token_seconds,
            "session_id": session.session_id,
        }
        if not plan.has(FaultKind.MISSING_ID_TOKEN):
            honest = self.tokens.id_claims(session, client_id, user, wishes)
            claims = plan.changed(FaultKind.CHANGE_CLAIMS, honest)
            body["id_token"] = self.tokens.sign(claims, plan.forgery)
        if self.policy.issues_refresh_tokens:
            body["refresh_token"] = self.refresh_tokens.issue(session, client_id)
        return body

    def _login(self, session: Session, client_id: str) -> Login:
        body = self.token_body(session, client_id)
        return Login(
            body["session_id"], body["id_token"], body["access_token"], body.get("refresh_token")
        )

    def _require_client(self, client_id: str) -> None:
        if self.clients.get(client_id) is None:
            raise refused(400, f"no such client: {client_id}")


def _set(names: Collection[str] | None) -> frozenset[str] | None:
    return None if names is None else frozenset(names)
