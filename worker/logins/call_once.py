"""Making each call to Mosaic once: a request that comes again gets the answer that it has had.

It finds its call in the journal, also when Redis has forgotten it.
"""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Row, bindparam, select

from models import CallOutcome, LoginCall
from session_client.contract import Reason, Verdict
from worker.errors import InvalidRequest
from worker.logins import journal
from worker.logins.journal import PlannedCall
from worker.requests.command_fields import Command
from worker.requests.outcomes import Outcome
from worker.requests.request import OpenedRequest
from worker.sessions import queries
from worker.sign_in.commit import aged
from worker.storage.encryption import SealedValueUnreadable
from worker.wiring import Services

PROOF_USED: Final = Outcome(Verdict.LOGIN_REQUIRED, Reason.REFRESH_REFUSED)
_POLL_SECONDS: Final = 0.1

# Built once: every login runs them.
_KNOWN: Final = select(LoginCall.__table__).where(
    LoginCall.app_id == bindparam("app_id"), LoginCall.request_id == bindparam("request_id")
)
_IS_KNOWN: Final = _KNOWN.with_only_columns(LoginCall.id)


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
            journal.close_alone(services, row.id, CallOutcome.UNKNOWN)
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
        call = journal.insert(services, request, planned)
        if call is not None:
            return call
        known = earlier(services, request) or _of_proof(services, request, planned.proof)
        if known is not None:
            return known


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
            journal.close_alone(services, row.id, CallOutcome.UNKNOWN)
            continue
        request.seconds_left(services.now())
        time.sleep(_POLL_SECONDS)


def _of_another(services: Services, row: Row[Any]) -> Outcome:
    age = services.now() - row.closed_at
    is_available = row.sealed_answer is not None and age <= journal.ANSWER_KEPT
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
        return journal.UNKNOWN  # the worker did not hear it, or it is too old to be repeated
    try:
        content = json.loads(services.keyring.open(row.sealed_answer, journal.answer_place(row.id)))
    except SealedValueUnreadable:
        return journal.UNKNOWN  # its key has left the ring
    return Outcome(
        Verdict(content["verdict"]),
        Reason(content["reason"]) if "reason" in content else None,
        data=content.get("data", {}),
        retry_after=content.get("retry_after"),
        detail=content.get("detail"),
        live_at=live_at if "tokens" in content.get("data", {}) else None,
    )
