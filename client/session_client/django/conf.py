"""The setting ``MOSAIC_SESSIONS``, read once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from django.conf import settings
from django.contrib.auth.base_user import AbstractBaseUser
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.utils.module_loading import import_string

from session_client.client import SessionClient
from session_client.web.options import Options

_NAME = "MOSAIC_SESSIONS"


@dataclass(frozen=True, slots=True)
class Configured:
    """What ``MOSAIC_SESSIONS`` says.

    ``CLIENT`` is a `SessionClient` (that of the environment, if it is left out), ``USER`` returns
    Django's user for a user id, or None where that one is not let in here, ``SILENT`` is ``"all"``
    where every page may sign in silently and not only guarded ones. Each may be a dotted name. All
    others are those of `session_client.web.Options`, in capitals.
    """

    client: SessionClient
    options: Options
    user: Callable[[str], AbstractBaseUser | None]
    is_silent_everywhere: bool


@cache
def configured() -> Configured:
    """Return the settings. Raises `ImproperlyConfigured`, which names what is wrong."""
    values = dict(getattr(settings, _NAME, {}))
    client = _found(values.pop("CLIENT", None)) or SessionClient.from_env()
    user = _found(values.pop("USER", "session_client.django.backend.find_user"))
    silent = values.pop("SILENT", "guarded")
    if silent not in {"guarded", "all"}:
        raise ImproperlyConfigured(f"{_NAME}['SILENT']: guarded or all")
    values["MARKS"] = _found(values.get("MARKS", "session_client.django.marks.DatabaseMarks"))
    if isinstance(values["MARKS"], type):
        values["MARKS"] = values["MARKS"]()
    values.setdefault("NOTICES", "/logout-notice")
    known = set(Options.__dataclass_fields__) - {"away_until"}
    unknown = sorted(name for name in values if name.lower() not in known or name != name.upper())
    if unknown:
        raise ImproperlyConfigured(f"{_NAME}: unknown {', '.join(unknown)}")
    options = Options(**{name.lower(): value for name, value in values.items()})
    return Configured(client, options, user, silent == "all")


def _found(value: Any) -> Any:
    return import_string(value) if isinstance(value, str) else value


def _forget(*, setting: str, **_: Any) -> None:
    if setting == _NAME:
        configured.cache_clear()


setting_changed.connect(_forget)
