"""A client's settings out of the environment, under names that no other library reads."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from session_client.errors import ConfigurationError


def settings() -> dict[str, Any]:
    """Return what `SessionClient` takes. Raises `ConfigurationError`, which quotes nothing."""
    env = os.environ  # noqa: TID251 - the app's, not the worker's
    missing = [name for name in ("SESSION_BROKER_URL", "SESSION_APP_ID") if not env.get(name)]
    key = env.get("SESSION_APP_KEY") or _from_file(env.get("SESSION_APP_KEY_FILE"))
    if not key:
        missing.append("SESSION_APP_KEY or SESSION_APP_KEY_FILE")
    if missing:
        raise ConfigurationError(f"not set: {', '.join(missing)}")
    return {
        "broker_url": env["SESSION_BROKER_URL"],
        "app_id": env["SESSION_APP_ID"],
        "app_key": key,
        "earlier_keys": [k for k in env.get("SESSION_EARLIER_KEYS", "").split(",") if k.strip()],
        "reply_url": env.get("SESSION_REPLY_URL") or None,
    }


def spool() -> str:
    """Return where logouts are spooled. Raises `ConfigurationError`."""
    where = os.environ.get("SESSION_SPOOL")  # noqa: TID251 - the app's, not the worker's
    if not where:
        raise ConfigurationError("not set: SESSION_SPOOL, a SQLite file or a postgresql:// URL")
    return where


def _from_file(path: str | None) -> str | None:
    if not path:
        return None
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ConfigurationError(f"SESSION_APP_KEY_FILE: {type(error).__name__}") from None
