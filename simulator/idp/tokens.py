"""The tokens an app receives for a user."""

from __future__ import annotations

from secrets import token_hex
from typing import Any

from joserfc import jwt
from joserfc.errors import JoseError

from simulator.controls.clock import Clock
from simulator.controls.faults import FaultKind
from simulator.controls.forgery import Claims, forge, sign
from simulator.idp.keys import KeyRing
from simulator.idp.policy import Policy
from simulator.idp.records import MFA, Session, User, Wishes

ALGORITHMS = ["RS256", "PS256"]
DEFAULT_AUDIENCE = "userid-api"


class TokenMaker:
    """Writes and signs tokens. No token ever carries a session id."""

    def __init__(self, clock: Clock, policy: Policy, keys: KeyRing) -> None:
        self._clock = clock
        self._policy = policy
        self._keys = keys

    def id_claims(
        self, session: Session, client_id: str, user: User, wishes: Wishes
    ) -> dict[str, Any]:
        """Who the user is and how they proved it, for one app."""
        return {
            **self._common(session, wishes),
            **_asked_for(wishes, "id_token", user),
            "aud": client_id,
            "auth_time": int(session.auth_time),
            "amr": session.amr,
            # The levels reached, as OpenID Connect lists what was satisfied.
            "acr": "1 2" if MFA in session.amr else "1",
        } | ({"approval_data": dict(wishes.approved)} if wishes.approved else {})

    def access_claims(
        self, session: Session, client_id: str, user: User, wishes: Wishes
    ) -> dict[str, Any]:
        """What the app may do for the user."""
        return {
            **self._common(session, wishes),
            **_asked_for(wishes, "access_token", user),
            "aud": wishes.resource or DEFAULT_AUDIENCE,
            "client_id": client_id,
            "jti": token_hex(8),
        }

    def sign(self, claims: Claims, forgery: FaultKind | None = None) -> str:
        """A token with *claims*, honest unless a forgery is asked for."""
        algorithm = self._policy.signing_algorithm
        if forgery:
            return forge(forgery, claims, self._keys, algorithm)
        key = self._keys.current
        return sign({"alg": algorithm, "kid": key.kid or ""}, claims, key)

    def read_access_token(self, token: str) -> dict[str, Any] | None:
        """The claims of an access token of ours that is still good; None for anything else."""
        try:
            claims = jwt.decode(token, self._keys.published, algorithms=ALGORITHMS).claims
        except (JoseError, ValueError):
            return None
        is_access = "client_id" in claims and claims.get("exp", 0) > self._clock.now()
        return claims if is_access else None

    def _common(self, session: Session, wishes: Wishes) -> dict[str, Any]:
        now = int(self._clock.now())
        return {
            "iss": self._policy.issuer,
            "sub": session.user_id,
            "tid": self._policy.tenant_id,
            "iat": now,
            "exp": now + self._policy.user_token_seconds,
        } | ({"org_id": wishes.org_id} if wishes.org_id else {})


def _asked_for(wishes: Wishes, token: str, user: User) -> dict[str, Any]:
    facts = user.facts()
    return {name: fact for name in wishes.claims.get(token, {}) if (fact := facts.get(name))}
