"""Django: guarded views, login and logout, notices. Needs ``mosaic-session-client[django]``.

In the settings::

    INSTALLED_APPS += ["session_client.django"]
    MIDDLEWARE += ["session_client.django.middleware.Middleware"]  # after AuthenticationMiddleware
    AUTHENTICATION_BACKENDS = ["session_client.django.backend.Backend"]
    MOSAIC_SESSIONS = {"CLIENT": SessionClient.from_env()}

and ``path("", include("session_client.django.urls"))`` among the addresses. Users are ordinary
users of Django: ``login_required`` and the admin see them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from session_client.django.awaited import abegin, acomplete, alog_in, alog_out, atokens
    from session_client.django.views import (
        back,
        begin,
        complete,
        log_in,
        log_out,
        signed_in,
        tokens,
        who_is_in,
    )

__all__ = [
    "abegin",
    "acomplete",
    "alog_in",
    "alog_out",
    "atokens",
    "back",
    "begin",
    "complete",
    "log_in",
    "log_out",
    "signed_in",
    "tokens",
    "who_is_in",
]
_AWAITED = {"abegin", "acomplete", "alog_in", "alog_out", "atokens"}


def __getattr__(name: str) -> Any:
    # Not at import: Django loads this package before there are models.
    if name not in __all__:
        raise AttributeError(name)
    module = "awaited" if name in _AWAITED else "views"
    return getattr(import_module(f"session_client.django.{module}"), name)
