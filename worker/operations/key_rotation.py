"""Sealing what is stored anew, after a new key was put first in the ring.

Row by row with compare and set, in batches by primary key: it may be stopped, repeated and run
beside everything else. When it has counted nothing left, the old key may leave the ring.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, select, true, update
from sqlalchemy.orm import InstrumentedAttribute

from models import App, AppKey, IdpSession, LoginCall, OperatorAction
from worker.app_registry import ANOTHER_KEY, GIVEN_ANEW, app_key_place, client_secret_place
from worker.logins.journal import answer_place
from worker.sessions import mosaic_ids, operator_trail
from worker.sessions.operator_trail import Action
from worker.storage.encryption import SealedValueUnreadable, kid_of
from worker.wiring import Services

MAX_NAMED: Final = 50  # that many an operator reads; more of them have one cause
_UNREADABLE: Final = "unreadable"


@dataclass(frozen=True, slots=True)
class _Sealed:
    """One column of sealed values, and what each value is bound to."""

    name: str
    key: InstrumentedAttribute[Any]
    value: InstrumentedAttribute[Any]
    place: Callable[[Any], str]
    # What tells an operator whose value it is, and what to do, with these in its braces.
    named_by: tuple[InstrumentedAttribute[Any], ...]
    what_to_do: str
    is_used: ColumnElement[bool] = field(default_factory=true)  # else no process ever opens it


_COLUMNS: Final = (
    _Sealed(
        "client secrets",
        App.app_id,
        App.sealed_client_secret,
        client_secret_place,
        (App.app_id,),
        GIVEN_ANEW,
    ),
    _Sealed(
        "app keys",
        AppKey.id,
        AppKey.sealed_secret,
        app_key_place,
        (AppKey.app_id, AppKey.kid),
        ANOTHER_KEY,
        AppKey.retired_at.is_(None),
    ),
    _Sealed(
        "session ids",
        IdpSession.id,
        IdpSession.sealed_session_id,
        mosaic_ids.place_of,
        (IdpSession.id,),
        "mosaic-sessions sessions revoke {0} --reason REASON, unless it has ended: its user logs "
        "in anew. Mosaic cannot be told; the value goes when the session would have expired there",
    ),
    _Sealed(
        "answers of logins",
        LoginCall.id,
        LoginCall.sealed_answer,
        answer_place,
        (LoginCall.id,),
        "nothing: it is forgotten by itself",
    ),
)


@dataclass(frozen=True, slots=True)
class UnreadableValue:
    """A value that no key of the ring opens: which, why, and what to do."""

    what: str
    whose: str
    why: str
    what_to_do: str


@dataclass(slots=True)
class Unreadable:
    """The values that a rotation had to leave as they are: the first of them, and how many."""

    count: int = 0
    first: list[UnreadableValue] = field(default_factory=list)

    def add(self, column: _Sealed, row: Sequence[Any], error: SealedValueUnreadable) -> None:
        """Note one of *column*, unless no process would ever open it."""
        _, _, is_used, *names = row
        if not is_used:
            return
        self.count += 1
        if self.count <= MAX_NAMED:
            what_to_do = column.what_to_do.format(*names)
            whose = " ".join(map(str, names))
            self.first.append(UnreadableValue(column.name, whose, str(error), what_to_do))


def reseal(services: Services, unreadable: Unreadable | None = None) -> Iterator[tuple[str, int]]:
    """Seal everything under the first key of the ring, yielding (what, rows changed) per batch.

    A value that does not open is left as it is and noted in *unreadable*: one damaged row must not
    keep all others under the old key. Such a rotation is not done, as `unfinished` sees it.
    """
    unreadable = Unreadable() if unreadable is None else unreadable
    _note(services, Action.KEY_ROTATION_BEGUN, {"ring": sorted(services.keyring.kids)})
    totals: Counter[str] = Counter()
    for column in _COLUMNS:
        last: Any = None
        while True:
            last, changed = _batch(services, column, last, unreadable)
            if last is None:
                break
            totals[column.name] += changed
            yield column.name, changed
    left = {_UNREADABLE: unreadable.count} if unreadable.count else {}
    _note(services, Action.KEY_ROTATION_DONE, totals | left)


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A rotation that is not done: it is under way, was stopped or killed, or left values."""

    at: datetime
    operator: str
    unreadable: int  # values that it came upon and could not open; 0 of one without an end


def unfinished(connection: Connection) -> Unfinished | None:
    """Return the latest rotation, unless it is done, or the trail has none."""
    row = connection.execute(
        select(
            OperatorAction.at, OperatorAction.operator, OperatorAction.action, OperatorAction.after
        )
        .where(OperatorAction.action.in_((Action.KEY_ROTATION_BEGUN, Action.KEY_ROTATION_DONE)))
        .order_by(OperatorAction.id.desc())
        .limit(1)
    ).one_or_none()
    if row is None:
        return None
    unreadable = (row.after or {}).get(_UNREADABLE, 0)
    if row.action == Action.KEY_ROTATION_DONE and not unreadable:
        return None
    return Unfinished(row.at, row.operator, unreadable)


def _note(services: Services, action: Action, details: dict[str, Any]) -> None:
    # Each batch commits by itself: one that is stopped has a beginning and no end.
    after = {"sealing_key": services.keyring.sealing_kid, **details}
    with services.store.write() as connection:
        operator_trail.record(connection, action, at=services.now(), after=after)


def _batch(
    services: Services, column: _Sealed, after: Any, unreadable: Unreadable
) -> tuple[Any, int]:
    """Reseal the next batch; return the last key it saw (None at the end) and its changes."""
    beyond: list[ColumnElement[bool]] = [] if after is None else [column.key > after]
    query = (
        select(column.key, column.value, column.is_used, *column.named_by)
        .where(column.value.is_not(None), *beyond)
        .order_by(column.key)
        .limit(services.settings.maintenance_batch)
    )
    with services.store.read() as connection:
        rows = connection.execute(query).all()
    if not rows:
        return None, 0
    opened: list[tuple[Any, bytes, bytes]] = []
    for row in rows:
        try:
            if kid_of(row[1]) != services.keyring.sealing_kid:
                plaintext = services.keyring.open_bytes(row[1], column.place(row[0]))
                opened.append((row[0], row[1], plaintext))
        except SealedValueUnreadable as error:
            unreadable.add(column, row, error)
    if not opened:
        return rows[-1][0], 0
    with services.store.write() as connection:
        return rows[-1][0], sum(_reseal_row(connection, services, column, *row) for row in opened)


def _reseal_row(  # noqa: PLR0913, PLR0917 - one row
    connection: Connection,
    services: Services,
    column: _Sealed,
    key: Any,
    sealed: bytes,
    plaintext: bytes,
) -> int:
    changed = connection.execute(
        update(column.key.class_)
        # Compared, since the row may have been scrubbed or given a new id meanwhile.
        .where(column.key == key, column.value == sealed)
        .values({column.value: services.keyring.seal(plaintext, column.place(key))})
        .returning(column.key)
    )
    return len(changed.all())
