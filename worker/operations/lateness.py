"""When the work that beat sends is late, and what to say then."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from session_client import contract
from worker.maintenance.last_runs import Run
from worker.settings.model import Settings

_LATE_AFTER_SECONDS: Final = 60.0
_LATE_AFTER_RUNS: Final = 5  # where they are scheduled farther apart
_EXPIRY_LATE_AFTER_SECONDS: Final = 900.0
_PURGE_LATE_AFTER_SECONDS: Final = 6 * 3600.0

Workers = Iterable[Mapping[str, Any]]  # as `heartbeat.living_workers` returns them


@dataclass(frozen=True, slots=True)
class Schedule:
    """How recent a run must be, and what to say when it is not."""

    late_after_seconds: float
    never: str
    last: str
    what_to_do: str
    stops_no_app: bool = False  # a warning then

    def is_in_time(self, seconds: float | None) -> bool:
        """Whether a run so many seconds ago is recent enough; None is not."""
        return seconds is not None and seconds <= self.late_after_seconds

    def lateness(self, seconds: float | None, workers: Workers, now: datetime) -> str | None:
        """Say that the last run was too many *seconds* ago, or that there was none.

        There need not have been one while no worker has lived for so long itself.
        """
        if self.is_in_time(seconds):
            return None
        if seconds is None and all(self.is_in_time(_uptime(worker, now)) for worker in workers):
            return None
        return f"{self.summary(seconds)}: {self.what_to_do}"

    def summary(self, seconds: float | None) -> str:
        """Say when the last run was."""
        return self.never if seconds is None else f"{self.last} {seconds:.0f} s ago"


def schedules_of(settings: Settings) -> dict[Run, Schedule]:
    """Return how recent each run must be."""
    does_beat_run = f"does beat run, and does a worker take queue {contract.Queue.MAINTENANCE}?"
    return {
        Run.SWEEP: Schedule(
            max(_LATE_AFTER_SECONDS, _LATE_AFTER_RUNS * settings.sweep_every_seconds),
            "there was no sweep",
            "the last sweep was",
            does_beat_run,
        ),
        Run.EXPIRE_SESSIONS: Schedule(
            max(_EXPIRY_LATE_AFTER_SECONDS, _LATE_AFTER_RUNS * settings.expire_every_seconds),
            "no session was expired",
            "sessions were last expired",
            f"{does_beat_run} Or does the log say operator_must_act?",
        ),
        Run.PURGE_HISTORY: Schedule(
            max(_PURGE_LATE_AFTER_SECONDS, _LATE_AFTER_RUNS * settings.purge_every_seconds),
            "no purge has come to its end",
            "a purge last came to its end",
            f"{does_beat_run} If the log says maintenance_out_of_time, more comes than runs can "
            "delete: raise MOSAIC_SESSIONS_MAINTENANCE_BATCH",
            stops_no_app=True,
        ),
    }


def _uptime(worker: Mapping[str, Any], now: datetime) -> float:
    try:
        return (now - datetime.fromisoformat(worker["started_at"])).total_seconds()
    except (LookupError, TypeError, ValueError):
        return 0.0
