"""What is said of one app, where the rest of an installation makes no difference."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import SecretStr

from models import NoticeMethod
from worker.operations.app_trials import notices


@pytest.mark.parametrize(
    ("broker_url", "is_bounded"),
    [("redis://h/0", True), ("amqps://h/v", True), ("sqs://", False)],
)
def test_a_queue_that_only_its_broker_can_bound_is_named(
    broker_url: str, *, is_bounded: bool
) -> None:
    app: Any = SimpleNamespace(notice_method=NoticeMethod.QUEUE, notice_address="desk-notices")
    services: Any = SimpleNamespace(settings=SimpleNamespace(broker_url=SecretStr(broker_url)))

    assert ("limit its length there" not in notices(services, app)) is is_bounded
