"""What is true of the store after each test, whatever the test did with it."""

from __future__ import annotations

from sqlalchemy import exists, select

from models import IdpSession
from worker.errors import StoreUnavailable
from worker.maintenance.purge import PURGED_ALONG
from worker.storage.database import Store

# Expiry would come to it too late, since it looks no earlier.
_LOOKED_AT_TOO_LATE = select(IdpSession.id).where(
    IdpSession.ended_at.is_(None), IdpSession.check_expiry_at > IdpSession.expires_at
)
# No foreign key forbids them, and no purge would ever find them.
_WITHOUT_SESSION = {
    session_id.class_.__tablename__: select(session_id).where(
        ~exists().where(IdpSession.id == session_id)
    )
    for session_id in PURGED_ALONG
}


def require_sound(store: Store) -> None:
    """Fail unless expiry and purge will come to all that is there."""
    try:
        with store.read() as connection:
            late = connection.execute(_LOOKED_AT_TOO_LATE).scalars().all()
            lost = {
                table: rows
                for table, query in _WITHOUT_SESSION.items()
                if (rows := connection.execute(query).scalars().all())
            }
    except StoreUnavailable:
        return  # it was part of the test to take the store away
    assert not late, "check_expiry_at is after expires_at"
    assert not lost, f"what goes with a session outlives it: {sorted(lost)}"
