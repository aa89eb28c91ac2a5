"""Backend sessions and the refresh tokens that hang on them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from secrets import token_urlsafe

from simulator.controls.clock import Clock
from simulator.idp.errors import refused, session_not_found
from simulator.idp.policy import Policy
from simulator.idp.records import Session


class Sessions:
    """Every session there was, by each id it answers to."""

    def __init__(self, clock: Clock, policy: Policy) -> None:
        self._clock = clock
        self._policy = policy
        self._by_id: dict[str, Session] = {}
        self._by_user: dict[str, list[Session]] = defaultdict(list)

    def open(self, user_id: str, client_id: str, methods: Iterable[str]) -> Session:
        """Start a session for a user who has just signed in."""
        now = self._clock.now()
        expires_at = now + self._policy.session_seconds
        session = Session(_new_id(), user_id, client_id, now, now, expires_at, [*methods])
        self._by_id[session.session_id] = session
        self._by_user[user_id].append(session)
        return session

    def find(self, session_id: str) -> Session:
        """The live session with this id; any other is refused as not found."""
        session = self._by_id.get(session_id)
        if session is None or not session.is_live(self._clock.now()):
            raise session_not_found()
        return session

    def is_live(self, session_id: str) -> bool:
        """Whether Mosaic still answers for *session_id*, be it current or an alias."""
        session = self._by_id.get(session_id)
        return session is not None and session.is_live(self._clock.now())

    def live(self, user_id: str | None = None) -> list[Session]:
        """The live sessions of one user, or of all."""
        now = self._clock.now()
        users = self._by_user if user_id is None else {user_id}
        return [
            session
            for user in users
            for session in self._by_user.get(user, ())
            if session.is_live(now)
        ]

    def extend(self, session: Session) -> None:
        """Start the session's lifetime anew."""
        session.expires_at = self._clock.now() + self._policy.session_seconds

    def add_method(self, session: Session, method: str) -> None:
        """Note that the user has just proven themselves once more."""
        session.methods.append(method)
        if self._policy.factor_renews_auth_time:
            session.auth_time = self._clock.now()
        self.extend(session)

    def give_new_id(self, session: Session) -> None:
        """Rename the session; its old id goes on working."""
        session.session_id = _new_id()
        self._by_id[session.session_id] = session

    def forget_id(self, session_id: str) -> Session:
        """Answer to this id no more, as a Mosaic that keeps no old ones; return whose it was."""
        return self._by_id.pop(session_id)

    def end(self, session: Session) -> None:
        """End the session at once."""
        session.ended_at = self._clock.now()


class RefreshTokens:
    """Refresh tokens: each works once, for one client, until its session is logged out."""

    def __init__(self) -> None:
        self._grants: dict[str, tuple[Session, str]] = {}

    def issue(self, session: Session, client_id: str) -> str:
        """A new token for *client_id*."""
        token = token_urlsafe(32)
        self._grants[token] = (session, client_id)
        return token

    def find(self, token: str, client_id: str) -> Session:
        """The session behind a token that is still good; it may have expired meanwhile."""
        session, owner = self._grants.get(token, (None, None))
        if session is None or owner != client_id or session.ended_at is not None:
            raise refused(400, "Invalid refresh token")
        return session

    def use(self, token: str) -> None:
        """Let a token never work again."""
        del self._grants[token]


def _new_id() -> str:
    return token_urlsafe(32)
