"""Registered apps and the access tokens they hold."""

from __future__ import annotations

from secrets import token_urlsafe

from simulator.controls.clock import Clock
from simulator.idp.errors import refused
from simulator.idp.policy import Policy
from simulator.idp.records import Client


class Clients:
    """Apps by client id, and who holds which client access token."""

    def __init__(self, clock: Clock, policy: Policy) -> None:
        self._clock = clock
        self._policy = policy
        self._registered: dict[str, Client] = {}
        self._tokens: dict[str, tuple[str, float]] = {}
        self._used_assertions: set[str] = set()

    def add(self, client: Client) -> None:
        """Register an app, replacing an earlier one of the same id."""
        self._registered[client.client_id] = client

    def get(self, client_id: str) -> Client | None:
        """The app of this id, if it is registered."""
        return self._registered.get(client_id)

    def issue_token(self, client_id: str) -> str:
        """A client access token; the app may use it until it expires."""
        token = token_urlsafe(32)
        expires_at = self._clock.now() + self._policy.client_token_seconds
        self._tokens[token] = (client_id, expires_at)
        return token

    def revoke_tokens(self, client_id: str | None = None) -> None:
        """Forget the tokens of one client, or of all, before they expire."""
        self._tokens = {
            token: (holder, expires_at)
            for token, (holder, expires_at) in self._tokens.items()
            if client_id not in {None, holder}
        }

    def holder(self, token: str) -> str | None:
        """Who was given this token, even if it is too old by now."""
        return self._tokens.get(token, (None, 0))[0]

    def require(self, token: str) -> str:
        """The client id behind a valid token; any other token is refused with 401."""
        client_id, expires_at = self._tokens.get(token, ("", 0.0))
        if self._clock.now() >= expires_at:
            raise refused(401, "Unauthorized")
        return client_id

    def use_assertion(self, jti: str) -> bool:
        """Note a client assertion; whether it is the first time this one is seen."""
        is_new = jti not in self._used_assertions
        self._used_assertions.add(jti)
        return is_new
