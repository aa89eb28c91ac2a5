"""A Mosaic with one user, and two apps that talk to it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from simulator.idp.state import MosaicState
from simulator.server import SimulatorServer
from tests.uncounted import uncounted
from tests.unit.simulator.app import App

__all__ = ["forum", "server", "shop", "state", "uncounted"]


@pytest.fixture
def server() -> Iterator[SimulatorServer]:
    """Every answer it gave is held against Mosaic's own pages when the test is over."""
    with SimulatorServer() as running:
        running.state.add_user("ada", email="ada@example.com", phone="+100")
        yield running
        wrong = [told for told in running.state.calls.complaints() if " answer: " in told]
        assert wrong == []


@pytest.fixture
def state(server: SimulatorServer) -> MosaicState:
    return server.state


@pytest.fixture
def shop(server: SimulatorServer) -> Iterator[App]:
    app = App(server, "shop")
    yield app
    app.http.close()


@pytest.fixture
def forum(server: SimulatorServer) -> Iterator[App]:
    app = App(server, "forum")
    yield app
    app.http.close()
