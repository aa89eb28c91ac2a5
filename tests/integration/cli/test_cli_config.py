from __future__ import annotations

from simulator.server import SimulatorServer
from tests.integration.cli.cli_rig import run, told
from tests.stage import ENCRYPTION_KEY, LOOKUP_KEY, Stage
from worker import wiring
from worker.settings import model as settings_module
from worker.settings.environment import variable_name
from worker.settings.model import Settings

CANARY = "pw-canary-c4"


def test_every_setting_is_printed_by_its_variable(sqlite_stage: Stage) -> None:
    names = {variable_name(field) for field in Settings.model_fields}

    assert told("config").keys() == names
    assert {line.split()[0] for line in run("config").stdout.splitlines()} == names


def test_effective_values_are_printed_not_only_what_was_set(sqlite_stage: Stage) -> None:
    said = told("config")

    assert said["MOSAIC_SESSIONS_MOSAIC_TIMEOUT_SECONDS"] == 25.0
    assert said["MOSAIC_SESSIONS_CONCURRENCY"] == 8
    assert said["DATABASE_URL"] == sqlite_stage.settings.store_url


def test_no_key_and_no_password_is_printed(mosaic: SimulatorServer, redis_url: str) -> None:
    url = f"postgresql+psycopg://user:{CANARY}@127.0.0.1:1/sessions"
    with Stage(url, redis_url.replace("redis://", f"redis://:{CANARY}@"), mosaic):
        printed = run("config").output + run("config", "--json").output

    assert "MOSAIC_SESSIONS_ENCRYPTION_KEYS" in printed
    assert [s for s in (CANARY, ENCRYPTION_KEY, LOOKUP_KEY) if s in printed] == []


# --- keys


def generated() -> dict[str, str]:
    lines = run("keys", "generate").stdout.splitlines()
    return dict(line.split("=", 1) for line in lines)


def test_generated_keys_are_settings_to_paste() -> None:
    settings = settings_module.read(generated())

    wiring.build(settings).close()


def test_keys_are_fresh_each_time() -> None:
    one, other = generated(), generated()

    assert one.keys() == other.keys()
    assert set(one.values()).isdisjoint(other.values())


def test_a_generated_pair_goes_in_front_of_an_old_one() -> None:
    old, new = generated(), generated()
    name = "MOSAIC_SESSIONS_ENCRYPTION_KEYS"

    rotated = settings_module.read({**old, name: f"{new[name]},{old[name]}"})

    assert rotated.encryption_keys.get_secret_value().count(":") == 2
