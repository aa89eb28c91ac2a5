"""Which database to migrate, and where its schema stands."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import Script, ScriptDirectory
from sqlalchemy import Connection

from worker.settings import model

HERE = Path(__file__).parent


def config_for(url: str | None = None) -> Config:
    """Return an Alembic configuration; without *url* the settings name the database."""
    config = Config()
    config.set_main_option("script_location", str(HERE))
    if url is not None:
        config.attributes["url"] = url
    return config


def database_url(config: Config) -> str:
    """Return the URL a test gave, else the one of the settings."""
    return str(config.attributes.get("url") or model.database_url())


def head() -> str:
    """Return the newest revision this code knows."""
    revision = _scripts().get_current_head()
    assert revision is not None, "there is always a first migration"  # noqa: S101
    return revision


def revision_of(connection: Connection) -> str | None:
    """Return the revision the database stands at; None before the first migration."""
    return MigrationContext.configure(connection).get_current_revision()


def knows(revision: str) -> bool:
    """Whether *revision* is one of ours: a newer release's database has one that is not."""
    return revision in {script.revision for script in _scripts().walk_revisions()}


def steps() -> list[Script]:
    """Return all migrations, oldest first."""
    return list(reversed(list(_scripts().walk_revisions())))


@cache  # the monitor asks every few seconds, and each reading runs all files
def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(config_for())
