"""Successful answers of the right and of the wrong shape."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from worker.errors import MosaicContractBroken
from worker.mosaic.response_bodies import read_client_token, read_sessions, read_tokens

NOW = datetime(2026, 1, 1, tzinfo=UTC)
BODY = {
    "access_token": "a",
    "token_type": "Bearer",
    "expires_in": 3600,
    "session_id": "new",
    "id_token": "i",
}


def test_a_full_answer_is_read_as_it_is() -> None:
    tokens = read_tokens({**BODY, "refresh_token": "r", "surprise": 1}, "old", NOW)

    assert (tokens.access_token, tokens.token_type, tokens.expires_in) == ("a", "Bearer", 3600)
    assert (tokens.session_id, tokens.id_token, tokens.refresh_token) == ("new", "i", "r")


def test_what_is_optional_may_be_missing() -> None:
    body = {"access_token": "a", "expires_in": "3600", "refresh_token": None}

    tokens = read_tokens(body, "old", NOW)

    assert (tokens.token_type, tokens.expires_in) == ("Bearer", 3600)
    assert (tokens.session_id, tokens.id_token, tokens.refresh_token) == ("old", None, None)


def jwt(**claims: Any) -> str:
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"e30.{payload}.sig"


HOUR = int(NOW.timestamp()) + 3600


@pytest.mark.parametrize(
    ("access_token", "id_token", "expected"),
    [
        (jwt(exp=HOUR), jwt(exp=HOUR + 60), 3600),
        ("opaque", jwt(exp=HOUR), 3600),
        (jwt(), jwt(exp=str(HOUR)), 3600),
        (jwt(exp=HOUR - 7200), jwt(exp=HOUR), 3600),
    ],
)
def test_without_expires_in_the_tokens_say_how_long_they_live(
    access_token: str, id_token: str, expected: int
) -> None:
    body = {"access_token": access_token, "id_token": id_token}

    assert read_tokens(body, "old", NOW).expires_in == expected


@pytest.mark.parametrize(
    "token", ["a", "a.b", "a.!.c", "a.W10.c", "a.bnVsbA.c", jwt(exp=[]), jwt(exp=1e300), jwt(exp=0)]
)
def test_tokens_that_do_not_say_it_either_are_refused(token: str) -> None:
    with pytest.raises(MosaicContractBroken, match="expires_in"):
        read_tokens({"access_token": token, "id_token": token}, "old", NOW)


@pytest.mark.parametrize(("token", "seconds"), [("opaque", 300), (jwt(exp=HOUR), 3600)])
def test_a_client_token_need_not_say_how_long_it_lives(token: str, seconds: int) -> None:
    assert read_client_token({"access_token": token}, NOW) == (token, seconds)


@pytest.mark.parametrize("body", [None, [], "text", 7, {}])
def test_a_body_that_is_no_answer_is_refused(body: Any) -> None:
    with pytest.raises(MosaicContractBroken):
        read_tokens(body, "old", NOW)


@pytest.mark.parametrize(
    "change",
    [
        {"access_token": None},
        {"access_token": ""},
        {"access_token": 7},
        {"id_token": 7},
        {"id_token": "\ud800"},
        {"access_token": "t\u00f6k"},
        {"refresh_token": "a\nb"},
        {"id_token": ["i"]},
        {"session_id": 7},
        {"token_type": {}},
        {"refresh_token": 7},
        {"expires_in": True},
        {"expires_in": 0},
        {"expires_in": -1},
        {"expires_in": "soon"},
        {"expires_in": float("nan")},
        {"expires_in": float("inf")},
        {"expires_in": 10**30},
    ],
    ids=str,
)
def test_one_wrong_field_spoils_the_answer(change: dict[str, Any]) -> None:
    with pytest.raises(MosaicContractBroken, match=next(iter(change))):
        read_tokens({**BODY, **change}, "old", NOW)


@pytest.mark.parametrize("token", ["tök", "to\r\nken: x", ""])
def test_a_client_token_that_cannot_travel_in_a_header_is_refused(token: str) -> None:
    with pytest.raises(MosaicContractBroken, match="access_token"):
        read_client_token({"access_token": token, "expires_in": 3600}, NOW)


@pytest.mark.parametrize(
    "began",
    ["2026-01-01T00:00:00", "2026-01-01", "1767225600", 1767225600, "", None, "2026-13-01T00:00Z"],
)
def test_a_session_that_began_at_no_moment_spoils_the_list(began: Any) -> None:
    """Without its zone a time is no moment: the worker could not say what began before it."""
    listed = [{"session_id": "s", "start_time": "2026-01-01T01:00:00+01:00"}]
    assert [session.started_at for session in read_sessions(listed)] == [NOW]

    with pytest.raises(MosaicContractBroken, match="start_time"):
        read_sessions([*listed, {"session_id": "t", "start_time": began}])
