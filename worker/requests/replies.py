"""Answers: sealed to the asking app, pushed on a Redis list, remembered for a while.

Everything here is best effort. An answer that cannot be delivered is not worth failing for: what
was asked is done, and the app asks again with the same request id.
"""

from __future__ import annotations

import json
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import redis
import structlog

from session_client import contract, sealing, times
from session_client.contract import Reason, Task, Verdict
from session_client.errors import SealBroken
from worker.errors import InvalidRequest, StoreUnavailable, Unauthorized
from worker.requests.command_fields import Command
from worker.requests.envelope import Message, Sender
from worker.requests.outcomes import Outcome, failure_of
from worker.requests.request import OpenedRequest
from worker.sessions import queries
from worker.storage.redis_scripts import Call
from worker.storage.reply_store import ANSWER_SECONDS, ReplyRecord
from worker.wiring import Services

log = structlog.get_logger()

# So long after the store was asked for their session tokens may still be pushed. A logout committed
# since then was acknowledged perhaps, and the app may have had its notice and signed the user out.
MAX_TOKENS_AGE_SECONDS: Final = 1.0
_LOOKS: Final = 3

# Their receipts are in the database, with what is so by then.
_RECEIPTED: Final = frozenset({Task.LOGOUT, Task.REVOKE_USER})
# The connection is lost, or leads to a Redis that was demoted.
_LED_NOWHERE: Final = (redis.ConnectionError, redis.exceptions.ReadOnlyError)
_NOT_REMEMBERED: Final = frozenset(
    {Verdict.TEMPORARILY_UNAVAILABLE, Verdict.INVALID_REQUEST, Verdict.UNAUTHORIZED}
)


@dataclass(frozen=True, slots=True)
class EarlierAnswer:
    """What a request was answered before."""

    sealed: bytes = field(repr=False)
    live_at: float | None  # see `Outcome`


def earlier_answer(services: Services, request: OpenedRequest[Command]) -> EarlierAnswer | None:
    """Return the answer this very request was given before, claiming its id if it is new.

    Raises `InvalidRequest` when the id was used for other content. Without Redis nothing is
    remembered, and the request is served again: every task may run twice.
    """
    seconds = _record_seconds(request.task, request.valid_until, services.now())
    try:
        record = services.reply_store.claim(
            request.app.app_id, request.request_id, request.digest, seconds
        )
    except redis.RedisError as error:
        log.warning("replies_unreachable", error=type(error).__name__)
        return None
    if record.digest != request.digest:
        raise InvalidRequest(Reason.REQUEST_ID_REUSED)
    if record.answer is None:
        return None
    try:
        session = _session_in(record.answer, request)
    except ValueError:
        log.warning("remembered_answer_dropped", why="it is none to this request under a live key")
        return None
    live_at = None if session is None else time.monotonic()
    if session is not None and not queries.is_live(services, session):
        return None  # true before a logout, tokens even: served again, the app gets what is so now
    return EarlierAnswer(record.answer, live_at)


def _session_in(answer: bytes, request: OpenedRequest[Command]) -> UUID | None:
    """Return the session that an earlier answer to *request* speaks of, if it does of one.

    Only what is sealed says which: an attacker who may write to Redis could else have an app get
    tokens of a session that has ended. Raises `ValueError` for any other text.
    """
    try:
        content = sealing.unseal(answer.decode(), sealing.Kind.ANSWER, request.app.keys.get)
    except SealBroken as error:
        raise ValueError(str(error)) from None
    expected = (request.task.value, request.app.app_id, request.request_id)
    if (content.get("task"), content.get("app_id"), content.get("request_id")) != expected:
        raise ValueError("an answer to another request")
    data = content.get("data")
    session = data.get("session_ref") if isinstance(data, dict) else None
    return None if session is None else UUID(str(session))


def answer(services: Services, message: Message, sender: Sender, outcome: Outcome) -> None:
    """Seal *outcome* for the sender, push it, and remember it for a repetition.

    Tokens that would come late are pushed only if the store still knows their session as live.
    """
    for _ in range(_LOOKS):
        if _deliver(services, message, sender, outcome):
            return
        outcome = _look_again(services, outcome)
    too_slow = StoreUnavailable("the Redis that carries the answers is too slow for tokens")
    _deliver(services, message, sender, failure_of(too_slow))


def _look_again(services: Services, outcome: Outcome) -> Outcome:
    """Return *outcome* if its session is still live, else what is so now."""
    live_at = time.monotonic()
    try:
        with services.store.read() as connection:
            found = queries.by_id(connection, UUID(outcome.data["session_ref"]))
    except StoreUnavailable as error:
        return failure_of(error)
    if found is not None and found.ended_at is None:
        return replace(outcome, live_at=live_at, goes_first=None)
    log.info("tokens_withdrawn", session=outcome.data["session_ref"])
    reason = Reason.NO_SESSION if found is None else queries.reason_for(found.end_cause)
    return Outcome(Verdict.LOGIN_REQUIRED, reason)


def _deliver(services: Services, message: Message, sender: Sender, outcome: Outcome) -> bool:
    """Return whether it was delivered, or never will be; not if its tokens came too late."""
    content = {
        "v": contract.VERSION,
        "task": message.task.value,
        "app_id": message.app_id,
        "request_id": message.message_id,
        "answered_at": times.to_wire(services.now()),
        **outcome.to_wire(),
    }
    sealed = sealing.seal(sender.key, sealing.Kind.ANSWER, content).encode()
    record = None
    if _is_worth_remembering(message.task, outcome):
        record = _record_of(services, message.task, sender)
    return _push(
        services, message, sealed, record=record, first=outcome.goes_first, live_at=outcome.live_at
    )


def _is_worth_remembering(task: Task, outcome: Outcome) -> bool:
    # "Try later" is no answer to remember, and a refusal must not overwrite the answer that the
    # rightful request of this id got.
    return task not in _RECEIPTED and outcome.verdict not in _NOT_REMEMBERED


def _record_of(services: Services, task: Task, sender: Sender) -> ReplyRecord:
    """Return what to keep, complete: the claim of the id may have been lost, or never made."""
    return ReplyRecord(
        digest=sender.digest,
        seconds=_record_seconds(task, times.from_wire(sender.content["deadline"]), services.now()),
    )


def repeat(services: Services, message: Message, earlier: EarlierAnswer) -> bool:
    """Push an earlier answer again. Returns whether it was in time: else serve the request anew."""
    return _push(services, message, earlier.sealed, live_at=earlier.live_at)


def refuse_in_clear(services: Services, message: Message, refusal: Unauthorized) -> None:
    """Tell the sender that it is not proven to be an app; there is no key to seal it with."""
    refused: dict[str, Any] = {
        "v": contract.VERSION,
        "verdict": Verdict.UNAUTHORIZED.value,
        "reason": refusal.reason.value,
        "request_id": message.message_id,
    }
    _push(services, message, json.dumps(refused).encode())


def _push(  # noqa: PLR0913 - what one trip carries
    services: Services,
    message: Message,
    raw: bytes,
    *,
    record: ReplyRecord | None = None,
    first: Call | None = None,
    live_at: float | None = None,
) -> bool:
    until = None if live_at is None else live_at + MAX_TOKENS_AGE_SECONDS
    try:
        return services.reply_store.push(
            message.app_id,
            message.message_id,
            raw,
            record,
            first,
            until=until,
            answer_to=message.answer_to,
        )
    except redis.RedisError as error:
        # It may be on its way all the same: Redis knows until when it may come.
        log.warning("answer_not_delivered", error=type(error).__name__)
        _run_alone(services, first, error)
        return True


def _run_alone(services: Services, first: Call | None, error: redis.RedisError) -> None:
    """Run what was to go first: who waits for the same answer waits until its lease is over else.

    So would the app, which asks again. Not where Redis hangs, and nobody would hear of it, nor
    where it refuses the answer: new connections would burden one that is full.
    """
    if first is None or not isinstance(error, _LED_NOWHERE):
        return
    with suppress(redis.RedisError):
        services.reply_store.run_anew(first)


def _record_seconds(task: Task, valid_until: datetime, now: datetime) -> int:
    # As long as the message could be sent again; what has a receipt the database remembers.
    if task in _RECEIPTED:
        return ANSWER_SECONDS
    return max(ANSWER_SECONDS, int((valid_until - now).total_seconds()) + 1)
