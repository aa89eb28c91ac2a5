"""A private PgBouncer before a PostgreSQL: it gives each transaction whatever server is free.

The binary comes from the machine (Debian: `apt-get install pgbouncer`); without it there is none.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from sqlalchemy import make_url

from sandbox.leash import LeashedProcess
from sandbox.ports import HOST, free_port
from sandbox.postgres_binaries import unprivileged_identity
from sandbox.processes import poll_until

START_TIMEOUT_SECONDS = 60
STOP_TIMEOUT_SECONDS = 60


def find_pgbouncer() -> str | None:
    """Return the binary; Debian puts it where only root looks."""
    return shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")


class PgBouncer:
    """Configured as it comes, but for transaction pooling, few servers and *settings*."""

    def __init__(self, server_url: str, settings: Mapping[str, str] | None = None) -> None:
        """*server_url* is that of any database of the server; all of them can be reached."""
        self._server = make_url(server_url)
        self._settings = settings or {}
        self.port = free_port()
        self._folder = Path(tempfile.mkdtemp(prefix="sandbox-pgbouncer-"))
        self._process: LeashedProcess | None = None

    def url(self, server_url: str) -> str:
        """Return the way through it to the database at *server_url*."""
        there = make_url(server_url).set(host=HOST, port=self.port)
        return there.render_as_string(hide_password=False)

    def __enter__(self) -> Self:
        binary = find_pgbouncer()
        if binary is None:
            raise RuntimeError("no PgBouncer found: install the package pgbouncer")
        identity = unprivileged_identity() if os.geteuid() == 0 else {}
        for name, text in (("pgbouncer.ini", self._configuration()), ("users.txt", self._users())):
            (self._folder / name).write_text(text, encoding="utf-8")
        if identity:  # it refuses to run as root
            for path in (self._folder, *self._folder.iterdir()):
                os.chown(path, identity["user"], identity["group"])
        log = self._folder / "pgbouncer.log"
        with log.open("ab") as output:
            self._process = LeashedProcess(
                [binary, self._folder / "pgbouncer.ini"],
                environment={},
                cwd=self._folder,
                output=output,
                folder=self._folder,
                identity=identity,
            )
        process = self._process
        poll_until(
            lambda: process.returncode is not None or self._listens(),
            START_TIMEOUT_SECONDS,
            what=f"PgBouncer on port {self.port}",
        )
        if process.returncode is not None:
            text = log.read_text(errors="replace")
            self.__exit__()
            raise RuntimeError(f"PgBouncer did not start:\n{text}")
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.end(signal.SIGKILL, STOP_TIMEOUT_SECONDS)
            self._process = None
        shutil.rmtree(self._folder, ignore_errors=True)

    def _configuration(self) -> str:
        settings = {
            "listen_addr": HOST,
            "listen_port": str(self.port),
            "unix_socket_dir": "",
            "auth_type": "trust",
            "auth_file": str(self._folder / "users.txt"),
            "pool_mode": "transaction",
            "default_pool_size": "3",
            **self._settings,
        }
        lines = [f"{name} = {value}" for name, value in settings.items()]
        where = f"host={self._server.host} port={self._server.port}"
        return "\n".join(("[databases]", f"* = {where}", "[pgbouncer]", *lines, ""))

    def _users(self) -> str:
        return f'"{self._server.username}" "{self._server.password or ""}"\n'

    def _listens(self) -> bool:
        try:
            socket.create_connection((HOST, self.port), timeout=1).close()
        except OSError:
            return False
        return True
