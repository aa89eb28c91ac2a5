"""What the doctor says of an app's own queue."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from models import NoticeMethod
from worker.operations import app_trials


@pytest.mark.parametrize(("broker", "is_bounded"), [(object(), True), (None, False)])
def test_a_queue_that_only_its_broker_can_bound_is_named(
    broker: object, *, is_bounded: bool
) -> None:
    services: Any = SimpleNamespace(broker=broker)
    app: Any = SimpleNamespace(notice_method=NoticeMethod.QUEUE, notice_address="desk-notices")

    said = app_trials.notices(services, app)

    assert said.startswith("by queue desk-notices")
    assert ("limit its length" not in said) == is_bounded
