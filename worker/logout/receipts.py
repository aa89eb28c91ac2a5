"""The proof of a logout: written with what it ended, and read again when the app asks again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, exists, func, insert, or_, select

from models import (
    AppSession,
    IdpSession,
    Logout,
    LogoutRequest,
    LogoutRequestSession,
    Notice,
    UserRevocation,
    new_id,
)
from session_client import contract
from session_client.contract import LogoutScope, Reason, Verdict
from worker.errors import InvalidRequest
from worker.outbox.leases import CONFIRMED, NO_ADDRESS
from worker.outbox.mosaic_logouts import EXPIRED_UNCONFIRMED
from worker.requests.commands import LogoutCommand, ReceiptCommand, RevokeUserCommand
from worker.requests.outcomes import Outcome
from worker.requests.request import OpenedRequest
from worker.wiring import Services

LogoutCall = OpenedRequest[LogoutCommand]
EndingCall = OpenedRequest[LogoutCommand | RevokeUserCommand]

# What became of the user's sessions at Mosaic; anything else that closed it is a failure.
_OF_USER: Final = {None: "pending", CONFIRMED: CONFIRMED}


_COLUMNS: Final = (LogoutRequest.id, LogoutRequest.sessions_ended, LogoutRequest.user_id)


@dataclass(frozen=True, slots=True)
class Receipt:
    """A logout request as it was written down."""

    id: UUID
    sessions_ended: int
    user_id: str | None  # None when it named an unknown browser token


def earlier(connection: Connection, request: EndingCall) -> Receipt | None:
    """Return the receipt of a request served before.

    Raises `InvalidRequest` when its id was used for something else.
    """
    row = connection.execute(
        select(*_COLUMNS, LogoutRequest.digest).where(
            LogoutRequest.app_id == request.app.app_id,
            LogoutRequest.request_id == request.request_id,
        )
    ).one_or_none()
    if row is None:
        return None
    if row.digest != request.digest:
        raise InvalidRequest(Reason.REQUEST_ID_REUSED)
    return Receipt(row.id, row.sessions_ended, row.user_id)


def write(
    connection: Connection,
    request: EndingCall,
    user_id: str | None,
    in_scope: ColumnElement[bool],
    ended: int,
) -> Receipt:
    """Write down the request with the sessions it is about, and return the receipt."""
    receipt_id = new_id()
    connection.execute(
        insert(LogoutRequest).values(
            id=receipt_id,
            app_id=request.app.app_id,
            request_id=request.request_id,
            digest=request.digest,
            scope=request.command.scope,
            user_id=user_id,
            sessions_ended=ended,
            created_at=request.opened_at,
        )
    )
    # What was ended now, and also what had ended before: the receipt speaks of all that
    # Mosaic or an app must still be told about. A session that is named is in it in any case.
    query = select(IdpSession.id).where(in_scope)
    if request.command.logout_scope is not LogoutScope.SESSION:
        # Asked of each session apart, and by the outcome. Asked by `closed_at`, PostgreSQL reads
        # the whole index of what is due, which it takes for empty when an outage has just filled
        # it; and that while other writers wait for our locks.
        owed_to_mosaic = exists().where(
            Logout.idp_session_id == IdpSession.id, Logout.outcome.is_(None)
        )
        owed_to_apps = exists().where(
            Notice.idp_session_id == IdpSession.id, Notice.outcome.is_(None)
        )
        query = query.where(or_(owed_to_mosaic, owed_to_apps))
    found = connection.execute(query).scalars().all()
    if found:
        links = [{"logout_request_id": receipt_id, "idp_session_id": session} for session in found]
        connection.execute(insert(LogoutRequestSession), links)
    return Receipt(receipt_id, ended, user_id)


def show(services: Services, request: OpenedRequest[ReceiptCommand]) -> Outcome:
    """Return the receipt of one of the app's own logouts. Raises `InvalidRequest`."""
    with services.store.read() as connection:
        row = connection.execute(
            select(*_COLUMNS).where(
                LogoutRequest.id == request.command.receipt,
                LogoutRequest.app_id == request.app.app_id,
            )
        ).one_or_none()
        if row is None:
            raise InvalidRequest(Reason.NO_RECEIPT)
        return receipt(connection, Receipt(*row))


def receipt(connection: Connection, written: Receipt) -> Outcome:
    """Return the receipt of a logout request as it stands now."""
    return Outcome(
        Verdict.OK,
        Reason.NO_SESSION if written.user_id is None else None,
        data={
            "receipt_id": str(written.id),
            "sessions_ended": written.sessions_ended,
            **_at_idp(connection, written.id),
            **_of_user(connection, written.id),
            **_at_apps(connection, written.id),
            "session_refs": _shared(connection, written.id),
        },
    )


def _shared(connection: Connection, request: UUID) -> list[str]:
    """Name the sessions that the asking app shares: it may have tokens of them on their way."""
    query = (
        select(LogoutRequestSession.idp_session_id)
        .join(LogoutRequest, LogoutRequest.id == LogoutRequestSession.logout_request_id)
        .join(
            AppSession,
            (AppSession.idp_session_id == LogoutRequestSession.idp_session_id)
            & (AppSession.app_id == LogoutRequest.app_id),
        )
        .where(LogoutRequest.id == request)
        .order_by(LogoutRequestSession.idp_session_id.desc())
        .limit(contract.MAX_SESSION_REFS)
    )
    return [str(session) for session in connection.execute(query).scalars()]


def _at_idp(connection: Connection, request: UUID) -> dict[str, int]:
    counts: dict[str | None, int] = {
        row.outcome: row.sessions
        for row in connection.execute(
            select(Logout.outcome, func.count().label("sessions"))
            .join(
                LogoutRequestSession,
                LogoutRequestSession.idp_session_id == Logout.idp_session_id,
            )
            .where(LogoutRequestSession.logout_request_id == request)
            .group_by(Logout.outcome)
        )
    }
    return {
        "idp_confirmed": counts.pop(CONFIRMED, 0),
        "idp_pending": counts.pop(None, 0),
        "idp_unconfirmed": counts.pop(EXPIRED_UNCONFIRMED, 0),
        "idp_failed": sum(counts.values()),
    }


def _of_user(connection: Connection, request: UUID) -> dict[str, str]:
    """Say what became of a whole user at Mosaic, where the request revoked one."""
    of_request = UserRevocation.logout_request_id == request
    row = connection.execute(select(UserRevocation.outcome).where(of_request)).one_or_none()
    return {} if row is None else {"idp_user": _OF_USER.get(row.outcome, "failed")}


def _at_apps(connection: Connection, request: UUID) -> dict[str, Any]:
    """Sort the other apps by what became of their notices; an open one keeps an app pending."""
    outcomes: dict[str, set[str | None]] = {}
    for row in connection.execute(
        select(Notice.app_id, Notice.outcome)
        .join(LogoutRequestSession, LogoutRequestSession.idp_session_id == Notice.idp_session_id)
        .join(LogoutRequest, LogoutRequest.id == LogoutRequestSession.logout_request_id)
        # The asking app knows, though another logout may still owe it a notice.
        .where(LogoutRequest.id == request, Notice.app_id != LogoutRequest.app_id)
        # Without an address an app is told of nothing, and is named nowhere.
        .where(Notice.outcome.is_distinct_from(NO_ADDRESS))
        .distinct()
    ):
        outcomes.setdefault(row.app_id, set()).add(row.outcome)
    confirmed = {app_id for app_id, seen in outcomes.items() if seen == {CONFIRMED}}
    pending = {app_id for app_id, seen in outcomes.items() if None in seen}
    return {
        "apps_confirmed": sorted(confirmed),
        "apps_pending": sorted(pending),
        "apps_failed": sorted(outcomes.keys() - confirmed - pending),
    }
