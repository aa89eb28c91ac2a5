"""Settings as a person reads them: what is in effect, and what is wrong. Neither tells a secret."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, SecretStr, ValidationError

from worker.settings.environment import variable_name
from worker.settings.validators import MASK, without_password


def describe(settings: BaseModel) -> dict[str, Any]:
    """Return the values by variable: secrets masked, URLs without userinfo."""
    shown: dict[str, Any] = {}
    for field in type(settings).model_fields:
        value = getattr(settings, field)
        name = variable_name(field)
        if isinstance(value, SecretStr):
            is_url = field.endswith(("_url", "_proxy"))
            shown[name] = without_password(value.get_secret_value()) if is_url else MASK
        else:
            shown[name] = value
    return shown


def explain(error: ValidationError) -> str:
    """Return what is wrong, each setting by its variable; no value is quoted."""
    lines = []
    for problem in error.errors(include_input=False, include_url=False, include_context=False):
        message = problem["msg"].removeprefix("Value error, ")
        if not problem["loc"]:  # about several settings, and names them
            lines.append(message)
            continue
        name = variable_name(str(problem["loc"][0]))
        if problem["type"] == "missing":
            lines.append(f"{name} is missing (mosaic-sessions keys generate prints fresh keys)")
        else:
            lines.append(f"{name}: {message}")
    return "; ".join(lines)
