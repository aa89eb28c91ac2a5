from __future__ import annotations

import base64
import json

from sqlalchemy import update

from models import IdpSession
from simulator.server import SimulatorServer
from tests.integration.backchannel.notices_rig import ISSUER, rsa_pem, thumbprint
from tests.integration.cli.cli_rig import complaint, run, told
from tests.integration.operations.doctor_rig import elsewhere, findings, living
from tests.stage import ENCRYPTION_KEY, Stage

NEW_KEY = base64.b64encode(b"n" * 32).decode()
ROTATING = f"k2:{NEW_KEY},k1:{ENCRYPTION_KEY}"


def test_after_rotating_everything_opens_without_the_old_key(
    store_url: str, redis_url: str, mosaic: SimulatorServer
) -> None:
    with Stage(store_url, redis_url, mosaic) as stage:
        key = stage.add_app("shop")
        session = stage.registered()
    with Stage(store_url, redis_url, mosaic, encryption_keys=ROTATING):
        first = run("keys", "rotate")
        second = run("keys", "rotate").stdout
    with Stage(store_url, redis_url, mosaic, encryption_keys=f"k2:{NEW_KEY}") as stage:
        stage.keys["shop"] = key
        opened = stage.silent_auth("ada", "shop")

    assert opened.session_ref == str(session)
    assert "batch 1: client secrets, 1 sealed anew" in first.stderr
    assert [line.split()[-3] for line in first.stdout.splitlines()[:3]] == ["1", "1", "1"]
    assert "Run it once more" in first.stdout
    assert "may be removed from" not in first.stdout
    assert [line.split()[-3] for line in second.splitlines()[:3]] == ["0", "0", "0"]
    assert "k1 may be removed from MOSAIC_SESSIONS_ENCRYPTION_KEYS" in second


def test_a_pair_made_for_rotating_goes_last_then_first_then_alone(
    sqlite_url: str, redis_url: str, mosaic: SimulatorServer
) -> None:
    printed = run("keys", "generate", "--rotate").stdout
    pair, old = printed.strip(), f"k1:{ENCRYPTION_KEY}"
    with Stage(sqlite_url, redis_url, mosaic, encryption_keys=f"{old},{pair}") as stage:
        key = stage.add_app("shop")
        session = stage.registered()
    with Stage(sqlite_url, redis_url, mosaic, encryption_keys=f"{pair},{old}"):
        run("keys", "rotate")
    with Stage(sqlite_url, redis_url, mosaic, encryption_keys=pair) as stage:
        stage.keys["shop"] = key
        opened = stage.silent_auth("ada", "shop")

    assert printed.count("\n") == 1
    assert opened.session_ref == str(session)


def test_the_help_puts_a_new_pair_last_before_it_is_first() -> None:
    making, rotating = (run("keys", verb, "--help").stdout for verb in ("generate", "rotate"))

    assert "in front" not in making
    assert "`keys rotate --help`" in " ".join(making.split())
    assert rotating.index("LAST") < rotating.index("first everywhere")
    assert "docs/operations.md" in rotating


def test_progress_is_told_batch_by_batch(
    sqlite_url: str, redis_url: str, mosaic: SimulatorServer
) -> None:
    with Stage(sqlite_url, redis_url, mosaic) as stage:
        stage.add_app("shop")
        for _ in range(3):
            stage.registered()
    slowly = {"encryption_keys": ROTATING, "maintenance_batch": "2"}
    with Stage(sqlite_url, redis_url, mosaic, **slowly):
        rotated = run("keys", "rotate")

    assert rotated.stderr.count("session ids") == 2
    assert "session ids" in rotated.stdout
    assert "3 sealed anew" in rotated.stdout


def test_a_missing_key_is_named_and_nothing_is_lost(
    sqlite_url: str, redis_url: str, mosaic: SimulatorServer
) -> None:
    with Stage(sqlite_url, redis_url, mosaic) as stage:
        stage.add_app("shop")
    with Stage(sqlite_url, redis_url, mosaic, encryption_keys=f"k2:{NEW_KEY}"):
        message = complaint("keys", "rotate", expect=78)

    assert "MOSAIC_SESSIONS_ENCRYPTION_KEYS: key 'k1' is not in the ring; add it back" in message


def test_what_is_damaged_is_named_with_what_to_do_and_the_rotation_is_not_done_until_it_is_done(
    store_url: str, redis_url: str, mosaic: SimulatorServer
) -> None:
    with living(store_url, redis_url, mosaic) as stage:
        refs = [stage.registered(f"user-{number}", "shop") for number in range(3)]
        with stage.services.store.write() as connection:
            damaged = update(IdpSession).where(IdpSession.id == refs[0])
            connection.execute(damaged.values(sealed_session_id=b"garbage"))
        with elsewhere(stage, encryption_keys=ROTATING):
            rotated = run("keys", "rotate", expect=1)
            trail = told("audit", "list")["actions"]
            hints = findings("hint", expect=0)
            again = told("keys", "rotate", expect=1)
            run("sessions", "revoke", str(refs[0]), "--reason", "damaged", "--yes")
            stage.pass_time(days=15)
            stage.tell_mosaic()
            done = told("keys", "rotate")
            good = findings("good", expect=0)

    assert "Traceback" not in rotated.stderr
    assert f"session ids: {refs[0]}" in rotated.stdout
    assert f"sessions revoke {refs[0]}" in rotated.stdout
    assert "no key may be removed" in rotated.stdout
    assert (trail[0]["action"], trail[0]["after"]["unreadable"]) == ("key_rotation_done", 1)
    assert "but for 1 values" in hints["key rotation"]
    assert again["sealed_anew"]["session ids"] == 0
    assert again["unreadable"] == 1
    assert [value["whose"] for value in again["unreadable_values"]] == [str(refs[0])]
    assert (done["unreadable"], done["unreadable_values"]) == (0, [])
    assert good["key rotation"] == "none was left unfinished"


def test_keys_are_made_and_changed_in_json_too(sqlite_stage: Stage) -> None:
    made = told("keys", "generate")
    pair = told("keys", "generate", "--rotate")
    rotated = told("keys", "rotate")

    assert made.keys() == {"MOSAIC_SESSIONS_ENCRYPTION_KEYS", "MOSAIC_SESSIONS_LOOKUP_KEY"}
    assert pair["pair"].startswith("k")
    assert set(rotated["sealed_anew"].values()) <= {0}
    assert "the only key of the ring" in rotated["next"]


def test_a_ring_of_one_key_has_nothing_to_remove(sqlite_stage: Stage) -> None:
    assert "the only key" in run("keys", "rotate").stdout


def test_the_public_keys_are_shown_and_no_private_part(
    sqlite_url: str, redis_url: str, mosaic: SimulatorServer
) -> None:
    signing = {"notice_issuer": ISSUER, "notice_signing_keys": rsa_pem("one") + rsa_pem("two")}
    with Stage(sqlite_url, redis_url, mosaic, **signing):
        shown = json.loads(run("keys", "jwks").stdout)

    assert [key["kid"] for key in shown["keys"]] == [thumbprint(key) for key in shown["keys"]]
    assert len(shown["keys"]) == 2
    for key in shown["keys"]:
        assert set(key) == {"kty", "n", "e", "use", "alg", "kid"}


def test_without_signing_keys_the_settings_are_named(sqlite_stage: Stage) -> None:
    message = complaint("keys", "jwks", expect=78)

    assert "MOSAIC_SESSIONS_NOTICE_ISSUER" in message
    assert "MOSAIC_SESSIONS_NOTICE_SIGNING_KEYS" in message
