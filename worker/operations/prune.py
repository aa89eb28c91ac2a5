"""What beat has done on schedule, done now by an operator and written in the trail as theirs."""

from __future__ import annotations

from worker.maintenance import expire, purge
from worker.maintenance.batches import Counts, ends_at
from worker.sessions import operator_trail
from worker.sessions.operator_trail import Action
from worker.wiring import Services


def prune(services: Services, *, dry_run: bool, history: bool, override_guard: bool) -> Counts:
    """End what has expired, and with *history* delete what is past its retention."""
    until = ends_at(services)
    counts = expire.expire_sessions(
        services, dry_run=dry_run, override_guard=override_guard, until=until
    )
    if history:
        purged = purge.purge_history(services, dry_run=dry_run, until=until)
        counts = Counts(counts.rows | purged.rows, counts.is_complete and purged.is_complete)
    if not dry_run and any(counts.rows.values()):
        # Each batch has committed by itself: this tells of all of them.
        with services.store.write() as connection:
            operator_trail.record(
                connection, Action.PRUNED, at=services.now(), after=dict(counts.rows)
            )
    return counts
