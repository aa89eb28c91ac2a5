"""What the worker keeps of a request to know it again."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from session_client import (
    Authenticate,
    Logout,
    Password,
    Register,
    Request,
    SendOtp,
    SilentAuth,
    Start,
    Totp,
    contract,
    sealing,
    times,
)
from session_client._core import message as messages
from tests.stage import ENCRYPTION_KEY, LOOKUP_KEY, Stage
from worker.errors import InvalidRequest
from worker.requests import envelope
from worker.settings.validators import parse_key_ring
from worker.storage.encryption import KeyRing

REQUESTS: dict[str, Request[Any]] = {
    "a password": Authenticate(Password("ada", "Winter2026!")),
    "a code": Authenticate(Totp("123456", "ada", "username")),
    "a phone number": Start(SendOtp("sms", "+447700900123", "phone_number")),
    "a session id": Logout(user_id="ada", session_id="session-1"),
    "a user": SilentAuth(user_id="ada"),
    "an ID token": Register(user_id="ada", session_id="session-1", id_token="a.b.c"),
}


@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS)
def test_what_is_kept_of_a_request_is_found_by_no_guess_without_the_workers_key(
    sqlite_stage: Stage, request_: Request[Any]
) -> None:
    stage = sqlite_stage
    key = stage.add_app("till")
    sent = messages.seal(request_, app_id="till", key=key)
    kwargs = {"app_id": "till", "envelope": sent.envelope}
    queue = contract.QUEUE_OF[sent.task]
    message = envelope.message_of(sent.task, sent.request_id, kwargs, queue)
    assert message is not None
    rings = [
        KeyRing(parse_key_ring(f"k1:{ENCRYPTION_KEY}"), base64.b64decode(lookup_key))
        for lookup_key in (LOOKUP_KEY, base64.b64encode(b"m" * 32))
    ]

    ours, others = (
        envelope.prove_sender(replace(stage.services, keyring=ring), message) for ring in rings
    )

    assert ours.digest == envelope.prove_sender(stage.services, message).digest
    assert ours.digest != others.digest
    content = sealing.unseal(sent.envelope, sealing.Kind.REQUEST, {key.kid: key}.get)
    asked = {name: content[name] for name in content if name not in ("issued_at", "deadline")}
    text = json.dumps(asked, sort_keys=True, separators=(",", ":"))
    assert ours.digest != hashlib.sha256(text.encode()).digest()


def test_no_request_is_worked_on_for_longer_than_its_message_may_be_away(
    sqlite_stage: Stage,
) -> None:
    """Its broker gives a message to another worker when this one does not say that it is done."""
    key = sqlite_stage.add_app("till")
    sent = messages.seal(Logout(user_id="ada", session_id="s"), app_id="till", key=key)
    kwargs = {"app_id": "till", "envelope": sent.envelope}
    queue = contract.QUEUE_OF[sent.task]
    message = envelope.message_of(sent.task, sent.request_id, kwargs, queue)
    assert message is not None
    now = times.now()

    request = envelope.check(message, envelope.prove_sender(sqlite_stage.services, message), now)

    assert request.seconds_left(now) == envelope.JOB_BUDGET.total_seconds()
    assert request.valid_until - now > timedelta(hours=23)
    with pytest.raises(InvalidRequest, match="deadline_passed"):
        request.seconds_left(now + envelope.JOB_BUDGET)
