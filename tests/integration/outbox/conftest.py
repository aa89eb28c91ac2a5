"""Stages with an app that is owed notices."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from simulator.server import SimulatorServer
from tests.integration.outbox.propagation_rig import (
    by_queue,
    signing,
)
from tests.stage import Stage


@pytest.fixture
def sender(store_url: str, redis_url: str, mosaic: SimulatorServer) -> Iterator[Stage]:
    with signing(store_url, redis_url, mosaic, notice_timeout_seconds="15") as stage:
        stage.add_app("shop")
        yield stage


@pytest.fixture
def queued(store_url: str, redis_url: str, mosaic: SimulatorServer) -> Iterator[Stage]:
    with Stage(store_url, redis_url, mosaic) as stage:
        stage.add_app("shop")
        by_queue(stage, "forum")
        yield stage
