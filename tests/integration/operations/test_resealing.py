"""A new key first in the ring, everything sealed anew, the old key gone."""

from __future__ import annotations

import base64
from dataclasses import replace

import pytest

from tests.stage import ENCRYPTION_KEY, Stage
from worker.app_registry import AppRegistry
from worker.operations import key_rotation
from worker.storage.encryption import KeyRing, SealedValueUnreadable
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
    assert app.mosaic.client_secret == "secret-of-shop"
    assert app.keys[stage.keys["shop"].kid] == stage.keys["shop"]
    sealed = stage.session(session).sealed_session_id
    assert alone.keyring.open(sealed, f"idp_sessions:{session}:session_id")


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

    with pytest.raises(SealedValueUnreadable, match="'k1' is not in the ring"):
        list(key_rotation.reseal(with_ring(stage, {"k2": NEW})))

    assert stage.session(session).sealed_session_id == before


def test_a_session_without_a_stored_id_is_passed_over(stage: Stage) -> None:
    stage.add_app("shop")
    session = stage.registered()
    stage.log_out(session_ref=str(session))
    stage.tell_mosaic()

    counts = dict(key_rotation.reseal(with_ring(stage, {"k2": NEW, "k1": OLD})))

    assert counts == {"client secrets": 1, "app keys": 1}
