"""Answers: sealed to the asking app, pushed on a Redis list, remembered for a minute.

Everything here is best effort. An answer that cannot be delivered is not worth failing for: what
was asked is done, and the app asks again with the same request id.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, Final, cast

import redis
import structlog

from session_client import contract, sealing, times
from session_client.contract import Reason, Verdict
from worker.errors import InvalidRequest, Unauthorized
from worker.lifecycle.intake import Message, OpenedRequest, Sender
from worker.lifecycle.outcomes import Outcome
from worker.wiring import Services

log = structlog.get_logger()

_LIFETIME_SECONDS: Final = int(contract.ANSWER_LIFETIME.total_seconds())


def earlier_answer(services: Services, request: OpenedRequest) -> bytes | None:
    """Return the answer this very request was given before, claiming its id if it is new.

    Raises `InvalidRequest` when the id was used for other content. Without Redis nothing is
    remembered, and the request is served again: every task may run twice.
    """
    key = _memory_key(request.app.app_id, request.request_id)
    try:
        pipeline = services.redis.pipeline(transaction=True)
        pipeline.hsetnx(key, "digest", request.digest)
        pipeline.hmget(key, "digest", "answer")
        pipeline.expire(key, _memory_seconds(request, services.now()))
        _, (digest, answer), _ = pipeline.execute()
    except redis.RedisError as error:
        log.warning("replies_unreachable", error=type(error).__name__)
        return None
    if digest != request.digest:
        raise InvalidRequest(Reason.REQUEST_ID_REUSED)
    return cast("bytes | None", answer)


def answer(services: Services, message: Message, sender: Sender, outcome: Outcome) -> None:
    """Seal *outcome* for the sender, push it, and remember it for a repetition."""
    content = {
        "v": contract.VERSION,
        "task": message.task.value,
        "app_id": message.app_id,
        "request_id": message.message_id,
        "answered_at": times.to_wire(services.now()),
        **outcome.to_wire(),
    }
    sealed = sealing.seal(sender.key, sealing.Kind.ANSWER, content).encode()
    # "Try later" is no answer to remember, and a refusal must not overwrite the answer that the
    # rightful request of this id got.
    is_final = outcome.verdict not in {
        Verdict.TEMPORARILY_UNAVAILABLE,
        Verdict.INVALID_REQUEST,
        Verdict.UNAUTHORIZED,
    }
    _push(services, message, sealed, remember=is_final)


def repeat(services: Services, message: Message, sealed: bytes) -> None:
    """Push an earlier answer again."""
    _push(services, message, sealed, remember=False)


def refuse_in_clear(services: Services, message: Message, refusal: Unauthorized) -> None:
    """Tell whoever waits that they are not proven; there is no key to seal it with."""
    refused: dict[str, Any] = {
        "v": contract.VERSION,
        "verdict": Verdict.UNAUTHORIZED.value,
        "reason": refusal.reason.value,
        "request_id": message.message_id,
    }
    _push(services, message, json.dumps(refused).encode(), remember=False)


def _push(services: Services, message: Message, raw: bytes, *, remember: bool) -> None:
    reply_key = contract.reply_key(message.app_id, message.message_id)
    try:
        pipeline = services.redis.pipeline(transaction=True)
        pipeline.rpush(reply_key, raw)
        pipeline.expire(reply_key, _LIFETIME_SECONDS)
        if remember:
            pipeline.hset(_memory_key(message.app_id, message.message_id), "answer", raw)
        pipeline.execute()
    except redis.RedisError as error:
        log.warning("answer_not_delivered", error=type(error).__name__)


def _memory_key(app_id: str, request_id: str) -> str:
    return f"request:{app_id}:{request_id}"


def _memory_seconds(request: OpenedRequest, now: datetime) -> int:
    # As long as the message could be sent again, but a logout is remembered by the database.
    left = int((request.deadline - now).total_seconds()) + 1
    return max(_LIFETIME_SECONDS, left)
