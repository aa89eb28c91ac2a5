"""The published example opens as it says: what a port to another language is tested with."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from session_client import AppKey, Authenticated, Logout, Refresh, sealing
from session_client._core import opening
from session_client._core.message import Message
from session_client.contract import Task
from worker.requests import commands

PAGE = (Path(__file__).parent.parent.parent / "docs" / "contract.md").read_text(encoding="utf-8")
VECTOR = PAGE.partition("## Test vector")[2]
KEY_TEXT, *BLOCKS = (
    block.strip() for block in re.findall(r"```(?:text|json)\n(.*?)```", VECTOR, re.DOTALL)
)
ENVELOPE, REQUEST, ANSWER, ANSWERED = BLOCKS[:4]  # a logout's
REFRESH = BLOCKS[4:]
KEY = AppKey.parse(KEY_TEXT)


def test_the_envelope_opens_to_the_request() -> None:
    opened = sealing.unseal(ENVELOPE, sealing.Kind.REQUEST, {KEY.kid: KEY}.get)

    assert opened == json.loads(REQUEST)


def test_the_envelope_opens_by_hand_as_the_page_describes_it() -> None:
    head, encrypted_key, iv, ciphertext, tag = ENVELOPE.split(".")
    secret = base64.urlsafe_b64decode(KEY_TEXT.partition(".")[2] + "=")

    def part(text: str) -> bytes:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))

    plaintext = AESGCM(secret).decrypt(part(iv), part(ciphertext) + part(tag), head.encode())

    assert encrypted_key == ""
    assert len(part(iv)) * 8 == 96
    assert json.loads(part(head)) == {
        "alg": "dir", "enc": "A256GCM", "kid": KEY.kid, "typ": "session-request"
    }  # fmt: skip
    assert json.loads(plaintext) == json.loads(REQUEST)


def test_the_answer_opens_to_what_the_page_shows() -> None:
    asked = Message(Task.LOGOUT, "shop", json.loads(REQUEST)["request_id"], ENVELOPE)

    answer = opening.answered(asked, ANSWER.encode(), KEY)
    receipt = Logout(user_id="ada", session_id="an-example").read(answer)

    assert sealing.unseal(ANSWER, sealing.Kind.ANSWER, {KEY.kid: KEY}.get) == json.loads(ANSWERED)
    assert receipt.receipt_id == json.loads(ANSWERED)["data"]["receipt_id"]


def test_a_refresh_opens_to_what_the_page_shows() -> None:
    envelope, request, answer, answered = REFRESH
    opened = sealing.unseal(envelope, sealing.Kind.REQUEST, {KEY.kid: KEY}.get)
    asked = Message(Task.REFRESH, "shop", opened["request_id"], envelope)

    found = Refresh(opened["payload"]["refresh_token"]).read(
        opening.answered(asked, answer.encode(), KEY)
    )

    assert opened == json.loads(request)
    commands.parse(Task.REFRESH, opened["payload"])
    assert sealing.unseal(answer, sealing.Kind.ANSWER, {KEY.kid: KEY}.get) == json.loads(answered)
    assert isinstance(found, Authenticated)
    assert found.tokens.refresh_token == json.loads(answered)["data"]["tokens"]["refresh_token"]
