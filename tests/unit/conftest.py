"""What is run while editing starts no process and no server: each costs a second."""

from __future__ import annotations

import os
import subprocess

import pytest


def refuse(*_: object, **__: object) -> None:
    raise AssertionError("tests/unit starts no process: see tests/README.md for where it may")


# The servers of all other tests: these start before `no_process` looks.
redis_server = pytest.fixture(scope="session", name="redis_server")(refuse)
postgres = pytest.fixture(scope="session", name="postgres")(refuse)


@pytest.fixture(autouse=True)
def no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "Popen", refuse)
    monkeypatch.setattr(os, "fork", refuse)
