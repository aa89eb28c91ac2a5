"""Which variable sets a setting, and what an environment says in it or in the file it names."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import structlog

from worker.errors import ConfigurationError

log = structlog.get_logger()

PREFIX: Final = "MOSAIC_SESSIONS_"
_METRICS_FOLDER: Final = "PROMETHEUS_MULTIPROC_DIR"
_PLAIN_NAMES: Final = {
    "database_url": "DATABASE_URL",
    "broker_url": "CELERY_BROKER_URL",
    "redis_url": "REDIS_URL",
}


def variable_name(field: str) -> str:
    """Return the environment variable that sets *field*."""
    return _PLAIN_NAMES.get(field, PREFIX + field.upper())


def collect(environment: Mapping[str, str], fields: Iterable[str]) -> dict[str, str]:
    """Return what *environment* sets of *fields*, by field.

    Raises `ConfigurationError` for a variable that sets none of them, and as `value_of` does.
    """
    names = {field: variable_name(field) for field in fields}
    _refuse_unknown(environment, names.values())
    values = {field: value_of(environment, name) for field, name in names.items()}
    return {field: value for field, value in values.items() if value is not None}


def proxies() -> list[str]:
    """Return the variables of this process's environment that name a proxy."""
    environment = os.environ  # noqa: TID251
    names = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
    return [spelt for name in names for spelt in (name, name.lower()) if environment.get(spelt)]


def tell_unused_proxies() -> None:
    """Log the variables of this process's environment that name a proxy no call will use."""
    if found := proxies():
        log.warning(
            "proxies_not_used",
            variables=found,
            what_to_do=f"calls to Mosaic and to apps go straight: {variable_name('mosaic_proxy')} "
            "names a proxy for those to Mosaic. Unset these where they are not meant for others",
        )


def sudo_user() -> str | None:
    """Return the user who became another by sudo, to run this."""
    return os.environ.get("SUDO_USER")  # noqa: TID251


def value_of(environment: Mapping[str, str], name: str) -> str | None:
    """Return the variable, or the content of the file it names; an empty one is not set.

    Raises `ConfigurationError` for both at once, and for a file that cannot be used.
    """
    path = environment.get(f"{name}_FILE")
    if path and name in environment:
        raise ConfigurationError(f"{name} and {name}_FILE are both set: remove one")
    if path:
        return _read_file(name, path)
    return environment.get(name) or None


def _refuse_unknown(environment: Mapping[str, str], names: Iterable[str]) -> None:
    known = {*names, *(f"{name}_FILE" for name in names)}
    unknown = sorted(n for n in environment if n.startswith(PREFIX) and n not in known)
    if unknown:
        raise ConfigurationError(
            f"unknown setting {', '.join(unknown)}: misspelt? (see docs/settings.md)"
        )
    for name in ("CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL"):
        if name in environment:  # Celery lets them win, and no check would have read them
            raise ConfigurationError(f"{name} is set: unset it, CELERY_BROKER_URL says it all")
    if "CELERY_RESULT_BACKEND" in environment:
        # Celery lets it win over our configuration, and answers would be readable by every app.
        raise ConfigurationError("CELERY_RESULT_BACKEND is set: unset it, answers do not use one")


def _read_file(name: str, path: str) -> str:
    try:
        text = Path(path).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ConfigurationError(f"{name}_FILE: cannot read it ({error.strerror})") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{name}_FILE: its content is not UTF-8 text") from None
    if not text:
        raise ConfigurationError(f"{name}_FILE: the file is empty")
    return text


def watchdog() -> tuple[str, float] | None:
    """Return where systemd wants to hear from this process, and within how many seconds."""
    environment = os.environ  # noqa: TID251
    where, microseconds = environment.get("NOTIFY_SOCKET"), environment.get("WATCHDOG_USEC", "")
    if not where or not microseconds.isdecimal():
        return None
    # An "@" stands for what no file may be called.
    return (f"\0{where[1:]}" if where.startswith("@") else where), int(microseconds) / 1e6


def metrics_folder() -> str | None:
    """Return the folder the operator lends to `prometheus_client`, if there is one."""
    return os.environ.get(_METRICS_FOLDER) or None  # noqa: TID251


def share_metrics_folder(folder: Path) -> None:
    """Name the folder in which the children of a pool count: the library looks nowhere else."""
    os.environ[_METRICS_FOLDER] = str(folder)  # noqa: TID251
