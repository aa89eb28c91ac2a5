"""Reads the bodies of successful answers. Raises `MosaicContractBroken` for any other shape."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from worker.errors import MosaicContractBroken
from worker.mosaic.responses import Endpoint
from worker.mosaic.types import Tokens

MOST_SECONDS: Final = 10 * 366 * 24 * 3600  # ten years: more is not a lifetime but an error


def read_tokens(body: Any, asked_session_id: str) -> Tokens:
    """Return the tokens of a silent authentication. The ID token is not verified yet."""
    fields = _Fields(Endpoint.AUTHENTICATE, body)
    return Tokens(
        access_token=fields.text("access_token"),
        token_type=fields.optional_text("token_type") or "Bearer",
        expires_in=fields.seconds("expires_in"),
        session_id=fields.optional_text("session_id") or asked_session_id,
        id_token=fields.text("id_token"),
        refresh_token=fields.optional_text("refresh_token"),
    )


def read_client_token(body: Any) -> tuple[str, int]:
    """Return a client access token and how many seconds it lives."""
    fields = _Fields(Endpoint.TOKEN, body)
    token = fields.text("access_token")
    if not token.isascii() or not token.isprintable():
        raise fields.broken("access_token")  # it could not travel in a header
    return token, fields.seconds("expires_in")


class _Fields:
    def __init__(self, endpoint: Endpoint, body: Any) -> None:
        self._endpoint = endpoint
        if not isinstance(body, dict):
            raise self.broken("body")
        self._body: Mapping[str, Any] = body

    def broken(self, name: str) -> MosaicContractBroken:
        return MosaicContractBroken(f"{self._endpoint}: {name} is missing or of the wrong type")

    def text(self, name: str) -> str:
        value = self.optional_text(name)
        if not value:
            raise self.broken(name)
        return value

    def optional_text(self, name: str) -> str | None:
        value = self._body.get(name)
        if value is not None and not isinstance(value, str):
            raise self.broken(name)
        return value

    def seconds(self, name: str) -> int:
        value = self._body.get(name)
        if isinstance(value, str) and value.isascii() and value.isdigit():
            value = float(value)  # seen in the wild, though RFC 6749 wants a number
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.broken(name)
        if not 0 < value <= MOST_SECONDS:  # also refuses NaN
            raise self.broken(name)
        return int(value)
