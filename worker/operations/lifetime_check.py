"""Compares how long sessions live here with what Mosaic says of one of them.

Its list of a user's sessions is the only answer that says when one ends, and reading it extends
none. What is wrong is raised, with what to do. *app* is its row.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Row, select

from models import IdpSession
from worker.errors import ClientRefused, TryLater, UserRefused
from worker.mosaic import ListedSession, MosaicApp
from worker.mosaic.asked import Endpoint
from worker.operations.app_trials import advised, mosaic_app
from worker.operations.checks import Hint
from worker.settings.environment import variable_name
from worker.wiring import Services

# Between Mosaic's answer and our commit some seconds go by, and clocks may be a minute apart.
_TOLERANCE: Final = timedelta(minutes=5)
# Of all that live so many are looked at for one of the app's: an index has them in this order.
_NEWEST: Final = 1000
_LONGER: Final = (
    "they expire here first, and no logout reaches them any more, unless it is other programs that "
    "use them at Mosaic"
)
_SHORTER: Final = "they are gone_at_idp when their users come back"
_DAY: Final = timedelta(days=1)
_HOUR: Final = timedelta(hours=1)
_MINUTE: Final = timedelta(minutes=1)
_COLUMNS: Final = ("id", "user_id", "session_hash", "last_used_at", "expires_at")


@dataclass(frozen=True, slots=True)
class _Session:
    """What `_COLUMNS` say of one."""

    id: UUID
    user_id: str
    session_hash: bytes = field(repr=False)
    last_used_at: datetime
    expires_at: datetime


def check(services: Services, app: Row[Any]) -> str:
    """Compare when the newest session that the app has registered ends, here and at Mosaic."""
    session = _newest(services, app.app_id)
    if session is None:
        return f"none of the newest {_NEWEST} that live is its own: nothing can be compared"
    with advised(services, Endpoint.LIST_SESSIONS, app.app_id):
        listed = _listed(services, app, session)
    if isinstance(listed, str):
        return listed
    if _newest(services, app.app_id) != session:
        return "its newest one is in use this very moment: nothing can be compared"
    return _compared(app.app_id, session, listed)


def _newest(services: Services, app_id: str) -> _Session | None:
    newest = (
        select(IdpSession.__table__)
        .where(IdpSession.ended_at.is_(None))
        .order_by(IdpSession.created_at.desc())
        .limit(_NEWEST)
        .subquery()
    )
    own = (
        select(*(newest.c[name] for name in _COLUMNS))
        .where(newest.c.registered_by == app_id, newest.c.expires_at > services.now())
        .order_by(newest.c.created_at.desc(), newest.c.id.desc())
        .limit(1)
    )
    with services.store.read() as connection:
        row = connection.execute(own).one_or_none()
    return None if row is None else _Session(*row)


def _listed(services: Services, app: Row[Any], session: _Session) -> datetime | str:
    """Return when Mosaic says that *session* ends, or why that is not known."""
    try:
        sessions = _ask(services, mosaic_app(services, app), session)
    except UserRefused:
        return "Mosaic does not know the user of its newest one any more"
    except ClientRefused as refused:
        raise Hint(
            f"{refused}. So they cannot be compared with Mosaic's. If its client lacks the right "
            "sessions:read, a login whose answer was lost leaves its session to expire, and "
            "revoke_user may fail"
        ) from None
    except TryLater as error:
        raise Hint(f"they cannot be compared with Mosaic's now: {error}") from None
    hash_of = services.keyring.lookup_hash
    found = [it for it in sessions if hash_of(it.session_id) == session.session_hash]
    if not found:
        return "Mosaic does not list its newest one: it has ended there"
    return found[0].expires_at or "Mosaic does not say when they end"


def _ask(services: Services, app: MosaicApp, session: _Session) -> list[ListedSession]:
    permit = services.traffic.admit_logout(app, str(session.id), is_untried=False)
    timeout = services.settings.mosaic_timeout_seconds
    # Without the right the app is served all the same, as long as nobody else asks.
    with services.mosaic.faults.excuse(Endpoint.LIST_SESSIONS, app.app_id):
        return services.mosaic.list_sessions(permit, app, session.user_id, timeout_seconds=timeout)


def _compared(app_id: str, session: _Session, there: datetime) -> str:
    ours, theirs = (end - session.last_used_at for end in (session.expires_at, there))
    if abs(theirs - ours) <= _TOLERANCE:
        return f"they live {_told(ours)} after their last use, as at Mosaic"
    effect = _LONGER if theirs > ours else _SHORTER
    raise Hint(
        f"they live {_told(theirs)} after their last use at Mosaic, and {_told(ours)} here: "
        f"{effect}. Set {variable_name('session_lifetime_seconds')}, or mosaic-sessions apps set "
        f"{app_id} --session-lifetime {max(1, round(theirs / _MINUTE)) * 60}"
    )


def _told(duration: timedelta) -> str:
    for unit, name in ((_DAY, "days"), (_HOUR, "hours")):
        if duration >= unit:
            return f"{duration / unit:.3g} {name}"
    return f"{duration / _MINUTE:.3g} minutes"
