"""What finding a user's sessions costs as the store grows: the query every request begins with."""

from __future__ import annotations

import random
import statistics
import sys
import time
from typing import Final

from sqlalchemy import create_engine, text

from benchmarks import bulk
from benchmarks.figures import Lookup
from benchmarks.stage import Stage, services_of
from worker.sessions import queries
from worker.wiring import Services

_LOOKUPS: Final = 2000
_TURN: Final = 50  # lookups in one store before the next one's turn
_SEED: Final = 1


def measure(stage: Stage, databases: dict[int, str]) -> list[Lookup]:
    """Look up users of each store, the stores taking turns; *databases* are URLs by size."""
    stores = {size: services_of(stage.worker_environment(url)) for size, url in databases.items()}
    taken: dict[int, list[float]] = {size: [] for size in stores}
    choose = random.Random(_SEED)  # noqa: S311 - not a secret
    try:
        for size, services in stores.items():
            _look_up(services, size, choose)  # connects, and fills caches
        for _ in range(_LOOKUPS // _TURN):
            for size, services in stores.items():
                taken[size] += _look_up(services, size, choose)
    finally:
        for services in stores.values():
            services.close()
    found = [_lookup(size, times, databases[size]) for size, times in taken.items()]
    sys.stderr.writelines(f"  lookup   {each}\n" for each in found)
    return found


def _look_up(services: Services, size: int, choose: random.Random) -> list[float]:
    taken = []
    for _ in range(_TURN):
        user = bulk.live_user(choose.randrange(size), size)
        begin = time.perf_counter()
        found = queries.candidates(services, user, None, services.now())
        taken.append((time.perf_counter() - begin) * 1000)
        if len(found) != bulk.SESSIONS_A_USER:
            raise RuntimeError(f"{user} should have {bulk.SESSIONS_A_USER} live sessions")
    return taken


def _lookup(size: int, times: list[float], url: str) -> Lookup:
    return Lookup(
        sessions=size,
        p50_ms=statistics.median(times),
        p99_ms=statistics.quantiles(times, n=100)[98],
        database_bytes=_size(url),
    )


def _size(url: str) -> int:
    engine = create_engine(url)
    try:
        with engine.connect() as connection:
            query = text(
                "SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE relkind = 'r'"
                " AND relnamespace = 'public'::regnamespace"
            )
            return int(connection.execute(query).scalar_one())
    finally:
        engine.dispose()
