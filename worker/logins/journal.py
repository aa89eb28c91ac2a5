"""The journal of calls that use up a proof: written before the call, closed with what came of it.

A request that is delivered again finds its call here, also when Redis has forgotten it, and gets
the same answer. A call that was begun and never closed may have happened: that is said, and the
proof is not sent again.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, Row, bindparam, delete, select, update
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from models import CallKind, CallOutcome, EndCause, LoginCall, new_id
from session_client.contract import Reason, Verdict
from worker.errors import HeldBack, InvalidRequest, SessionChanged, SessionWorkerError
from worker.requests.command_fields import Command
from worker.requests.outcomes import Outcome, failure_of
from worker.requests.request import OpenedRequest
from worker.sessions import audit, queries
from worker.sessions.queries import Session
from worker.sign_in.commit import aged, end_session
from worker.storage.encryption import SealedValueUnreadable
from worker.wiring import Services

# For what comes after Mosaic's answer: keys to verify it with, and the commit.
_SETTLING: Final = timedelta(seconds=10)
_LONGEST: Final = timedelta(minutes=2)  # no call is open for so long
_ANSWER_KEPT: Final = timedelta(seconds=60)
_POLL_SECONDS: Final = 0.1

# Built once: every login runs them.
_KNOWN: Final = select(LoginCall.__table__).where(
    LoginCall.app_id == bindparam("app_id"), LoginCall.request_id == bindparam("request_id")
)
_IS_KNOWN: Final = _KNOWN.with_only_columns(LoginCall.id)
_COLUMNS: Final = LoginCall.__table__.columns
# Unless either of the two is known: the request, or its proof.
_BEGIN_SQLITE: Final = sqlite_insert(LoginCall).on_conflict_do_nothing().returning(LoginCall.id)
_BEGIN: Final = select(
    postgres_insert(LoginCall)
    .from_select(
        [column.name for column in _COLUMNS],
        select(*(bindparam(column.name, type_=column.type) for column in _COLUMNS)),
    )
    .on_conflict_do_nothing()
    .returning(LoginCall.id)
    .cte("begun")
)
# What it sets are the parameters of each run.
_CLOSE: Final = (
    update(LoginCall)
    .where(
        LoginCall.id == bindparam("call", type_=LoginCall.id.type), LoginCall.closed_at.is_(None)
    )
    .returning(LoginCall.id)
)

UNKNOWN: Final = Outcome(Verdict.TEMPORARILY_UNAVAILABLE, Reason.OUTCOME_UNKNOWN)
PROOF_USED: Final = Outcome(Verdict.LOGIN_REQUIRED, Reason.REFRESH_REFUSED)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedCall:
    """A call to Mosaic that is about to be made, once."""

    kind: CallKind
    method: str
    subject: bytes | None = field(default=None, repr=False)  # keyed hash of who signs in
    proof: bytes | None = field(default=None, repr=False)  # of what serves one call, of any request
    handle: UUID | None = None
    seconds: float  # that the call may take


def earlier(services: Services, request: OpenedRequest[Command]) -> Outcome | None:
    """Return what came of this very request before; None if it is new.

    While another worker has its call under way, this waits. Raises `InvalidRequest` when the
    request id was used for other content.
    """
    while True:
        row = _find(services, request)
        if row is None:
            return None
        if row.digest != request.digest:
            raise InvalidRequest(Reason.REQUEST_ID_REUSED)
        if row.closed_at is not None:
            return _repeated(services, row)
        if services.now() >= row.call_until:
            close_alone(services, row.id, CallOutcome.UNKNOWN)
            continue
        time.sleep(_POLL_SECONDS)


def begin(
    services: Services, request: OpenedRequest[Command], planned: PlannedCall
) -> UUID | Outcome:
    """Write down that the call begins, and return the row's id.

    The answer instead, when another worker was quicker with the same request, or another request
    with the same proof.
    """
    while True:
        call = _insert(services, request, planned)
        if call is not None:
            return call
        known = earlier(services, request) or _of_proof(services, request, planned.proof)
        if known is not None:
            return known


def _insert(
    services: Services, request: OpenedRequest[Command], planned: PlannedCall
) -> UUID | None:
    now = services.now()
    row = {
        **dict.fromkeys(_COLUMNS.keys()),
        "id": new_id(),
        "app_id": request.app.app_id,
        "request_id": request.request_id,
        "digest": request.digest,
        "kind": planned.kind.value,
        "method": planned.method,
        "identifier_hash": planned.subject,
        "proof_hash": planned.proof,
        "handle_id": planned.handle,
        "sent_at": now,
        "call_until": now + timedelta(seconds=planned.seconds) + _SETTLING,
        "answer_until": request.valid_until + _ANSWER_KEPT,
    }
    if not services.store.is_sqlite:
        rows = services.store.run(_BEGIN, row)  # in one trip: it is the whole transaction
        return rows[0][0] if rows else None
    with services.store.write() as connection:
        return connection.execute(_BEGIN_SQLITE, row).scalar_one_or_none()


def close(  # noqa: PLR0913 - what is written
    connection: Connection,
    services: Services,
    call: UUID,
    outcome: CallOutcome,
    *,
    answer: Outcome | None = None,
    session: UUID | None = None,
    keeps_proof: bool = True,
) -> bool:
    """Write down what came of the call, in the caller's transaction.

    Whether it was still open: if not, another request has said by now that its outcome is unknown,
    and what it brought must be thrown away. Without *keeps_proof* another call may bring it again.
    """
    changes = {
        "closed_at": services.now(),
        "outcome": outcome.value,
        "sealed_answer": None if answer is None else sealed(services, call, answer),
        "idp_session_id": session,
        **({} if keeps_proof else {"proof_hash": None}),
    }
    closed = connection.execute(_CLOSE, {"call": call, **changes})
    return closed.one_or_none() is not None


def sealed(services: Services, call: UUID, answer: Outcome) -> bytes:
    """Return what is kept of the answer to a call, for a repeat of its request."""
    return services.keyring.seal(json.dumps(answer.to_wire()), answer_place(call))


def close_alone(
    services: Services, call: UUID, outcome: CallOutcome, answer: Outcome | None = None
) -> None:
    """Do what `close` does, in a transaction by itself."""
    with services.store.write() as connection:
        close(connection, services, call, outcome, answer=answer)


def close_with_session(
    services: Services,
    request: OpenedRequest[Command],
    call: UUID,
    session: Session,
    cause: EndCause,
) -> Outcome:
    """End *session* for what Mosaic answered to the call, and close that with how it has ended.

    Raises `SessionChanged` where it lives on, see `end_session`: the answer was about an id that it
    had before, so the call is taken back and the app may ask again.
    """
    with services.store.write() as connection:
        outcome = end_session(connection, services, request, session, cause)
        if outcome is not None:
            close(connection, services, call, CallOutcome.REFUSED, answer=outcome)
            return outcome
    forget(services, call)
    raise SessionChanged


def close_unheard(
    services: Services, request: OpenedRequest[Command], call: UUID, method: str, of: Session | None
) -> Outcome:
    """Write down that it is unknown what came of the call, for *of* if its session is known."""
    row = audit.event(
        audit.OUTCOME_UNKNOWN,
        at=services.now(),
        session=None if of is None else of.id,
        user_id=None if of is None else of.user_id,
        by=request.by,
        detail=method,
    )
    with services.store.write() as connection:
        close(connection, services, call, CallOutcome.UNKNOWN)
        audit.record(connection, [row])
    return UNKNOWN


def forget(services: Services, call: UUID) -> None:
    """Take back a call that never reached Mosaic, or whose answer says nothing of its proof.

    The same request may be served anew.
    """
    with services.store.write() as connection:
        connection.execute(
            delete(LoginCall).where(LoginCall.id == call, LoginCall.closed_at.is_(None))
        )


def has_left(error: SessionWorkerError) -> bool:
    """Whether a byte of the call that failed by *error* may have left for Mosaic."""
    return error.was_sent and not isinstance(error, HeldBack)


def give_up(services: Services, call: UUID, error: SessionWorkerError) -> None:
    """Write down that the call failed; take it back where no byte of it has left."""
    if not has_left(error):
        forget(services, call)
    else:
        close_alone(services, call, CallOutcome.REFUSED, failure_of(error))


def is_used_up(services: Services, request: OpenedRequest[Command], handle: UUID) -> bool:
    """Whether another request than this one has used up the handle of a login.

    This one may have been answered since it was looked for, when its message came twice.
    """
    query = select(LoginCall.id).where(
        LoginCall.handle_id == handle,
        LoginCall.outcome == CallOutcome.ANSWERED.value,
        LoginCall.request_id != request.request_id,
    )
    with services.store.read() as connection:
        return connection.execute(query).first() is not None


def has_other_factor(services: Services, call: UUID, subject: bytes, since: datetime) -> bool:
    """Whether another factor of *subject* was under way at any time *since*."""
    query = select(LoginCall.id).where(
        LoginCall.id != call,
        LoginCall.kind == CallKind.FACTOR.value,
        LoginCall.identifier_hash == subject,
        LoginCall.sent_at >= since - _LONGEST,  # by its index
        LoginCall.closed_at.is_(None) | (LoginCall.closed_at >= since),
    )
    with services.store.read() as connection:
        return connection.execute(query.limit(1)).first() is not None


def has_login_under_way(services: Services, subject: bytes) -> bool:
    """Whether a login of *subject*, at any app, may have begun at Mosaic and is not known here."""
    now = services.now()
    query = select(LoginCall.id).where(
        LoginCall.kind == CallKind.LOGIN.value,
        LoginCall.identifier_hash == subject,
        LoginCall.sent_at >= now - _LONGEST,  # by its index
        LoginCall.closed_at.is_(None),
        LoginCall.call_until > now,
    )
    with services.store.read() as connection:
        return connection.execute(query.limit(1)).first() is not None


def answer_place(call: UUID) -> str:
    """Return what a sealed answer is bound to."""
    return f"login_calls:{call}:answer"


def _find(services: Services, request: OpenedRequest[Command]) -> Row[Any] | None:
    parameters = {"app_id": request.app.app_id, "request_id": request.request_id}
    if not services.store.run(_IS_KNOWN, parameters):
        return None  # nearly always, and cheaper than to look for all of it
    with services.store.read() as connection:
        return connection.execute(_KNOWN, parameters).one_or_none()


def _of_proof(
    services: Services, request: OpenedRequest[Command], proof: bytes | None
) -> Outcome | None:
    """Return what the one call with *proof* came to; None once it is taken back.

    While that call is under way, this waits. Its answer is kept for a minute: an app that lost it
    by an accident still gets the token that took the place of the one that is used up.
    """
    if proof is None:
        return None
    which = (LoginCall.app_id == request.app.app_id) & (LoginCall.proof_hash == proof)
    while True:
        with services.store.read() as connection:
            row = connection.execute(select(LoginCall.__table__).where(which)).one_or_none()
        if row is None:
            return None
        which = LoginCall.id == row.id  # it may give its proof free
        if row.closed_at is not None:
            return _of_another(services, row)
        if services.now() >= row.call_until:
            close_alone(services, row.id, CallOutcome.UNKNOWN)
            continue
        request.seconds_left(services.now())
        time.sleep(_POLL_SECONDS)


def _of_another(services: Services, row: Row[Any]) -> Outcome:
    age = services.now() - row.closed_at
    is_available = row.sealed_answer is not None and age <= _ANSWER_KEPT
    if row.outcome != CallOutcome.UNKNOWN.value and not is_available:
        return PROOF_USED
    outcome = _repeated(services, row)
    return replace(outcome, data=aged(outcome.data, age)) if "tokens" in outcome.data else outcome


def _repeated(services: Services, row: Row[Any]) -> Outcome:
    live_at = time.monotonic()
    if row.idp_session_id is not None:
        with services.store.read() as connection:
            session = queries.by_id(connection, row.idp_session_id)
        if session is None or session.ended_at is not None:
            cause = None if session is None else session.end_cause
            return Outcome(Verdict.LOGIN_REQUIRED, queries.reason_for(cause))
    if row.sealed_answer is None:
        return UNKNOWN  # the worker did not hear it, or it is too old to be repeated
    try:
        content = json.loads(services.keyring.open(row.sealed_answer, answer_place(row.id)))
    except SealedValueUnreadable:
        return UNKNOWN  # its key has left the ring
    return Outcome(
        Verdict(content["verdict"]),
        Reason(content["reason"]) if "reason" in content else None,
        data=content.get("data", {}),
        retry_after=content.get("retry_after"),
        detail=content.get("detail"),
        live_at=live_at if "tokens" in content.get("data", {}) else None,
    )
