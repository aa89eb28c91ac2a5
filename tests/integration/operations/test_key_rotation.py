"""A new key first in the ring, everything sealed anew, the old key gone."""

from __future__ import annotations

import base64
from dataclasses import replace
from uuid import UUID

import pytest
from sqlalchemy import Column, LargeBinary, select, update

from models import AppKey, Base, IdpSession
from tests.integration.logins.login_rig import furnish, log_in
from tests.stage import ENCRYPTION_KEY, Stage
from worker.app_registry import AppRegistry
from worker.operations import apps, key_rotation
from worker.operations.key_rotation import Unreadable
from worker.storage.encryption import KeyRing, kid_of
from worker.wiring import Services

OLD = base64.b64decode(ENCRYPTION_KEY)
NEW = b"n" * 32
LOOKUP = b"l" * 32


def with_ring(stage: Stage, keys: dict[str, bytes]) -> Services:
    """The same service as after a restart with other keys."""
    keyring = KeyRing(keys, LOOKUP)
    apps = AppRegistry(stage.services.store, keyring, stage.settings)
    return replace(stage.services, keyring=keyring, apps=apps)


def test_after_resealing_everything_opens_without_the_old_key(stage: Stage) -> None:
    stage.add_app("shop")
    session = stage.registered()
    rotating = with_ring(stage, {"k2": NEW, "k1": OLD})

    counts = dict(key_rotation.reseal(rotating))

    assert counts == {"client secrets": 1, "app keys": 1, "session ids": 1}
    alone = with_ring(stage, {"k2": NEW})
    app = alone.apps.find("shop")
    assert app is not None
    assert app.mosaic.credential.value == "secret-of-shop"
    assert app.keys[stage.keys["shop"].kid] == stage.keys["shop"]
    sealed = stage.session(session).sealed_session_id
    assert alone.keyring.open(sealed, f"idp_sessions:{session}:session_id")


def columns() -> dict[str, Column[bytes]]:
    """All columns of bytes, by name."""
    return {
        f"{table.name}.{column.name}": column
        for table in Base.metadata.sorted_tables
        for column in table.columns
        if isinstance(column.type, LargeBinary)
    }


def test_nothing_sealed_under_the_old_key_is_left_in_any_column(stage: Stage) -> None:
    furnish(stage)
    log_in(stage)
    list(key_rotation.reseal(with_ring(stage, {"k2": NEW, "k1": OLD})))

    with stage.services.store.read() as connection:
        kids = {
            name: {kid_of(value) for value in connection.execute(select(column)).scalars() if value}
            for name, column in columns().items()
            if column.name.startswith("sealed_")
        }

    # One that is new must be filled above, and be resealed.
    assert kids == {name: {"k2"} for name in kids}
    assert "login_calls.sealed_answer" in kids


def test_bytes_that_are_not_called_sealed_are_hashes() -> None:
    others = {c.name for c in columns().values() if not c.name.startswith("sealed_")}

    assert {name for name in others if not name.endswith("_hash")} == {"digest", "challenge"}


def test_resealing_twice_changes_nothing_the_second_time(stage: Stage) -> None:
    stage.add_app("shop")
    stage.registered()
    rotating = with_ring(stage, {"k2": NEW, "k1": OLD})
    list(key_rotation.reseal(rotating))

    assert sum(changed for _, changed in key_rotation.reseal(rotating)) == 0


def test_a_value_whose_key_is_missing_is_named_and_left_as_it_is(stage: Stage) -> None:
    stage.add_app("shop")
    session = stage.registered()
    before = stage.session(session).sealed_session_id

    unreadable = Unreadable()
    list(key_rotation.reseal(with_ring(stage, {"k2": NEW}), unreadable))

    assert stage.session(session).sealed_session_id == before
    assert unreadable.count == 3  # with the app's client secret and key
    assert {value.what: value.whose for value in unreadable.first} == {
        "client secrets": "shop",
        "app keys": f"shop {stage.keys['shop'].kid}",
        "session ids": str(session),
    }
    assert all("key 'k1' is not in the ring; add it back" in one.why for one in unreadable.first)


def damage(stage: Stage, session: UUID, value: bytes) -> None:
    with stage.services.store.write() as connection:
        changed = update(IdpSession).where(IdpSession.id == session)
        connection.execute(changed.values(sealed_session_id=value))


@pytest.mark.parametrize("garbage", [b"garbage", b"\x01\x02k1" + b"altered" * 8])
def test_a_damaged_row_keeps_no_other_under_the_old_key(stage: Stage, garbage: bytes) -> None:
    stage.add_app("shop")
    refs = [stage.registered(f"user-{number}") for number in range(3)]
    rotating = with_ring(stage, {"k2": NEW, "k1": OLD})
    damage(stage, refs[0], garbage)

    unreadable = Unreadable()
    counts = dict(key_rotation.reseal(rotating, unreadable))

    assert counts == {"client secrets": 1, "app keys": 1, "session ids": 2}
    assert kid_of(stage.session(refs[1]).sealed_session_id) == "k2"
    assert kid_of(stage.session(refs[2]).sealed_session_id) == "k2"
    assert stage.session(refs[0]).sealed_session_id == garbage
    (value,) = unreadable.first
    assert (value.what, value.whose) == ("session ids", str(refs[0]))
    assert f"sessions revoke {refs[0]}" in value.what_to_do


def test_of_very_many_that_do_not_open_the_first_are_named_and_all_are_counted(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_rotation, "MAX_NAMED", 2)
    stage.add_app("shop")
    for number in range(3):
        damage(stage, stage.registered(f"user-{number}"), b"garbage")

    unreadable = Unreadable()
    list(key_rotation.reseal(stage.services, unreadable))

    assert (unreadable.count, len(unreadable.first)) == (3, 2)


def test_a_retired_key_that_does_not_open_is_no_trouble(stage: Stage) -> None:
    first = stage.add_app("shop")
    apps.rotate_key(stage.services, "shop")
    with stage.services.store.write() as connection:
        of_first = update(AppKey).where(AppKey.kid == first.kid)
        connection.execute(of_first.values(sealed_secret=b"garbage"))
    damaged, retired = Unreadable(), Unreadable()
    list(key_rotation.reseal(stage.services, damaged))
    assert f"apps retire-key shop {first.kid}" in damaged.first[0].what_to_do

    apps.retire_key(stage.services, "shop", first.kid)
    list(key_rotation.reseal(stage.services, retired))

    assert (damaged.count, retired.count) == (1, 0)


def test_a_session_without_a_stored_id_is_passed_over(stage: Stage) -> None:
    stage.add_app("shop")
    session = stage.registered()
    stage.log_out(session_ref=str(session))
    stage.tell_mosaic()

    counts = dict(key_rotation.reseal(with_ring(stage, {"k2": NEW, "k1": OLD})))

    assert counts == {"client secrets": 1, "app keys": 1}
