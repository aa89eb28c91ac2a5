"""Every answer Mosaic can give, and what it means to us."""

from __future__ import annotations

import json
from typing import Any

import pytest

from worker.errors import (
    ClientRefused,
    MosaicContractBroken,
    MosaicRateLimited,
    MosaicUnavailable,
    SessionGone,
    SessionWorkerError,
)
from worker.mosaic.answers import TABLE, Content, Endpoint, accept, normalised
from worker.mosaic.http import HttpAnswer

TOKEN, JWKS = Endpoint.TOKEN, Endpoint.JWKS
AUTHENTICATE, LOGOUT = Endpoint.AUTHENTICATE, Endpoint.LOGOUT
DONE = None
URL = "https://mosaic.example/cis"
GONE = {"message": "Session not found", "error_code": 400}
OTHER = {"message": "device_id must be a string", "error_code": 400}
PAGE = b"<html>welcome</html>"

Case = tuple[Endpoint, int, Any, type[SessionWorkerError] | None]


def answer(status: int, body: Any, retry_after: float | None = None) -> HttpAnswer:
    content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    return HttpAnswer(status, content, retry_after)


@pytest.mark.parametrize(
    ("endpoint", "status", "body", "expected"),
    [
        (AUTHENTICATE, 200, {}, DONE),
        (LOGOUT, 204, b"", DONE),
        (LOGOUT, 200, b"", DONE),
        (LOGOUT, 200, {"result": 1}, DONE),
        (TOKEN, 200, {}, DONE),
        (JWKS, 200, {}, DONE),
        # The session is gone.
        (AUTHENTICATE, 400, GONE, SessionGone),
        (AUTHENTICATE, 400, {"message": ["Session not found"]}, SessionGone),
        (AUTHENTICATE, 400, {"message": "  SESSION   not-found. "}, SessionGone),
        (AUTHENTICATE, 400, {"message": "?", "error_code": "session_not_found"}, SessionGone),
        (AUTHENTICATE, 400, {"error_code": "sessionNotFound"}, SessionGone),
        (AUTHENTICATE, 400, {"error": "session_not_found"}, SessionGone),
        (AUTHENTICATE, 400, {"error_description": "Session not found"}, SessionGone),
        (LOGOUT, 400, GONE, DONE),
        (LOGOUT, 404, GONE, DONE),
        (LOGOUT, 404, {"error_code": "auth_session_not_found", "message": "?"}, DONE),
        (LOGOUT, 400, {"error_code": 400, "ts_error_code": "invalid_auth_session"}, DONE),
        # What says nothing of the session must not confirm a logout.
        (LOGOUT, 404, b"", MosaicContractBroken),
        (LOGOUT, 404, PAGE, MosaicContractBroken),
        (LOGOUT, 404, {"message": "Not Found", "error_code": 404}, MosaicContractBroken),
        (LOGOUT, 200, PAGE, MosaicContractBroken),
        (LOGOUT, 202, b"", MosaicContractBroken),
        # Our own fault never ends a session.
        (AUTHENTICATE, 400, OTHER, MosaicContractBroken),
        (AUTHENTICATE, 400, {"message": ["Session not found", "and more"]}, MosaicContractBroken),
        (AUTHENTICATE, 400, {"message": "Session not found for device"}, MosaicContractBroken),
        (AUTHENTICATE, 400, {"message": 7, "error_code": 400}, MosaicContractBroken),
        (AUTHENTICATE, 400, {"message": []}, MosaicContractBroken),
        (AUTHENTICATE, 400, ["Session not found"], MosaicContractBroken),
        (AUTHENTICATE, 400, b"Session not found", MosaicContractBroken),
        (AUTHENTICATE, 400, None, MosaicContractBroken),
        (AUTHENTICATE, 404, GONE, MosaicContractBroken),
        (AUTHENTICATE, 409, OTHER, MosaicContractBroken),
        (AUTHENTICATE, 413, OTHER, MosaicContractBroken),
        (AUTHENTICATE, 422, GONE, MosaicContractBroken),
        (LOGOUT, 400, OTHER, MosaicContractBroken),
        (LOGOUT, 409, OTHER, MosaicContractBroken),
        (LOGOUT, 422, OTHER, MosaicContractBroken),
        (TOKEN, 400, {"error": "invalid_request"}, MosaicContractBroken),
        (TOKEN, 404, PAGE, MosaicContractBroken),
        # The client is refused.
        (AUTHENTICATE, 401, {"message": "Unauthorized"}, ClientRefused),
        (AUTHENTICATE, 403, GONE, ClientRefused),
        (LOGOUT, 401, b"", ClientRefused),
        (LOGOUT, 403, {"message": "Forbidden"}, ClientRefused),
        (TOKEN, 400, {"error": "invalid_client"}, ClientRefused),
        (TOKEN, 400, {"error": "unauthorized_client"}, ClientRefused),
        (TOKEN, 400, {"message": "Invalid client credentials"}, ClientRefused),
        (TOKEN, 401, {"error": "invalid_client", "error_description": "no"}, ClientRefused),
        (TOKEN, 401, b"", ClientRefused),
        (TOKEN, 403, PAGE, ClientRefused),
        # Later.
        (AUTHENTICATE, 429, b"", MosaicRateLimited),
        (LOGOUT, 429, GONE, MosaicRateLimited),
        (TOKEN, 429, PAGE, MosaicRateLimited),
        (AUTHENTICATE, 408, b"", MosaicUnavailable),
        (LOGOUT, 408, b"", MosaicUnavailable),
        (AUTHENTICATE, 500, GONE, MosaicUnavailable),
        (AUTHENTICATE, 502, PAGE, MosaicUnavailable),
        (AUTHENTICATE, 503, None, MosaicUnavailable),
        (LOGOUT, 500, GONE, MosaicUnavailable),
        (LOGOUT, 504, b"", MosaicUnavailable),
        (TOKEN, 503, b"", MosaicUnavailable),
        (JWKS, 400, OTHER, MosaicUnavailable),
        (JWKS, 404, PAGE, MosaicUnavailable),
        (JWKS, 429, b"", MosaicUnavailable),
        (JWKS, 500, b"", MosaicUnavailable),
        (JWKS, 200, PAGE, MosaicUnavailable),
        # What we cannot read.
        (AUTHENTICATE, 301, b"", MosaicContractBroken),
        (AUTHENTICATE, 302, GONE, MosaicContractBroken),
        (LOGOUT, 307, b"", MosaicContractBroken),
        (TOKEN, 308, b"", MosaicContractBroken),
        (AUTHENTICATE, 200, PAGE, MosaicContractBroken),
        (AUTHENTICATE, 200, b'{"access_tok', MosaicContractBroken),
        (AUTHENTICATE, 200, b"[" * 100_000, MosaicContractBroken),
        (AUTHENTICATE, 200, b"\xff\xfe\xfd", MosaicContractBroken),
        (AUTHENTICATE, 200, None, MosaicContractBroken),
        (AUTHENTICATE, 204, b"", MosaicContractBroken),
        (TOKEN, 200, b"", MosaicContractBroken),
        (AUTHENTICATE, 999, b"", MosaicContractBroken),
    ],
)
def test_each_answer_means_one_thing(
    endpoint: Endpoint, status: int, body: Any, expected: type[SessionWorkerError] | None
) -> None:
    if expected is DONE:
        accept(endpoint, URL, answer(status, body))
        return

    with pytest.raises(SessionWorkerError) as caught:
        accept(endpoint, URL, answer(status, body))

    assert type(caught.value) is expected


@pytest.mark.parametrize("status", [429, 503])
def test_the_wait_mosaic_asks_for_is_passed_on(status: int) -> None:
    with pytest.raises((MosaicRateLimited, MosaicUnavailable)) as caught:
        accept(AUTHENTICATE, URL, answer(status, b"", retry_after=17.0))

    assert caught.value.retry_after == 17.0


def test_without_a_wait_the_usual_one_is_suggested() -> None:
    with pytest.raises(MosaicRateLimited) as caught:
        accept(AUTHENTICATE, URL, answer(429, b""))

    assert caught.value.retry_after == 1.0


def test_no_error_repeats_what_mosaic_said() -> None:
    with pytest.raises(MosaicContractBroken) as caught:
        accept(AUTHENTICATE, URL, answer(400, {"message": "bad session s3cr3t", "error": "s3cr3t"}))

    assert "s3cr3t" not in str(caught.value)
    assert caught.value.__context__ is None


def test_every_status_has_a_meaning_at_every_endpoint() -> None:
    for endpoint in Endpoint:
        for status in range(100, 600):
            content = Content.of(answer(status, {}))
            assert any(
                endpoint in row.endpoints and status in row.statuses and row.content(content)
                for row in TABLE
            )


def test_every_row_says_in_words_what_it_is() -> None:
    assert all(row.words for row in TABLE)


@pytest.mark.parametrize(
    "text", ["Session not found", "SESSION_NOT_FOUND", "session-not-found.", "sessionNotFound"]
)
def test_slugs_and_sentences_are_compared_alike(text: str) -> None:
    assert normalised(text) == "session not found"
