"""Redeeming a ticket: the browser comes from one app, and is signed in at another by its session.

First the ticket is claimed, then Mosaic is asked, and last the browser gets a token of this app's
own. Before the last step it is asked once more whether all of it still holds.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, Select, bindparam, func, or_, select, update

from models import IdpSession, Ticket, TokenOrigin
from session_client.contract import Reason, Verdict
from worker import metrics
from worker.metrics import Saving
from worker.requests.outcomes import Outcome
from worker.sessions import audit, browser_tokens, queries
from worker.sessions.queries import Session
from worker.sign_in.commit import SilentAuthRequest
from worker.sign_in.replaced import end_replaced, lock_with_replaced
from worker.sign_in.tickets import hash_of
from worker.wiring import Services

_EARNED: Final = frozenset({Verdict.AUTHENTICATED, Verdict.INTERACTION_REQUIRED})


class Refusal(StrEnum):
    """Why a ticket gives nothing. For the audit trail: the app hears of all of them alike."""

    OTHER_APP = "other_app"
    SOURCE_NOT_ALLOWED = "source_not_allowed"  # the operator has thought better of it
    WRONG_VERIFIER = "wrong_verifier"
    LATE = "late"
    USED = "used"
    SESSION_ENDED = "session_ended"
    OTHER_MOSAIC = "other_mosaic"
    OTHER_DEVICE = "other_device"
    OTHER_USER = "other_user"  # than the one this browser is signed in as
    OVERTAKEN = "overtaken"  # an ending or a new proof came while it was redeemed


@dataclass(frozen=True, slots=True)
class _Carried:
    """A ticket that was given out here, and the session it carries."""

    session: Session
    from_app: str
    for_app: str
    challenge: bytes
    expires_at: datetime
    used_by: str | None


_BY_HASH: Final[Select[*tuple[Any, ...]]] = (
    select(
        *queries.COLUMNS,
        Ticket.from_app,
        Ticket.for_app,
        Ticket.challenge,
        Ticket.expires_at.label("ticket_expires_at"),
        Ticket.used_by,
    )
    .join(IdpSession, IdpSession.id == Ticket.idp_session_id)
    .where(Ticket.ticket_hash == bindparam("ticket_hash", type_=Ticket.ticket_hash.type))
)


def claim(services: Services, request: SilentAuthRequest) -> Session | Outcome:
    """Use the request's ticket up and return the session it carries, or the refusal.

    A refusal uses nothing up: an attacker who has read a ticket cannot spoil it for its browser.
    Safe to repeat by the same request, as after "try later".
    """
    carried = _find(services, request)
    if carried is not None:
        why = _why_not(services, request, carried)
        if why is None and not _claim(services, request):
            why = Refusal.USED  # by another request, this very moment
        if why is None:
            return carried.session
        _note(services, request, carried.session, why)
    # An unknown ticket has no session to be noted with.
    metrics.call_saved(Saving.PREFLIGHT)
    return _refused()


def _find(services: Services, request: SilentAuthRequest) -> _Carried | None:
    ticket_hash = hash_of(services.keyring, request.command.ticket)
    if ticket_hash is None:
        return None
    rows = services.store.run(_BY_HASH, {"ticket_hash": ticket_hash})
    if not rows:
        return None
    columns = len(queries.COLUMNS)
    return _Carried(queries.from_columns(rows[0][:columns]), *rows[0][columns:])


def _why_not(services: Services, request: SilentAuthRequest, carried: _Carried) -> Refusal | None:
    """Return the first thing that is wrong, so that the trail can say which; `_claim` decides."""
    app, session, now = request.app, carried.session, services.now()
    wrong = {
        Refusal.OTHER_APP: carried.for_app != app.app_id,
        Refusal.SOURCE_NOT_ALLOWED: carried.from_app not in app.tickets_from,
        Refusal.WRONG_VERIFIER: not hmac.compare_digest(_challenge(request), carried.challenge),
        Refusal.LATE: carried.expires_at <= now,
        Refusal.USED: carried.used_by not in {None, request.request_id},
        Refusal.SESSION_ENDED: queries.why_unusable(services.settings, session, now) is not None,
        Refusal.OTHER_MOSAIC: not services.apps.is_of_same_mosaic(app, session.registered_by),
        Refusal.OTHER_DEVICE: request.command.device_id not in {None, session.device_id},
        Refusal.OTHER_USER: _is_signed_in_as_another(services, request, session),
    }
    return next((why for why, is_so in wrong.items() if is_so), None)


def _is_signed_in_as_another(
    services: Services, request: SilentAuthRequest, session: Session
) -> bool:
    """Whether the token that the browser came with names a live session of another user.

    Ending that one is for the user to say, whom the page asks.
    """
    token = request.command.replaces
    before = None if token is None else browser_tokens.find(services, token)
    if before is None:
        return False
    if queries.why_unusable(services.settings, before.session, services.now()) is not None:
        return False
    # Of another Mosaic the same user id is another user's.
    return before.session.user_id != session.user_id or not services.apps.is_of_same_mosaic(
        request.app, before.session.registered_by
    )


def _claim(services: Services, request: SilentAuthRequest) -> bool:
    """Use the ticket up for this very request, in one statement: of two at once one has it."""
    now = services.now()
    statement = (
        update(Ticket)
        .where(
            Ticket.ticket_hash == hash_of(services.keyring, request.command.ticket),
            Ticket.for_app == request.app.app_id,
            Ticket.challenge == _challenge(request),
            Ticket.expires_at > now,
            or_(Ticket.used_by.is_(None), Ticket.used_by == request.request_id),
        )
        .values(used_at=func.coalesce(Ticket.used_at, now), used_by=request.request_id)
        .returning(Ticket.ticket_hash)
    )
    with services.store.write() as connection:
        return connection.execute(statement).first() is not None


def hand_over(services: Services, request: SilentAuthRequest, outcome: Outcome) -> Outcome:
    """Add a browser token of this app's own to the answer that the ticket has earned.

    Also where the session is too weak, or its user could not step up. The token that the browser
    came with gives way, and so does its other session, if it has one.
    """
    if outcome.verdict is Verdict.LOGIN_REQUIRED:
        return _refused()  # however its session came to an end
    if outcome.verdict not in _EARNED:
        return outcome
    with services.store.write() as connection:
        # Locked: an ending or a new proof has committed before this, and is seen, or comes after.
        ref = UUID(outcome.data["session_ref"])
        lock_with_replaced(connection, services, request.command.replaces, ref)
        session = queries.by_id(connection, ref, for_update=True)
        assert session is not None, "purged long after its end only"  # noqa: S101
        from_app = _source_if_claimed(connection, services, request)
        if session.ended_at is None and from_app is not None:
            return _handed_over(connection, services, request, session, from_app, outcome)
    _note(services, request, session, Refusal.OVERTAKEN)
    # Identical requests have read the session by themselves: they get what Mosaic said.
    return replace(_refused(), goes_first=outcome.goes_first)


def _source_if_claimed(
    connection: Connection, services: Services, request: SilentAuthRequest
) -> str | None:
    """Return whose ticket it is, if it is still this request's: a new proof takes tickets away."""
    query = select(Ticket.from_app).where(
        Ticket.ticket_hash == hash_of(services.keyring, request.command.ticket),
        Ticket.used_by == request.request_id,
    )
    return connection.execute(query).scalar_one_or_none()


def _handed_over(  # noqa: PLR0913, PLR0917 - what came of it, and whose it is
    connection: Connection,
    services: Services,
    request: SilentAuthRequest,
    session: Session,
    from_app: str,
    outcome: Outcome,
) -> Outcome:
    ended = end_replaced(connection, services, request, request.command.replaces, session.id)
    token = browser_tokens.issue(
        connection,
        services,
        session.id,
        issued_to=request.app.app_id,
        origin=TokenOrigin.TICKET,
        replaces_all=False,  # nothing was proved: the browser is signed in elsewhere, too
    )
    row = audit.event(
        audit.TICKET_USED,
        at=services.now(),
        session=session.id,
        user_id=session.user_id,
        by=request.by,
        detail=from_app,
    )
    audit.record(connection, [row])
    return replace(
        outcome,
        data={**outcome.data, "browser_token": token},
        logouts=ended.logouts,
        notices=ended.notices,
    )


def _refused() -> Outcome:
    # The same for all: an attacker who tries tickets learns nothing from it.
    return Outcome(Verdict.LOGIN_REQUIRED, Reason.TICKET_REFUSED)


def _note(services: Services, request: SilentAuthRequest, session: Session, why: Refusal) -> None:
    row = audit.event(
        audit.TICKET_REFUSED,
        at=services.now(),
        session=session.id,
        user_id=session.user_id,
        by=request.by,
        detail=why.value,
    )
    audit.record_once_an_hour(services.store, row)


def _challenge(request: SilentAuthRequest) -> bytes:
    verifier = request.command.verifier
    assert verifier is not None, "it comes with the ticket"  # noqa: S101
    return hashlib.sha256(verifier.encode()).digest()
