"""Tickets by which one device asks another for its passkey."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from secrets import token_urlsafe


@dataclass
class Ticket:
    """One such request. How Mosaic words its status is on no page; these are ours."""

    client_id: str
    user_id: str | None
    approval_data: Mapping[str, str] | None
    expires_at: float
    status: str = "pending"  # then attached, started; or aborted


class CrossDeviceTickets:
    """Every ticket handed out."""

    def __init__(self) -> None:
        self._tickets: dict[str, Ticket] = {}

    def issue(self, ticket: Ticket) -> str:
        """Hand a ticket out, by its id."""
        ticket_id = token_urlsafe(24)
        self._tickets[ticket_id] = ticket
        return ticket_id

    def find(self, ticket_id: str, now: float) -> Ticket | None:
        """The ticket of this id, unless it is too old."""
        ticket = self._tickets.get(ticket_id)
        return ticket if ticket and now < ticket.expires_at else None
