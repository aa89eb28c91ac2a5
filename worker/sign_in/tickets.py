"""Tickets: each carries a browser's session to one app on another domain, once.

The app that takes a ticket has made a verifier, and keeps it in the browser that is to come back.
A ticket serves only a browser that brings both: a ticket that is read on its way, or put into
another browser, gives nothing. Here they are given out; `redeem_ticket` takes them.
"""

from __future__ import annotations

import base64
import secrets
from typing import Final

from sqlalchemy import insert

from models import Ticket
from session_client import contract
from session_client.contract import Reason, Verdict
from worker.app_registry import KnownApp
from worker.errors import Unauthorized
from worker.requests.commands import TicketCommand
from worker.requests.outcomes import Outcome
from worker.requests.request import OpenedRequest
from worker.sessions import audit, browser_tokens, queries
from worker.sessions.queries import Session
from worker.sign_in.named_session import of_browser
from worker.storage.encryption import Hashed, KeyRing
from worker.wiring import Services

TicketRequest = OpenedRequest[TicketCommand]

_PREFIX: Final = "mst1_"
_RANDOM_BYTES: Final = 32


def issue(services: Services, request: TicketRequest) -> Outcome:
    """Give out a ticket of the session that the browser's token names.

    Safe to repeat: it may give another one. Raises `Unauthorized` unless the operator has opted
    both apps in.
    """
    target_url = _target_url(services, request)
    session = of_browser(services, request, request.command.browser_token)
    if isinstance(session, Outcome):
        return session
    ticket = _PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)
    if not _store(services, request, session, ticket):
        return issue(services, request)  # its token is replaced by now, or its session has ended
    seconds = round(contract.TICKET_LIFETIME.total_seconds())
    data = {"ticket": ticket, "transfer_url": target_url, "expires_in": seconds}
    return Outcome(Verdict.OK, data=data)


def _target_url(services: Services, request: TicketRequest) -> str:
    # The registered address and no other: a page that passed on where to go would send browsers,
    # and tickets, wherever a link says.
    target = services.apps.find(request.command.for_app)
    if (
        target is None
        or target.disabled_at is not None
        or target.transfer_url is None
        or not _takes_tickets_of(services, target, request.app.app_id)
    ):
        # The same for an app that is not there: the asking app need not learn which are.
        raise Unauthorized(Reason.NOT_PERMITTED, "for_app takes no tickets from this app")
    return target.transfer_url


def _takes_tickets_of(services: Services, target: KnownApp, source: str) -> bool:
    return source in target.tickets_from and services.apps.is_of_same_mosaic(target, source)


def _store(services: Services, request: TicketRequest, session: Session, ticket: str) -> bool:
    """Store the ticket; False when the browser's token has come to give nothing meanwhile."""
    command, now = request.command, services.now()
    with services.store.write() as connection:
        # Locked before it is looked at once more: a new proof takes away the tickets of the tokens
        # it replaces, and must not miss one.
        queries.by_id(connection, session.id, for_update=True)
        if not browser_tokens.is_good(connection, services, command.browser_token):
            return False
        connection.execute(
            insert(Ticket).values(
                ticket_hash=hash_of(services.keyring, ticket),
                idp_session_id=session.id,
                from_app=request.app.app_id,
                for_app=command.for_app,
                challenge=base64.urlsafe_b64decode(f"{command.challenge}="),
                expires_at=now + contract.TICKET_LIFETIME,
            )
        )
        row = audit.event(
            audit.TICKET_ISSUED,
            at=now,
            session=session.id,
            user_id=session.user_id,
            by=request.by,
            detail=command.for_app,
        )
        audit.record(connection, [row])
    return True


def hash_of(keyring: KeyRing, ticket: str | None) -> bytes | None:
    """Return what a ticket is found by; None for what has not the form of one."""
    if ticket is None or not contract.is_ticket(ticket):
        return None
    return keyring.keyed_hash(Hashed.TICKET, ticket)
