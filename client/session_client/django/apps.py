"""What Django loads for ``session_client.django``, and what it checks at the start."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, register

_MIDDLEWARE = "session_client.django.middleware.Middleware"
_AUTHENTICATION = "django.contrib.auth.middleware.AuthenticationMiddleware"
_BACKEND = "session_client.django.backend.Backend"


class MosaicSessions(AppConfig):
    """The app: a table of marks."""

    name = "session_client.django"
    label = "mosaic_sessions"
    verbose_name = "Mosaic sessions"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Have the settings checked with all others."""
        register(check_settings)


def check_settings(**_: Any) -> list[CheckMessage]:
    """Find what would sign no user in, or leave a user in who has signed out."""
    found: list[CheckMessage] = []
    middleware = list(settings.MIDDLEWARE)
    if _MIDDLEWARE not in middleware:
        found.append(Error(f"add {_MIDDLEWARE} to MIDDLEWARE", id="mosaic_sessions.E001"))
    elif _AUTHENTICATION not in middleware[: middleware.index(_MIDDLEWARE)]:
        hint = f"put it after {_AUTHENTICATION}"
        found.append(Error(f"{_MIDDLEWARE} needs a user", hint=hint, id="mosaic_sessions.E002"))
    if _BACKEND not in settings.AUTHENTICATION_BACKENDS:
        found.append(Error(f"add {_BACKEND} to AUTHENTICATION_BACKENDS", id="mosaic_sessions.E003"))
    return found
