"""The journal of calls that use up a proof: written before the call, closed with what came of it.

A call that was begun and never closed may have happened: that is said, and the proof is not sent
again.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import Connection, bindparam, delete, select, update
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from models import CallKind, CallOutcome, EndCause, LoginCall, new_id
from session_client.contract import Reason, Verdict
from worker.errors import HeldBack, SessionChanged, SessionWorkerError
from worker.requests.command_fields import Command
from worker.requests.outcomes import Outcome, failure_of
from worker.requests.request import OpenedRequest
from worker.sessions import audit
from worker.sessions.queries import Session
from worker.sign_in.commit import end_session
from worker.wiring import Services

# For what comes after Mosaic's answer: keys to verify it with, and the commit.
_SETTLING: Final = timedelta(seconds=10)
ANSWER_KEPT: Final = timedelta(seconds=60)

# Built once: every login runs them.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedCall:
    """A call to Mosaic that is about to be made, once."""

    kind: CallKind
    method: str
    subject: bytes | None = field(default=None, repr=False)  # keyed hash of who signs in
    proof: bytes | None = field(default=None, repr=False)  # of what serves one call, of any request
    handle: UUID | None = None
    seconds: float  # that the call may take


def insert(
    services: Services, request: OpenedRequest[Command], planned: PlannedCall
) -> UUID | None:
    """Write down that the call begins; None where the request, or its proof, is known."""
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
        "answer_until": request.valid_until + ANSWER_KEPT,
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


def answer_place(call: UUID) -> str:
    """Return what a sealed answer is bound to."""
    return f"login_calls:{call}:answer"
