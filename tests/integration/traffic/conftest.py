"""Processes that share one Redis: as many as a test starts, or one with the usual settings."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.traffic.traffic_rig import Process, Starter, starting


@pytest.fixture
def start(redis_url: str) -> Iterator[Starter]:
    with starting(redis_url) as start:
        yield start


@pytest.fixture
def process(start: Starter) -> Process:
    return start()
