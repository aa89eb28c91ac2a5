"""How Mosaic says no."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto


class Dialect(Enum):
    """The four shapes in which Mosaic's pages show an error."""

    NUMBER = auto()  # {message, error_code: 404}
    DIGITS = auto()  # {message, error_code: "404"}: the email links
    SLUG = auto()  # {message, error_code: "user_not_found"}: passcodes, WebAuthn
    BOTH = auto()  # {message, error_code: 409, ts_error_code: "…"}: the newest pages


class RefusedError(Exception):
    """Mosaic's refusal: a status and the body that explains it.

    One that *is_invented* is on no page of Mosaic's, and is not held against any.
    """

    def __init__(
        self,
        status: int,
        body: Mapping[str, object],
        headers: Mapping[str, str] | None = None,
        *,
        is_invented: bool = False,
    ) -> None:
        super().__init__(status, body)
        self.status = status
        self.body = body
        self.headers = headers or {}
        self.is_invented = is_invented


def envelope(
    status: int, message: str | list[str], error_code: int | str | None = None
) -> dict[str, object]:
    """Mosaic's error body; the code repeats the status unless one is given."""
    return {"message": message, "error_code": status if error_code is None else error_code}


def refused(status: int, message: str | list[str]) -> RefusedError:
    """A refusal in Mosaic's oldest and commonest envelope."""
    return RefusedError(status, envelope(status, message))


def refused_in(
    dialect: Dialect, status: int, message: str | list[str], slug: str | None
) -> RefusedError:
    """A refusal as the pages of one family of calls show it; without a slug, by its number."""
    match dialect:
        case Dialect.DIGITS:
            return RefusedError(status, envelope(status, message, str(status)))
        case Dialect.SLUG if slug:
            return RefusedError(status, envelope(status, message, slug))
        case Dialect.BOTH if slug:
            return RefusedError(status, {**envelope(status, message), "ts_error_code": slug})
        case _:
            return refused(status, message)


def oauth_refused(status: int, error: str, description: str) -> RefusedError:
    """A refusal as OAuth 2.0 writes it (RFC 6749 section 5.2)."""
    headers = {"WWW-Authenticate": "Basic"} if status == 401 else {}  # noqa: PLR2004
    return RefusedError(status, {"error": error, "error_description": description}, headers)


def session_not_found(status: int = 400) -> RefusedError:
    """The one answer that means: this session is gone."""
    return refused(status, "Session not found")
