"""Tickets: they carry this browser's session to an app on another domain, once, within a minute.

A ticket serves only the browser that asked for it: the target app keeps a verifier in that browser,
and the ticket was made for its challenge. Both apps are opted in by the operator.
"""

from __future__ import annotations

import base64
import secrets
from dataclasses import replace
from typing import Final
from uuid import UUID

import structlog
from sqlalchemy import Connection, insert, or_, update

from models import Ticket, TokenOrigin
from session_client import contract
from session_client.contract import Reason, Verdict
from worker.app_registry import KnownApp
from worker.errors import Unauthorized
from worker.requests.command_fields import Command
from worker.requests.commands import SilentAuthCommand, TicketCommand
from worker.requests.outcomes import Outcome
from worker.requests.request import OpenedRequest
from worker.sessions import audit, browser_tokens, queries
from worker.sessions.queries import Session
from worker.sign_in.replaced import end_replaced
from worker.sign_in.step_up_session import find_newest
from worker.storage.encryption import Hashed
from worker.wiring import Services

log = structlog.get_logger()

_PREFIX: Final = "mst1_"
_RANDOM_BYTES: Final = 32
REFUSED: Final = Outcome(Verdict.LOGIN_REQUIRED, Reason.TICKET_REFUSED)


def issue(services: Services, request: OpenedRequest[TicketCommand]) -> Outcome:
    """Make a ticket of the session that the browser's own token names.

    A reference names none: an app could pass on everyone whose session it shares, and not only who
    visits it. Raises `Unauthorized` unless the operator opted both apps in.
    """
    command = request.command
    target = _target(services, request)
    session = find_newest(services, request, command.browser_token)
    if isinstance(session, Outcome):
        return session
    if not services.apps.is_of_same_mosaic(target, session.registered_by):
        return Outcome(Verdict.LOGIN_REQUIRED, Reason.NO_SESSION)
    ticket, now = _PREFIX + secrets.token_urlsafe(_RANDOM_BYTES), services.now()
    with services.store.write() as connection:
        connection.execute(
            insert(Ticket).values(
                ticket_hash=services.keyring.keyed_hash(Hashed.TICKET, ticket),
                idp_session_id=session.id,
                from_app=request.app.app_id,
                for_app=target.app_id,
                challenge=_decoded(command.challenge),
                expires_at=now + contract.TICKET_LIFETIME,
            )
        )
        _note(connection, services, request, audit.TICKET_ISSUED, session, target.app_id)
    seconds = int(contract.TICKET_LIFETIME.total_seconds())
    data = {"ticket": ticket, "transfer_url": target.transfer_url, "expires_in": seconds}
    return Outcome(Verdict.OK, data=data)


def claim(services: Services, request: OpenedRequest[SilentAuthCommand]) -> Session | Outcome:
    """Use the ticket up, for this request alone, and return its session.

    The same request may claim it again. All failures are alike: a wrong verifier uses nothing up,
    and tells nothing. Nor does a browser that is signed in as somebody else: its page asks first.
    """
    command, app_id = request.command, request.app.app_id
    if not contract.is_ticket(command.ticket):
        return REFUSED
    assert command.ticket is not None  # noqa: S101 - it has the form of one
    assert command.verifier is not None, "comes with its ticket"  # noqa: S101
    now = services.now()
    ours = or_(Ticket.used_at.is_(None), Ticket.used_by == request.request_id)
    statement = (
        update(Ticket)
        .where(
            Ticket.ticket_hash == services.keyring.keyed_hash(Hashed.TICKET, command.ticket),
            Ticket.for_app == app_id,
            Ticket.challenge == _decoded(contract.challenge_of(command.verifier)),
            or_(Ticket.expires_at > now, Ticket.used_by == request.request_id),
            ours,
        )
        .values(used_at=now, used_by=request.request_id)
        .returning(Ticket.idp_session_id)
    )
    with services.store.write() as connection:
        found = connection.execute(statement).one_or_none()
        session = None if found is None else queries.by_id(connection, found[0], for_update=True)
        if session is None or not _may_use(connection, services, request, session):
            connection.rollback()
            return _refused(services, request, session)
    return session


def give_token(
    services: Services, request: OpenedRequest[SilentAuthCommand], session: UUID, outcome: Outcome
) -> Outcome:
    """Give the browser a token of its own here; what it had here before gives way."""
    with services.store.write() as connection:
        found = queries.by_id(connection, session, for_update=True)
        if found is None or found.ended_at is not None:
            return REFUSED  # an ending has won
        replaced = end_replaced(connection, services, request, request.command.replaces, session)
        token = browser_tokens.issue(
            connection,
            services,
            session,
            issued_to=request.app.app_id,
            origin=TokenOrigin.TICKET,
            replaces_all=False,
        )
        _note(connection, services, request, audit.TICKET_USED, found, None)
    return replace(
        outcome,
        data={**outcome.data, "browser_token": token},
        logouts=(*outcome.logouts, *replaced.logouts),
        notices=(*outcome.notices, *replaced.notices),
    )


def _target(services: Services, request: OpenedRequest[TicketCommand]) -> KnownApp:
    target = services.apps.find(request.command.for_app)
    is_open = (
        target is not None
        and target.disabled_at is None
        and target.transfer_url is not None
        and request.app.app_id in target.tickets_from
    )
    if target is None or not is_open:
        raise Unauthorized(Reason.NOT_PERMITTED, "that app takes no tickets from this one")
    return target


def _may_use(
    connection: Connection,
    services: Services,
    request: OpenedRequest[SilentAuthCommand],
    session: Session,
) -> bool:
    if queries.why_unusable(services.settings, session, services.now()) is not None:
        return False
    if not services.apps.is_of_same_mosaic(request.app, session.registered_by):
        return False
    token = request.command.replaces
    before = None if token is None else browser_tokens.find_session(connection, services, token)
    return before is None or before.ended_at is not None or before.user_id == session.user_id


def _refused(
    services: Services, request: OpenedRequest[SilentAuthCommand], session: Session | None
) -> Outcome:
    log.info("ticket_refused", is_known=session is not None)
    if session is not None:
        with services.store.write() as connection:
            _note(connection, services, request, audit.TICKET_REFUSED, session, None)
    return REFUSED


def _note(  # noqa: PLR0913, PLR0917 - the columns of the trail
    connection: Connection,
    services: Services,
    request: OpenedRequest[Command],
    name: str,
    session: Session,
    detail: str | None,
) -> None:
    row = audit.event(
        name,
        at=services.now(),
        session=session.id,
        user_id=session.user_id,
        by=request.by,
        detail=detail,
    )
    audit.record(connection, [row])


def _decoded(challenge: str) -> bytes:
    return base64.urlsafe_b64decode(challenge + "=")
