"""Who of the operators did what: a row in the transaction that does it, or it was not done.

What works in batches (`prune`, `keys rotate`, `sessions revoke --app`) has its rows before the
first or after the last.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, insert

from models import OperatorAction, new_id
from worker.settings.environment import sudo_user

MAX_NAME: Final = 200
MAX_REASON: Final = 500


class Action(StrEnum):
    """What operators do that is remembered."""

    APP_ADDED = "app_added"
    APP_CHANGED = "app_changed"
    APP_NOTICES_CHANGED = "app_notices_changed"
    APP_DISABLED = "app_disabled"
    APP_ENABLED = "app_enabled"
    APP_REMOVED = "app_removed"
    APP_KEY_ADDED = "app_key_added"
    APP_KEY_RETIRED = "app_key_retired"
    REVOCATION_BEGUN = "revocation_begun"
    SESSIONS_REVOKED = "sessions_revoked"
    GUARD_OVERRIDDEN = "guard_overridden"
    PRUNED = "pruned"
    NOTICES_REPLAYED = "notices_replayed"
    LOGOUTS_REPLAYED = "logouts_replayed"
    REVOCATIONS_REPLAYED = "revocations_replayed"
    LOGIN_LIMITS_LIFTED = "login_limits_lifted"
    KEY_ROTATION_BEGUN = "key_rotation_begun"
    KEY_ROTATION_DONE = "key_rotation_done"
    SCHEMA_CHANGED = "schema_changed"


_claimed: ContextVar[str | None] = ContextVar("operator", default=None)


@contextmanager
def acting_as(name: str | None) -> Iterator[None]:
    """Have what is done within be *name*'s, beside the user of the operating system."""
    token = _claimed.set(name)
    try:
        yield
    finally:
        _claimed.reset(token)


def operator() -> str:
    """Return who acts: the OS user, who became it by sudo, and who they say they are."""
    name = _os_user()
    by_sudo, claimed = sudo_user(), _claimed.get()
    if by_sudo and by_sudo != name:
        name = f"{name} (sudo by {by_sudo})"
    return (f"{claimed} ({name})" if claimed else name)[:MAX_NAME]


def _os_user() -> str:
    # Not `getpass.getuser`, which believes the environment.
    uid = os.getuid()
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:  # as in many containers
        return f"uid {uid}"


def record(  # noqa: PLR0913 - the columns
    connection: Connection,
    action: Action,
    *,
    at: datetime,
    app_id: str | None = None,
    user_id: str | None = None,
    session: UUID | None = None,
    reason: str | None = None,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
) -> None:
    """Write down that the operator does this, in the caller's transaction.

    Of *before* and *after* only what differs is kept. Neither may hold a secret.
    """
    was, becomes = _differing(before, after)
    values = {
        "id": new_id(),
        "at": at,
        "operator": operator(),
        "action": action.value,
        "app_id": app_id,
        "user_id": user_id,
        "idp_session_id": session,
        "reason": None if reason is None else reason[:MAX_REASON],
        "before": was,
        "after": becomes,
    }
    connection.execute(insert(OperatorAction).values(values))


def _differing(
    before: Mapping[str, Any] | None, after: Mapping[str, Any] | None
) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    if before is None or after is None:
        return (None if before is None else dict(before)), (None if after is None else dict(after))
    changed = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    return {n: before.get(n) for n in changed}, {n: after.get(n) for n in changed}
