"""What migration 0003 does to rows that are there, up and down, and to the previous release."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from alembic import command
from sqlalchemy import Column, Connection, Engine, MetaData, Table, Uuid, insert, inspect, select

from migrations.target import config_for
from models import new_id

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
BEFORE, AFTER = "0002", "0003"
NEW_COLUMNS = {"methods", "transfer_url", "tickets_from"}


def table(connection: Connection, name: str) -> Table:
    """The table as it stands, not as today's models have it."""
    # SQLite would tell of an id that it is text.
    key = [] if name == "apps" else [Column("id", Uuid(), primary_key=True)]
    return Table(name, MetaData(), *key, autoload_with=connection)


def add_app(connection: Connection, app_id: str, *capabilities: str) -> None:
    """Register an app as the release before 0003 does: it knows no later column."""
    values: dict[str, Any] = {
        "app_id": app_id,
        "client_id": f"client-{app_id}",
        "sealed_client_secret": b"sealed",
        "amr_all_of": [],
        "amr_any_of": [],
        "capabilities": list(capabilities),
        "notify_on_expiry": False,
        "created_at": NOW,
    }
    connection.execute(insert(table(connection, "apps")).values(values))


def add_session(connection: Connection, end_cause: str | None = None) -> UUID:
    session = new_id()
    connection.execute(
        insert(table(connection, "idp_sessions")).values(
            id=session,
            user_id="ada",
            session_hash=session.bytes,
            sealed_session_id=b"sealed",
            registered_by="shop",
            amr=[],
            authenticated_at=NOW,
            amr_as_of=NOW,
            created_at=NOW,
            last_used_at=NOW,
            expires_at=NOW,
            ended_at=NOW if end_cause else None,
            end_cause=end_cause,
        )
    )
    return session


def add_event(connection: Connection, user_id: str | None) -> None:
    events = table(connection, "session_events")
    connection.execute(insert(events).values(id=new_id(), at=NOW, event="x", user_id=user_id))


def capabilities(engine: Engine) -> dict[str, list[str]]:
    with engine.connect() as connection:
        apps = table(connection, "apps")
        return {
            row.app_id: row.capabilities
            for row in connection.execute(select(apps.c.app_id, apps.c.capabilities))
        }


def test_apps_that_exist_may_still_ask_by_user_id_and_new_ones_may_not(
    empty_url: str, engine: Engine
) -> None:
    command.upgrade(config_for(empty_url), BEFORE)
    with engine.begin() as connection:
        add_app(connection, "shop")
        add_app(connection, "desk", "logout_user")
        add_app(connection, "odd", "silent_by_user")

    command.upgrade(config_for(empty_url), AFTER)
    with engine.begin() as connection:
        add_app(connection, "new")

    assert capabilities(engine) == {
        "shop": ["silent_by_user"],
        "desk": ["logout_user", "silent_by_user"],
        "odd": ["silent_by_user"],
        "new": [],
    }


def test_an_app_may_log_nobody_in_and_takes_no_tickets_until_it_is_said(
    empty_url: str, engine: Engine
) -> None:
    command.upgrade(config_for(empty_url), BEFORE)
    with engine.begin() as connection:
        add_app(connection, "old")

    command.upgrade(config_for(empty_url), AFTER)
    with engine.begin() as connection:
        add_app(connection, "new")

    with engine.connect() as connection:
        apps = table(connection, "apps")
        query = select(apps.c.app_id, apps.c.methods, apps.c.transfer_url, apps.c.tickets_from)
        found = {row.app_id: tuple(row)[1:] for row in connection.execute(query)}
    assert found == dict.fromkeys(("old", "new"), ([], None, []))


def test_the_trail_is_kept_and_takes_events_of_nobody(empty_url: str, engine: Engine) -> None:
    command.upgrade(config_for(empty_url), BEFORE)
    with engine.begin() as connection:
        add_event(connection, "ada")

    command.upgrade(config_for(empty_url), AFTER)
    with engine.begin() as connection:
        add_event(connection, None)

    assert users_in_the_trail(engine) == ["ada", None]


def users_in_the_trail(engine: Engine) -> list[str | None]:
    with engine.connect() as connection:
        events = table(connection, "session_events")
        query = select(events.c.user_id).order_by(events.c.id)
        return list(connection.execute(query).scalars())


def test_coming_down_leaves_what_the_release_before_can_read(
    empty_url: str, engine: Engine
) -> None:
    command.upgrade(config_for(empty_url), AFTER)
    with engine.begin() as connection:
        add_app(connection, "desk", "silent_by_user", "logout_user", "revoke_user", "offline")
        add_app(connection, "shop", "silent_by_user")
        replaced = add_session(connection, "replaced")
        live = add_session(connection)
        add_event(connection, None)

    command.downgrade(config_for(empty_url), BEFORE)

    with engine.connect() as connection:
        sessions = table(connection, "idp_sessions")
        query = select(sessions.c.id, sessions.c.end_cause)
        causes = {row.id: row.end_cause for row in connection.execute(query)}
    assert causes == {replaced: "logout", live: None}
    assert capabilities(engine) == {"desk": ["logout_user"], "shop": []}
    assert users_in_the_trail(engine) == [""]


@pytest.mark.parametrize("name", ["browser_tokens", "tickets"])
def test_what_names_a_session_goes_with_it(empty_url: str, engine: Engine, name: str) -> None:
    command.upgrade(config_for(empty_url), AFTER)

    (key,) = inspect(engine).get_foreign_keys(name)

    assert key["referred_table"] == "idp_sessions"
    assert key["options"] == {"ondelete": "CASCADE"}
