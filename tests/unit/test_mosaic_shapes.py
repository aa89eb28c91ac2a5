"""Successful answers of the right and of the wrong shape."""

from __future__ import annotations

from typing import Any

import pytest

from worker.errors import MosaicContractBroken
from worker.mosaic.response_bodies import read_client_token, read_tokens

BODY = {
    "access_token": "a",
    "token_type": "Bearer",
    "expires_in": 3600,
    "session_id": "new",
    "id_token": "i",
}


def test_a_full_answer_is_read_as_it_is() -> None:
    tokens = read_tokens({**BODY, "refresh_token": "r", "surprise": 1}, "old")

    assert (tokens.access_token, tokens.token_type, tokens.expires_in) == ("a", "Bearer", 3600)
    assert (tokens.session_id, tokens.id_token, tokens.refresh_token) == ("new", "i", "r")


def test_what_is_optional_may_be_missing() -> None:
    body = {"access_token": "a", "expires_in": "3600", "id_token": "i", "refresh_token": None}

    tokens = read_tokens(body, "old")

    assert (tokens.token_type, tokens.expires_in) == ("Bearer", 3600)
    assert (tokens.session_id, tokens.refresh_token) == ("old", None)


@pytest.mark.parametrize("body", [None, [], "text", 7, {}])
def test_a_body_that_is_no_answer_is_refused(body: Any) -> None:
    with pytest.raises(MosaicContractBroken):
        read_tokens(body, "old")


@pytest.mark.parametrize(
    "change",
    [
        {"access_token": None},
        {"access_token": ""},
        {"access_token": 7},
        {"id_token": None},
        {"id_token": ["i"]},
        {"session_id": 7},
        {"token_type": {}},
        {"refresh_token": 7},
        {"expires_in": None},
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
        read_tokens({**BODY, **change}, "old")


@pytest.mark.parametrize("token", ["tök", "to\r\nken: x", ""])
def test_a_client_token_that_cannot_travel_in_a_header_is_refused(token: str) -> None:
    with pytest.raises(MosaicContractBroken, match="access_token"):
        read_client_token({"access_token": token, "expires_in": 3600})
