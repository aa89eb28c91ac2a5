"""A `keys rotate` that is killed: what operators see, and that the next one puts it right."""

from __future__ import annotations

import base64
import sys
from pathlib import Path

from sqlalchemy import select, text

from models import IdpSession
from sandbox.environment import base_variables
from sandbox.processes import ManagedProcess, poll_until
from simulator.server import SimulatorServer
from tests.integration.cli.cli_rig import told
from tests.integration.operations.doctor_rig import elsewhere, findings, living
from tests.integration.storage.pg_locks import waiting_for_locks
from tests.stage import ENCRYPTION_KEY, Stage, environment
from worker.storage.encryption import kid_of

RING = f"k2:{base64.b64encode(b'n' * 32).decode()},k1:{ENCRYPTION_KEY}"
SESSIONS = 5


def kids(stage: Stage) -> list[str]:
    """Under which key each session is sealed, in the order in which they are taken."""
    with stage.services.store.read() as connection:
        query = select(IdpSession.sealed_session_id).order_by(IdpSession.id)
        return [kid_of(value or b"") for value in connection.execute(query).scalars()]


def rotation_of(stage: Stage, folder: Path) -> ManagedProcess:
    variables = environment(
        stage.settings.store_url,
        stage.settings.cache_url,
        stage.mosaic,
        encryption_keys=RING,
        maintenance_batch="1",
    )
    program = Path(sys.executable).with_name("mosaic-sessions")
    return ManagedProcess(
        [program, "--as", "grace", "keys", "rotate"],
        environment=base_variables() | variables,
        log_path=folder / "rotation.log",
    )


def test_a_rotation_that_was_killed_is_told_until_one_is_done(
    postgres_url: str, redis_url: str, mosaic: SimulatorServer, tmp_path: Path
) -> None:
    with living(postgres_url, redis_url, mosaic) as stage:
        for number in range(SESSIONS):
            stage.registered(f"user-{number}", "shop")
        last = f"user-{SESSIONS - 1}"
        with stage.services.store.engine.connect() as held:
            query = "SELECT id FROM idp_sessions WHERE user_id = :user FOR UPDATE"
            held.execute(text(query), {"user": last})
            with rotation_of(stage, tmp_path) as rotation:
                poll_until(lambda: waiting_for_locks(stage), 60)
                rotation.kill()

        assert kids(stage) == ["k2"] * (SESSIONS - 1) + ["k1"]
        with elsewhere(stage, encryption_keys=RING):
            hints = findings("hint", expect=0)
            trail = [one["action"] for one in told("audit", "list")["actions"]]
            rotated = told("keys", "rotate")
            good = findings("good", expect=0)

    assert trail[0] == "key_rotation_begun"
    assert "by grace (" in hints["key rotation"]
    assert "repeat `mosaic-sessions keys rotate`" in hints["key rotation"]
    assert rotated["sealed_anew"]["session ids"] == 1
    assert good["key rotation"] == "none was left unfinished"
