"""`mosaic-sessions status`: whether it works, and whether anything piles up."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from datetime import datetime
from typing import Any

import click

from session_client import contract
from worker.celery_support.queue_heads import Waiting
from worker.cli import output
from worker.cli.common import services
from worker.maintenance.last_runs import Run
from worker.operations.health import Health, Schema, examine
from worker.operations.queue_depth import Backlog, NoticeQueue
from worker.operations.views import DeliveryCounts
from worker.traffic import BreakerState, BudgetLeft, Lane, TrafficState


@click.command()
@output.as_json_option
def status(*, as_json: bool) -> None:
    """Tell whether workers are alive and take every queue, and what waits.

    Exit codes: 0 all is well, 69 no worker is alive, 1 there is another problem: Redis or the
    database could not be asked, no worker takes a queue, no sweep runs, the schema is not at
    this release's, an address or a client of Mosaic does not work or it does not answer, or
    logouts or an app's notices are late.
    """
    health = examine(services())
    if as_json:
        output.print_json(_wire(health))
    else:
        _print_health(health)
    sys.exit(health.exit_code)


def _wire(health: Health) -> dict[str, Any]:
    """Return what `--json` prints; its names are what scripts rely on."""
    waiting, schema, store = health.backlog, health.schema, health.store
    return {
        "workers": health.workers,
        "queues": None if waiting is None else waiting.waiting,
        "oldest_waiting_seconds": None
        if waiting is None or not waiting.heads
        else {queue: head and head.age(health.asked_at) for queue, head in waiting.heads.items()},
        "notice_queues": None
        if health.notice_queues is None
        else {one.app_id: _wire_of(one, health.asked_at) for one in health.notice_queues},
        "unacknowledged": None if waiting is None else waiting.unacknowledged,
        "last_run_seconds": health.last_runs,
        "live_sessions": None if store is None else store.live_sessions.count,
        "live_sessions_age_seconds": None if store is None else store.live_sessions.age_seconds,
        "logouts": None
        if store is None
        else {
            "pending": store.logouts.pending,
            "failing": store.logouts.failing,
            "failed": store.failed_logouts,
            "oldest_pending_seconds": store.logouts.oldest_pending_seconds,
        },
        "notices": None
        if store is None
        else {
            "pending": store.notices.pending,
            "failing": store.notices.failing,
            "failed": store.failed_notices,
            "oldest_pending_seconds": store.notices.oldest_pending_seconds,
        },
        "database": None
        if schema is None
        else {
            "revision": schema.revision,
            "head": schema.head,
            "is_at_head": schema.is_at_head,
        },
        "silent_by_user": health.silent_by_user,
        "traffic": health.traffic,
        "problems": health.problems,
    }


def _wire_of(one: NoticeQueue, now: datetime) -> dict[str, Any]:
    head = one.waiting.head
    return {
        "queue": one.queue,
        "waiting": one.waiting.count,
        "oldest_waiting_seconds": head and head.age(now),
    }


def _print_health(health: Health) -> None:
    _print_workers(health.workers)
    output.print_facts(
        {
            **_backlog_facts(health),
            **_notice_facts(health),
            **_run_facts(health.last_runs),
            **_store_facts(health),
            "silent by user": "unknown" if health.silent_by_user is None else health.silent_by_user,
            **_traffic_facts(health.traffic),
        }
    )
    for problem in health.problems:
        click.echo(f"Problem: {output.shown(problem)}", err=True)


def _print_workers(workers: list[dict[str, Any]] | None) -> None:
    if not workers:
        click.echo("Workers: unknown" if workers is None else "Workers: none is alive")
        click.echo()
        return
    names = (
        *("hostname", "pid", "pool", "slots", "queues"),
        *("visibility_timeout", "schema", "started_at"),
    )
    output.print_table(
        ("worker", "pid", "pool", "slots", "queues", "visibility timeout", "schema", "started"),
        ([worker.get(name) for name in names] for worker in workers),
    )


def _backlog_facts(health: Health) -> dict[str, object]:
    found = health.backlog
    return {
        **{
            f"waiting in {queue}": "unknown"
            if found is None or queue not in found.waiting
            else _waiting(_in_queue(found, queue), health.asked_at)
            for queue in contract.Queue
        },
        "taken, not done": "unknown"
        if found is None or found.unacknowledged is None
        else found.unacknowledged,
    }


def _in_queue(found: Backlog, queue: str) -> Waiting:
    return Waiting(found.waiting[queue], found.heads.get(queue), queue in found.heads)


def _notice_facts(health: Health) -> dict[str, object]:
    return {
        f"waiting for {one.app_id} in {one.queue}": _waiting(one.waiting, health.asked_at)
        for one in health.notice_queues or ()
    }


def _run_facts(ages: dict[Run, float | None] | None) -> dict[str, object]:
    names = {
        Run.SWEEP: "last sweep",
        Run.EXPIRE_SESSIONS: "last expiry",
        Run.PURGE_HISTORY: "last whole purge",
    }
    return {name: "unknown" if ages is None else _ago(ages[run]) for run, name in names.items()}


def _ago(seconds: float | None) -> str | None:
    return None if seconds is None else f"{seconds:.0f} s ago"


def _waiting(waiting: Waiting, now: datetime) -> str:
    if waiting.count and not waiting.is_head_shown:
        return f"{waiting.count}, the broker tells no age"
    age = None if waiting.head is None else waiting.head.age(now)
    return str(waiting.count) if age is None else f"{waiting.count}, the oldest for {age:.0f} s"


def _store_facts(health: Health) -> dict[str, object]:
    schema, store = health.schema, health.store
    return {
        "live sessions": "unknown" if store is None else str(store.live_sessions),
        "logouts pending": "unknown" if store is None else _pending(store.logouts),
        "logouts failed": "unknown" if store is None else store.failed_logouts,
        "notices pending": "unknown" if store is None else _pending(store.notices),
        "notices failed": "unknown" if store is None else store.failed_notices,
        "database": "unknown" if schema is None else _standing(schema),
    }


def _traffic_facts(traffic: TrafficState | None) -> dict[str, object]:
    if traffic is None:
        return dict.fromkeys(("calls left", "breakers", "pauses"), "unknown")
    scarce = [min(_of_lane(traffic.budgets, lane), key=_left, default=None) for lane in Lane]
    return {
        "calls left": [
            f"{budget.lane} {budget.left_share:.0%} ({budget.name})" for budget in scarce if budget
        ],
        "breakers": [
            _breaker(breaker)
            for breaker in traffic.breakers
            if breaker.client_id is None or breaker.state != "closed"
        ],
        "pauses": [
            f"{pause.lane} of {pause.name} for {pause.seconds_left:.0f} s"
            for pause in traffic.pauses
        ],
    }


def _of_lane(budgets: Iterable[BudgetLeft], lane: Lane) -> Iterable[BudgetLeft]:
    return (budget for budget in budgets if budget.lane is lane)


def _left(budget: BudgetLeft) -> float:
    return budget.left_share


def _breaker(breaker: BreakerState) -> str:
    wait = f" for {breaker.retry_after:.0f} s" if breaker.retry_after > 0 else ""
    client = "" if breaker.client_id is None else f" for {breaker.client_id}"
    return f"{breaker.lane} of {breaker.name}{client} {breaker.state}{wait}"


def _pending(deliveries: DeliveryCounts) -> str:
    if deliveries.oldest_pending_seconds is None:
        return "0"
    return (
        f"{deliveries.pending}, the oldest for {deliveries.oldest_pending_seconds:.0f} s, "
        f"{deliveries.failing} with failed attempts"
    )


def _standing(schema: Schema) -> str:
    if schema.is_at_head:
        return f"at {schema.head}, as this release needs"
    return f"at {schema.revision or 'nothing'}, this release needs {schema.head}"
