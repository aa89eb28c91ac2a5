"""What `doctor` checks of the database, and of the keys that open what is stored there."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from migrations import target
from worker.errors import NotReady, SessionWorkerError, StoreUnavailable
from worker.logout.guards import refuse_jumped_clock
from worker.operations import dependencies, key_check, key_rotation, troubles
from worker.operations.checks import Check, Hint
from worker.operations.key_rotation import Unfinished
from worker.storage.pooler import is_pooled
from worker.wiring import Services


def answers(services: Services) -> bool:
    """Whether there is a database to ask at all; one that is silent is waited for each time."""
    try:
        with services.store.read():
            return True
    except StoreUnavailable:
        return False


def checks(services: Services) -> Iterator[tuple[str, Check]]:
    """Yield the checks by name of one that answers, but for its `state`."""
    yield "database connection", partial(_pooler, services)
    yield "database clock", partial(_database_clock, services)
    yield "keys", partial(_keys, services)
    yield from _of_rotation(services)


def state(services: Services) -> str:
    """Say which database it is. What is wrong with it is raised."""
    dependencies.check_database(services.store)
    if failed := troubles.disk_failed(services):
        raise NotReady(failed)
    with services.store.read() as connection:
        version = ".".join(map(str, connection.dialect.server_version_info or ()))
        return f"{connection.dialect.name} {version} at {target.head()}, takes writes"


def _pooler(services: Services) -> str:
    with services.store.read() as connection:
        if connection.dialect.name == "sqlite":
            return "a file"
        if is_pooled(connection.connection.driver_connection):
            return "by a connection pooler: nothing is prepared, transactions say their time-outs"
    return "straight to the server"


def _database_clock(services: Services) -> str:
    with services.store.read() as connection:
        refuse_jumped_clock(connection, services)
    return "as this machine's"


def _keys(services: Services) -> str:
    key_check.check(services.store, services.keyring)
    return "open what is stored"


def _of_rotation(services: Services) -> Iterator[tuple[str, Check]]:
    try:
        with dependencies.in_operators_words(), services.store.read() as connection:
            found = key_rotation.unfinished(connection)
    except SessionWorkerError:
        return  # said of the database
    yield "key rotation", partial(_key_rotation, found)


def _key_rotation(found: Unfinished | None) -> str:
    if found is not None and found.unreadable:
        raise Hint(
            f"done at {found.at:%Y-%m-%d %H:%M:%S}Z by {found.operator} but for {found.unreadable} "
            "values that no key of the ring opens. `mosaic-sessions keys rotate` names them with "
            "what to do; until it finds none, the old key must stay in the ring"
        )
    if found is not None:
        raise Hint(
            f"begun at {found.at:%Y-%m-%d %H:%M:%S}Z by {found.operator} and not done. "
            "Unless it is under way, repeat `mosaic-sessions keys rotate`; until one is done, the "
            "old key must stay in the ring"
        )
    return "none was left unfinished"
