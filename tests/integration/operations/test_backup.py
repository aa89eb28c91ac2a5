"""A backup and its restore, by the commands of docs/operations.md."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Final
from uuid import uuid4

from sandbox.environment import base_variables
from sandbox.postgres_binaries import find_postgres_installation
from sandbox.postgres_server import PostgresDatabases
from session_client.contract import Verdict
from simulator.server import SimulatorServer
from tests.integration.cli.cli_rig import run, told
from tests.stage import Stage

PAGE: Final = Path(__file__).parents[3] / "docs" / "operations.md"


def documented(program: str) -> str:
    """The command of the page that begins with *program*."""
    page = PAGE.read_text(encoding="utf-8")
    found = re.search(rf"^{program} .+$", page, re.MULTILINE)
    assert found is not None
    return found[0].partition("  #")[0]


def as_documented(program: str, folder: Path, url: str) -> None:
    bin_ = find_postgres_installation() / "bin"
    plain = url.replace("postgresql+psycopg://", "postgresql://")
    variables = base_variables() | {"DATABASE_URL": plain}
    variables["PATH"] = f"{bin_}:{variables['PATH']}"
    subprocess.run(  # noqa: S602 - as an operator's shell
        documented(program), shell=True, cwd=folder, env=variables, check=True, capture_output=True
    )


def test_what_a_backup_brings_back_to_life_is_ended_by_the_documented_verb(
    postgres_url: str,
    postgres: PostgresDatabases,
    redis_url: str,
    mosaic: SimulatorServer,
    tmp_path: Path,
) -> None:
    with Stage(postgres_url, redis_url, mosaic) as stage:
        key = stage.add_app("shop")
        stage.add_app("forum")
        session = stage.registered("ada", "shop")
        as_documented("pg_dump", tmp_path, postgres_url)
        stage.log_out("ada", "shop", session_ref=str(session))  # after the backup: it is lost
    name = f"restored_{uuid4().hex}"
    restored = postgres.create_database(name)

    as_documented("pg_restore", tmp_path, restored)

    with Stage(restored, redis_url, mosaic) as stage:
        stage.keys["shop"] = key
        (alive,) = told("sessions", "list")["sessions"]
        reason = ("--reason", "restored a backup", "--override-guard", "--yes")
        for app in told("apps", "list"):
            run("sessions", "revoke", "--app", app["app_id"], *reason)
        answer = stage.silent_auth("ada", "shop")
        stage.pass_time(seconds=2)
        again = stage.remember(stage.login("ada", "shop"))
    postgres.drop_database(name)

    assert alive["session_ref"] == str(session)
    assert answer.verdict is Verdict.LOGIN_REQUIRED
    assert again.verdict is Verdict.OK
