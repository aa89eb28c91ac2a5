"""Are our keys those of the store? Asked before a worker takes jobs, and before anything is sealed.

With other keys nothing can be answered, not even by a refusal: the keys of the apps are sealed
with ours. And what is sealed with keys that no other process has opens nowhere.

Decided by many rows, never by one of several: a single damaged row must not keep all workers from
starting. A request for that very row fails then.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Final

from sqlalchemy import Connection, Row, select

from models import App, AppKey, IdpSession
from worker.app_registry import app_key_place, client_secret_place
from worker.errors import ConfigurationError
from worker.sessions import mosaic_ids
from worker.settings.environment import variable_name
from worker.storage.database import Store
from worker.storage.encryption import KeyRing, SealedValueUnreadable, kid_of

# Enough to outvote damaged rows, few enough to be read at each start.
_APPS: Final = 200
_SESSIONS: Final = 10

Sealed = tuple[bytes, str]  # the value, and what it is bound to


def check(store: Store, keyring: KeyRing) -> None:
    """Raise `ConfigurationError` that names the setting whose keys are not those of the store.

    Looks at the enabled apps and the newest live sessions. An empty store fits all keys, and so
    does one whose keys are being rotated, as long as the ring has all that are in use.
    """
    with store.read() as connection:
        newest = _newest_sessions(connection)
        _check_ring(keyring, [*_of_apps(connection), *map(_of_session, newest)])
        _check_lookup_key(connection, keyring, newest)


def _newest_sessions(connection: Connection) -> list[Row[Any]]:
    newest = (
        select(IdpSession.id, IdpSession.sealed_session_id)
        .where(IdpSession.ended_at.is_(None))
        .order_by(IdpSession.created_at.desc())  # by its index, from the end
        .limit(_SESSIONS)
    )
    return list(connection.execute(newest))


def _of_session(session: Row[Any]) -> Sealed:
    return session.sealed_session_id, mosaic_ids.place_of(session.id)


def _of_apps(connection: Connection) -> Iterable[Sealed]:
    enabled = App.disabled_at.is_(None)
    secrets = (
        select(App.app_id, App.sealed_client_secret)
        .where(enabled)
        .order_by(App.created_at.desc())
        .limit(_APPS)
    )
    keys = (
        select(AppKey.id, AppKey.sealed_secret)
        .join(App, App.app_id == AppKey.app_id)
        .where(enabled, AppKey.retired_at.is_(None))
        .order_by(AppKey.created_at.desc())
        .limit(_APPS)
    )
    for app_id, sealed in connection.execute(secrets):
        yield sealed, client_secret_place(app_id)
    for key_id, sealed in connection.execute(keys):
        yield sealed, app_key_place(key_id)


def _check_ring(keyring: KeyRing, values: Iterable[Sealed]) -> None:
    """Judge each key by all the values that say they are sealed with it."""
    opened: Counter[str] = Counter()
    shut: Counter[str] = Counter()
    for sealed, place in values:
        kid = _kid_of(sealed)
        if kid is not None:
            (shut if _open(keyring, sealed, place) is None else opened)[kid] += 1
    is_all_there_is = opened.total() + shut.total() == 1
    for kid, count in shut.items():
        # One value of its own among others may be damaged, even in the name of its key.
        if count > opened[kid] and (count > 1 or is_all_there_is):
            raise ConfigurationError(_why_shut(kid, keyring))


def _why_shut(kid: str, keyring: KeyRing) -> str:
    name = variable_name("encryption_keys")
    if kid not in keyring.kids:
        return f"{name}: key {kid!r} is not in the ring; add it back: what is stored needs it"
    return (
        f"{name}: key {kid!r} does not open what is stored, which another key of that name has "
        f"sealed. Put that one back, or look whether {variable_name('database_url')} is right"
    )


def _check_lookup_key(connection: Connection, keyring: KeyRing, newest: Sequence[Row[Any]]) -> None:
    is_found = Counter(
        _finds(connection, keyring, session.id, session_id)
        for session in newest
        if (session_id := _open(keyring, *_of_session(session))) is not None
    )
    if is_found[False] > is_found[True]:
        raise ConfigurationError(
            f"{variable_name('lookup_key')} is not the key that the sessions were stored with: "
            "none would be found by its id, and logouts would miss them. Put that one back, or "
            f"look whether {variable_name('database_url')} is right"
        )


def _finds(connection: Connection, keyring: KeyRing, row_id: object, session_id: bytes) -> bool:
    # By an id it had earlier, too: Mosaic may be changing it at this moment.
    found = mosaic_ids.find(connection, keyring.lookup_hash(session_id.decode()))
    return found is not None and found.id == row_id


def _kid_of(sealed: bytes) -> str | None:
    """Return the key a value asks for; None for what was never sealed: no key would help."""
    try:
        return kid_of(sealed)
    except SealedValueUnreadable:
        return None


def _open(keyring: KeyRing, sealed: bytes, place: str) -> bytes | None:
    try:
        return keyring.open_bytes(sealed, place)
    except SealedValueUnreadable:
        return None
