"""Starting the workers, each as its own documentation says, and clients that know them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from benchmarks import population
from benchmarks.callers import Addresses
from benchmarks.load import Client
from benchmarks.stage import Stage, services_of
from sandbox.processes import ManagedProcess

# What is asked of our worker: by user id, by browser token, to log in. Each of one of its own.
OURS: Final = ("ours", "browser", "login")
_APPS: Final = {
    "noop": "benchmarks.peers.noop",
    "peer": "benchmarks.peers.peer",
    **dict.fromkeys(OURS, "worker"),
}
_OUR_POOL_NAMES: Final = {"threads": "threads", "prefork": "processes"}


@dataclass(frozen=True, slots=True)
class Ground:
    """The databases with every user signed in, and where to reach all."""

    stage: Stage
    our_database: str
    peer_database: str
    addresses: Addresses
    # Whose turn it is, for each subject, from client to client: see `people`.
    turns: Counter[str] = field(default_factory=Counter)

    def client(self, subject: str) -> Client:
        """Return a client of *subject*, to be used as a context manager."""
        return Client(subject, self.addresses, self.turns)


def prepare(stage: Stage) -> Ground:
    """Sign every user in, here and at the peer."""
    theirs = stage.database("peer")
    population.sign_in_all_at_the_peer(theirs)
    return prepare_ours(stage, "ours", theirs)


def prepare_ours(stage: Stage, name: str, peer_database: str) -> Ground:
    """Sign every user in at a new database of ours."""
    ours = stage.migrated_database(name)
    services = services_of(stage.worker_environment(ours))
    try:
        keys = population.add_apps(services)
        population.sign_in_all(services)
    finally:
        services.close()
    addresses = Addresses(
        our_brokers={subject: stage.redis_url(subject) for subject in OURS},
        noop_broker=stage.redis_url("noop"),
        peer_broker=stage.redis_url("peer"),
        mosaic=stage.mosaic.url,
        app_keys=keys,
    )
    return Ground(stage, ours, peer_database, addresses)


@contextmanager
def worker(
    ground: Ground,
    subject: str,
    pool: str,
    concurrency: int,
    launcher: Sequence[str] = ("celery",),
) -> Iterator[ManagedProcess | None]:
    """Run the worker of *subject*; there is none for an app that asks Mosaic itself."""
    if subject == "direct":
        yield None
        return
    if subject in OURS:
        # As a setting, since the sizes of its pools of connections follow from it.
        environment = ground.stage.worker_environment(
            ground.our_database, {"concurrency": concurrency}, subject
        )
        pool_words = ["-P", _OUR_POOL_NAMES[pool]]
    else:
        environment = ground.stage.peer_environment(subject, ground.peer_database)
        pool_words = ["-P", pool, "-c", str(concurrency)]
    words = [*launcher, "-A", _APPS[subject], "worker", *pool_words]
    with ground.stage.start(f"{subject}-{pool}", words, environment) as process:
        yield process
