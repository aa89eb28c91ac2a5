"""The new id that Mosaic gave a session with an answer that is of no other use.

The id that is known here may be one that Mosaic knows no more: the session would be taken for gone,
and live on there, where no logout could reach it.
"""

from __future__ import annotations

from uuid import UUID

from sqlalchemy.exc import IntegrityError

from worker.app_registry import KnownApp
from worker.logout.owed_end import owe_end
from worker.sessions import mosaic_ids, queries
from worker.sessions.queries import Session
from worker.sessions.watermarks import lock_user
from worker.wiring import Services


def keep_late_id(
    services: Services, app: KnownApp, asked_about: Session, session_id: str
) -> tuple[Session | None, tuple[UUID, ...]]:
    """Keep *session_id*, by which Mosaic has answered; return the session as it was found.

    *asked_about* is the session as it was read before the call: an id that it was given since is
    kept. Where it has ended, Mosaic is owed the end by the new id: by the one that the logout knew
    it may find the session no more. Returns those deliveries, too, to wake.
    """
    found = _keep(services, asked_about, session_id)
    if found is None or found.ended_at is None:
        return found, ()
    # In a transaction of its own, which locks what it needs: what has ended stays so.
    with services.store.write() as connection:
        lock_user(connection, found.user_id)
        return found, owe_end(connection, services, app, session_id, asked_about=found.id)


def _keep(services: Services, asked_about: Session, session_id: str) -> Session | None:
    """Give the session its new id, if it lives and has no other by now; return it as found."""
    new_hash = services.keyring.lookup_hash(session_id)
    found: Session | None = None
    try:
        with services.store.write() as connection:
            lock_user(connection, asked_about.user_id)
            found = queries.by_id(connection, asked_about.id, for_update=True)
            if found is None or found.ended_at is not None:
                return found
            is_as_asked = found.session_hash == asked_about.session_hash
            if is_as_asked and mosaic_ids.find(connection, new_hash) is None:
                mosaic_ids.give_new(connection, services.keyring, found, session_id, services.now())
    except IntegrityError:
        pass  # an app has registered the new id this very moment: it is found by that
    return found
