"""What is measured: numbers only, so that they can be kept, drawn and judged anywhere."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One subject under full load for a few seconds. CPU in milliseconds a request."""

    subject: str
    pool: str
    mosaic_ms: float
    per_second: float
    worker_cpu_ms: float
    client_cpu_ms: float
    postgres_cpu_ms: float
    redis_cpu_ms: float
    fake_cpu_ms: float
    p50_ms: float
    errors: int
    # CPU time of strangers on the machine meanwhile, in cores.
    strangers: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What a worker occupies after warm-up and at the end."""

    subject: str
    pool: str
    requests: int
    before_bytes: int
    after_bytes: int

    @property
    def growth(self) -> float:
        """By what share it grew."""
        return self.after_bytes / self.before_bytes - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Waits:
    """One subject at a fixed rate. Percentiles are the medians of the rounds, in milliseconds."""

    subject: str
    mosaic_ms: float
    per_second: float
    requests: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    errors: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Burst:
    """Identical requests of one app for one user, all at once."""

    subject: str
    requests: int
    answered: int
    mosaic_calls: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """Of the worker, a request."""

    subject: str
    redis_round_trips: float
    sql_statements: float
    sql_transaction_control: float
    mosaic_calls: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookup:
    """One size of the store."""

    sessions: int
    p50_ms: float
    p99_ms: float
    database_bytes: int  # tables and indexes

    @property
    def session_bytes(self) -> float:
        """What one session occupies, with what belongs to it."""
        return self.database_bytes / self.sessions


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One job beside users, and the same users without it."""

    job: str
    sessions: int
    rows: int
    seconds: float
    per_second: float  # the users' requests
    quiet_p99_ms: float
    busy_p99_ms: float

    @property
    def rows_per_second(self) -> float:
        """How fast it was."""
        return self.rows / self.seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Crowd:
    """An async app that asks much at once, and no worker answers. Medians of the rounds."""

    broker: str
    last_ended_seconds: float
    late_ms: float  # its event loop
    longest_turn_cpu_ms: float  # of that loop: the part that a busy machine does not stretch


@dataclass(frozen=True, slots=True, kw_only=True)
class Import:
    """The client, imported and made, over redis-py alone. Medians of the rounds."""

    cpu_ms: float
    memory_mib: float


@dataclass(slots=True)
class Figures:
    """Everything that was measured."""

    samples: list[Sample] = field(default_factory=list)
    memory: list[Memory] = field(default_factory=list)
    latency: list[Waits] = field(default_factory=list)
    burst: list[Burst] = field(default_factory=list)
    crowd: list[Crowd] = field(default_factory=list)
    imports: list[Import] = field(default_factory=list)
    costs: list[Costs] = field(default_factory=list)
    lookup: list[Lookup] = field(default_factory=list)
    maintenance: list[Job] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)  # measures that broke
