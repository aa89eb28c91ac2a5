"""Accounts at the pretend social providers, and the way from one to a transaction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from secrets import token_urlsafe
from typing import Any

PROVIDERS = ("google", "facebook", "apple", "tiktok")


@dataclass(frozen=True)
class Visit:
    """A browser on its way through a provider for one app."""

    provider: str
    client_id: str
    redirect_uri: str
    state: str
    expires_at: float
    claims: Mapping[str, Any] | None = None  # who it turned out to be


class SocialAccounts:
    """Who has an account where, and which visits are under way."""

    def __init__(self) -> None:
        self._accounts: dict[tuple[str, str], Mapping[str, Any]] = {}
        self._started: dict[str, Visit] = {}
        self._codes: dict[str, Visit] = {}
        self._transactions: dict[str, Visit] = {}

    def add_account(self, provider: str, subject: str, **claims: Any) -> None:
        """Let *subject* have an account at *provider*, which says *claims* about them."""
        if provider not in PROVIDERS:
            raise ValueError(f"providers are {', '.join(PROVIDERS)}")
        self._accounts[provider, subject] = {"sub": subject, **claims}

    def accounts(self, provider: str) -> list[str]:
        """The subjects who have an account at *provider*."""
        return [subject for at, subject in self._accounts if at == provider]

    def start(self, visit: Visit) -> str:
        """Send a browser to the provider; the ticket it shows there."""
        return _keep(self._started, visit)

    def started(self, ticket: str) -> Visit | None:
        """The visit behind a ticket, which a reload may show again."""
        return self._started.get(ticket)

    def consent(self, visit: Visit, subject: str) -> str | None:
        """Let *subject* sign in there; the code that goes back, or None for a stranger."""
        claims = self._accounts.get((visit.provider, subject))
        return None if claims is None else _keep(self._codes, _with(visit, claims))

    def redeem_code(self, code: str) -> Visit | None:
        """Use a provider's code up."""
        return self._codes.pop(code, None)

    def begin(self, visit: Visit) -> str:
        """The transaction in which an app may say whose account this is."""
        return _keep(self._transactions, visit)

    def redeem_transaction(self, transaction_id: str) -> Visit | None:
        """Use a transaction up."""
        return self._transactions.pop(transaction_id, None)

    def transaction(self, transaction_id: str) -> Visit | None:
        """A transaction as it stands."""
        return self._transactions.get(transaction_id)


def _keep(shelf: dict[str, Visit], visit: Visit) -> str:
    ticket = token_urlsafe(24)
    shelf[ticket] = visit
    return ticket


def _with(visit: Visit, claims: Mapping[str, Any]) -> Visit:
    return Visit(
        visit.provider,
        visit.client_id,
        visit.redirect_uri,
        visit.state,
        visit.expires_at,
        claims,
    )
