"""Tests whose lines are not counted: what they prove is no matter of lines."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def uncounted(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Count no line of this test, nor of the processes it starts: that takes half as long again.

    A folder takes it in by its conftest.py. What it runs is counted where it is tested by itself.
    """
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
    here, threads = sys.gettrace(), threading.gettrace()
    sys.settrace(None)
    threading.settrace(None)
    yield
    sys.settrace(here)
    threading.settrace(threads)
