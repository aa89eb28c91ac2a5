"""Ending all sessions that an app shares: in short transactions, since they may be millions.

One statement for all of them would be ended by the database's time-out, after it had held every row
for as long. It may be killed between two batches and repeated: what is left is ended then.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final
from uuid import UUID

from sqlalchemy import Connection, bindparam, select

from models import AppSession, EndCause, IdpSession
from worker.logout.end_sessions import Ended, Ending
from worker.logout.guards import refuse_too_many
from worker.logout.revoke import by_operator
from worker.maintenance.batches import Batch, each_batch
from worker.operations import overview
from worker.sessions import operator_trail
from worker.sessions.operator_trail import Action
from worker.storage.sql import among_keys
from worker.wiring import Services

_NEWEST: Final = select(IdpSession.id).order_by(IdpSession.id.desc()).limit(1)
_BEFORE_ALL: Final = UUID(int=0)


def revoke_app(
    services: Services, app_id: str, *, reason: str, override: bool = False
) -> Iterator[Ended]:
    """End the sessions that *app_id* shares and that live now; yield what each batch has ended.

    Sessions that are registered meanwhile live on: they are of users who have just logged in. Those
    that the app begins to share meanwhile may or may not be ended. Raises `SafetyLimitExceeded`
    when they are more than a plausible share of all live sessions, unless *override*.
    """
    if not override:
        with overview.counting("--override-guard"), services.store.read() as connection:
            refuse_too_many(connection, services, overview.live_sessions_of(app_id=app_id))
    with services.store.write() as connection:
        newest = connection.execute(_NEWEST).scalar()
        operator_trail.record(
            connection,
            Action.REVOCATION_BEGUN,
            at=services.now(),
            app_id=app_id,
            reason=reason,
            after={"override_guard": override},
        )
    count = 0
    if newest is not None:
        for ended in _end_in_batches(services, app_id, newest, reason):
            count += ended.count
            yield ended
    with services.store.write() as connection:
        operator_trail.record(
            connection,
            Action.SESSIONS_REVOKED,
            at=services.now(),
            app_id=app_id,
            reason=reason,
            after={"ended": count, "override_guard": override},
        )


def _end_in_batches(services: Services, app_id: str, newest: UUID, reason: str) -> Iterator[Ended]:
    """End the sessions that *app_id* shares, up to *newest*, the next by their ids in each batch.

    Unlike expiry it waits for a session that another transaction holds: it would be left alive. All
    are locked by their ids first, as `queries.lock_in_order` does.
    """
    limit = services.settings.maintenance_batch
    lifetime = services.settings.session_lifetime
    reaching = bindparam("reached", type_=IdpSession.id.type)
    # Said of its shares as well: each batch would else pass by those of all batches before it.
    shared = select(AppSession.idp_session_id).where(
        AppSession.app_id == app_id, AppSession.idp_session_id > reaching
    )
    rest = select(IdpSession.id).where(
        IdpSession.ended_at.is_(None),
        IdpSession.id > reaching,
        IdpSession.id <= newest,
        IdpSession.id.in_(shared),
    )
    batch = rest.order_by(IdpSession.id).limit(limit).with_for_update(key_share=True)
    chosen_ones = among_keys(IdpSession.id, is_sqlite=services.store.is_sqlite)
    ending = Ending(chosen_ones, EndCause.REVOKED, by=by_operator(reason))
    reached, ended = _BEFORE_ALL, Ended()

    def end_batch(connection: Connection) -> Batch:
        nonlocal reached, ended
        keys = connection.execute(batch, {"reached": reached}).scalars().all()
        if not keys:
            return Batch(0, is_last=True)
        ended = ending.run(connection, services, lifetime=lifetime, keys=keys)
        reached = keys[-1]
        return Batch(ended.count, is_last=len(keys) < limit)

    for done in each_batch(services, "revoked", end_batch):
        if done.rows:
            yield ended
