"""The tables' own rules: times, names, retention."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from sqlalchemy import Connection, ForeignKeyConstraint, create_engine, insert, select
from sqlalchemy.exc import IntegrityError, StatementError

from models import RETENTION, Base, IdpSession, Logout, Retention, new_id
from models.retention import RETENTION as DECLARED
from worker.maintenance.purge import PURGED_ALONG

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def connection() -> Iterator[Connection]:
    engine = create_engine("sqlite://")
    with engine.connect() as connection:
        Base.metadata.create_all(connection)
        yield connection
    engine.dispose()


def session(**changes: Any) -> dict[str, Any]:
    return {
        "id": new_id(),
        "user_id": "ada",
        "session_hash": new_id().bytes,
        "sealed_session_id": b"sealed",
        "registered_by": "shop",
        "amr": ["pwd"],
        "authenticated_at": NOW,
        "amr_as_of": NOW,
        "created_at": NOW,
        "last_used_at": NOW,
        "expires_at": NOW,
    } | changes


def test_every_table_says_how_long_it_keeps_its_rows_and_no_other_does() -> None:
    assert set(DECLARED) == set(Base.metadata.tables)
    assert RETENTION is DECLARED


@pytest.mark.parametrize(
    ("retention", "owner"),
    [(Retention.WITH_SESSION, "idp_sessions"), (Retention.WITH_REQUEST, "logout_requests")],
)
def test_what_goes_with_a_row_is_deleted_with_it_by_the_database(
    retention: Retention, owner: str
) -> None:
    for name, kept in RETENTION.items():
        owners = {
            (key.referred_table.name, key.ondelete)
            for key in Base.metadata.tables[name].constraints
            if isinstance(key, ForeignKeyConstraint)
        }
        if kept is not Retention.OLD_REQUESTS:  # a user's revocation goes with whichever is first
            assert ((owner, "CASCADE") in owners) == (kept is retention), name


def test_what_is_purged_along_with_a_session_is_what_the_purge_deletes() -> None:
    named = {name for name, kept in RETENTION.items() if kept is Retention.PURGED_ALONG}

    assert {column.class_.__tablename__ for column in PURGED_ALONG} == named


def test_no_index_has_what_each_use_of_a_session_moves() -> None:
    """PostgreSQL would write to all of them each time, and leave as many dead entries."""
    for index in Base.metadata.tables["idp_sessions"].indexes:
        said = {column.name for column in index.columns}
        said |= set(str(index.dialect_options["postgresql"]["where"]).split())
        assert not said & {"expires_at", "last_used_at"}, index.name


def test_every_constraint_and_index_has_a_name() -> None:
    for table in Base.metadata.tables.values():
        assert all(constraint.name for constraint in table.constraints)
        assert all(index.name for index in table.indexes)


def test_a_naive_time_is_refused(connection: Connection) -> None:
    with pytest.raises(StatementError, match="without a zone"):
        connection.execute(insert(IdpSession).values(session(expires_at=datetime(2026, 3, 1))))  # noqa: DTZ001


def test_a_naive_time_is_refused_in_a_question_too(connection: Connection) -> None:
    with pytest.raises(StatementError, match="without a zone"):
        connection.execute(select(IdpSession).where(IdpSession.expires_at < datetime(2026, 3, 1)))  # noqa: DTZ001


def test_a_time_from_another_zone_is_the_same_moment(connection: Connection) -> None:
    tokyo = NOW.astimezone(timezone(timedelta(hours=9)))
    connection.execute(insert(IdpSession).values(session(expires_at=tokyo)))

    stored = connection.execute(select(IdpSession.expires_at)).scalar_one()

    assert stored == NOW
    assert stored.tzinfo is UTC


def test_times_compare_as_moments_down_to_the_microsecond(connection: Connection) -> None:
    moments = [NOW, NOW + timedelta(microseconds=1), NOW + timedelta(seconds=1)]
    for moment in moments:
        connection.execute(insert(IdpSession).values(session(expires_at=moment)))

    later = select(IdpSession.expires_at).where(IdpSession.expires_at > NOW)

    assert sorted(connection.execute(later).scalars()) == moments[1:]


@pytest.mark.parametrize(
    "changes",
    [
        {"ended_at": NOW},
        {"end_cause": "logout"},
        {"sealed_session_id": None},
        {"user_id": None},
        {"expires_at": None},
    ],
)
def test_a_session_that_makes_no_sense_is_refused(
    connection: Connection, changes: dict[str, Any]
) -> None:
    with pytest.raises(IntegrityError):
        connection.execute(insert(IdpSession).values(session(**changes)))


def test_an_ended_session_needs_no_id(connection: Connection) -> None:
    ended = session(ended_at=NOW, end_cause="logout", sealed_session_id=None)

    connection.execute(insert(IdpSession).values(ended))


def test_one_session_id_is_one_row(connection: Connection) -> None:
    connection.execute(insert(IdpSession).values(session(session_hash=b"same")))

    with pytest.raises(IntegrityError):
        connection.execute(insert(IdpSession).values(session(session_hash=b"same")))


@pytest.mark.parametrize("changes", [{"closed_at": NOW}, {"outcome": "confirmed"}])
def test_a_delivery_is_closed_with_an_outcome_or_open_without(
    connection: Connection, changes: dict[str, Any]
) -> None:
    delivery = {
        "id": new_id(),
        "idp_session_id": new_id(),
        "requested_by": "shop",
        "created_at": NOW,
        "give_up_at": NOW,
        "next_attempt_at": NOW,
        "woken_at": NOW,
    }

    with pytest.raises(IntegrityError, match="closed_with_outcome"):
        connection.execute(insert(Logout).values(delivery | changes))


def test_ids_are_ordered_by_time_of_birth() -> None:
    ids = [new_id() for _ in range(1000)]

    assert ids == sorted(ids)
    assert len(set(ids)) == 1000
    assert {made.version for made in ids} == {7}


def test_sqlite_is_new_enough_for_returning() -> None:
    assert sqlite3.sqlite_version_info >= (3, 35)
