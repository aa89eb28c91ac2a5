"""RabbitMQ's quorum queues, met as the broker tells of them (with a real one: tests/faults)."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from celery.worker.consumer import Consumer

REFUSAL = "NOT_IMPLEMENTED - queue 'auth' in vhost '/' does not support global qos"


@pytest.mark.parametrize(("error", "counts_by_queue"), [(REFUSAL, True), ("reset by peer", False)])
def test_only_a_broker_that_refuses_it_is_not_asked_to_count_by_connection(
    monkeypatch: pytest.MonkeyPatch, error: str, *, counts_by_queue: bool
) -> None:
    from worker.celery_support.consumer import SafeConsumer  # noqa: PLC0415 - as celery loads it

    asked: list[Any] = []
    transport = SimpleNamespace(qos_semantics_matches_spec=lambda _: False)
    monkeypatch.setattr(Consumer, "connect", lambda _: SimpleNamespace(transport=transport))
    consumer = object.__new__(SafeConsumer)
    consumer._has_quorum_queues = False
    monkeypatch.setattr(
        Consumer, "on_connection_error_after_connected", lambda _, exc: asked.append(exc)
    )

    before = consumer.connect().transport.qos_semantics_matches_spec(None)
    consumer.on_connection_error_after_connected(OSError(error))
    after = consumer.connect().transport.qos_semantics_matches_spec(None)

    assert (before, after) == (False, counts_by_queue)
    assert len(asked) == 1
