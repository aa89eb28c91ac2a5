"""Sealing what is stored anew, after a new key was put first in the ring.

Row by row with compare and set, in batches by primary key: it may be stopped, repeated and run
beside everything else. When it has counted nothing left, the old key may leave the ring.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, select, update
from sqlalchemy.orm import InstrumentedAttribute

from models import App, AppKey, IdpSession, LoginCall, OperatorAction
from worker.app_registry import app_key_place, client_secret_place
from worker.logins.journal import answer_place
from worker.sessions import mosaic_ids, operator_trail
from worker.sessions.operator_trail import Action
from worker.storage.encryption import kid_of
from worker.wiring import Services


@dataclass(frozen=True, slots=True)
class _Sealed:
    """One column of sealed values, and what each value is bound to."""

    name: str
    key: InstrumentedAttribute[Any]
    value: InstrumentedAttribute[Any]
    place: Callable[[Any], str]


_COLUMNS: Final = (
    _Sealed("client secrets", App.app_id, App.sealed_client_secret, client_secret_place),
    _Sealed("app keys", AppKey.id, AppKey.sealed_secret, app_key_place),
    _Sealed("session ids", IdpSession.id, IdpSession.sealed_session_id, mosaic_ids.place_of),
    _Sealed("answers of logins", LoginCall.id, LoginCall.sealed_answer, answer_place),
)


def reseal(services: Services) -> Iterator[tuple[str, int]]:
    """Seal everything under the first key of the ring, yielding (what, rows changed) per batch.

    Raises `SealedValueUnreadable` for a value whose key is not in the ring: nothing is lost, put
    the key back.
    """
    _note(services, Action.KEY_ROTATION_BEGUN, {"ring": sorted(services.keyring.kids)})
    totals: Counter[str] = Counter()
    for column in _COLUMNS:
        last: Any = None
        while True:
            last, changed = _batch(services, column, last)
            if last is None:
                break
            totals[column.name] += changed
            yield column.name, changed
    _note(services, Action.KEY_ROTATION_DONE, dict(totals))


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A rotation that was begun and is not done: it is under way, or was stopped or killed."""

    begun_at: datetime
    operator: str


def unfinished(connection: Connection) -> Unfinished | None:
    """Return the latest rotation, unless it is done, or the trail has none."""
    row = connection.execute(
        select(OperatorAction.at, OperatorAction.operator, OperatorAction.action)
        .where(OperatorAction.action.in_((Action.KEY_ROTATION_BEGUN, Action.KEY_ROTATION_DONE)))
        .order_by(OperatorAction.id.desc())
        .limit(1)
    ).one_or_none()
    if row is None or row.action == Action.KEY_ROTATION_DONE:
        return None
    return Unfinished(row.at, row.operator)


def _note(services: Services, action: Action, details: dict[str, Any]) -> None:
    # Each batch commits by itself: one that is stopped has a beginning and no end.
    after = {"sealing_key": services.keyring.sealing_kid, **details}
    with services.store.write() as connection:
        operator_trail.record(connection, action, at=services.now(), after=after)


def _batch(services: Services, column: _Sealed, after: Any) -> tuple[Any, int]:
    """Reseal the next batch; return the last key it saw (None at the end) and its changes."""
    beyond: list[ColumnElement[bool]] = [] if after is None else [column.key > after]
    query = (
        select(column.key, column.value)
        .where(column.value.is_not(None), *beyond)
        .order_by(column.key)
        .limit(services.settings.maintenance_batch)
    )
    with services.store.read() as connection:
        rows = connection.execute(query).all()
    if not rows:
        return None, 0
    old = [row for row in rows if kid_of(row[1]) != services.keyring.sealing_kid]
    if old:
        with services.store.write() as connection:
            return rows[-1][0], sum(_reseal_row(connection, services, column, *r) for r in old)
    return rows[-1][0], 0


def _reseal_row(
    connection: Connection, services: Services, column: _Sealed, key: Any, sealed: bytes
) -> int:
    place = column.place(key)
    plaintext = services.keyring.open_bytes(sealed, place)
    changed = connection.execute(
        update(column.key.class_)
        # Compared, since the row may have been scrubbed or given a new id meanwhile.
        .where(column.key == key, column.value == sealed)
        .values({column.value: services.keyring.seal(plaintext, place)})
        .returning(column.key)
    )
    return len(changed.all())
