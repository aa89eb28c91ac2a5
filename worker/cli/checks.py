"""What must hold beside living workers; `status` and the monitor judge by the same rules."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final

from session_client import contract
from worker.settings import Settings

_LATE_AFTER_SECONDS: Final = 60.0
_LATE_AFTER_SWEEPS: Final = 5  # where they are scheduled farther apart

Workers = Iterable[Mapping[str, Any]]  # as `heartbeat.living_workers` returns them


def queues_left_alone(workers: Workers) -> str | None:
    """Say which queues none of the living *workers* takes."""
    taken = [worker.get("queues") for worker in workers]
    left = [q.value for q in contract.Queue if not any(_has(queues, q.value) for queues in taken)]
    return f"no worker takes queue {', '.join(left)}" if left else None


def is_in_time(settings: Settings, seconds: float | None) -> bool:
    """Whether a sweep so many seconds ago is recent enough; None is not."""
    late = max(_LATE_AFTER_SECONDS, _LATE_AFTER_SWEEPS * settings.sweep_every_seconds)
    return seconds is not None and seconds <= late


def late_sweep(
    settings: Settings, seconds: float | None, workers: Workers, now: datetime
) -> str | None:
    """Say that the last sweep was too many *seconds* ago, or that there was none.

    There need not have been one while no worker has lived for so long itself.
    """
    if is_in_time(settings, seconds):
        return None
    if seconds is None and all(is_in_time(settings, _uptime(worker, now)) for worker in workers):
        return None
    when = "there was no sweep" if seconds is None else f"the last sweep was {seconds:.0f} s ago"
    return f"{when}: does beat run, and does a worker take queue {contract.Queue.MAINTENANCE}?"


# Anybody who may use this Redis can write what a worker says of itself.


def _has(queues: object, queue: str) -> bool:
    return isinstance(queues, list) and queue in queues


def _uptime(worker: Mapping[str, Any], now: datetime) -> float:
    try:
        return (now - datetime.fromisoformat(worker["started_at"])).total_seconds()
    except (LookupError, TypeError, ValueError):
        return 0.0
