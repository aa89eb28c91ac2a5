"""Writes `docs/settings.md`: ``python -m worker.settings.page > docs/settings.md``."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, Final, Literal, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from worker.settings.environment import variable_name
from worker.settings.model import Settings

_INTRODUCTION: Final = """\
# Settings

Read from the environment, once, when a process starts; any of them may come from a file instead
(`<NAME>_FILE`). A misspelt name with our prefix is refused. `mosaic-sessions config` shows what is
in force, secrets masked. Two must be set: the keys, which `mosaic-sessions keys generate` makes.
In production set `DATABASE_URL` and `CELERY_BROKER_URL` too; without them the store is a file in
the working directory, and the broker a Redis on the same machine.

This page is written by `python -m worker.settings.page`.
"""

# By its first field, the heading of a section.
_SECTIONS: Final = {
    "database_url": "Where things are",
    "encryption_keys": "Keys",
    "mosaic_region": "Mosaic",
    "mosaic_app_calls_per_minute": "Traffic with Mosaic, of all processes together",
    "session_lifetime_seconds": "Sessions",
    "delivery_lease_seconds": "Deliveries: telling Mosaic and apps",
    "notice_issuer": "Notices to apps",
    "expire_grace_seconds": "Maintenance",
    "ca_certificates": "Certificates",
    "visibility_timeout_seconds": "Processes",
}
_BOUNDS: Final = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}


def descriptions() -> dict[str, str]:
    """Return what is said of each setting, by field.

    Read from the source: pydantic would do it each time that a process starts, and take longer for
    it than for all the rest of the settings.
    """
    (source,) = ast.parse(inspect.getsource(Settings)).body
    pairs = pairwise(getattr(source, "body", ()))
    return {
        field.target.id: " ".join(text.value.value.split())
        for field, text in pairs
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }


def page() -> str:
    """Return the page."""
    return "\n".join([_INTRODUCTION, *_tables()]).rstrip() + "\n"


def _tables() -> Iterator[str]:
    described = descriptions()
    for name, field in Settings.model_fields.items():
        if name in _SECTIONS:
            yield f"## {_SECTIONS[name]}\n"
            yield "| variable | default | takes | what it sets |\n|---|---|---|---|"
        yield _row(name, field, described[name]) + ("\n" if _is_last(name) else "")


def _is_last(name: str) -> bool:
    names = list(Settings.model_fields)
    following = names[names.index(name) + 1 :]
    return not following or following[0] in _SECTIONS


def _row(name: str, field: FieldInfo, what: str) -> str:
    return f"| `{variable_name(name)}` | {_default(field)} | {_takes(field)} | {what} |"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value: Any = field.default
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if value is None:
        return "none"
    return f"`{str(value).lower() if isinstance(value, bool) else _number(value)}`"


def _number(value: object) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _takes(field: FieldInfo) -> str:
    if field.annotation is bool:
        return "`true`, `false`"
    if get_origin(field.annotation) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(field.annotation))
    bounds = [
        f"{words} {_number(getattr(limit, name))}"
        for limit in field.metadata
        for name, words in _BOUNDS.items()
        if hasattr(limit, name)
    ]
    return ", ".join(bounds)


if __name__ == "__main__":
    sys.stdout.write(page())
