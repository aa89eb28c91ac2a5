"""What migration 0011 does where apps have keys: the release before would send them as secrets."""

from __future__ import annotations

import io
from contextlib import closing

import psycopg
import pytest
from alembic import command
from alembic.util import CommandError
from sqlalchemy import Engine, inspect, text

from migrations.target import config_for
from tests.migrations.test_0003 import add_app

BEFORE, AFTER = "0010", "0011"
SET_METHOD = text("UPDATE apps SET token_endpoint_auth_method = :to WHERE app_id = 'bank'")


def has_the_column(engine: Engine) -> bool:
    names = {column["name"] for column in inspect(engine).get_columns("apps")}
    return "token_endpoint_auth_method" in names


def test_apps_that_are_there_have_secrets(empty_url: str, engine: Engine) -> None:
    command.upgrade(config_for(empty_url), BEFORE)
    with engine.begin() as connection:
        add_app(connection, "shop")

    command.upgrade(config_for(empty_url), AFTER)

    with engine.connect() as connection:
        methods = (
            connection.execute(text("SELECT token_endpoint_auth_method FROM apps")).scalars().all()
        )
    assert methods == ["client_secret_post"]


def test_it_is_not_taken_back_while_an_app_has_a_key(empty_url: str, engine: Engine) -> None:
    config = config_for(empty_url)
    command.upgrade(config, AFTER)
    with engine.begin() as connection:
        add_app(connection, "shop")
        add_app(connection, "bank")
        connection.execute(SET_METHOD, {"to": "private_key_jwt"})

    with pytest.raises(CommandError, match="the clients of bank have keys"):
        command.downgrade(config, BEFORE)
    assert has_the_column(engine)

    with engine.begin() as connection:
        connection.execute(SET_METHOD, {"to": "client_secret_post"})
    command.downgrade(config, BEFORE)
    assert not has_the_column(engine)


def printed_sql(url: str) -> str:
    config = config_for(url)
    config.output_buffer = io.StringIO()
    command.downgrade(config, f"{AFTER}:{BEFORE}", sql=True)
    return config.output_buffer.getvalue()


def test_printed_sql_does_not_take_it_back_while_an_app_has_a_key(
    empty_url: str, engine: Engine
) -> None:
    command.upgrade(config_for(empty_url), AFTER)
    if engine.dialect.name == "sqlite":  # whose shell goes on behind an error
        with pytest.raises(CommandError, match="mosaic-sessions db downgrade alone"):
            printed_sql(empty_url)
        return
    with engine.begin() as connection:
        add_app(connection, "bank")
        connection.execute(SET_METHOD, {"to": "private_key_jwt"})
    take_back = printed_sql(empty_url).encode()

    with closing(engine.raw_connection()) as pooled:
        driver = pooled.driver_connection
        assert driver is not None
        driver.autocommit = True
        with pytest.raises(psycopg.errors.RaiseException, match="give each a secret first"):
            driver.execute(take_back)
        driver.rollback()
        assert has_the_column(engine)

        with engine.begin() as connection:
            connection.execute(SET_METHOD, {"to": "client_secret_post"})
        driver.execute(take_back)
    assert not has_the_column(engine)
