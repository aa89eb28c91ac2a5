"""Calls about a browser that has no token: what they come to is known without asking anybody."""

from __future__ import annotations

from enum import Enum, auto
from typing import Any, Final, TypeAlias

from session_client import requests
from session_client.contract import Reason
from session_client.errors import InvalidArgumentError


class _Marker(Enum):
    NOT_GIVEN = auto()


# Stands for an argument that was left out, where None says something else.
NotGiven: TypeAlias = _Marker
NOT_GIVEN: Final = _Marker.NOT_GIVEN


def given_or_none(value: str | NotGiven | None) -> str | None:
    """Return *value*; None also when it was left out."""
    return None if isinstance(value, _Marker) else value


def check_alone(*other_names: object) -> None:
    """Raise `InvalidArgumentError` if more than a browser that has no token was named.

    Were the other name taken instead, a browser that is signed out would get what is somebody's.
    """
    if any(name is not None for name in other_names):
        raise InvalidArgumentError("browser_token: alone, also where the browser has none")


def no_token() -> dict[str, Any]:
    """Return what an answer says about a browser without a token, as the worker would say it."""
    return {
        "request_id": requests.new_request_id(),
        "reason": Reason.NO_SESSION.value,
        "detail": "this browser has no token",
    }
