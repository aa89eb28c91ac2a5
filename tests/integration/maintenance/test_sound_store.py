"""What each test's stage is asked at its end finds what would be kept for ever."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import delete, select, update

from models import IdpSession
from tests.sound_store import require_sound
from tests.stage import Stage
from worker.maintenance.purge import PURGED_ALONG

ASK = "session/authenticate"


def test_a_session_that_expiry_would_come_to_too_late_is_found(stage: Stage) -> None:
    store = stage.services.store
    stage.add_app("shop")
    stage.add_app("forum")
    stage.registered()
    with store.write() as connection:
        late = stage.now() + timedelta(days=90)
        connection.execute(update(IdpSession).values(check_expiry_at=late))

    with pytest.raises(AssertionError, match="check_expiry_at is after expires_at"):
        require_sound(store)

    with store.write() as connection:
        connection.execute(update(IdpSession).values(check_expiry_at=IdpSession.expires_at))


def test_all_that_would_be_left_of_a_session_is_found(stage: Stage) -> None:
    store = stage.services.store
    stage.add_app("shop")
    stage.add_app("forum")
    stage.registered()
    stage.mosaic.state.faults.add(ASK, "rotate_session_id", times=1)
    stage.silent_auth()
    with store.read() as connection:
        assert all(connection.execute(select(column)).first() for column in PURGED_ALONG)
    with store.write() as connection:
        connection.execute(delete(IdpSession))

    with pytest.raises(AssertionError, match="outlives it") as found:
        require_sound(store)

    with store.write() as connection:
        for column in PURGED_ALONG:
            assert column.class_.__tablename__ in str(found.value)
            connection.execute(delete(column.class_))
