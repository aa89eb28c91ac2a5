"""Keys that are not those of the store are noticed before anything is built on them."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from uuid import UUID

import pytest
from pydantic import SecretStr
from sqlalchemy import func, insert, update

from models import App, AppKey, IdpSession, SessionAlias
from simulator.server import SimulatorServer
from tests.integration.cli.cli_rig import complaint
from tests.stage import ENCRYPTION_KEY, Stage
from worker import startup, wiring
from worker.errors import ConfigurationError
from worker.operations import apps, key_check, key_rotation
from worker.storage.encryption import KeyRing
from worker.wiring import Services

OTHER = base64.b64encode(b"x" * 32).decode()
RING, LOOKUP = "MOSAIC_SESSIONS_ENCRYPTION_KEYS", "MOSAIC_SESSIONS_LOOKUP_KEY"
K1 = f"k1:{ENCRYPTION_KEY}"
K2 = f"k2:{OTHER}"


@contextmanager
def with_keys(stage: Stage, **keys: str) -> Iterator[Services]:
    """Give the same store to a process with other keys."""
    settings = stage.settings.model_copy(
        update={name: SecretStr(key) for name, key in keys.items()}
    )
    services = wiring.build(settings, now=stage.now)
    try:
        yield services
    finally:
        services.close()


def check(stage: Stage, **keys: str) -> None:
    """Check as a worker does that starts with *keys*."""
    with with_keys(stage, **keys) as services:
        startup.check(services.settings)


def refusal(stage: Stage, **keys: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        check(stage, **keys)
    assert OTHER not in str(caught.value)
    return str(caught.value)


def change(stage: Stage, statement: object) -> None:
    with stage.services.store.write() as connection:
        connection.execute(statement)  # type: ignore[call-overload]


@pytest.fixture
def lived_in(stage: Stage) -> Stage:
    """Two apps and three sessions, sealed with k1."""
    stage.add_app("shop")
    stage.add_app("forum")
    for user in ("ada", "bob", "eve"):
        stage.registered(user)
    return stage


@pytest.fixture
def small(sqlite_stage: Stage) -> Stage:
    """One app and no session, for what no database changes."""
    sqlite_stage.add_app("shop")
    return sqlite_stage


def test_the_keys_of_the_store_are_accepted(lived_in: Stage) -> None:
    check(lived_in)


def test_an_empty_store_fits_any_keys(stage: Stage) -> None:
    check(stage, encryption_keys=K2, lookup_key=OTHER)


def test_another_key_of_the_same_name_is_named(lived_in: Stage) -> None:
    message = refusal(lived_in, encryption_keys=f"k1:{OTHER}")

    assert message.startswith(f"{RING}: key 'k1' does not open what is stored")


def test_a_missing_key_is_named(lived_in: Stage) -> None:
    message = refusal(lived_in, encryption_keys=K2)

    assert message.startswith(f"{RING}: key 'k1' is not in the ring; add it back")


def test_another_lookup_key_is_named(lived_in: Stage) -> None:
    message = refusal(lived_in, lookup_key=OTHER)

    assert message.startswith(f"{LOOKUP} is not the key that the sessions were stored with")


def test_one_session_is_enough_to_know_the_lookup_key(small: Stage) -> None:
    small.registered()

    check(small)
    assert LOOKUP in refusal(small, lookup_key=OTHER)


def test_apps_alone_are_enough_to_know_the_ring(small: Stage) -> None:
    assert "'k1' does not open" in refusal(small, encryption_keys=f"k1:{OTHER}")


def test_sessions_alone_are_enough_to_know_the_ring(lived_in: Stage) -> None:
    for app_id in ("shop", "forum"):
        apps.disable_app(lived_in.services, app_id)

    assert "'k1' does not open" in refusal(lived_in, encryption_keys=f"k1:{OTHER}")


def test_what_nobody_uses_any_more_need_not_open(small: Stage) -> None:
    session = small.registered()
    small.log_out("ada", session_ref=str(session))
    apps.disable_app(small.services, "shop")

    check(small, encryption_keys=K2, lookup_key=OTHER)


# --- a rotation, step by step as docs/operations.md has it


def test_every_step_of_a_rotation_is_accepted(lived_in: Stage) -> None:
    check(lived_in, encryption_keys=f"{K1},{K2}")
    with with_keys(lived_in, encryption_keys=f"{K2},{K1}") as sealing, wiring.use(sealing):
        apps.rotate_key(sealing, "shop")
        for _ in range(2):
            lived_in.registered("ida")
        check(lived_in, encryption_keys=f"{K2},{K1}")
        check(lived_in, encryption_keys=f"{K1},{K2}")  # one that is not restarted yet
        list(key_rotation.reseal(sealing))

    check(lived_in, encryption_keys=f"{K2},{K1}")
    check(lived_in, encryption_keys=K2)


def test_a_process_that_missed_the_new_key_is_refused(lived_in: Stage) -> None:
    with with_keys(lived_in, encryption_keys=f"{K2},{K1}") as sealing, wiring.use(sealing):
        for _ in range(2):
            lived_in.registered("ida")

    assert "key 'k2' is not in the ring" in refusal(lived_in, encryption_keys=K1)


def test_an_old_key_that_left_too_early_is_named(lived_in: Stage) -> None:
    with with_keys(lived_in, encryption_keys=f"{K2},{K1}") as sealing, wiring.use(sealing):
        for _ in range(12):  # what is newest needs the new key only
            lived_in.registered("ida")

    assert "key 'k1' is not in the ring" in refusal(lived_in, encryption_keys=K2)


# --- damage is no wrong key


def noise(stage: Stage, session: UUID) -> None:
    ring = KeyRing({"k1": b"?" * 32}, b"l" * 32)
    sealed = ring.seal("an id", f"idp_sessions:{session}:session_id")
    change(
        stage,
        update(IdpSession).where(IdpSession.id == session).values(sealed_session_id=sealed),
    )


DAMAGES: dict[str, Callable[[Stage], None]] = {
    "a session's id": lambda stage: noise(stage, stage.sessions()[0].id),
    "a session's hash": lambda stage: change(
        stage,
        update(IdpSession)
        .where(IdpSession.id == stage.sessions()[0].id)
        .values(session_hash=b"?" * 32),
    ),
    "a client secret": lambda stage: change(
        stage, update(App).where(App.app_id == "shop").values(sealed_client_secret=b"\x01\x02k1?")
    ),
    "the name of its key": lambda stage: change(
        stage, update(App).where(App.app_id == "shop").values(sealed_client_secret=b"\x01\x02k9?")
    ),
    "what was sealed no more": lambda stage: change(
        stage, update(AppKey).where(AppKey.app_id == "shop").values(sealed_secret=b"?")
    ),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_one_damaged_row_keeps_no_worker_from_starting(
    lived_in: Stage, damage: Callable[[Stage], None]
) -> None:
    damage(lived_in)

    check(lived_in)


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_one_damaged_row_hides_no_wrong_key(
    lived_in: Stage, damage: Callable[[Stage], None]
) -> None:
    damage(lived_in)

    assert "'k1' does not open" in refusal(lived_in, encryption_keys=f"k1:{OTHER}")
    assert LOOKUP in refusal(lived_in, lookup_key=OTHER)


def test_a_session_is_known_by_an_id_it_had_earlier(small: Stage) -> None:
    session = small.session(small.registered())
    alias = {"session_hash": session.session_hash, "idp_session_id": session.id}
    change(small, insert(SessionAlias).values(**alias, created_at=small.now()))
    change(small, update(IdpSession).values(session_hash=b"its newer id"))

    check(small)


def test_few_rows_are_read_however_many_there_are(small: Stage) -> None:
    for _ in range(key_check._SESSIONS + 5):
        small.registered()
    oldest = min(small.sessions(), key=lambda session: session.created_at)
    older = update(IdpSession).where(IdpSession.id != oldest.id)

    change(small, older.values(session_hash=func.randomblob(32)))

    with small.services.store.read() as connection:
        assert len(key_check._newest_sessions(connection)) == key_check._SESSIONS
    assert LOOKUP in refusal(small)


# --- the operators' verbs that seal


@pytest.mark.parametrize(
    "words",
    [
        ("apps", "add", "desk", "--client-id", "c", "--client-secret-file", "-"),
        ("apps", "rotate-key", "shop"),
        ("apps", "set-notice", "shop", "--notice-queue", "shop-notices"),
        ("keys", "rotate"),
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("keys", [{"encryption_keys": f"k1:{OTHER}"}, {"lookup_key": OTHER}])
def test_a_verb_with_other_keys_changes_nothing(
    sqlite_url: str,
    redis_url: str,
    mosaic: SimulatorServer,
    words: tuple[str, ...],
    keys: dict[str, str],
) -> None:
    with Stage(sqlite_url, redis_url, mosaic) as stage:
        stage.add_app("shop")
        stage.registered()
        before = stage.dump()
    with Stage(sqlite_url, redis_url, mosaic, **keys) as stage:
        message = complaint(*words, expect=78, stdin="secret")

        assert message.startswith(f"Error: MOSAIC_SESSIONS_{next(iter(keys)).upper()}")
        assert stage.dump() == before
