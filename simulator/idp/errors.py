"""How Mosaic says no."""

from __future__ import annotations

from collections.abc import Mapping


class RefusedError(Exception):
    """Mosaic's refusal: a status and the body that explains it."""

    def __init__(
        self, status: int, body: Mapping[str, object], headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(status, body)
        self.status = status
        self.body = body
        self.headers = headers or {}


def envelope(
    status: int, message: str | list[str], error_code: int | str | None = None
) -> dict[str, object]:
    """Mosaic's error body; the code repeats the status unless one is given."""
    return {"message": message, "error_code": status if error_code is None else error_code}


def refused(status: int, message: str | list[str]) -> RefusedError:
    """A refusal in Mosaic's envelope."""
    return RefusedError(status, envelope(status, message))


def oauth_refused(status: int, error: str, description: str) -> RefusedError:
    """A refusal as OAuth 2.0 writes it (RFC 6749 section 5.2)."""
    headers = {"WWW-Authenticate": "Basic"} if status == 401 else {}  # noqa: PLR2004
    return RefusedError(status, {"error": error, "error_description": description}, headers)


def session_not_found(status: int = 400) -> RefusedError:
    """The one answer that means: this session is gone."""
    return refused(status, "Session not found")
