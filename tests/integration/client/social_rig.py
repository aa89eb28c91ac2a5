"""A login at a provider, of which the pretend worker answers what a test has planned."""

from __future__ import annotations

from session_client import Authenticated, SocialBegun, SocialVerified, Tokens
from session_client.logins import Authenticate, Start
from session_client.testing import SessionWorker

STATE = "s" * 43


def plan_a_login_at_a_provider(worker: SessionWorker) -> None:
    """Let ada begin a login at a provider, be led back, and be signed in; each once."""
    there = "https://provider.example/authorize"
    began = SocialBegun(login="begun", expires_in=600, state=STATE, authorization_url=there)
    session = worker.sign_in("ada").session
    worker.next(Start, began)
    worker.next(Start, SocialVerified(login="verified", expires_in=500, claims={"sub": "7"}))
    worker.next(
        Authenticate,
        Authenticated(
            user_id="ada",
            session_ref=session.session_ref,
            tokens=Tokens(access_token="t", token_type="bearer", expires_in=60),
            browser_token=session.token,
        ),
    )
